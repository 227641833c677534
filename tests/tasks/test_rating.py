"""What a rating asks for, and what it makes of a reply."""

from __future__ import annotations

import json
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from pydantic import ValidationError

from annotation_pipelines.content import Content
from annotation_pipelines.tasks.base import STATES, Annotation, Invalid, Vote
from annotation_pipelines.tasks.rating import Rating, RatingTask, weighted_median

TEXT = Content.of_text("A headline")
NAMES = ["very poor", "poor", "fair", "good"]


def task(**settings: Any) -> RatingTask:
    return Rating.model_validate(settings).make()


STARS = {"from": 1, "to": 5}
HALVES = {"from": 0, "to": 1, "step": 0.1}
CONTINUOUS = {"from": -1, "to": 1, "step": "any"}


def test_the_schema_is_strict_and_says_the_range_in_words() -> None:
    schema = task(**STARS).schema(confidence=True)
    assert schema["required"] == ["rating", "confidence"]
    assert schema["properties"]["rating"] == {
        "type": "integer",
        "description": "a number from 1 to 5, in steps of 1",
    }
    assert task(**HALVES).fields()["rating"]["type"] == "number"
    assert task(scale=NAMES).fields()["rating"]["enum"] == NAMES


def test_the_instructions_say_what_values_mean() -> None:
    words = task(**STARS, anchors={1: "useless", 5: "could not be better"}).instructions()
    assert "from 1 to 5" in words
    assert "- 1: useless" in words
    assert "- 5: could not be better" in words
    assert all(number in words for number in task(**STARS).labels)
    assert "(" not in task(**{"from": 0, "to": 100}).instructions()
    ordered = task(scale=NAMES).instructions()
    assert ordered.index("very poor") < ordered.index("fair") < ordered.index("good")


@pytest.mark.parametrize(
    ("settings", "reply", "label"),
    [
        (STARS, '{"rating": 4}', "4"),
        (STARS, '{"rating": 4.0}', "4"),
        (STARS, '{"rating": "4"}', "4"),
        (STARS, '{"rating": " 4.00 "}', "4"),
        (STARS, "4", "4"),
        (HALVES, '{"rating": 0.30000000000000004}', "0.3"),
        (HALVES, '{"rating": 1}', "1"),
        (HALVES, '{"rating": -0.0}', "0"),
        (HALVES, '{"rating": "7e-1"}', "0.7"),
        (CONTINUOUS, '{"rating": 0.333}', "0.333"),
        (CONTINUOUS, '{"rating": -1e-300}', "0"),
        (CONTINUOUS, '{"rating": 1e0}', "1"),
        ({"scale": NAMES}, '{"rating": "Very  Poor"}', "very poor"),
        ({"scale": NAMES}, "good", "good"),
        ({"from": 1000, "to": 3000, "step": 500}, '{"rating": 1500}', "1500"),
    ],
)
def test_a_rating_is_read_in_its_shortest_form(settings: dict[str, Any], reply: str, label: str) -> None:
    annotation = task(**settings).parse(reply, TEXT)
    assert (annotation.state, annotation.label) == ("labelled", label)


@pytest.mark.parametrize(
    ("settings", "reply", "reason"),
    [
        (STARS, '{"rating": 6}', "off the scale"),
        (STARS, '{"rating": 0}', "off the scale"),
        (STARS, '{"rating": 3.5}', "between two steps"),
        (STARS, '{"rating": true}', "no number"),
        (STARS, '{"rating": null}', "no number"),
        (STARS, '{"rating": NaN}', "no number"),
        (STARS, '{"rating": Infinity}', "no number"),
        (STARS, '{"rating": 1e400}', "no number"),
        (STARS, '{"rating": "4/5"}', "no number"),
        (STARS, '{"rating": "80%"}', "no number"),
        (STARS, '{"rating": "3,5"}', "no number"),
        (STARS, '{"rating": "٤"}', "no number"),
        (STARS, '{"rating": [4]}', "no number"),
        (STARS, '{"rating": ' + "9" * 4000 + "}", "off the scale"),
        (STARS, '{"rating": "1e99"}', "off the scale"),
        (STARS, '{"score": 4}', "no rating"),
        ({"scale": NAMES}, '{"rating": "excellent"}', "not on the scale"),
        ({"scale": NAMES}, '{"rating": 4}', "not on the scale"),
        ({"scale": NAMES}, '{"rating": "\\ud800"}', "not on the scale"),
    ],
)
def test_what_is_not_on_the_scale_is_invalid_and_never_moved_there(
    settings: dict[str, Any], reply: str, reason: str
) -> None:
    annotation = task(**settings).parse(reply, TEXT)
    assert (annotation.state, annotation.label) == ("invalid", None)
    assert annotation.problem
    assert reason in annotation.problem
    assert len(annotation.problem) < 300
    annotation.problem.encode()


