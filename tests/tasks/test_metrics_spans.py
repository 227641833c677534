"""Metrics of entities: as seqeval counts on real sentences, and as MUC and SemEval-2013 count by hand."""

from __future__ import annotations

import random

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from seqeval.metrics import classification_report

from annotation_pipelines.tasks.metrics.bootstrap import Metric
from annotation_pipelines.tasks.metrics.spans import align, measure
from annotation_pipelines.tasks.spans import TypedSpan, spans_label
from annotation_pipelines.tasks.tokens import joined, tagged_entities
from tests.tasks.test_tokens import sentences

TYPES = ["corporation", "creative-work", "group", "location", "person", "product"]


def label(*spans: tuple[int, int, str]) -> str:
    return spans_label("x" * 99, [TypedSpan(*span) for span in spans])


def figures(metrics: list[Metric]) -> dict[tuple[str, str], float | None]:
    return {(metric.metric, metric.label): metric.value for metric in metrics}


def spoiled(tags: list[str], generator: random.Random) -> list[str]:
    """The same tags, with some dropped, moved, changed in type, and made up."""
    found = list(tags)
    for place, tag in enumerate(tags):
        if generator.random() < (0.3 if tag != "O" else 0.03):
            found[place] = generator.choice(["O", f"B-{generator.choice(TYPES)}", f"I-{generator.choice(TYPES)}"])
    return found


@pytest.mark.parametrize("seed", [0, 1, 2])
def test_strict_f1_agrees_with_seqeval_on_real_sentences(seed: int) -> None:
    generator = random.Random(seed)
    gold, given = [], []
    true, answered = [], []
    for words, tags in sentences():
        text, tokens = joined(words)
        guess = spoiled(tags, generator)
        gold.append(spans_label(text, tagged_entities(tags, tokens)))
        given.append(spans_label(text, tagged_entities(guess, tokens)))
        true.append(tags)
        answered.append(guess)
    assert len(gold) == 1800
    report = classification_report(true, answered, output_dict=True, zero_division=0)
    ours = figures(measure(gold, given, TYPES, resamples=10))
    for ours_name, average, theirs_name in [
        ("f1", "micro avg", "f1-score"),
        ("precision", "micro avg", "precision"),
        ("recall", "micro avg", "recall"),
        ("macro_f1", "macro avg", "f1-score"),
    ]:
        assert ours[ours_name, ""] == pytest.approx(report[average][theirs_name], abs=1e-9)
    for name in TYPES:
        assert ours["f1", name] == pytest.approx(report[name]["f1-score"], abs=1e-9)
    assert 0.3 < (ours["f1", ""] or 0) < 0.9


def test_the_kinder_metrics_count_as_semeval_2013_does() -> None:
    gold = label((0, 5, "a"), (10, 20, "a"), (30, 40, "b"), (50, 60, "b"))
    given = label((0, 5, "a"), (10, 15, "a"), (30, 40, "a"), (70, 75, "b"))
    found = figures(measure([gold], [given], ["a", "b"], resamples=10))
    # 4 gold, 4 given; one right; one of the right type that overlaps; one with right bounds; one missed, one made up.
    assert found["f1", ""] == 2 * 1 / 8
    assert found["exact_f1", ""] == 2 * 2 / 8
    assert found["partial_f1", ""] == 2 * 2.5 / 8
    assert found["type_f1", ""] == 2 * 2 / 8
    assert found["precision", ""] == found["recall", ""] == 0.25
    assert found["record_accuracy", ""] == 0.0


def test_an_entity_has_one_partner_at_most() -> None:
    long, first, second = TypedSpan(0, 20, "a"), TypedSpan(0, 5, "a"), TypedSpan(6, 20, "a")
    assert align([long], [first, second]) == [(long, second)]
    assert align([first, second], [long]) == [(second, long)]
    other = TypedSpan(6, 20, "b")
    assert align([second], [TypedSpan(5, 20, "a"), other]) == [(second, other)]
    assert align([TypedSpan(0, 3, "a")], [TypedSpan(3, 6, "a")]) == []


def test_no_answer_misses_every_entity_and_is_a_wrong_record() -> None:
    found = figures(measure([label((0, 5, "a")), label()], [None, label()], ["a"], resamples=10))
    assert found["f1", ""] == 0.0
    assert found["record_accuracy", ""] == 0.5
    assert figures(measure([label()], [None], ["a"], resamples=10))["record_accuracy", ""] == 0.0


def test_what_is_not_defined_is_none_and_nothing_is_measured_without_records() -> None:
    found = figures(measure([label()], [label()], ["a"], resamples=10))
    assert (found["f1", ""], found["f1", "a"], found["record_accuracy", ""]) == (None, None, 1.0)
    assert measure([], [], ["a"]) == []


def test_types_and_lengths_are_checked() -> None:
    with pytest.raises(ValueError, match="outside the type set: c"):
        measure([label((0, 1, "c"))], [None], ["a"])
    with pytest.raises(ValueError, match="found 0 and 1"):
        measure([label()], [], ["a"])
    made_up = figures(measure([label((0, 1, "a"))], [label((0, 1, "c"))], ["a"], resamples=10))
    assert (made_up["f1", ""], made_up["exact_f1", ""]) == (0.0, 1.0)


spans = st.builds(
    lambda start, length, kind: (start, start + length, kind),
    st.integers(0, 9),
    st.integers(1, 5),
    st.sampled_from("ab"),
)
labels = st.lists(spans, max_size=5).map(lambda found: label(*found))


@settings(max_examples=100, deadline=None)
@given(st.lists(st.tuples(labels, st.none() | labels), min_size=1, max_size=4))
def test_kinder_metrics_are_never_below_the_strict_one_and_perfect_answers_get_1(
    records: list[tuple[str, str | None]],
) -> None:
    gold, given = [a for a, _ in records], [b for _, b in records]
    metrics = measure(gold, given, ["a", "b"], resamples=20)
    found = figures(metrics)
    strict = found["f1", ""]
    if strict is not None:
        for name in ("exact_f1", "partial_f1", "type_f1"):
            assert strict - 1e-12 <= (found[name, ""] or 0.0) <= 1
    assert all(metric.value is None or 0 <= metric.value <= 1 for metric in metrics)
    perfect = figures(measure(gold, gold, ["a", "b"], resamples=20))
    assert all(value in (None, 1.0) for value in perfect.values())
