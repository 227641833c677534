"""Metrics of sets of labels agree with scikit-learn on GoEmotions, and count what is missing against the annotator."""

from __future__ import annotations

import csv
import random
from pathlib import Path

import numpy as np
import pytest

from annotation_pipelines.tasks.metrics.bootstrap import Metric
from annotation_pipelines.tasks.metrics.multilabel import measure

EMOTIONS = Path(__file__).parents[2] / "examples" / "goemotions" / "data"


def by_name(metrics: list[Metric]) -> dict[tuple[str, str], Metric]:
    return {(metric.metric, metric.label): metric for metric in metrics}


def emotions() -> tuple[list[str], list[list[str]]]:
    """The label set, and the labels of every record of the slice."""
    names = (EMOTIONS / "labels.txt").read_text(encoding="utf-8").split()
    with (EMOTIONS / "train.tsv").open(encoding="utf-8", newline="") as file:
        rows = list(csv.reader(file, delimiter="\t"))
    return names, [[names[int(place)] for place in row[1].split(",")] for row in rows]


def test_every_figure_agrees_with_scikit_learn_on_real_labels() -> None:
    from sklearn.metrics import accuracy_score, f1_score, jaccard_score
    from sklearn.preprocessing import MultiLabelBinarizer

    names, gold = emotions()
    gold = gold[:2000]
    # Answers as a mediocre annotator would give them: some labels of another record, some left out, some empty.
    draw = random.Random(7)
    given = [
        [label for label in row + draw.choice(gold) if draw.random() < 0.7] if draw.random() < 0.95 else []
        for row in gold
    ]
    gold = [row if draw.random() < 0.97 else [] for row in gold]
    table = MultiLabelBinarizer(classes=names)
    truth, answers = table.fit_transform(gold), table.transform(given)
    found = by_name(measure(gold, given, names, resamples=20))
    expected = {
        ("micro_f1", ""): f1_score(truth, answers, average="micro"),
        ("macro_f1", ""): f1_score(truth, answers, average="macro", zero_division=np.nan),
        ("jaccard", ""): jaccard_score(truth, answers, average="samples", zero_division=1.0),
        ("exact_match", ""): accuracy_score(truth, answers),
    }
    each = f1_score(truth, answers, average=None, zero_division=np.nan)
    expected |= {("f1", name): value for name, value in zip(names, each, strict=True)}
    assert found.keys() == expected.keys()
    for key, value in expected.items():
        assert found[key].value == pytest.approx(value, abs=1e-9), key
    assert found["f1", "joy"].records == sum("joy" in row for row in gold)


def test_the_headline_comes_first_and_lies_in_its_interval() -> None:
    names, gold = emotions()
    metrics = measure(gold[:300], [row[:1] for row in gold[:300]], names, resamples=300)
    assert metrics[0].metric == "micro_f1"
    for metric in metrics[:4]:
        assert metric.lower is not None
        assert metric.upper is not None
        assert metric.value is not None
        assert 0 <= metric.lower <= metric.value <= metric.upper <= 1
        assert metric.upper - metric.lower > 0.001 or metric.value == 1


def test_no_answer_is_no_exact_match_of_an_empty_set() -> None:
    found = by_name(measure([[], ["a"]], [None, None], ["a", "b"]))
    assert found["exact_match", ""].value == 0
    assert found["jaccard", ""].value == 0
    assert found["micro_f1", ""].value == 0
    empty = by_name(measure([[]], [[]], ["a", "b"]))
    assert empty["exact_match", ""].value == empty["jaccard", ""].value == 1
    assert empty["micro_f1", ""].value is None


def test_labels_outside_the_set_count_against_the_annotator() -> None:
    found = by_name(measure([["a"]], [["a", "x"]], ["a", "b"]))
    assert found["micro_f1", ""].value == pytest.approx(2 / 3)
    assert found["jaccard", ""].value == 0.5
    assert found["exact_match", ""].value == 0


def test_gold_outside_the_set_and_other_lengths_are_refused() -> None:
    with pytest.raises(ValueError, match="outside"):
        measure([["x"]], [["a"]], ["a"])
    with pytest.raises(ValueError, match="as many"):
        measure([["a"]], [], ["a"])
    assert measure([], [], ["a"]) == []
