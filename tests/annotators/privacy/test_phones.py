"""Phone numbers."""

from __future__ import annotations

import pytest

from annotation_pipelines.annotators.privacy.recognizers import find
from annotation_pipelines.errors import DeclarationError
from tests.annotators.privacy.finding import values


@pytest.mark.parametrize(
    "number",
    ["(650) 253-0000", "650.253.0000", "+44 20 7946 0958", "020 7946 0958", "+1-650-253-0000x42", "+81 3-1234-5678"],
)
def test_a_number_of_a_numbering_plan_needs_no_word(number: str) -> None:
    assert values(f"He said {number}, I think", "phone") == [number]


def test_a_national_number_is_found_in_the_countries_that_are_named() -> None:
    text = "Ecco: 3332602730"
    assert values(text, "phone", regions=("US",)) == []
    assert values(text, "phone", regions=("it",)) == ["3332602730"]


def test_without_regions_international_numbers_are_found() -> None:
    text = "+447400123456 came, 07400123456 went"
    assert values(text, "phone", regions=("GB",)) == ["+447400123456", "07400123456"]
    assert values(text, "phone", regions=()) == ["+447400123456"]


@pytest.mark.parametrize(
    ("text", "number"),
    [
        ("Phone:\n467 3395", "467 3395"),
        ("call me at 78 651 450 tonight", "78 651 450"),
        ("Handy 0151 1234567", "0151 1234567"),
        ("my new cell is 99 668472", "99 668472"),
        ("tel. ٩١٢٣٤٥٦٧", "٩١٢٣٤٥٦٧"),
        ("55512345 is my phone number", "55512345"),
        ("Fax 345-899-3560x4587", "345-899-3560x4587"),
    ],
)
def test_a_word_announces_a_number_that_no_plan_knows(text: str, number: str) -> None:
    assert values(text, "phone") == [number]


@pytest.mark.parametrize("number", ["60-56-85-91", "(37) 788-063", "0494 92 82 32", "030/1234567", "01.84.17.61.18"])
def test_what_is_written_as_only_phone_numbers_are_is_found(number: str) -> None:
    assert values(f"She left {number} there", "phone") == [number]


def test_a_list_of_numbers_is_found_whole() -> None:
    assert values("Tel. 411-0183, 411-0182 or 411-0115", "phone") == ["411-0183", "411-0182", "411-0115"]
    assert values("pledges: (02) 911-1406, 912-2665", "phone") == ["(02) 911-1406", "912-2665"]
    assert values("tel 052275484/3923556690", "phone") == ["052275484", "3923556690"]


@pytest.mark.parametrize(
    "text",
    [
        "Order number 6502530000 was sent",
        "invoice no. 20251234567",
        "on 2024-05-06 at 10:30:00",
        "Call on 05/06/2024 10",
        "population 12 345 678",
        "1234567 people",
        "call 911",
        "40.051057,-105.216107",
        "ISBN 978-3-16-148410-0",
        "abc6502530000def",
    ],
)
def test_other_numbers_are_left(text: str) -> None:
    assert values(text, "phone") == []


def test_a_region_that_is_none_is_refused() -> None:
    with pytest.raises(DeclarationError, match=r"phone_regions.*'UK'"):
        find("call 020 7946 0958", ["phone"], phone_regions=["UK"])
