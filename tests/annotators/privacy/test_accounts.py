"""Account numbers and national numbers."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from annotation_pipelines.annotators.privacy.accounts import NATIONAL_NUMBERS
from tests.annotators.privacy.finding import values

VALID = {
    "United States: SSN, ITIN": ["536-90-4399", "536 90 4399", "912-90-3456"],
    "United Kingdom: National Insurance": ["AB 12 34 56 C", "AB123456C"],
    "Spain: DNI": ["54362315K", "54362315-K"],
    "Spain: NIE": ["X2482300W"],
    "Italy: codice fiscale": ["RCCMNL83S18D969H"],
    "France: NIR": ["2 95 10 99 126 111 93"],
    "Belgium: national number": ["85.07.30-033.28"],
    "Switzerland: AHV": ["756.9217.0769.85"],
    "Sweden: personnummer": ["880320-0016", "19880320-0016"],
    "Norway: fødselsnummer": ["151086 95088", "15108695088"],
    "Finland: henkilötunnus": ["131052-308T"],
    "Czechia: rodné číslo": ["710319/2745"],
    "Romania: CNP; South Africa: ID number": ["1630615123457", "7503305044089"],
    "Brazil: CPF": ["390.533.447-05"],
    "Mexico: CURP": ["BOXW310820HNERXN09"],
    "China: resident identity": ["360426199101010071"],
    "Korea: resident registration": ["971013-9019902"],
    "India: Aadhaar": ["2341 2341 2346"],
    "Turkey: T.C. kimlik": ["17291716060"],
}


def test_each_form_is_tried() -> None:
    assert set(VALID) == {name for name, _, _ in NATIONAL_NUMBERS}


@pytest.mark.parametrize("number", [number for numbers in VALID.values() for number in numbers])
def test_a_national_number_with_right_check_digits_is_found(number: str) -> None:
    assert values(f"({number}), born there", "account") == [number]


@pytest.mark.parametrize(
    "number", ["666-90-4399", "54362315A", "RCCMNL83S18D969A", "390.533.447-06", "2341 2341 2347", "880320-0017"]
)
def test_a_national_number_with_wrong_ones_is_left(number: str) -> None:
    assert values(f"({number}), born there", "account") == []


@pytest.mark.parametrize(
    ("text", "number"),
    [
        ("My account number is 12345678.", "12345678"),
        ("acct #: 00-1234-567", "00-1234-567"),
        ("sort code 20-00-00", "20-00-00"),
        ("routing number: 021000021", "021000021"),
        ("My SSN is 123456789", "123456789"),
        ("Passport no. L01X00T47 expires", "L01X00T47"),
        ("driver's license number is F162823540116", "F162823540116"),
        ("driving licence MORGA657054SM9IJ", "MORGA657054SM9IJ"),
        ("Kontonummer: 1234567890", "1234567890"),
        ("Steuer-ID 86095742719", "86095742719"),
        ("12345678 is my account number", "12345678"),
        ("accounts 12345678 and 87654321", "12345678"),
    ],
)
def test_a_word_announces_an_account_number(text: str, number: str) -> None:
    assert number in values(text, "account")


@pytest.mark.parametrize(
    "text",
    [
        "My account since 2024-05-06",
        "account balance 1234",
        "The passport office. Then 1234567",
        "order 12345678",
        "account @user12345678",
        "We have 12345678 users",
    ],
)
def test_other_numbers_are_left(text: str) -> None:
    assert values(text, "account") == []


def test_every_form_is_documented() -> None:
    page = (Path(__file__).parents[3] / "docs" / "privacy.md").read_text(encoding="utf-8")
    text = " ".join(page.split())
    for names, _, _ in NATIONAL_NUMBERS:
        for name in names.split("; "):
            country, _, number = name.partition(": ")
            assert re.search(rf"{country}: [^;]*{re.escape(number)}", text), name
