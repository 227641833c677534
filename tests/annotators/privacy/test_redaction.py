"""Personal data is taken out of a text, and put back into what comes from elsewhere."""

from __future__ import annotations

import re
import time
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from annotation_pipelines.annotators.privacy.redaction import Redacted, Redactor
from annotation_pipelines.project import Privacy
from tests.annotators.privacy.finding import KINDS

REDACTOR = Redactor(Privacy(redact=list(KINDS)), Path())

VALUES = [
    "ana@example.org",
    "BOB@example.com",
    "ана@пример.рф",
    "4111 1111 1111 1111",
    "GB29NWBK60161331926819",
    "GB29 NWBK 6016 1331 9268 19",
    "203.0.113.7",
    "2001:db8::1",
    "https://u:pw@example.com/?token=12",
    "+44 20 7946 0958",
    "(650) 253-0000",
    "467 3395",
    "411-0182",
    "536-90-4399",
    "60-56-85-91",
]
GLUE = [
    "", " ", ", ", "\r\n", "\n", ": ", "call ", "Phone:\n", "card ", "account ", "IBAN ", " or ", "[", "]", "[EMAIL_1]",
    "EMAIL_1", "[PHONE_", "1]", "_1", "👩‍💻", "שלום ", "\u202b", "e\u0301", "@", ".", "x", "order ", "\ud800", "1", "٣",
]  # fmt: skip
texts = st.lists(st.sampled_from(VALUES) | st.sampled_from(GLUE) | st.text(max_size=8), max_size=14).map("".join)


@given(texts)
def test_what_was_taken_out_can_be_put_back_exactly(text: str) -> None:
    redacted = REDACTOR.redact(text)
    assert redacted.restore(redacted.text) == text


@given(texts)
def test_no_value_that_was_found_is_left(text: str) -> None:
    redacted = REDACTOR.redact(text)
    for value in redacted.mapping.values():
        assert not re.search(rf"(?<!\w){re.escape(value)}(?!\w)", redacted.text)


@given(texts)
def test_a_redacted_text_is_not_redacted_further(text: str) -> None:
    redacted = REDACTOR.redact(text)
    again = REDACTOR.redact(redacted.text)
    assert (again.text, again.mapping) == (redacted.text, {})


@given(texts, st.data())
def test_a_span_of_the_original_is_found_again(text: str, data: st.DataObject) -> None:
    redacted = REDACTOR.redact(text)
    start = data.draw(st.integers(0, len(text)))
    end = data.draw(st.integers(start, len(text)))
    there = redacted.to_redacted(start, end)
    back = redacted.to_original(*there)
    assert back[0] <= start <= end <= back[1]
    assert redacted.to_redacted(*back) == there
    assert redacted.restore(redacted.text[slice(*there)]) == text[slice(*back)]


@given(texts, st.data())
def test_a_span_of_the_redacted_text_covers_whole_values(text: str, data: st.DataObject) -> None:
    redacted = REDACTOR.redact(text)
    start = data.draw(st.integers(0, len(redacted.text)))
    end = data.draw(st.integers(start, len(redacted.text)))
    original = redacted.to_original(start, end)
    there = redacted.to_redacted(*original)
    assert there[0] <= start <= end <= there[1]
    assert redacted.restore(redacted.text[slice(*there)]) == text[slice(*original)]


def test_the_same_value_gets_the_same_number_and_another_one_another() -> None:
    redacted = REDACTOR.redact("ana@example.org to bob@example.org, copy ana@example.org, from 203.0.113.7")
    assert redacted.text == "[EMAIL_1] to [EMAIL_2], copy [EMAIL_1], from [IP_1]"
    assert redacted.mapping == {
        "[EMAIL_1]": "ana@example.org",
        "[EMAIL_2]": "bob@example.org",
        "[IP_1]": "203.0.113.7",
    }


def test_a_placeholder_that_the_text_holds_itself_is_passed_over() -> None:
    redacted = REDACTOR.redact("Reply to [EMAIL_1] or EMAIL_3: ana@example.org, bob@example.org")
    assert redacted.text == "Reply to [EMAIL_1] or EMAIL_3: [EMAIL_2], [EMAIL_4]"
    assert redacted.restore("[EMAIL_1] and [EMAIL_2]") == "[EMAIL_1] and ana@example.org"


