"""The exports as assets: one for each declared data set, below the trusted labels."""

from __future__ import annotations

import json
from pathlib import Path

import dagster as dg
import polars as pl
import pytest

from annotation_pipelines.graph.local import dagster_instance, run_job, run_partitions
from annotation_pipelines.graph.project import project_definitions
from tests.workspaces import Fixture, declaration, ml_records, openai_annotator

EXPORTS = [
    {"format": "chat", "split": {"train": 0.7, "validation": 0.1, "test": 0.2}, "licence": "mit"},
    {"format": "parquet", "name": "table", "min_confidence": 0.3},
]


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> tuple[Fixture, list[dg.AssetMaterialization], Path]:
    without_student = declaration(exports=EXPORTS, evaluation={"share": 0.2}, distillation={"min_labels": 1_000})
    fixture = Fixture(tmp_path_factory.mktemp("exports"), ml_records(), without_student)
    with dagster_instance(fixture.workspace) as instance:
        run_partitions(fixture.project, fixture.workspace, instance, ["2020-03-16", "2020-03-23"])
        run_job(fixture.project, fixture.workspace, instance, "retrain")
        events = [
            instance.get_latest_materialization_event(dg.AssetKey(["shop", f"export_{name}"]))
            for name in ("chat", "table")
        ]
    materializations = [event.asset_materialization for event in events if event and event.asset_materialization]
    return fixture, materializations, fixture.workspace.home("shop") / "exports"


class TestExportAssets:
    def test_each_declared_export_is_an_asset_with_a_check_and_is_part_of_retrain(self, tmp_path: Path) -> None:
        fixture = Fixture(tmp_path / "w", ml_records(7), declaration(exports=EXPORTS))
        definitions = project_definitions(fixture.project, fixture.workspace)
        graph = definitions.resolve_asset_graph()
        for name in ("chat", "table"):
            key = dg.AssetKey(["shop", f"export_{name}"])
            assert dg.AssetKey(["shop", "trusted_labels"]) in graph.get(key).parent_keys
            assert dg.AssetCheckKey(key, "no_leak") in graph.asset_check_keys
            assert key in definitions.resolve_job_def("shop_retrain").asset_layer.selected_asset_keys
            assert key not in definitions.resolve_job_def("shop_backfill").asset_layer.selected_asset_keys

    def test_a_project_that_generates_exports_its_synthetic_records(self, tmp_path: Path) -> None:
        fixture = Fixture(
            tmp_path / "w",
            ml_records(7),
            declaration(
                task={"generation": {"self_instruct": {}}},
                annotators=openai_annotator("http://127.0.0.1:1/v1"),
                source={"csv": "records.csv", "id": "id", "text": "{title}", "time": "created_on"},
                exports=["chat"],
            ),
        )
        graph = project_definitions(fixture.project, fixture.workspace).resolve_asset_graph()
        parents = graph.get(dg.AssetKey(["shop", "export_chat"])).parent_keys
        assert dg.AssetKey(["shop", "synthetic_records"]) in parents
        assert parents <= set(graph.materializable_asset_keys)

    def test_a_retraining_writes_every_export_and_shows_its_counts_and_card(
        self, made: tuple[Fixture, list[dg.AssetMaterialization], Path]
    ) -> None:
        fixture, (chat, table), folder = made
        trusted = fixture.store.query("SELECT count(*) AS n FROM trusted_labels")["n"].item()
        held_out = fixture.store.query("SELECT count(*) AS n FROM human_labels WHERE role = 'evaluation'")["n"].item()
        assert held_out > 0
        shown = {name: value.value for name, value in chat.metadata.items()}
        assert shown["train"] + shown["validation"] + shown["test"] == trusted + held_out
        assert shown["folder"] == str(folder / "chat")
        assert str(shown["card"]).startswith("# shop: chat") or "# shop: chat" in str(shown["card"])
        assert len(str(shown["card"])) <= 1_000
        lines = (folder / "chat" / "data" / "train.jsonl").read_text(encoding="utf-8").splitlines()
        assert len(lines) == shown["train"]
        assert [message["role"] for message in json.loads(lines[0])["messages"]] == ["system", "user", "assistant"]

        kept = {name: value.value for name, value in table.metadata.items()}
        below = kept.get("left out: confidence below min_confidence", 0)
        rows = sum(pl.read_parquet(file).height for file in (folder / "table" / "data").glob("*.parquet"))
        assert rows == trusted + held_out - int(below)

    def test_the_check_for_leaks_passes_and_the_counts_are_kept(
        self, made: tuple[Fixture, list[dg.AssetMaterialization], Path]
    ) -> None:
        fixture, _, _ = made
        facts = fixture.facts("export_chat", "all")
        assert facts["leaks"] == 0
        assert facts["train_records"] > 0
