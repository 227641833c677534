"""Rounds of selection over a real store; the annotator is a function that writes the true label into it."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import polars as pl
import pytest

from annotation_pipelines.annotators.counts import AnnotationCounts
from annotation_pipelines.project import Selection
from annotation_pipelines.selection import rounds
from annotation_pipelines.selection.round_history import open_partitions, rounds_of
from annotation_pipelines.selection.rounds import (
    ALL_ROUNDS,
    BUDGET_SPENT,
    FLAT,
    NO_RECORD_LEFT,
    RoundsOutcome,
    choose_first_round,
    run_rounds,
)
from tests.distillation.stars import Stars


class Sky:
    """A project of 90 records in a pool and 30 that people labelled, annotated round by round."""

    def __init__(self, folder: Path, **selection: Any) -> None:
        self.stars = Stars(folder, min_labels=5)
        settings = {"strategy": "entropy", "rounds": 3, "per_round": 12, "stop": {"patience": 99}, **selection}
        self.declare(**settings)
        self.pool, truth = self.stars.add(90, seed=1)
        self.truth = dict(zip(self.pool["record_id"], truth, strict=True))
        people, labels = self.stars.add(30, seed=2)
        self.stars.hold_out(people, labels, role="training")
        self.asked: list[str] = []
        self.affordable = 10_000

    def declare(self, **settings: Any) -> None:
        declaration = self.stars.project.declaration
        self.stars.project.declaration = declaration.model_copy(
            update={"selection": Selection.model_validate(settings)}
        )

    def label(self) -> AnnotationCounts:
        """Give every selected record without a label its true one, as long as there is money: a cent each."""
        selected = self.stars.store.query(
            """
            SELECT record_id, state FROM selected_records s
            WHERE state = 'selected' AND record_id NOT IN (SELECT record_id FROM llm_labels) ORDER BY record_id
            """
        )["record_id"].to_list()
        paid = selected[: self.affordable - len(self.asked)]
        self.asked += paid
        counts = AnnotationCounts(
            selected=len(selected), new=len(selected), called=len(paid), cost_usd=0.01 * len(paid)
        )
        counts.states["labelled"] = len(paid)
        counts.states["over_budget"] = len(selected) - len(paid)
        if paid:
            rows = self.pool.filter(pl.col("record_id").is_in(paid)).sort("record_id")
            self.stars.teach(rows, [self.truth[record_id] for record_id in rows["record_id"]], partition="all")
        return counts

    def run(self) -> RoundsOutcome:
        choose_first_round(self.stars.store, self.stars.project, "all")
        return run_rounds(self.stars.store, self.stars.project, "all", self.label, self.stars.embedder)

    def chosen(self) -> dict[str, int]:
        rows = self.stars.store.query("SELECT record_id, round FROM selected_records WHERE state = 'selected'")
        return dict(rows.iter_rows())


@pytest.fixture(scope="module")
def undisturbed(tmp_path_factory: pytest.TempPathFactory) -> tuple[Sky, RoundsOutcome]:
    """Rounds that ran through at once; not to be changed."""
    sky = Sky(tmp_path_factory.mktemp("undisturbed"))
    return sky, sky.run()


def test_every_round_chooses_its_records_and_leaves_its_row(undisturbed: tuple[Sky, RoundsOutcome]) -> None:
    sky, outcome = undisturbed
    assert outcome.ended == ALL_ROUNDS
    assert [(r.round, r.chosen, r.labelled, r.silver) for r in outcome.rounds] == [
        (1, 12, 12, 12),
        (2, 12, 12, 24),
        (3, 12, 12, 36),
    ]
    assert outcome.rounds[0].strategy == "random", "there is no student yet"
    assert {r.strategy for r in outcome.rounds[1:]} == {"entropy"}
    assert [r.cost_usd for r in outcome.rounds] == pytest.approx([0.12] * 3)
    assert outcome.counts.called == 36 and outcome.counts.cost_usd == pytest.approx(0.36)
    assert rounds_of(sky.stars.store, "all") == list(outcome.rounds)
    assert sorted(sky.chosen().values()) == sorted([1, 2, 3] * 12)


def test_the_curve_is_measured_on_gold_that_the_rounds_student_did_not_learn_from(
    undisturbed: tuple[Sky, RoundsOutcome],
) -> None:
    _, outcome = undisturbed
    last = outcome.rounds[-1]
    assert 0 < last.gold < 30, "one part of the gold measures, the other teaches"
    assert last.metric == "accuracy" and last.value is not None and last.value > 0.9
    assert last.agreement is not None and last.agreement > 0.8


def test_uncertain_records_are_chosen_once_there_is_a_student(undisturbed: tuple[Sky, RoundsOutcome]) -> None:
    sky, _ = undisturbed
    scores = sky.stars.store.query(
        "SELECT round, min(score) AS least FROM selected_records WHERE state = 'selected' AND round > 1 GROUP BY round"
    )
    waiting = sky.stars.store.query("SELECT max(score) AS most FROM selected_records WHERE state = 'waiting'")
    assert scores.filter(pl.col("round") == 3)["least"][0] >= waiting["most"][0]


def test_a_flat_curve_ends_the_rounds(tmp_path: Path) -> None:
    sky = Sky(tmp_path, rounds=7, stop={"agreement": 0.5, "patience": 1})
    outcome = sky.run()
    before = len(outcome.rounds)
    assert outcome.ended == FLAT
    assert 2 <= before < 7
    assert outcome.rounds[-1].stopped == FLAT
    assert sky.run().rounds == outcome.rounds, "a curve that was flat stays flat"
    assert open_partitions(sky.stars.store, sky.stars.project) == []
    # A stricter rule takes the rounds up again.
    sky.declare(strategy="entropy", rounds=before + 1, per_round=12, stop={"patience": 99})
    assert open_partitions(sky.stars.store, sky.stars.project) == ["all"]
    assert len(sky.run().rounds) == before + 1


def test_without_records_the_rounds_end(tmp_path: Path) -> None:
    outcome = Sky(tmp_path, rounds=5, per_round=40).run()
    assert [r.chosen for r in outcome.rounds] == [40, 40, 10]
    assert outcome.ended == NO_RECORD_LEFT


def test_per_partition_caps_the_rounds_together(tmp_path: Path) -> None:
    sky = Sky(tmp_path, per_partition=20)
    assert [r.chosen for r in sky.run().rounds] == [12, 8]
    assert open_partitions(sky.stars.store, sky.stars.project) == []


def test_a_spent_budget_leaves_the_round_open_and_the_next_run_goes_on_with_it(tmp_path: Path) -> None:
    sky = Sky(tmp_path)
    sky.affordable = 18
    outcome = sky.run()
    assert outcome.ended == BUDGET_SPENT and len(outcome.rounds) == 1
    chosen = sky.chosen()
    assert open_partitions(sky.stars.store, sky.stars.project) == ["all"]
    sky.affordable = 10_000
    outcome = sky.run()
    assert len(outcome.rounds) == 3 and outcome.ended == ALL_ROUNDS
    assert len(sky.asked) == len(set(sky.asked)) == 36, "nothing was asked about twice"
    assert {record_id: n for record_id, n in sky.chosen().items() if n <= 2} == chosen


@pytest.mark.parametrize("at", ["choice", "annotation", "row"])
def test_a_run_that_breaks_off_anywhere_ends_as_one_that_did_not(
    tmp_path: Path, at: str, monkeypatch: pytest.MonkeyPatch, undisturbed: tuple[Sky, RoundsOutcome]
) -> None:
    whole, expected = undisturbed
    sky = Sky(tmp_path)
    with monkeypatch.context() as broken:
        _break_off(broken, sky, at)
        with pytest.raises(KeyboardInterrupt):
            sky.run()
    assert 0 < len(rounds_of(sky.stars.store, "all")) < 3
    outcome = sky.run()
    assert sky.chosen() == whole.chosen()
    assert len(sky.asked) == len(set(sky.asked)) == 36
    facts = ("round", "chosen", "silver", "value", "agreement")
    assert [[getattr(r, f) for f in facts] for r in outcome.rounds] == [
        [getattr(r, f) for f in facts] for r in expected.rounds
    ]


def _break_off(monkeypatch: pytest.MonkeyPatch, sky: Sky, at: str) -> None:
    """Let the second round be interrupted: before its choice, after its records are labelled, or with its row."""
    real_choose, real_label, real_measured = rounds.choose_round, sky.label, rounds._measured

    def choose(store: Any, project: Any, key: str, number: int, *rest: Any, **named: Any) -> Any:
        if number == 2:
            raise KeyboardInterrupt
        return real_choose(store, project, key, number, *rest, **named)

    def label() -> AnnotationCounts:
        counts = real_label()
        if len(sky.asked) == 24:
            raise KeyboardInterrupt
        return counts

    def measured(here: Any, number: int, *rest: Any) -> Any:
        if number == 2:
            raise KeyboardInterrupt
        return real_measured(here, number, *rest)

    if at == "choice":
        monkeypatch.setattr(rounds, "choose_round", choose)
    elif at == "annotation":
        monkeypatch.setattr(sky, "label", label)
    else:
        monkeypatch.setattr(rounds, "_measured", measured)


def test_held_out_gold_has_no_part_in_the_rounds(tmp_path: Path, undisturbed: tuple[Sky, RoundsOutcome]) -> None:
    _, one = undisturbed
    other = Sky(tmp_path)
    people, labels = other.stars.add(30, seed=9)
    other.stars.hold_out(people, labels[1:] + labels[:1])  # held out, and wrong throughout
    two = other.run()
    assert [(r.value, r.agreement, r.gold) for r in one.rounds] == [(r.value, r.agreement, r.gold) for r in two.rounds]
