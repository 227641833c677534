"""Which of two is better: asked in both orders, read back, and resolved where the orders disagree."""

from __future__ import annotations

import json
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from pydantic import ValidationError

from annotation_pipelines.content import Content
from annotation_pipelines.tasks.base import STATES, Annotation, Invalid, Vote
from annotation_pipelines.tasks.metrics.preference import position_bias
from annotation_pipelines.tasks.preference import Preference, PreferenceTask

PAIR = Content.of_parts({"instruction": "Add 1 and 1", "response_a": "2", "response_b": "It is two."})
CRITERIA = {"truth": "is it right", "brevity": "is it short"}


def task(**settings: Any) -> PreferenceTask:
    return Preference(**settings).make()


def both(
    first: str, second: str, confidences: tuple[float | None, float | None] = (None, None), **settings: Any
) -> Any:
    """What two orders make together, each answer as it was given about what was shown."""
    made = task(**settings)
    said = [
        made.seen(Annotation("labelled", label, confidence), view)
        for view, (label, confidence) in enumerate(zip((first, second), confidences, strict=True))
    ]
    return made.resolve(said)


def test_both_orders_are_asked_unless_one_is_declared() -> None:
    assert task().views == 2
    assert task(both_orders=False).views == 1


def test_the_schema_is_strict_and_has_a_tie_where_there_may_be_one() -> None:
    schema = task().schema(confidence=True)
    assert schema["required"] == ["preference", "confidence"]
    assert schema["properties"]["preference"]["enum"] == ["A", "B", "tie"]
    assert task(tie=False).fields()["preference"]["enum"] == ["A", "B"]
    by = task(criteria=CRITERIA).fields()["preference"]
    assert by["required"] == ["truth", "brevity"] == list(by["properties"])
    assert by["additionalProperties"] is False


def test_the_instructions_say_which_part_is_which_and_name_the_criteria() -> None:
    words = task(first="draft", second="final", criteria=CRITERIA).instructions()
    assert 'A is the part "draft", B is the part "final"' in words
    assert '"truth": is it right' in words
    assert '"tie"' in words
    assert '"tie"' not in task(tie=False).instructions()


def test_the_second_view_swaps_the_two_texts_and_nothing_else() -> None:
    made = task()
    assert made.present(PAIR, 0) == PAIR
    swapped = made.present(PAIR, 1)
    assert (swapped["instruction"], swapped["response_a"], swapped["response_b"]) == ("Add 1 and 1", "It is two.", "2")
    assert swapped.names == PAIR.names
    assert made.present(swapped, 1) == PAIR


@pytest.mark.parametrize("texts", [("", "something"), ("same", "same"), ("", ""), ('{"parts":[', "\n")])
def test_empty_and_equal_responses_are_shown_and_read_like_any_others(texts: tuple[str, str]) -> None:
    made = task()
    pair = Content.of_parts({"response_a": texts[0], "response_b": texts[1]})
    swapped = made.present(pair, 1)
    assert (swapped["response_a"], swapped["response_b"]) == texts[::-1]
    assert Content.read(swapped.stored) == swapped
    assert made.parse('{"preference": "tie"}', swapped).label == "tie"


@pytest.mark.parametrize(
    ("reply", "label"),
    [
        ('{"preference": "A"}', "A"),
        ('{"preference": " b "}', "B"),
        ('{"preference": "TIE"}', "tie"),
        ('{"preference": "response_b"}', "B"),
        ('{"preference": "Response_A", "confidence": 0.7}', "A"),
        ("B", "B"),
        ('"tie"', "tie"),
    ],
)
def test_an_answer_is_read_by_letter_or_by_part(reply: str, label: str) -> None:
    assert task().parse(reply, PAIR).label == label