def test_a_value_that_was_found_by_a_word_is_taken_out_everywhere() -> None:
    assert REDACTOR.redact("I said 467 3395. Call 467 3395!").text == "I said [PHONE_1]. Call [PHONE_1]!"


def test_the_longest_of_overlapping_findings_gives_the_kind() -> None:
    assert REDACTOR.redact("at https://ana@example.org/?key=4111111111111111").text == "at [URL_CREDENTIALS_1]"


def test_a_span_that_touches_a_placeholder_covers_the_value() -> None:
    text = "📧 ana@example.org שלום"
    redacted = REDACTOR.redact(text)
    assert redacted.text == "📧 [EMAIL_1] שלום"
    assert redacted.to_original(4, 6) == (2, 17)
    assert redacted.to_original(12, 16) == (18, 22)
    assert redacted.to_redacted(0, 3) == (0, 11)
    assert text[slice(*redacted.to_original(0, len(redacted.text)))] == text


@pytest.mark.parametrize("span", [(-1, 2), (3, 2), (0, 100)])
def test_a_span_outside_the_text_is_refused(span: tuple[int, int]) -> None:
    redacted = REDACTOR.redact("ana@example.org")
    for place in (redacted.to_original, redacted.to_redacted):
        with pytest.raises(ValueError, match="expected a span within"):
            place(*span)


@pytest.mark.parametrize(
    ("rationale", "restored"),
    [
        ("Because [EMAIL_1] wrote", "Because ana@example.org wrote"),
        ("Because **EMAIL_1** wrote", "Because **ana@example.org** wrote"),
        ("[EMAIL_1", "[ana@example.org"),
        ("[EMAIL_11] and [PHONE_1] and MY_EMAIL_1", "[EMAIL_11] and [PHONE_1] and MY_EMAIL_1"),
    ],
)
def test_values_are_put_back_into_what_a_model_says(rationale: str, restored: str) -> None:
    assert REDACTOR.redact("from ana@example.org").restore(rationale) == restored


def test_nothing_that_was_taken_out_is_shown() -> None:
    redacted = REDACTOR.redact("from ana@example.org")
    assert "ana" not in repr(redacted)
    assert "ana" not in f"{redacted} {REDACTOR} {vars(REDACTOR)}"


def test_only_what_is_declared_is_taken_out() -> None:
    text = "ana@example.org at 203.0.113.7"
    assert Redactor(Privacy(redact=["ip"]), Path()).redact(text).text == "ana@example.org at [IP_1]"
    nothing = Redactor(Privacy(), Path())
    assert not nothing.active
    assert nothing.redact(text) == Redacted(text)
    assert Redactor(Privacy(redact=["ip"]), Path()).active


def test_the_fingerprint_changes_with_declaration_and_recognizers(tmp_path: Path) -> None:
    file = tmp_path / "staff.py"
    file.write_text("def find(text): return []")

    def fingerprint(**privacy: object) -> str:
        return Redactor(Privacy.model_validate(privacy), tmp_path).fingerprint

    seen = [fingerprint(), fingerprint(redact=["email"]), fingerprint(recognizers=["staff.py:find"])]
    assert fingerprint(recognizers=["staff.py:find"]) == seen[-1]
    file.write_text("def find(text): return [(0, 1, 'staff')]")
    seen.append(fingerprint(recognizers=["staff.py:find"]))
    assert len(set(seen)) == 4


@pytest.mark.parametrize("piece", ["1 ", "1 1a ", "a@", "a'", "http://", "0-", "AB12 ", "ana@b.co ", "card ", "+1 (2 "])
def test_the_time_grows_no_faster_than_the_text(piece: str) -> None:
    def seconds(length: int) -> float:
        text = piece * (length // len(piece))
        start = time.process_time()
        REDACTOR.redact(text)
        return time.process_time() - start

    seconds(1_000)
    assert seconds(24_000) < 10 * max(seconds(6_000), 0.01)
