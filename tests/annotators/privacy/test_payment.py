"""Card numbers and IBANs."""

from __future__ import annotations

import pytest

from tests.annotators.privacy.finding import found, values


@pytest.mark.parametrize(
    "number",
    [
        "4111111111111111",
        "4111 1111 1111 1111",
        "4111-1111-1111-1111",
        "5555555555554444",
        "2223003122003222",
        "378282246310005",
        "3782 822463 10005",
        "6011111111111117",
        "3530111333300000",
        "30569309025904",
        "6304000000000000",
        "٤١١١ ١١١١ ١١١١ ١١١١",
    ],
)
def test_a_number_that_an_issuer_gives_out_is_a_card(number: str) -> None:
    assert found(f"It says {number}, thanks") == [("credit_card", number)]


@pytest.mark.parametrize("number", ["4111111111111112", "1111111111111117", "411111111111", "04111111111111111"])
def test_a_wrong_check_digit_issuer_or_length_is_no_card(number: str) -> None:
    assert values(f"It says {number}, thanks", "credit_card") == []


def test_a_word_announces_a_card_whose_check_digit_is_wrong() -> None:
    assert values("My card 4111 1111 1111 1112 is lost", "credit_card") == ["4111 1111 1111 1112"]
    assert values("4111111111111112 is my visa", "credit_card") == ["4111111111111112"]
    assert values("The card is lost. Order 4111111111111112", "credit_card") == []


def test_a_card_is_found_with_its_expiry_date_beside_it() -> None:
    assert values("It says 4111 1111 1111 1111 12/27", "credit_card") == ["4111 1111 1111 1111"]


@pytest.mark.parametrize(
    "number",
    [
        "GB29NWBK60161331926819",
        "GB29 NWBK 6016 1331 9268 19",
        "gb29nwbk60161331926819",
        "DE89 3704 0044 0532 0130 00",
        "FR1420041010050500013M02606",
        "NO9386011117947",
        "IT 60 X 05428 11101 000000123456",
    ],
)
def test_an_iban_with_right_check_digits_is_found_and_nothing_after_it(number: str) -> None:
    assert found(f"Pay to {number} and tell me 12") == [("iban", number)]


def test_an_iban_with_wrong_check_digits_needs_the_word() -> None:
    assert values("Pay to GB29NWBK60161331926818", "iban") == []
    assert values("My IBAN is GB29NWBK60161331926818.", "iban") == ["GB29NWBK60161331926818"]
    assert values("IBAN: GB29 NWBK 6016 1331 9268 18 at once", "iban") == ["GB29 NWBK 6016 1331 9268 18"]