@pytest.mark.parametrize(
    ("settings", "reply", "reason"),
    [
        ({}, '{"preference": "C"}', "expected one of A, B, tie"),
        ({}, '{"preference": 1}', "expected one of A, B, tie"),
        ({}, '{"preference": null}', "expected one of A, B, tie"),
        ({}, '{"preference": {"truth": "A"}}', "expected one of A, B, tie"),
        ({}, '{"better": "A"}', "no preference"),
        ({"tie": False}, '{"preference": "tie"}', "expected one of A, B"),
        ({"criteria": CRITERIA}, '{"preference": "A"}', "expected an object of truth, brevity"),
        ({"criteria": CRITERIA}, '{"preference": {"truth": "A"}}', "nothing about brevity"),
        ({"criteria": CRITERIA}, '{"preference": {"truth": "A", "brevity": "B", "x": "A"}}', "'x' too"),
        ({"criteria": CRITERIA}, '{"preference": {"truth": "A", "brevity": "C"}}', "preference by brevity is 'C'"),
        ({"criteria": CRITERIA}, "A", "no JSON object"),
    ],
)
def test_what_is_no_preference_is_invalid_and_says_why(settings: dict[str, Any], reply: str, reason: str) -> None:
    annotation = task(**settings).parse(reply, PAIR)
    assert annotation.state == "invalid"
    assert annotation.problem
    assert reason in annotation.problem


def test_several_criteria_make_one_label_whatever_their_order() -> None:
    made = task(criteria=CRITERIA)
    one = made.parse('{"preference": {"truth": "A", "brevity": "tie"}}', PAIR)
    other = made.parse('{"preference": {"brevity": "Tie", "truth": "response_a"}}', PAIR)
    assert one.label == other.label == '{"brevity":"tie","truth":"A"}'
    assert made.named(one.label) == ["tie", "A"]
    assert made.shown(one.label) == "truth: A, brevity: tie"


def test_gold_is_read_and_shown_back() -> None:
    made = task()
    assert made.canonical(" tie", PAIR) == "tie"
    assert made.written("B", PAIR) == {"preference": "B"}
    with pytest.raises(Invalid, match="expected one of"):
        made.canonical("2", PAIR)
    several = task(criteria=CRITERIA)
    label = several.canonical('{"truth": "a", "brevity": "B"}', PAIR)
    assert several.value(several.written(label, PAIR), PAIR) == label
    with pytest.raises(Invalid, match="expected a JSON object"):
        several.canonical("A", PAIR)


def test_orders_that_agree_keep_their_answer_with_the_mean_confidence() -> None:
    agreed = both("A", "B", (0.9, 0.7))
    assert (agreed.label, agreed.confidence) == ("A", pytest.approx(0.8))
    assert agreed.scores == {"A": 1.0, "shown first": 0.5, "shown second": 0.5}
    assert both("tie", "tie").label == "tie"
    assert both("tie", "tie").confidence is None


def test_orders_that_disagree_are_a_tie_with_half_the_confidence() -> None:
    for_the_first = both("A", "A", (0.9, 0.7))
    assert (for_the_first.label, for_the_first.confidence) == ("tie", pytest.approx(0.4))
    assert for_the_first.scores == {"A": 0.5, "B": 0.5, "shown first": 1.0, "shown second": 0.0}
    half = both("tie", "A")
    assert (half.label, half.confidence) == ("tie", 0.5)
    assert half.scores == {"tie": 0.5, "B": 0.5, "shown first": 0.5, "shown second": 0.0}


def test_without_ties_the_surer_order_decides() -> None:
    assert both("A", "A", (0.6, 0.9), tie=False).label == "B"
    assert both("A", "A", (0.9, 0.6), tie=False).label == "A"
    even = both("B", "B", (0.7, 0.7), tie=False)
    assert (even.label, even.confidence) == ("B", 0.5)


def test_each_criterion_is_resolved_by_itself() -> None:
    made = both('{"brevity":"A","truth":"B"}', '{"brevity":"B","truth":"B"}', (0.8, 0.8), criteria=CRITERIA)
    assert made.label == '{"brevity":"A","truth":"tie"}'
    assert made.confidence == pytest.approx((0.8 + 0.4) / 2)
    found = {bias.criterion: bias for bias in position_bias([made.scores], list(CRITERIA))}
    assert found["brevity"].position_consistency == 1
    assert (found["truth"].position_consistency, found["truth"].first_shown_wins) == (0, 0)


def test_the_bias_is_counted_from_what_both_orders_said() -> None:
    always_first, fair, ties = both("A", "A"), both("A", "B"), both("tie", "tie")
    (bias,) = position_bias([always_first.scores, fair.scores, ties.scores, None, {"A": 0.7, "B": 0.3}])
    assert (bias.records, bias.disagreeing) == (3, 1)
    assert bias.position_consistency == pytest.approx(2 / 3)
    assert bias.first_shown_wins == pytest.approx(3 / 4)
    (none,) = position_bias([])
    assert (none.position_consistency, none.first_shown_wins) == (None, None)


