"""What a reply's headers say of limits; whatever cannot be read counts as not said."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta

import pytest
from hypothesis import given
from hypothesis import strategies as st

from annotation_pipelines.annotators.limits.headers import Allowance, allowance, duration, retry_after


@pytest.mark.parametrize(
    ("text", "seconds"),
    [
        ("6m0s", 360),
        ("120ms", 0.12),
        ("1s", 1),
        ("59.70", 59.7),
        ("1h2m3.5s", 3723.5),
        ("2m59.56s", 179.56),
        ("1d", 86400),
    ],
)
def test_a_duration_is_read_in_every_form_that_endpoints_use(text: str, seconds: float) -> None:
    assert duration(text) == pytest.approx(seconds)


@pytest.mark.parametrize("text", [None, "", "soon", "-1", "nan", "inf", "1700000000", "5m 3s", "ms"])
def test_what_is_no_duration_says_nothing(text: str | None) -> None:
    assert duration(text) is None


@given(st.text(max_size=20))
def test_no_header_makes_the_reader_fail(text: str) -> None:
    duration(text)
    retry_after({"retry-after": text, "retry-after-ms": text})
    allowance({"x-ratelimit-limit-requests": text, "x-ratelimit-remaining-requests": text}, "requests")


def test_what_is_left_of_a_limit_is_read_for_requests_and_tokens_apart() -> None:
    headers = {
        "x-ratelimit-limit-requests": "60",
        "x-ratelimit-remaining-requests": "59",
        "x-ratelimit-reset-requests": "1s",
        "x-ratelimit-remaining-tokens": "149984",
    }
    assert allowance(headers, "requests") == Allowance(60, 59, 1)
    assert allowance(headers, "tokens") == Allowance(None, 149984, None)
    assert allowance({"content-type": "application/json"}, "requests") is None


def test_milliseconds_go_before_seconds() -> None:
    assert retry_after({"retry-after-ms": "250", "retry-after": "1"}) == 0.25


def test_a_date_is_counted_from_now_and_never_back() -> None:
    now = datetime(2026, 3, 1, 12, tzinfo=UTC)
    text = "Sun, 01 Mar 2026 12:00:30 GMT"
    assert retry_after({"retry-after": text}, now) == 30
    assert retry_after({"retry-after": text}, now + timedelta(minutes=1)) == 0
