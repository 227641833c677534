"""Predictions: the champion's, for every live record, and only what changed is predicted."""

from __future__ import annotations

import polars as pl
import pytest

from annotation_pipelines.distillation import prediction
from annotation_pipelines.distillation.evaluate import evaluate
from annotation_pipelines.distillation.prediction import predict
from annotation_pipelines.distillation.training import train
from annotation_pipelines.errors import StoreCorrupted
from tests.distillation.stars import LABELS, Stars, records, star_project


def crown(stars: Stars) -> str:
    train(stars.store, stars.project, stars.embedder)
    champion = evaluate(stars.store, stars.project, stars.embedder).champion
    assert champion is not None
    return champion


@pytest.fixture
def crowned(stars: Stars) -> Stars:
    """A champion, and 40 live records beyond the 60 it was trained on."""
    rows, truth = stars.add(60)
    stars.trust(rows, truth)
    stars.add(40, partition="later", seed=3)
    crown(stars)
    return stars


def table(stars: Stars) -> pl.DataFrame:
    return stars.store.query("SELECT * FROM predictions ORDER BY record_id")


def test_every_live_record_is_predicted_once(crowned: Stars) -> None:
    told: list[tuple[int, int]] = []
    counts = predict(crowned.store, crowned.project, crowned.embedder, progress=lambda *n: told.append(n))
    assert (counts.predictions, counts.predicted, counts.reused, counts.removed) == (100, 100, 0, 0)
    assert told[-1] == (100, 100)
    again = predict(crowned.store, crowned.project, crowned.embedder)
    assert (again.predictions, again.predicted, again.reused) == (100, 0, 100)
    rows = table(crowned)
    assert set(rows["model_version"]) == {counts.model_version}
    assert set(rows["partition_key"]) == {"all", "later"}
    assert rows["confidence"].is_between(1 / len(LABELS), 1).all()
    right = [label == LABELS[int(i[1:]) % 3] for i, label in rows[:10].select("record_id", "label").iter_rows()]
    assert sum(right) >= 6


def test_only_what_changed_is_predicted(crowned: Stars) -> None:
    predict(crowned.store, crowned.project, crowned.embedder)
    crowned.add(2, seed=8)
    with crowned.store.transaction() as con:
        con.execute("UPDATE records SET content_hash = 'h100' WHERE record_id = 'r0'")
        con.execute("UPDATE records SET partition_key = 'moved' WHERE record_id = 'r1'")
        con.execute("UPDATE records SET deleted_at = now() WHERE record_id IN ('r2', 'r3', 'r4')")
    counts = predict(crowned.store, crowned.project, crowned.embedder)
    assert (counts.predictions, counts.predicted, counts.removed) == (99, 4, 3)
    assert table(crowned).filter(pl.col("record_id") == "r1")["partition_key"][0] == "moved"


def test_another_champion_predicts_all_anew(crowned: Stars) -> None:
    first = predict(crowned.store, crowned.project, crowned.embedder)
    rows, truth = crowned.add(30, seed=4)
    crowned.trust(rows, truth)
    champion = crown(crowned)
    counts = predict(crowned.store, crowned.project, crowned.embedder)
    assert (counts.predicted, counts.model_version) == (130, champion)
    assert champion != first.model_version


def test_a_run_that_is_stopped_goes_on_from_there(crowned: Stars, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(prediction, "_CHUNK", 30)

    def stop(done: int, total: int) -> None:
        if done > 30:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        predict(crowned.store, crowned.project, crowned.embedder, progress=stop)
    assert predict(crowned.store, crowned.project, crowned.embedder).predicted == 40


def test_without_a_champion_nothing_is_predicted(stars: Stars) -> None:
    stars.add(5)
    counts = predict(stars.store, stars.project, stars.embedder)
    assert (counts.predictions, counts.model_version) == (0, None)


def test_a_damaged_champion_is_one_clear_error(crowned: Stars) -> None:
    version = predict(crowned.store, crowned.project, crowned.embedder).model_version
    (crowned.store.home / "models" / str(version) / "model.safetensors").write_bytes(b"")
    crowned.add(1)
    with pytest.raises(StoreCorrupted, match="cannot be read"):
        predict(crowned.store, crowned.project, crowned.embedder)


def test_what_it_is_unsure_of_is_an_abstention_and_another_threshold_needs_no_new_predictions(crowned: Stars) -> None:
    assert predict(crowned.store, crowned.project, crowned.embedder).abstained == 0
    assert set(table(crowned)["state"]) == {"predicted"}
    middle = table(crowned)["confidence"].median()
    strict = star_project(crowned.project.folder, abstain_below=middle)
    counts = predict(crowned.store, strict, crowned.embedder)
    assert (counts.predicted, counts.abstained) == (0, 50)
    rows = table(crowned)
    assert ((rows["state"] == "abstained") == (rows["confidence"] < middle)).all()
    crowned.add(1, seed=5)
    assert predict(crowned.store, strict, crowned.embedder).predicted == 1
    assert predict(crowned.store, crowned.project, crowned.embedder).abstained == 0


def test_records_without_a_vector_are_encoded_and_not_kept(crowned: Stars) -> None:
    with crowned.store.transaction() as con:
        crowned.store.append(con, "records", records(crowned.known, 3, partition="new"))
    shards = crowned.embedder.cache.shards()
    counts = predict(crowned.store, crowned.project, crowned.embedder)
    assert counts.predictions == 103
    assert counts.encoded_by is not None
    assert counts.encoded_by.startswith("torch-float32: ")
    assert crowned.embedder.cache.shards() == shards
    never = star_project(crowned.project.folder, fast="never")
    with crowned.store.transaction() as con:
        con.execute("DELETE FROM predictions WHERE partition_key = 'new'")
    assert predict(crowned.store, never, crowned.embedder).encoded_by is None


def test_chunks_of_any_size_say_the_same(crowned: Stars, monkeypatch: pytest.MonkeyPatch) -> None:
    predict(crowned.store, crowned.project, crowned.embedder)
    at_once = table(crowned)
    with crowned.store.transaction() as con:
        con.execute("DELETE FROM predictions")
    monkeypatch.setattr(prediction, "_CHUNK", 7)
    predict(crowned.store, crowned.project, crowned.embedder)
    assert table(crowned)["label"].to_list() == at_once["label"].to_list()
    assert table(crowned)["confidence"].to_list() == pytest.approx(at_once["confidence"].to_list())


def test_a_champion_of_another_encoder_reads_with_its_own(crowned: Stars) -> None:
    from annotation_pipelines.distillation.embedding import Embedder
    from annotation_pipelines.distillation.encoder import Encoder

    other = Embedder(crowned.store.home, Encoder(precision="bfloat16"))
    counts = predict(crowned.store, crowned.project, other)
    assert counts.predicted == 100
    assert not other.cache.folder.exists()
