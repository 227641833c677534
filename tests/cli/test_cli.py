"""The command line: what a person types, and what they are told when it is wrong."""

from __future__ import annotations

import json
import re
import subprocess
import sys
from pathlib import Path

import polars as pl
import pytest

from annotation_pipelines.store.database import Store
from tests.workspaces import Fixture, declaration, ml_records

COMMAND = Path(sys.executable).parent / "annotation-pipelines"


def ap(folder: Path, *arguments: str, stdin: str | None = None) -> subprocess.CompletedProcess[str]:
    return subprocess.run([COMMAND, *arguments], cwd=folder, input=stdin, capture_output=True, text=True)


@pytest.fixture(scope="module")
def first_workspace(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A new workspace, made and run as the README says."""
    folder = tmp_path_factory.mktemp("new") / "workspace"
    made = ap(folder.parent, "init", str(folder))
    assert made.returncode == 0, made.stderr
    done = ap(folder, "run", "first_project")
    assert done.returncode == 0, done.stdout + done.stderr
    assert "Traceback" not in done.stderr
    return folder


@pytest.mark.heavy
class TestANewWorkspace:
    def test_runs_from_records_to_a_report(self, first_workspace: Path) -> None:
        shown = ap(first_workspace, "status", "first_project").stdout
        assert re.search(r"records +21\n", shown)
        assert "15 by the annotator, 12 by people" in shown
        assert (first_workspace / "storage" / "first_project" / "reports" / "quality_report.html").exists()

    def test_says_where_it_stands_and_costs_nothing_to_run_again(self, first_workspace: Path) -> None:
        store = Store(first_workspace / "storage" / "first_project")
        before = store.query("SELECT count(*) AS n FROM llm_calls")["n"].item()
        assert ap(first_workspace, "run", "first_project", "--no-train").returncode == 0
        assert store.query("SELECT count(*) AS n FROM llm_calls")["n"].item() == before

    def test_predicts_texts_from_standard_input(self, first_workspace: Path) -> None:
        done = ap(first_workspace, "predict", "first_project", stdin="my parcel never came\n\nI was charged twice\n")
        rows = [json.loads(line) for line in done.stdout.splitlines()]
        assert [row["label"] for row in rows] == ["delivery", "billing"], done.stderr
        assert all(0 < row["confidence"] <= 1 for row in rows)

    @pytest.mark.parametrize("ending", ["csv", "jsonl", "parquet"])
    def test_exports_the_trusted_labels_with_their_texts(self, first_workspace: Path, ending: str) -> None:
        file = first_workspace / f"labels.{ending}"
        done = ap(first_workspace, "export", "first_project", str(file))
        assert done.returncode == 0, done.stderr
        read = {"csv": pl.read_csv, "jsonl": pl.read_ndjson, "parquet": pl.read_parquet}[ending]
        frame = read(file)
        assert len(frame) == 21
        assert frame["content"].null_count() == 0
        assert set(frame["origin"]) == {"gold", "silver"}

    def test_is_not_overwritten_by_another_init(self, first_workspace: Path) -> None:
        done = ap(first_workspace.parent, "init", str(first_workspace))
        assert done.returncode == 2
        assert "there is a workspace here already" in done.stderr


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["run", "nothing"], "there is no project 'nothing'; there are: shop"),
        (
            ["run", "shop", "--partition", "2019-01-01"],
            "no partition 2019-01-01; partitions are every week: 2020-03-16 to 2020-03-30",
        ),
        (["export", "shop", "labels.xlsx"], "expected a file ending in .csv, .jsonl, .parquet"),
        (["predict", "shop"], "there is no champion"),
        (["replay", "nowhere.csv"], "nowhere.csv"),
        (["fly"], "No such command 'fly'"),
    ],
)
def test_a_mistake_is_one_line_and_exit_code_2(tmp_path: Path, arguments: list[str], message: str) -> None:
    Fixture(tmp_path, ml_records(7), declaration())
    done = ap(tmp_path, *arguments, stdin="text\n")
    assert done.returncode == 2
    assert message in done.stderr
    assert "Traceback" not in done.stderr
    assert len([line for line in done.stderr.splitlines() if line.startswith("error: ")]) <= 1


def test_outside_a_workspace_it_says_how_to_make_one(tmp_path: Path) -> None:
    done = ap(tmp_path, "status")
    assert done.returncode == 2
    assert "annotation-pipelines init" in done.stderr


def test_a_source_that_is_not_there_fails_the_run_in_one_line(tmp_path: Path) -> None:
    shop = Fixture(tmp_path, ml_records(7), declaration())
    (shop.folder / "records.csv").unlink()
    done = ap(tmp_path, "run", "shop")
    assert done.returncode == 2
    assert "records.csv" in done.stderr
    assert "Traceback" not in done.stderr


def test_status_names_a_broken_project_and_shows_the_others(tmp_path: Path) -> None:
    Fixture(tmp_path, ml_records(7), declaration())
    broken = tmp_path / "assets" / "broken"
    broken.mkdir()
    (broken / "defs.yaml").write_text("type: annotation_pipelines.AnnotationProject\nattributes: {colour: red}\n")
    done = ap(tmp_path, "status")
    assert done.returncode == 2
    assert "colour: unknown key" in done.stderr
    assert "shop\n  nothing run yet" in done.stdout
