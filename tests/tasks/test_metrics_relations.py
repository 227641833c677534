"""Metrics of relations: as the official scorer, scikit-learn and counting by hand have them."""

from __future__ import annotations

import importlib.util
import itertools
import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from sklearn.feature_extraction.text import TfidfVectorizer
from sklearn.linear_model import LogisticRegression
from sklearn.metrics import accuracy_score, f1_score

from annotation_pipelines.tasks.metrics.bootstrap import Metric
from annotation_pipelines.tasks.metrics.relations import measure_found, measure_given, overlapping

SOURCE = Path(__file__).parents[2] / "examples" / "semeval2010_task8" / "source.py"
TYPES = [
    "Cause-Effect",
    "Component-Whole",
    "Content-Container",
    "Entity-Destination",
    "Entity-Origin",
    "Instrument-Agency",
    "Member-Collection",
    "Message-Topic",
    "Product-Producer",
]
TYPE_OF: dict[str, str | None] = {f"{name}({way})": name for name in TYPES for way in ("e1,e2", "e2,e1")}
TYPE_OF["Other"] = None

# What the official scorer (semeval2010_task8_scorer-v1.2.pl) printed for a model of 2017: rows are gold, columns the
# model's, Other last; then how many had the right type and the wrong direction.
CONFUSION = """
300 0 0 0 4 1 0 2 2 12      3
1 235 5 1 1 11 11 6 3 29    8
0 5 160 7 2 0 1 1 1 11      4
0 2 7 264 0 0 0 1 1 16      1
3 1 1 4 226 1 0 1 3 16      1
0 4 1 1 1 118 0 4 5 21      0
0 4 0 0 2 0 206 1 0 19      0
1 5 0 1 2 0 2 229 1 19      1
5 1 2 0 4 9 0 3 177 27      2
16 25 18 23 27 24 29 33 26 231 0
"""
PRINTED = [91.88, 78.20, 82.05, 88.89, 85.77, 73.98, 85.65, 84.35, 78.49]


def by_name(metrics: list[Metric]) -> dict[tuple[str, str], Metric]:
    return {(metric.metric, metric.label): metric for metric in metrics}


def value(metrics: list[Metric], name: str, label: str = "") -> float:
    found = by_name(metrics)[name, label].value
    assert found is not None
    return found


def test_the_official_scorer_printed_the_same() -> None:
    gold: list[str] = []
    given_: list[str] = []
    names = [f"{name}(e1,e2)" for name in TYPES] + ["Other"]
    for truth, row in zip(names, (line.split() for line in CONFUSION.strip().splitlines()), strict=True):
        *counts, reversed_ = map(int, row)
        for answer, count in zip(names, counts, strict=True):
            gold += [truth] * count
            given_ += [answer] * count
        gold += [truth] * reversed_
        given_ += [truth.replace("(e1,e2)", "(e2,e1)")] * reversed_
    metrics = measure_given(gold, given_, TYPE_OF)
    assert len(gold) == 2706
    assert [round(100 * value(metrics, "f1", name), 2) for name in TYPES] == PRINTED
    assert round(100 * value(metrics, "macro_f1"), 2) == 83.25
    assert round(100 * value(metrics, "micro_f1"), 2) == 84.01
    assert round(100 * value(metrics, "accuracy"), 2) == 79.31
    assert by_name(metrics)["f1", "Cause-Effect"].records == 324


@pytest.fixture(scope="module")
def real() -> tuple[list[str], list[str]]:
    """Gold of 400 real sentences, and what logistic regression on words says of them, learnt from 800 others."""
    spec = importlib.util.spec_from_file_location("semeval_source", SOURCE)
    assert spec and spec.loader
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    records: list[dict[str, Any]] = list(module.records(None, None))
    texts, labels = [r["text"] for r in records], [r["relation"] for r in records]
    words = TfidfVectorizer(ngram_range=(1, 2)).fit(texts[:800])
    model = LogisticRegression(C=30, max_iter=300).fit(words.transform(texts[:800]), labels[:800])
    return labels[800:], list(model.predict(words.transform(texts[800:])))


def test_micro_f1_and_accuracy_are_scikit_learn_s_on_real_answers(real: tuple[list[str], list[str]]) -> None:
    gold, given_ = real
    metrics = measure_given(gold, given_, TYPE_OF)
    relations = [label for label, name in TYPE_OF.items() if name is not None]
    micro = f1_score(gold, given_, labels=relations, average="micro", zero_division=0)
    assert 0.2 < micro < 0.9
    assert value(metrics, "micro_f1") == pytest.approx(micro, abs=1e-9)
    assert value(metrics, "accuracy") == pytest.approx(accuracy_score(gold, given_), abs=1e-9)
    for metric in metrics:
        assert metric.value is not None and metric.lower is not None and metric.upper is not None
        assert metric.lower <= metric.value <= metric.upper


