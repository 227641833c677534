"""What HTTP replies mean."""

from __future__ import annotations

import json

import pytest
from hypothesis import given
from hypothesis import strategies as st

from annotation_pipelines.annotators.endpoint.verdicts import Failure, judge, pause
from annotation_pipelines.annotators.endpoint.wire import Choice, Completion, read_completion
from tests.mock_endpoint import Act, answer, called, completion, error, raw, response


def judged(act: Act) -> Completion | Failure:
    return judge(act.status, act.body, model="mock", parameters=["temperature", "model"])


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
        (error(400, "tool_choice is not supported"), "format"),
        (error(400, "n must be 1", param="n"), "several"),
        (error(400, "logprobs are not supported"), "logprobs"),
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
    assert read_completion(completion("text", usage=(7, 3)).body) == Completion((Choice("text"),), 7, 3)
    cut_off = read_completion(completion(None, finish="length", usage=None).body)
    assert cut_off == Completion((Choice(None, truncated=True),))
    parts = json.loads(completion("").body)
    parts["choices"][0]["message"]["content"] = [{"type": "text", "text": "a"}, {"type": "text", "text": "b"}]
    read = read_completion(json.dumps(parts))
    assert read
    assert read.choices == (Choice("ab"),)


def test_several_answers_and_tool_calls_are_read() -> None:
    several = read_completion(completion(["a", "b"], tokens=[("a", -0.5)]).body)
    assert several
    assert [choice.content for choice in several.choices] == ["a", "b"]
    assert several.choices[0].tokens == (("a", -0.5),)
    tool = read_completion(called("yes").body)
    assert tool
    assert json.loads(tool.choices[0].content or "")["label"] == "yes"


def test_cached_tokens_are_read() -> None:
    document = json.loads(completion("a").body)
    document["usage"]["prompt_tokens_details"] = {"cached_tokens": 64}
    read = read_completion(json.dumps(document))
    assert read
    assert read.cached_tokens == 64


def test_a_reply_of_the_responses_api_is_read() -> None:
    read = read_completion(response("hello", usage=(9, 4)).body)
    assert read == Completion((Choice("hello"),), 9, 4)
    document = json.loads(response("he").body)
    document["incomplete_details"] = {"reason": "max_output_tokens"}
    cut_off = read_completion(json.dumps(document))
    assert cut_off
    assert cut_off.choices[0].truncated


@given(st.integers(100, 599), st.text())
def test_no_reply_makes_it_fail(status: int, body: str) -> None:
    judge(status, body, model="mock")


@given(
    st.recursive(
        st.none() | st.booleans() | st.integers() | st.text(),
        lambda inner: (
            st.lists(inner, max_size=2)
            | st.dictionaries(
                st.sampled_from(["error", "message", "choices", "output", "content", "usage", "code", "param"]), inner
            )
        ),
    ),
    st.sampled_from([200, 400, 404, 429]),
)
def test_no_json_makes_it_fail(document: object, status: int) -> None:
    judge(status, json.dumps(document), model="mock", parameters=["model"])


@given(st.integers(0, 20), st.floats(0, 1))
def test_pauses_are_bounded(retry: int, draw: float) -> None:
    assert 0 <= pause(retry, draw) <= 30


def test_pauses_grow() -> None:
    assert pause(0, 1) < pause(1, 1) < pause(2, 1)