@given(st.sampled_from(["A", "B", "tie"]), st.sampled_from(["A", "B", "tie"]), st.booleans())
def test_resolving_does_not_depend_on_which_part_is_called_a(first: str, second: str, several: bool) -> None:
    """Whoever swaps the two parts of a record gets the swapped answer."""
    swap = {"A": "B", "B": "A", "tie": "tie"}
    settings: dict[str, Any] = {"criteria": ["all"]} if several else {}
    form = (lambda answer: json.dumps({"all": answer}, separators=(",", ":"))) if several else str
    straight = both(form(first), form(second), **settings)
    turned = both(form(second), form(first), **settings)
    made = task(**settings)
    answer = next(iter(made.by_criterion(straight.label).values()))
    assert next(iter(made.by_criterion(turned.label).values())) == swap[answer]
    assert straight.confidence == turned.confidence


def test_several_annotators_vote_on_each_criterion() -> None:
    made = task(criteria=CRITERIA)
    labels = ['{"brevity":"A","truth":"A"}', '{"brevity":"B","truth":"A"}', '{"brevity":"B","truth":"B"}']
    combined = made.combine([Vote(Annotation("labelled", label)) for label in labels])
    assert combined.label == '{"brevity":"B","truth":"A"}'
    assert combined.confidence == pytest.approx(2 / 3)
    assert position_bias([combined.scores], list(CRITERIA))[0].records == 0
    assert task().combine([Vote(Annotation("labelled", label)) for label in "ABB"]).label == "B"


def test_records_need_both_parts() -> None:
    task().check(["instruction", "response_a", "response_b"])
    with pytest.raises(Invalid, match="no response_b among the parts of the source \\(response_a\\)"):
        task().check(["response_a"])


@pytest.mark.parametrize(
    ("settings", "reason"),
    [({"first": "x", "second": "x"}, "expected two parts"), ({"tie": "yes"}, "tie"), ({"criteria": {}}, "criteria")],
)
def test_an_impossible_comparison_is_refused(settings: dict[str, Any], reason: str) -> None:
    with pytest.raises(ValidationError, match=reason):
        Preference(**settings)


def test_metrics_of_a_whole_and_of_criteria() -> None:
    whole = task().measure(["A", "B", "tie", "A"], ["A", "A", "tie", None])
    assert (whole[0].metric, whole[0].value) == ("accuracy", 0.5)
    several = task(criteria=CRITERIA)
    gold = ['{"brevity":"A","truth":"A"}', '{"brevity":"B","truth":"tie"}']
    found = {(m.metric, m.label): m.value for m in several.measure(gold, [gold[0], '{"brevity":"B","truth":"B"}'])}
    assert found[("accuracy", "")] == 0.75
    assert found[("all_criteria", "")] == 0.5
    assert (found[("accuracy", "brevity")], found[("accuracy", "truth")]) == (1, 0.5)
    assert several.measure(gold, [None, None])[0].value == 0
    assert several.measure([], []) == []


json_values = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text() | st.sampled_from(["A", "tie", "response_b"]),
    lambda inner: st.lists(inner) | st.dictionaries(st.sampled_from(["preference", "truth", "brevity", "x"]), inner),
    max_leaves=8,
)


@given(st.booleans(), json_values)
def test_no_json_makes_the_parser_fail(several: bool, value: object) -> None:
    made = task(criteria=CRITERIA) if several else task()
    for given_value in (value, {"preference": value}):
        annotation = made.parse(json.dumps(given_value), PAIR)
        assert annotation.state in STATES
        assert (annotation.label is None) == (annotation.problem is not None)
        (annotation.problem or "").encode()
        if annotation.label is not None:
            assert made.problem(annotation.label, PAIR) is None
            assert made.seen(made.seen(annotation, 1), 1) == annotation


@given(st.text(st.characters(), max_size=80))
def test_no_text_makes_the_parser_or_gold_fail(text: str) -> None:
    assert task().parse(text, PAIR).state in STATES
    for made in (task(), task(criteria=CRITERIA)):
        try:
            made.canonical(text, PAIR)
        except Invalid as problem:
            str(problem).encode()
