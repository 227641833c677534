"""What HTTP replies mean."""

from __future__ import annotations

import json
from datetime import UTC, datetime, timedelta
from email.utils import format_datetime

import pytest
from hypothesis import given
from hypothesis import strategies as st

from annotation_pipelines.annotators.endpoint.verdicts import Completion, Failure, judge, pause, read_completion
from tests.mock_endpoint import Act, answer, completion, error, raw


def judged(act: Act) -> Completion | Failure:
    headers = {name.lower(): value for name, value in act.headers.items()}
    return judge(act.status, headers, act.body, model="mock", parameters=["temperature", "model"])


@pytest.mark.parametrize(
    ("act", "kind"),
    [
        (error(401, "Incorrect API key"), "stop"),
        (error(402, "Insufficient Balance"), "stop"),
        (error(429, "quota", code="insufficient_quota"), "stop"),
        (error(404, "The model does not exist", code="model_not_found"), "stop"),
        (error(404, "The model `x` does not exist."), "doubtful"),
        (error(404, 'model "x" not found, try pulling it first'), "doubtful"),
        (error(400, "x is not a valid model ID: Invalid model x"), "doubtful"),
        (raw('{"detail": "Not Found"}', 404), "doubtful"),
        (raw("<html>Not Found</html>", 404), "doubtful"),
        (error(403, "denied"), "doubtful"),
        (error(400, "temperature is not supported", param="temperature", code="unsupported_value"), "doubtful"),
        (error(404, "no answer recorded"), "record"),
        (error(400, "context too long", param="messages"), "record"),
        (error(413), "record"),
        (error(422), "record"),
        (error(400, "Use 'max_completion_tokens' instead.", param="max_tokens"), "token_limit"),
        (error(400, "response_format.type json_schema is unavailable"), "format"),
        (error(400, "not supported", param="response_format"), "format"),
        (error(408), "retry"),
        (error(409), "retry"),
        (error(429), "retry"),
        (error(500), "retry"),
        (error(529), "retry"),
        (raw("<html>", 502), "retry"),
        (raw("not JSON"), "record"),
        (raw('{"choices": []}'), "record"),
        (raw('{"error": {"message": "overloaded"}}'), "record"),
        (Act(body=answer("yes").body[:50]), "record"),
    ],
)
def test_a_failure_is_about_one_record_or_all_of_them(act: Act, kind: str) -> None:
    failure = judged(act)
    assert isinstance(failure, Failure)
    assert failure.kind == kind
    assert "\n" not in failure.problem


def test_a_refused_key_is_not_repeated() -> None:
    failure = judged(error(401, "Incorrect API key provided: sk-abc***xyz"))
    assert isinstance(failure, Failure)
    assert "sk-" not in failure.problem


def test_content_that_a_filter_stopped_is_refused_wherever_it_says_so() -> None:
    stopped = judged(completion(None, finish="content_filter"))
    assert isinstance(stopped, Completion)
    assert stopped.refusal
    before = judged(error(400, "filtered", code="content_filter"))
    assert isinstance(before, Failure)
    assert before.refused


def test_a_completion_is_read_with_its_usage() -> None:
    assert read_completion(completion("text", usage=(7, 3)).body) == Completion("text", None, False, 7, 3)
    assert read_completion(completion(None, finish="length", usage=None).body) == Completion(
        None, None, True, None, None
    )
    parts = json.loads(completion("").body)
    parts["choices"][0]["message"]["content"] = [{"type": "text", "text": "a"}, {"type": "text", "text": "b"}]
    read = read_completion(json.dumps(parts))
    assert read
    assert read.content == "ab"


@given(st.integers(100, 599), st.text(), st.dictionaries(st.sampled_from(["retry-after", "x"]), st.text()))
def test_no_reply_makes_it_fail(status: int, body: str, headers: dict[str, str]) -> None:
    judge(status, headers, body, model="mock")


@given(
    st.recursive(
        st.none() | st.booleans() | st.integers() | st.text(),
        lambda inner: (
            st.lists(inner, max_size=2)
            | st.dictionaries(st.sampled_from(["error", "message", "choices", "usage", "code", "param"]), inner)
        ),
    ),
    st.sampled_from([200, 400, 404, 429]),
)
def test_no_json_makes_it_fail(document: object, status: int) -> None:
    judge(status, {}, json.dumps(document), model="mock", parameters=["model"])


@pytest.mark.parametrize(("header", "seconds"), [("7", 7), ("0", 0), ("-3", 0), ("nan", None), ("soon", None)])
def test_retry_after_is_read(header: str, seconds: float | None) -> None:
    failure = judged(error(429, headers={"Retry-After": header}))
    assert isinstance(failure, Failure)
    assert failure.retry_after == seconds


def test_retry_after_may_be_a_date() -> None:
    later = format_datetime(datetime.now(UTC) + timedelta(seconds=30), usegmt=True)
    failure = judged(error(429, headers={"Retry-After": later}))
    assert isinstance(failure, Failure)
    assert failure.retry_after is not None
    assert 25 < failure.retry_after <= 30


@given(st.integers(0, 20), st.none() | st.floats(0, 120), st.floats(0, 1))
def test_pauses_are_bounded_and_never_shorter_than_asked(retry: int, asked: float | None, draw: float) -> None:
    seconds = pause(retry, asked, draw)
    assert (asked or 0) <= seconds <= (30 if asked is None else asked + 0.5)
