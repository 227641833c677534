"""Predictions of files: a row for every row, with its id, whole or not there."""

from __future__ import annotations

import io
from pathlib import Path

import polars as pl
import pytest

from annotation_pipelines.distillation.champion import Champion
from annotation_pipelines.errors import TrainingError, WorkspaceError
from annotation_pipelines.project import Declaration, Project
from annotation_pipelines.serving.files import predict_file, predicted_chunks, writing
from annotation_pipelines.serving.reading import Texts, read_chunks
from annotation_pipelines.store.database import Store
from tests.serving.conftest import TRUTH, Sky

ROWS = "number,title,body\n1,a storm,fire on the sun\n2,the moon,was in rain\n3,,\n4,a star,and a dog\n"


def chunks(sky: Sky, text: str = ROWS) -> list[pl.DataFrame]:
    texts = Texts.declared(sky.project.declaration.source)
    return [chunk.filter(pl.col("content") != "") for chunk in read_chunks(io.BytesIO(text.encode()), "csv", texts)]


@pytest.mark.parametrize("ending", ["csv", "jsonl", "parquet"])
def test_a_file_gets_a_prediction_for_each_of_its_rows(sky: Sky, tmp_path: Path, ending: str) -> None:
    champion, said = Champion.open(sky.store, sky.project), list[str]()
    file = tmp_path / f"out.{ending}"
    with writing(file) as write:
        assert predict_file(champion, chunks(sky) * 2, write, said.append) == (8, 0)
        assert not file.exists()
    read = {"csv": pl.read_csv, "jsonl": pl.read_ndjson, "parquet": pl.read_parquet}[ending](file)
    assert read.columns == ["number", "text", "label", "confidence", "abstained"]
    assert read["number"].cast(pl.String).to_list() == ["1", "2", "3", "4"] * 2
    assert read.filter(pl.col("text") != ".")["label"].to_list() == list(TRUTH) * 2
    assert [path.name for path in tmp_path.iterdir() if path.name.endswith(".part")] == []


def test_an_empty_text_keeps_its_row_without_a_label(sky: Sky) -> None:
    chunk = pl.DataFrame({"number": ["1", "2"], "content": ["", "a star and a dog"]})
    (found,) = predicted_chunks(Champion.open(sky.store, sky.project), [chunk], print)
    assert found.select("number", "label", "abstained").rows() == [("1", None, None), ("2", "star", False)]


def test_progress_is_told_now_and_then(sky: Sky) -> None:
    said: list[str] = []
    list(predicted_chunks(Champion.open(sky.store, sky.project), chunks(sky), said.append, every=0.0))
    assert said[-1].startswith("4 texts predicted")


def test_what_the_champion_is_unsure_of_is_marked(sky: Sky, tmp_path: Path) -> None:
    champion = Champion.open(sky.store, sky.declared(abstain_below=1.0))
    with writing(tmp_path / "out.csv") as write:
        assert predict_file(champion, chunks(sky), write, print) == (4, 4)


def test_nothing_gives_a_file_without_rows(sky: Sky, tmp_path: Path) -> None:
    for ending in ("csv", "parquet"):
        with writing(tmp_path / f"out.{ending}") as write:
            assert predict_file(Champion.open(sky.store, sky.project), [], write, print) == (0, 0)
    assert pl.read_parquet(tmp_path / "out.parquet").columns == ["text", "label", "confidence", "abstained"]
    assert (tmp_path / "out.csv").read_text().startswith("text,label")


def test_a_file_that_fails_half_way_is_not_left_behind(tmp_path: Path) -> None:
    def fail() -> None:
        with writing(tmp_path / "out.csv") as write:
            write(pl.DataFrame({"text": ["a"]}))
            raise KeyboardInterrupt

    (tmp_path / "out.csv").write_text("as it was")
    with pytest.raises(KeyboardInterrupt):
        fail()
    assert [path.read_text() for path in tmp_path.iterdir()] == ["as it was"]
    with pytest.raises(WorkspaceError, match=r"ending in \.csv"), writing(tmp_path / "out.txt"):
        pass
    with pytest.raises(WorkspaceError, match="cannot be written"), writing(tmp_path / "none" / "out.csv"):
        pass


def test_without_a_champion_there_is_one_clear_error(tmp_path: Path) -> None:
    declared = Declaration.model_validate(
        {"source": {"csv": "a.csv"}, "task": {"classification": {"labels": {"a": "one", "b": "another"}}}}
    )
    with pytest.raises(TrainingError, match="no champion"):
        Champion.open(Store(tmp_path / "new"), Project("new", tmp_path, declared))