def test_without_directions_every_figure_is_scikit_learn_s(real: tuple[list[str], list[str]]) -> None:
    gold, given_ = ([label.split("(")[0] for label in labels] for labels in real)
    metrics = measure_given(gold, given_, {**{name: name for name in TYPES}, "Other": None})
    for average in ("micro", "macro"):
        expected = f1_score(gold, given_, labels=TYPES, average=average, zero_division=0)
        assert value(metrics, f"{average}_f1") == pytest.approx(expected, abs=1e-9)
    each = f1_score(gold, given_, labels=TYPES, average=None, zero_division=0)
    assert [value(metrics, "f1", name) for name in TYPES] == pytest.approx(list(each), abs=1e-9)


def test_the_interval_is_about_as_wide_as_that_of_a_share(real: tuple[list[str], list[str]]) -> None:
    gold, given_ = real
    metric = by_name(measure_given(gold, given_, TYPE_OF))["accuracy", ""]
    assert metric.value and metric.lower and metric.upper
    normal = 1.96 * np.sqrt(metric.value * (1 - metric.value) / len(gold))
    assert (metric.upper - metric.lower) / 2 == pytest.approx(normal, rel=0.15)


def test_no_answer_claims_no_relation_and_is_wrong() -> None:
    metrics = measure_given(["Cause-Effect(e1,e2)", "Other", "Other"], ["Cause-Effect(e1,e2)", None, "gone"], TYPE_OF)
    assert value(metrics, "micro_f1") == 1.0
    assert value(metrics, "accuracy") == pytest.approx(1 / 3)


def test_where_nobody_sees_a_relation_f1_is_not_defined() -> None:
    metrics = by_name(measure_given(["Other"], ["Other"], TYPE_OF))
    assert metrics["micro_f1", ""].value is None
    assert metrics["macro_f1", ""].value is None
    assert metrics["accuracy", ""].value == 1.0
    assert measure_given([], [], TYPE_OF) == measure_found([], [], TYPES) == []
    with pytest.raises(ValueError, match="outside"):
        measure_given(["Cause"], ["Other"], TYPE_OF)
    with pytest.raises(ValueError, match="as many"):
        measure_found(["[]"], [], TYPES)


def relation(at: tuple[int, int], to: tuple[int, int], name: str = "Cause-Effect", **types: str) -> dict[str, Any]:
    mentions = {
        role: {"start": span[0], "end": span[1], "text": "", **({"type": types[role]} if role in types else {})}
        for role, span in (("head", at), ("tail", to))
    }
    return {"type": name, **mentions}


def test_found_relations_are_right_exactly_or_where_mentions_overlap() -> None:
    a, b, wider, other = (0, 4), (10, 14), (8, 14), (20, 24)
    gold = [[relation(a, b), relation(b, other, "Message-Topic")], [relation(a, b)], [], []]
    given_ = [
        [relation(a, wider), relation(b, other, "Message-Topic")],
        [relation(b, a)],
        [relation(a, b, "Entity-Origin")],
        [],
    ]
    metrics = measure_found(list(map(json.dumps, gold)), [*map(json.dumps, given_[:3]), None], TYPES)
    assert value(metrics, "micro_f1") == pytest.approx(2 * 1 / (3 + 4))
    assert value(metrics, "overlap_f1") == pytest.approx(2 * 2 / (3 + 4))
    assert value(metrics, "exact") == 0.0
    assert value(metrics, "f1", "Cause-Effect") == 0.0
    assert value(metrics, "f1", "Message-Topic") == 1.0
    assert value(metrics, "macro_f1") == 0.5
    assert by_name(metrics)["f1", "Cause-Effect"].records == 2
    assert value(measure_found(["[]"], ["[]"], TYPES), "exact") == 1.0


def test_types_of_mentions_count_in_strict_f1_alone() -> None:
    gold = [json.dumps([relation((0, 4), (10, 14), head="person", tail="city")])]
    given_ = [json.dumps([relation((0, 4), (10, 14), head="person", tail="company")])]
    metrics = measure_found(gold, given_, TYPES)
    assert (value(metrics, "micro_f1"), value(metrics, "overlap_f1")) == (0.0, 1.0)


spans = st.integers(0, 6).flatmap(lambda start: st.tuples(st.just(start), st.integers(start + 1, 8)))
relations = st.lists(st.builds(relation, spans, spans, st.sampled_from(["Cause-Effect", "Message-Topic"])), max_size=4)


@settings(max_examples=100)
@given(relations, relations)
def test_the_pairing_is_the_largest_there_is(true: list[dict[str, Any]], said: list[dict[str, Any]]) -> None:
    def fits(one: dict[str, Any], other: dict[str, Any]) -> bool:
        return one["type"] == other["type"] and all(
            set(range(one[role]["start"], one[role]["end"])) & set(range(other[role]["start"], other[role]["end"]))
            for role in ("head", "tail")
        )

    few, many = sorted((true, said), key=len)
    best = max(sum(map(fits, few, chosen)) for chosen in itertools.permutations(many, len(few)))
    assert overlapping(true, said) == best
