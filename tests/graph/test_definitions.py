"""What Dagster sees: everything that makes the UI read like documentation."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import dagster as dg
import pytest

from annotation_pipelines.graph.project import PARTITIONED, project_definitions
from annotation_pipelines.workspace import Workspace
from tests.workspaces import ROOT, Fixture, declaration, ml_records

BIN = Path(sys.executable).parent


BELOW = ("distilled_model", "model_evaluation", "predictions", "quality_report")


def specs(name: str = "ml_projects") -> dict[str, dg.AssetSpec]:
    workspace = Workspace(ROOT)
    defs = project_definitions(workspace.project(name), workspace)
    return {spec.key.path[-1]: spec for spec in defs.resolve_all_asset_specs()}


def dg_command(folder: Path, *arguments: str) -> subprocess.CompletedProcess[str]:
    environment = {**os.environ, "VIRTUAL_ENV": str(BIN.parent), "COLUMNS": "400"}
    return subprocess.run([BIN / "dg", *arguments], cwd=folder, env=environment, capture_output=True, text=True)


def test_every_stage_is_an_asset_with_description_owner_kind_version_and_columns() -> None:
    found = specs()
    assert set(found) == {*PARTITIONED, "human_labels", *BELOW}
    for name, spec in found.items():
        assert spec.description and len(spec.description) > 40, name
        assert spec.owners == ["team:annotation"]
        assert spec.kinds and spec.code_version
        if name not in ("embeddings", "quality_report"):
            columns = spec.metadata["dagster/column_schema"].columns
            assert all(column.description for column in columns), name


def test_the_labels_are_partitioned_and_what_is_below_the_model_is_not() -> None:
    found = specs()
    assert {name for name, spec in found.items() if spec.partitions_def} == set(PARTITIONED)
    definition = found["raw_records"].partitions_def
    assert definition
    keys = definition.get_partition_keys()
    assert (keys[0], keys[-1], len(keys)) == ("2020-02-17", "2020-10-05", 34)


def test_a_project_without_partitions_has_none() -> None:
    assert not any(spec.partitions_def for spec in specs("climate_stance").values())


@pytest.mark.parametrize(
    ("changes", "stage"),
    [
        ({"guideline": "Another one."}, "llm_labels"),
        ({"selection": {"strategy": "random", "per_partition": 5}}, "selected_records"),
        ({"quality": {"min_labelled": 0.5}}, "validation_results"),
        ({"distillation": {"min_labels": 50}}, "distilled_model"),
        ({"source": {"csv": "records.csv", "time": "created_on", "text": "{title}", "gold": "tag"}}, "raw_records"),
    ],
)
def test_a_change_of_the_declaration_changes_the_code_version_of_the_stage_it_concerns(
    tmp_path: Path, changes: dict[str, object], stage: str
) -> None:
    shop = Fixture(tmp_path, ml_records(7), declaration())

    def versions() -> dict[str, str | None]:
        defs = project_definitions(shop.project, shop.workspace)
        return {spec.key.path[-1]: spec.code_version for spec in defs.resolve_all_asset_specs()}

    before = versions()
    shop.declare(**changes)
    after = versions()
    changed = {name for name in before if before[name] != after[name]}
    assert stage in changed
    assert "quality_report" not in changed


def test_a_broken_project_is_named_and_the_others_load(tmp_path: Path) -> None:
    shop = Fixture(tmp_path, ml_records(7), declaration())
    broken = tmp_path / "assets" / "broken"
    broken.mkdir()
    (broken / "defs.yaml").write_text(
        "type: annotation_pipelines.AnnotationProject\nattributes:\n  source: {csv: a.csv, colour: red}\n"
    )
    plain = tmp_path / "assets" / "downstream"
    plain.mkdir()
    (plain / "report.py").write_text(
        "import dagster as dg\n@dg.asset(deps=[['shop', 'trusted_labels']])\ndef weekly_mail() -> None: ...\n"
    )
    listed = dg_command(tmp_path, "list", "defs", "--json")
    assert listed.returncode == 0, listed.stderr
    assert "shop/trusted_labels" in listed.stdout
    assert "weekly_mail" in listed.stdout
    assert "assets/broken" in listed.stderr
    assert "source.colour" in listed.stderr
    checked = dg_command(tmp_path, "check", "defs")
    assert checked.returncode != 0
    assert "source.colour" in checked.stdout + checked.stderr
    (broken / "defs.yaml").unlink()
    assert shop.project


def test_this_workspace_passes_the_check_of_dg() -> None:
    done = dg_command(ROOT, "check", "defs")
    assert done.returncode == 0, done.stdout + done.stderr


def test_scaffolding_a_project_gives_one_that_passes_its_own_check(tmp_path: Path) -> None:
    Fixture(tmp_path, ml_records(7), declaration())
    done = dg_command(tmp_path, "scaffold", "defs", "annotation_pipelines.AnnotationProject", "messages")
    assert done.returncode == 0, done.stdout + done.stderr
    assert (tmp_path / "assets" / "messages" / "records.csv").exists()
    for arguments in (["check", "yaml"], ["check", "defs"]):
        done = dg_command(tmp_path, *arguments)
        assert done.returncode == 0, done.stdout + done.stderr
    assert sorted(Workspace(tmp_path).project_names()) == ["messages", "shop"]


def test_loading_imports_neither_torch_nor_great_expectations() -> None:
    code = (
        "import sys\nfrom annotation_pipelines.definitions import defs\nimport dagster as dg\n"
        "loaded = defs() if callable(defs) else defs\n"
        "heavy = {'torch', 'transformers', 'sentence_transformers', 'great_expectations', 'sklearn', 'matplotlib', "
        "'openai', 'pandas'}\nprint(sorted(heavy & set(sys.modules)))"
    )
    done = subprocess.run([sys.executable, "-W", "ignore", "-c", code], cwd=ROOT, capture_output=True, text=True)
    assert done.stdout.strip() == "[]", done.stdout + done.stderr


def test_the_library_works_without_dagster() -> None:
    code = (
        "import sys\nsys.modules['dagster'] = None\n"
        "import annotation_pipelines\n"
        "import annotation_pipelines.project, annotation_pipelines.store.database\n"
        "import annotation_pipelines.annotators.annotation, annotation_pipelines.annotators.factory\n"
        "import annotation_pipelines.quality.trust, annotation_pipelines.sources.ingest\n"
        "import annotation_pipelines.distillation.training, annotation_pipelines.reports.page\n"
        "import annotation_pipelines.cli\nprint('fine')"
    )
    done = subprocess.run([sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True)
    assert done.stdout.strip() == "fine", done.stderr
