"""Several answers made into one, and the probability of a label's tokens."""

from __future__ import annotations

import itertools
import json
import math
from collections import Counter

import pytest
from hypothesis import given
from hypothesis import strategies as st

from annotation_pipelines.annotators.endpoint.votes import majority, token_probability
from annotation_pipelines.tasks.base import Annotation
from annotation_pipelines.tasks.classification import Classification, ClassificationTask

TASK = ClassificationTask(Classification(labels={"x": "x", "y": "y", "z": "z"}))


def says(label: str, confidence: float | None = None, rationale: str | None = None) -> Annotation:
    return Annotation("labelled", label, confidence, rationale=rationale)


ABSTAINS = Annotation("abstained", problem="the model abstained")
INVALID = Annotation("invalid", problem="no JSON object")


def test_most_answers_win_and_their_share_is_the_confidence() -> None:
    made = majority([says("x"), says("y", rationale="y!"), says("y"), says("x"), says("y")], TASK)
    assert (made.state, made.label, made.confidence, made.rationale) == ("labelled", "y", 0.6, "y!")
    assert made.scores == {"x": 0.4, "y": 0.6}


def test_of_a_tie_the_surer_label_wins_then_the_first_given() -> None:
    assert majority([says("x", 0.3), says("y", 0.4)], TASK).label == "y"
    assert majority([says("x"), says("y")], TASK).label == "x"
    assert majority([says("y", 0.5), says("x", 0.5)], TASK).label == "y"


def test_invalid_answers_and_refusals_do_not_vote() -> None:
    refused = Annotation("refused", problem="no")
    made = majority([INVALID, says("x"), refused, INVALID], TASK)
    assert (made.label, made.confidence, made.scores) == ("x", 1.0, {"x": 1.0})
    assert majority([refused, INVALID], TASK) == refused, "without a valid one, the first"


def test_to_abstain_is_an_answer() -> None:
    made = majority([ABSTAINS, says("x", 0.9), ABSTAINS], TASK)
    assert (made.state, made.label, made.problem) == ("abstained", None, "the model abstained")
    assert (made.confidence, made.scores) == (pytest.approx(2 / 3), {"x": pytest.approx(1 / 3)})


ANSWERS = st.lists(
    st.one_of(
        st.builds(says, st.sampled_from("xyz"), st.one_of(st.none(), st.floats(0, 1))),
        st.sampled_from([ABSTAINS, INVALID]),
    ),
    min_size=1,
)


@given(ANSWERS)
def test_the_label_is_one_that_no_other_outvotes_and_scores_are_shares(answers: list[Annotation]) -> None:
    made = majority(answers, TASK)
    counts = Counter(a.label for a in answers if a.state in ("labelled", "abstained"))
    if not counts:
        assert made == answers[0]
        return
    assert counts[made.label] == max(counts.values())
    assert made.confidence == counts[made.label] / counts.total()
    assert made.scores is not None
    assert sum(made.scores.values()) == pytest.approx(1 - counts[None] / counts.total())
    assert majority([made], TASK).label == made.label


CONTENT = '{"label": "denies"}'


def cut_up(content: str, *cuts: int) -> list[tuple[str, float]]:
    """Tokens, each with log-probability -0.1."""
    bounds = [0, *cuts, len(content)]
    return [(content[start:end], -0.1) for start, end in itertools.pairwise(bounds)]


def test_the_tokens_that_a_value_touches_count_and_no_others() -> None:
    assert token_probability(cut_up(CONTENT, 11, 14, 17), CONTENT, "denies") == pytest.approx(math.exp(-0.2))
    assert token_probability(cut_up(CONTENT, 5, 13, 15), CONTENT, "denies") == pytest.approx(math.exp(-0.3))
    assert token_probability(cut_up(CONTENT), CONTENT, "denies") == pytest.approx(math.exp(-0.1))


def test_the_last_occurrence_counts() -> None:
    content = '{"rationale": "it denies", "label": "denies"}'
    tokens = [(content[:24], -5.0), (content[24:37], -5.0), ("denies", -0.5), ('"}', -5.0)]
    assert "".join(token for token, _ in tokens) == content
    assert token_probability(tokens, content, "denies") == pytest.approx(math.exp(-0.5))


@pytest.mark.parametrize(
    ("tokens", "value"),
    [([], "denies"), (cut_up(CONTENT)[:-1], "denies"), ([("other", -0.1)], "denies"), (cut_up(CONTENT), "agrees")],
)
def test_where_tokens_do_not_fit_there_is_no_probability(tokens: list[tuple[str, float]], value: str) -> None:
    assert token_probability(tokens, CONTENT, value) is None
    assert token_probability(cut_up(CONTENT), CONTENT, "") is None


@given(st.text(min_size=1, max_size=8), st.lists(st.integers(0, 30), max_size=5), st.floats(-5, 1))
def test_it_is_a_probability_however_the_content_is_cut(value: str, cuts: list[int], logprob: float) -> None:
    content = json.dumps({"label": value}, ensure_ascii=False)
    bounds = sorted({min(cut, len(content)) for cut in cuts})
    tokens = [(token, logprob) for token, _ in cut_up(content, *bounds)]
    written = content[11:-2]
    found = token_probability(tokens, content, written)
    assert found is not None and 0 <= found <= 1