@pytest.mark.parametrize(
    ("settings", "reason"),
    [
        ({}, "found neither"),
        ({"from": 1, "to": 5, "scale": NAMES}, "found both"),
        ({"from": 1}, "found from alone"),
        ({"from": 5, "to": 5}, "must be above"),
        ({"from": 0, "to": 1}, "two values only"),
        ({"from": 0, "to": 1, "step": 0.3}, "no whole number of steps"),
        ({"from": 0, "to": 1, "step": -0.1}, "above 0"),
        ({"from": True, "to": 5}, "expected a number"),
        ({"from": 0, "to": 1e300}, "must lie between"),
        ({"from": 1, "to": 5, "step": "some"}, "step"),
        ({"from": 1, "to": 5, "anchors": {6: "more"}}, "anchors: .*off the scale"),
        ({"from": 1, "to": 5, "anchors": {"much": "more"}}, "anchors: .*no number"),
        ({"scale": ["a", "b"], "combine": "mean"}, "no mean"),
        ({"scale": ["a", "b"], "step": 1}, "belong to a scale of numbers"),
        ({"scale": ["a"]}, "two labels or more"),
        ({"lowest": 1, "highest": 5}, "lowest"),
    ],
)
def test_an_impossible_scale_is_refused(settings: dict[str, Any], reason: str) -> None:
    with pytest.raises(ValidationError, match=reason):
        Rating.model_validate(settings)


def test_gold_is_read_from_text_and_refused_off_the_scale() -> None:
    stars = task(**STARS)
    assert stars.canonical(" 4.0", TEXT) == "4"
    assert stars.problem("4", TEXT) is None
    assert stars.problem("4.0", TEXT) == "it is not in canonical form"
    with pytest.raises(Invalid, match="between two steps"):
        stars.canonical("3.67", TEXT)
    named = task(scale=NAMES)
    assert named.canonical("fair", TEXT) == "fair"
    with pytest.raises(Invalid, match="expected one of very poor, poor"):
        named.canonical("Fair", TEXT)


def test_few_values_are_a_closed_vocabulary_and_many_are_not() -> None:
    stars = task(**STARS, anchors={5: "could not be better"})
    assert list(stars.labels) == ["1", "2", "3", "4", "5"]
    assert stars.labels["5"] == "could not be better"
    assert stars.named("4") == ["4"]
    assert list(task(**HALVES).labels)[1:3] == ["0.1", "0.2"]
    percent = task(**{"from": 0, "to": 100})
    assert percent.labels == {}
    assert percent.named("40") == []


def votes(*labels: str | None, weights: tuple[float, ...] | None = None) -> list[Vote]:
    return [
        Vote(Annotation("labelled" if label else "abstained", label), weight)
        for label, weight in zip(labels, weights or (1.0,) * len(labels), strict=True)
    ]


def test_several_make_the_median_of_steps_and_of_names_and_the_mean_of_what_is_continuous() -> None:
    assert task(**STARS).combine(votes("1", "5", "5")).label == "5"
    assert task(**STARS).combine(votes("2", "4")).label == "3"
    assert task(**STARS, combine="mean").combine(votes("1", "4", "5")).label == "3"
    assert task(**STARS).combine(votes("1", "5", weights=(3, 1))).label == "1"
    assert task(scale=NAMES).combine(votes("poor", "good", "good")).label == "good"
    assert task(scale=NAMES).combine(votes("very poor", "fair")).label == "poor"
    assert task(**CONTINUOUS).combine(votes("0.5", "1", "0", weights=(2, 1, 1))).label == "0.5"
    assert task(**HALVES, combine="mean").combine(votes("0.1", "0.2", "0.2")).label == "0.2"


