"""Parquet: a table in the layout that `datasets.load_dataset` opens."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import polars as pl
import pytest
import yaml

from annotation_pipelines.content import Content
from annotation_pipelines.exports.parquet import Parquet
from annotation_pipelines.exports.rows import Row
from annotation_pipelines.project.exports import Export
from annotation_pipelines.tasks.base import canonical_json
from tests.exports.scene import export, project, record


def table(folder: Path) -> pl.DataFrame:
    return pl.concat([pl.read_parquet(file) for file in sorted((folder / "data").iterdir())])


class TestParquet:
    def test_the_card_names_the_files_of_each_split_as_the_hub_does(self, tmp_path: Path) -> None:
        records = [record(f"r{i}", f"a text about {i * 7919}", "card") for i in range(60)]
        exported = export(tmp_path, project(tmp_path), records, format="parquet", licence="cc-by-4.0")
        head = yaml.safe_load(exported.card.split("---\n")[1])
        files = {one["split"]: one["path"] for one in head["configs"][0]["data_files"]}
        assert head["license"] == "cc-by-4.0"
        assert set(files) == {"train", "validation", "test"}
        for split, path in files.items():
            assert path == f"data/{split}-00000-of-00001.parquet"
            assert pl.read_parquet(exported.folder / path).height == exported.rows[split]

    @pytest.mark.parametrize(
        ("task", "label", "column", "value"),
        [
            ({"multilabel": {"labels": ["joy", "fear"]}}, '["joy"]', "labels", ["joy"]),
            ({"multilabel": {"labels": ["joy", "fear"]}}, "[]", "labels", []),
            ({"rating": {"from": 0, "to": 5, "step": 0.5}}, "3.5", "rating", 3.5),
            ({"rating": {"scale": {"bad": "b", "good": "g"}}}, "good", "rating", 1.0),
            (
                {"entities": {"types": ["person"]}},
                canonical_json([{"start": 2, "end": 6, "text": "Emma", "type": "person"}]),
                "entities",
                [{"start": 2, "end": 6, "text": "Emma", "type": "person"}],
            ),
            ({"entities": {"types": ["person"]}}, "[]", "entities", []),
        ],
    )
    def test_a_label_with_a_structure_is_a_value_too(
        self, tmp_path: Path, task: Any, label: str, column: str, value: Any
    ) -> None:
        exported = export(tmp_path, project(tmp_path, task), [record("r1", "😀 Emma", label)], format="parquet")
        frame = table(exported.folder)
        assert frame["label"].to_list() == [label]
        assert frame[column].to_list() == [value]

    def test_parts_are_columns_and_names_that_are_taken_get_a_prefix(self, tmp_path: Path) -> None:
        made = project(tmp_path, parts=("title", "text"))
        exported = export(tmp_path, made, [record("r1", {"title": "One", "text": "Two"}, "card")], format="parquet")
        row = table(exported.folder).row(0, named=True)
        assert (row["title"], row["part_text"], row["text"]) == ("One", "Two", "title:\nOne\n\ntext:\nTwo")

    def test_where_labels_come_from_is_there(self, tmp_path: Path) -> None:
        records = [
            record("r1", "my card", "card", confidence=0.75, rationale="it says card"),
            record("r2", "my money please", "transfer", origin="gold"),
            record("r3", "written by a model", "card", synthetic=True),
        ]
        exported = export(tmp_path, project(tmp_path), records, format="parquet")
        found = {row["record_id"]: row for row in table(exported.folder).iter_rows(named=True)}
        assert {name: row["origin"] for name, row in found.items()} == {"r1": "silver", "r2": "gold", "r3": "synthetic"}
        assert (found["r1"]["confidence"], found["r1"]["annotator"]) == (0.75, "embedded")
        assert found["r1"]["rationale"] == "it says card"
        assert (found["r2"]["annotator"], found["r2"]["confidence"], found["r2"]["weight"]) == (None, None, 1.0)

    @pytest.mark.parametrize(
        ("mode", "value", "columns"),
        [
            (
                {"self_instruct": {}},
                {"instruction": "Add.", "input": "", "output": "3"},
                {"instruction": "Add.", "input": "", "output": "3"},
            ),
            (
                {"dialogue": {"roles": ["client", "agent"]}},
                {"turns": [{"role": "client", "content": "Hi"}, {"role": "agent", "content": "Hello"}]},
                {"turns": [{"role": "client", "content": "Hi"}, {"role": "agent", "content": "Hello"}]},
            ),
            (
                {"texts": {"labels": ["joy", "fear"]}},
                {"text": "What a day!", "label": "joy", "attributes": {}},
                {"wanted_label": "joy", "text": "What a day!"},
            ),
        ],
    )
    def test_what_was_generated_is_columns(
        self, tmp_path: Path, mode: Any, value: Any, columns: dict[str, Any]
    ) -> None:
        made = project(tmp_path, {"generation": mode}, annotators=[{"openai": {"model": "m", "base_url": "http://x"}}])
        content = Content.of_text(value.get("text", "a task or a dialogue"))
        label = canonical_json({"generated": [value]})
        row = Row("s1", content, label, "synthetic", 1.0, None, "m", None, "all")
        form = Parquet(made, Export(format="parquet"))
        (tmp_path / "data").mkdir()
        form.write(tmp_path, "train", iter(form.entries(row)))
        found = pl.read_parquet(tmp_path / form.file("train")).row(0, named=True)
        assert {name: found[name] for name in columns} == columns
        assert found["origin"] == "synthetic"
