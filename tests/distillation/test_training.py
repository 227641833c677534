"""Training: the same labels give the same version, and nothing held out is learned from."""

from __future__ import annotations

import json
from pathlib import Path

import polars as pl
import pytest
from polars.testing import assert_frame_equal

from annotation_pipelines.distillation.embedding import Embedder
from annotation_pipelines.distillation.training import train, trained_on, training_rows
from annotation_pipelines.errors import StoreCorrupted, TrainingError
from tests.distillation.stars import Stars, star_project


def test_a_model_is_trained_once_for_the_same_labels(stars: Stars) -> None:
    rows, truth = stars.add(60)
    stars.trust(rows, truth)
    first = train(stars.store, stars.project, stars.embedder)
    changed = (first.path / "model.safetensors").stat().st_mtime_ns
    again = train(stars.store, stars.project, stars.embedder)
    assert (first.trained, again.trained) == (True, False)
    assert again.version == first.version
    assert (first.path / "model.safetensors").stat().st_mtime_ns == changed
    assert stars.store.query("SELECT count(*) AS n FROM models")["n"][0] == 1


def test_the_registry_and_the_card_say_what_it_was_trained_on(stars: Stars) -> None:
    silver, truth = stars.add(40)
    stars.trust(silver, truth)
    gold, gold_truth = stars.add(20, seed=1)
    stars.trust(gold, gold_truth, origin="gold", weight=1.0)
    model = train(stars.store, stars.project, stars.embedder, run_id="run")
    row = stars.store.query("SELECT * FROM models").row(0, named=True)
    assert (row["status"], row["silver"], row["gold"], row["run_id"]) == ("candidate", 40, 20, "run")
    assert stars.store.home / row["path"] == model.path
    card = json.loads((model.path / "card.json").read_text())
    assert (card["silver"], card["gold"], card["encoder_id"]) == (40, 20, stars.embedder.encoder.id)
    told = (model.path / "card.md").read_text()
    assert "| silver labels (the annotator's) | 40 |" in told and "Not measured yet" in told
    stage = stars.store.query("SELECT facts FROM stage_runs WHERE stage = 'distilled_model'")["facts"][0]
    assert json.loads(stage)["silver"] == 40
    assert len(model.version) == 12


def test_the_labels_it_was_trained_on_are_kept_beside_the_model(stars: Stars) -> None:
    silver, truth = stars.add(40)
    stars.trust(silver, truth)
    gold, gold_truth = stars.add(20, seed=1)
    stars.trust(gold, gold_truth, origin="gold", weight=1.0)
    stars.hold_out(silver[:3], truth[:3])
    model = train(stars.store, stars.project, stars.embedder)
    kept = trained_on(model.path)
    trusted = stars.store.query(
        "SELECT record_id, content_hash, label, origin, weight FROM trusted_labels "
        "WHERE record_id NOT IN ('r0', 'r1', 'r2') ORDER BY record_id"
    )
    assert kept is not None
    assert_frame_equal(kept.sort("record_id"), trusted)
    assert sorted(path.name for path in model.path.parent.iterdir()) == [model.version]


@pytest.mark.parametrize("change", ["label", "weight", "content", "seed", "one more"])
def test_whatever_changes_the_model_changes_the_version(stars: Stars, tmp_path: Path, change: str) -> None:
    rows, truth = stars.add(60)
    stars.trust(rows, truth)
    before = train(stars.store, stars.project, stars.embedder).version
    project = stars.project
    if change == "label":
        stars.trust(rows[:1], ["moon" if truth[0] != "moon" else "sun"])
    elif change == "weight":
        stars.trust(rows[:1], truth[:1], weight=0.5)
    elif change == "content":
        with stars.store.transaction() as con:
            con.execute("UPDATE trusted_labels SET content_hash = 'h59' WHERE record_id = 'r0'")
            con.execute("UPDATE records SET content_hash = 'h59' WHERE record_id = 'r0'")
    elif change == "seed":
        project = Stars(tmp_path, seed=1).project
    else:
        more, more_truth = stars.add(1)
        stars.trust(more, more_truth)
    assert train(stars.store, project, stars.embedder).version != before