def test_the_confidence_of_several_falls_with_their_distance() -> None:
    stars = task(**STARS)
    assert stars.combine(votes("4", "4")).confidence == 1
    assert stars.combine(votes("1", "5")).confidence == 0
    near, far = stars.combine(votes("4", "4", "5")).confidence, stars.combine(votes("4", "4", "1")).confidence
    assert near is not None and far is not None and 1 > near > far > 0


def test_where_most_abstain_the_record_abstains() -> None:
    assert task(**STARS).combine(votes(None, None, "4")).state == "abstained"
    assert task(**STARS).combine(votes(None, "4", "4")).label == "4"


@given(st.lists(st.tuples(st.integers(1, 5), st.integers(1, 4)), min_size=1, max_size=8))
def test_the_weighted_median_is_that_of_the_repeated_values(places: list[tuple[int, int]]) -> None:
    repeated = sorted(value for value, times in places for _ in range(times))
    middle = len(repeated) // 2
    expected = repeated[middle] if len(repeated) % 2 else (repeated[middle - 1] + repeated[middle]) / 2
    assert weighted_median([(float(v), float(w)) for v, w in places]) == expected


@given(st.floats(-1, 1))
def test_every_number_of_a_continuous_scale_is_read_back(number: float) -> None:
    continuous = task(**CONTINUOUS)
    annotation = continuous.parse(json.dumps({"rating": number}), TEXT)
    assert annotation.label is not None
    assert abs(float(annotation.label) - number) < 1e-9
    assert continuous.problem(annotation.label, TEXT) is None
    assert continuous.value(continuous.written(annotation.label, TEXT), TEXT) == annotation.label


@pytest.mark.parametrize("settings", [STARS, HALVES, {"scale": NAMES}, {"from": -100, "to": 100}])
def test_every_value_is_shown_read_and_placed_back(settings: dict[str, Any]) -> None:
    made = task(**settings)
    lowest, highest = made.ends
    assert made.step is not None
    for index in range(round((highest - lowest) / made.step) + 1):
        label = made.at(lowest + index * made.step)
        assert made.problem(label, TEXT) is None
        assert made.value(made.written(label, TEXT), TEXT) == label
        assert made.at(made.position(label)) == label
    assert made.at(highest + 7) == made.at(highest)


json_values = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text() | st.sampled_from(["4", "fair", "-1e9"]),
    lambda inner: st.lists(inner) | st.dictionaries(st.sampled_from(["rating", "confidence", "x"]), inner),
    max_leaves=8,
)


@given(st.sampled_from([STARS, HALVES, CONTINUOUS, {"scale": NAMES}]), json_values)
def test_no_json_makes_the_parser_fail(settings: dict[str, Any], value: object) -> None:
    made = task(**settings)
    for given_value in (value, {"rating": value}):
        annotation = made.parse(json.dumps(given_value), TEXT)
        assert annotation.state in STATES
        assert (annotation.label is None) == (annotation.problem is not None)
        (annotation.problem or "").encode()
        assert annotation.label is None or made.problem(annotation.label, TEXT) is None


@given(st.text(st.characters(), max_size=100) | st.text('{}[]":,\\ rating0.1NaNe-', max_size=60))
def test_no_text_makes_the_parser_fail(reply: str) -> None:
    annotation = task(**CONTINUOUS).parse(reply, TEXT)
    assert (annotation.state == "labelled") == (annotation.label is not None)


@given(st.text(st.characters(), max_size=20))
def test_no_gold_makes_reading_it_fail(text: str) -> None:
    for settings in (STARS, {"scale": NAMES}):
        try:
            label = task(**settings).canonical(text, TEXT)
        except Invalid as problem:
            assert str(problem)
        else:
            assert task(**settings).problem(label, TEXT) is None
