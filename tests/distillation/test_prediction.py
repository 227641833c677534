"""Predictions: the champion's, for every live record, and only what changed is predicted."""

from __future__ import annotations

import polars as pl
import pytest

from annotation_pipelines.distillation import prediction
from annotation_pipelines.distillation.evaluate import evaluate
from annotation_pipelines.distillation.prediction import champion_probabilities, predict, predict_texts
from annotation_pipelines.distillation.training import train
from annotation_pipelines.errors import StoreCorrupted, TrainingError
from tests.distillation.stars import LABELS, Stars


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
    assert champion_probabilities(stars.store, stars.project, pl.DataFrame()) is None
    with pytest.raises(TrainingError, match="no champion"):
        predict_texts(stars.store, stars.project, ["text"])


def test_a_damaged_champion_is_one_clear_error(crowned: Stars) -> None:
    version = predict(crowned.store, crowned.project, crowned.embedder).model_version
    (crowned.store.home / "models" / str(version) / "model.safetensors").write_bytes(b"")
    crowned.add(1)
    with pytest.raises(StoreCorrupted, match="cannot be read"):
        predict(crowned.store, crowned.project, crowned.embedder)


def test_the_champion_says_how_sure_it_is_of_records(crowned: Stars) -> None:
    rows = crowned.store.query("SELECT record_id, content_hash, content FROM records ORDER BY record_id")
    sure = champion_probabilities(crowned.store, crowned.project, rows)
    assert sure is not None
    assert sure["record_id"].to_list() == rows["record_id"].to_list()
    predict(crowned.store, crowned.project, crowned.embedder)
    assert sure["confidence"].to_list() == pytest.approx(table(crowned)["confidence"].to_list())


def test_texts_from_anywhere_are_labelled_and_not_kept(crowned: Stars) -> None:
    shards = crowned.embedder.cache.shards()
    frame = predict_texts(crowned.store, crowned.project, ["a text", "another"])
    assert frame.columns == ["text", "label", "confidence"]
    assert frame["text"].to_list() == ["a text", "another"]
    assert frame["label"].is_in(list(LABELS)).all()
    assert crowned.embedder.cache.shards() == shards
    assert predict_texts(crowned.store, crowned.project, []).is_empty()


def test_a_champion_of_another_encoder_reads_with_its_own(crowned: Stars) -> None:
    from annotation_pipelines.distillation.embedding import Embedder
    from annotation_pipelines.distillation.encoder import Encoder

    other = Embedder(crowned.store.home, Encoder(precision="bfloat16"))
    counts = predict(crowned.store, crowned.project, other)
    assert counts.predicted == 100
    assert not other.cache.folder.exists()