def test_ids_and_partitions_do_not_change_the_version(stars: Stars) -> None:
    rows, truth = stars.add(60)
    stars.trust(rows, truth)
    before = train(stars.store, stars.project, stars.embedder).version
    with stars.store.transaction() as con:
        for table in ("records", "trusted_labels"):
            con.execute(f"UPDATE {table} SET record_id = 'other ' || record_id, partition_key = 'p'")
    assert train(stars.store, stars.project, stars.embedder).version == before


def test_a_damaged_model_is_trained_again_and_is_the_same(stars: Stars, caplog: pytest.LogCaptureFixture) -> None:
    rows, truth = stars.add(60)
    stars.trust(rows, truth)
    first = train(stars.store, stars.project, stars.embedder)
    weights = (first.path / "model.safetensors").read_bytes()
    (first.path / "model.safetensors").write_bytes(weights[:-1])
    again = train(stars.store, stars.project, stars.embedder)
    assert again.trained
    assert "trained again" in caplog.text
    assert (again.path / "model.safetensors").read_bytes() == weights


def test_a_model_whose_training_labels_are_damaged_is_trained_again(
    stars: Stars, caplog: pytest.LogCaptureFixture
) -> None:
    rows, truth = stars.add(60)
    stars.trust(rows, truth)
    kept = train(stars.store, stars.project, stars.embedder).path / "training.parquet"
    whole = kept.read_bytes()
    for damaged in (whole[: len(whole) // 2], b""):
        kept.write_bytes(damaged)
        with pytest.raises(StoreCorrupted, match="what the model was trained on cannot be read"):
            trained_on(kept.parent)
        assert train(stars.store, stars.project, stars.embedder).trained
        assert "trained again" in caplog.text
        assert kept.read_bytes() == whole


def test_a_model_without_its_training_labels_is_trained_again(stars: Stars) -> None:
    rows, truth = stars.add(60)
    stars.trust(rows, truth)
    model = train(stars.store, stars.project, stars.embedder)
    (model.path / "training.parquet").unlink()
    assert train(stars.store, stars.project, stars.embedder).trained
    assert trained_on(model.path) is not None


def test_nothing_held_out_is_learned_from(stars: Stars) -> None:
    rows, truth = stars.add(60)
    stars.trust(rows, truth)
    stars.hold_out(rows[:3], truth[:3])
    copy = rows[3:5].with_columns(
        record_id="copy of " + pl.col("record_id"),
        content_hash="other " + pl.col("content_hash"),
        content="  " + pl.col("content").str.to_uppercase().str.replace(" ", "\n"),
    )
    stars.hold_out(copy, truth[3:5])
    model = train(stars.store, stars.project, stars.embedder)
    assert (model.leaked, model.silver) == (5, 55)


def test_labels_of_earlier_contents_and_gone_records_are_left_out(stars: Stars) -> None:
    rows, truth = stars.add(60)
    stars.trust(rows, truth)
    with stars.store.transaction() as con:
        con.execute("UPDATE records SET content_hash = 'new', content = 'new' WHERE record_id = 'r0'")
        con.execute("UPDATE records SET deleted_at = now() WHERE record_id = 'r1'")
    model = train(stars.store, stars.project, stars.embedder)
    assert (model.outdated, model.silver) == (2, 58)


def test_gold_that_people_brought_needs_no_record(stars: Stars) -> None:
    rows, truth = stars.add(60)
    stars.trust(rows, truth, origin="gold", weight=1.0)
    stars.hold_out(rows, truth, role="training")
    with stars.store.transaction() as con:
        con.execute("DELETE FROM records")
    assert train(stars.store, stars.project, stars.embedder).gold == 60


def test_a_label_that_the_task_no_longer_has_is_left_out(stars: Stars) -> None:
    rows, truth = stars.add(60)
    stars.trust(rows, ["comet", *truth[1:]])
    model = train(stars.store, stars.project, stars.embedder)
    assert model.unknown == 1
    assert "comet" not in json.loads((model.path / "card.json").read_text())["own"]["classes"]


def test_too_few_labels_are_one_clear_error(stars: Stars) -> None:
    with pytest.raises(TrainingError, match="expected 20 trusted labels or more, found 0"):
        train(stars.store, stars.project, stars.embedder)
    rows, truth = stars.add(21)
    stars.trust(rows, truth)
    stars.hold_out(rows[:2], truth[:2])
    with pytest.raises(TrainingError, match=r"found 19 \(2 left out: held out for evaluation\)"):
        train(stars.store, stars.project, stars.embedder)
    assert stars.store.query("SELECT * FROM models").is_empty()


def test_one_class_is_one_clear_error(stars: Stars) -> None:
    rows, _ = stars.add(30)
    stars.trust(rows, ["sun"] * 30)
    with pytest.raises(TrainingError, match="two classes or more, found only sun"):
        train(stars.store, stars.project, stars.embedder)


def test_the_version_depends_on_the_encoder(stars: Stars) -> None:
    from annotation_pipelines.distillation.encoder import Encoder

    rows, truth = stars.add(60)
    stars.trust(rows, truth)
    other = Embedder(stars.store.home, Encoder(precision="bfloat16"))
    for shard in stars.embedder.cache.shards():
        other.cache.write(shard, stars.embedder.cache.read(shard))
    one = train(stars.store, stars.project, stars.embedder)
    assert train(stars.store, stars.project, other).version != one.version


def test_what_nearly_reads_like_a_held_out_text_is_left_out_and_counted(stars: Stars) -> None:
    rows, truth = stars.add(60)
    stars.trust(rows, truth)
    near = rows[:4].with_columns(
        record_id="near " + pl.col("record_id"),
        content_hash="near " + pl.col("content_hash"),
        content=pl.col("content") + "!",
    )
    other = rows[4:5].with_columns(
        record_id=pl.lit("other"), content_hash=pl.lit("other"), content=pl.lit("Quite another text")
    )
    stars.hold_out(pl.concat([near, other]), truth[:5])
    model = train(stars.store, stars.project, stars.embedder)
    assert (model.leaked, model.alike, model.silver) == (4, 4, 56)
    assert model.facts()["leaked_nearly"] == 4


def test_gold_that_tells_how_the_teacher_errs_is_not_like_what_measures() -> None:
    trusted = pl.DataFrame(
        schema={
            "record_id": pl.String,
            "content_hash": pl.String,
            "content": pl.String,
            "label": pl.String,
            "origin": pl.String,
            "weight": pl.Float64,
            "held_out": pl.Boolean,
        }
    )
    audit = pl.DataFrame(
        {
            "content_hash": ["1", "2"],
            "content": ["the moon is full tonight", "a star fell"],
            "label": ["moon", "star"],
            "given": ["moon", "sun"],
        }
    )
    found = training_rows(trusted, ["The moon is full  TONIGHT."], star_project(Path()).task, audit)
    assert found.examples.audit["content"].to_list() == ["a star fell"]


def test_every_label_is_kept_or_counted() -> None:
    trusted = pl.DataFrame(
        {
            "record_id": ["a", "b", "c", "d", "e"],
            "content_hash": list("12345"),
            "content": ["one", "two", None, " THREE", "four"],
            "label": ["sun", "moon", "sun", "sun", "comet"],
            "origin": ["silver"] * 5,
            "weight": [1.0] * 5,
            "held_out": [False, True, False, False, False],
        }
    )
    found = training_rows(trusted, ["three"], star_project(Path()).task)
    assert found.examples.rows["content"].to_list() == ["one"]
    assert (found.leaked, found.outdated, found.unknown) == (2, 1, 1)
