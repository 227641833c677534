"""Evaluation and the way back as the UI shows them: pictures, tables, asset checks, and one run that rolls back."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import dagster as dg
import pytest

from annotation_pipelines.distillation.behaviour_bounds import DESCRIPTIONS
from annotation_pipelines.distillation.evaluate import evaluate
from annotation_pipelines.distillation.listing import model_lines
from annotation_pipelines.distillation.registry import ModelRegistry
from annotation_pipelines.distillation.training import train
from annotation_pipelines.graph.evaluation import NOT_WORSE
from annotation_pipelines.graph.local import RunFailed, run_job
from annotation_pipelines.graph.project import project_definitions
from annotation_pipelines.status import project_status
from annotation_pipelines.workspace import Workspace
from tests.distillation.stars import Stars


@pytest.fixture
def instance() -> Iterator[dg.DagsterInstance]:
    with dg.DagsterInstance.ephemeral() as ephemeral:
        yield ephemeral


@pytest.fixture
def workspace(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Workspace:
    monkeypatch.setenv("ANNOTATION_PIPELINES_STORAGE", str(tmp_path))
    return Workspace(tmp_path)


@pytest.fixture
def stars(tmp_path: Path) -> Stars:
    """Two models, one after the other champion, and gold to measure them on."""
    stars = Stars(tmp_path)
    held_out, held_out_truth = stars.add(60, partition="held_out", seed=7)
    stars.hold_out(held_out, held_out_truth)
    stars.teach(held_out, held_out_truth, confidence=[0.5 + i / 120 for i in range(60)])
    for seed in (0, 1):
        rows, truth = stars.add(45, seed=seed)
        stars.trust(rows, truth)
        train(stars.store, stars.project, stars.embedder)
        if seed == 0:
            evaluate(stars.store, stars.project, stars.embedder)
    return stars


def test_an_evaluation_shows_pictures_tables_and_how_each_check_ended(
    stars: Stars, workspace: Workspace, instance: dg.DagsterInstance
) -> None:
    job = project_definitions(stars.project, workspace).resolve_job_def("stars_retrain")
    key = dg.AssetKey(["stars", "model_evaluation"])
    result = job.execute_in_process(instance=instance, asset_selection=[key])
    assert result.success
    [materialized] = result.get_asset_materialization_events()
    metadata = materialized.materialization.metadata
    for picture in ("reliability", "learning_curve", "slices_plot"):
        assert str(metadata[picture].value).startswith("![")
    assert {"slice", "student", "teacher", "difference"} <= {
        column.name for column in metadata["slices"].schema.columns
    }
    assert str(metadata["decision"].value).startswith(ModelRegistry(stars.store).all()[0].version)
    checks = {check.check_name: check.passed for check in result.get_asset_check_evaluations()}
    assert set(checks) == {NOT_WORSE, *DESCRIPTIONS}
    assert all(passed for name, passed in checks.items() if name != "confidence_is_calibrated")


def test_one_run_goes_back_predicts_and_reports(
    stars: Stars, workspace: Workspace, instance: dg.DagsterInstance
) -> None:
    evaluate(stars.store, stars.project, stars.embedder)
    second, first = (model.version for model in ModelRegistry(stars.store).all())
    config = {"stars_roll_back": {"config": {"reason": "it was worse in use"}}}
    run_job(stars.project, workspace, instance, "rollback", ops=config)
    used = stars.store.query("SELECT DISTINCT model_version FROM predictions")["model_version"].to_list()
    assert used == [first]
    assert ModelRegistry(stars.store).get(second).why == f"rejected: rolled back to {first}: it was worse in use"
    report = (stars.store.home / "reports" / "quality_report.html").read_text()
    assert "it was worse in use" in report
    for stage in ("predictions", "quality_report"):
        event = instance.get_latest_materialization_event(dg.AssetKey(["stars", stage]))
        assert event is not None
    with pytest.raises(RunFailed, match="no earlier champion"):
        run_job(stars.project, workspace, instance, "rollback")
    listed = dict(model_lines(stars.store, stars.project))
    assert f"{first}  champion" in listed and f"{second}  rejected" in listed
    [main] = [line for line in listed[f"{first}  champion"] if line.startswith("accuracy")]
    status = project_status(stars.project, stars.store)
    assert status.champion == first
    assert main.startswith(f"accuracy {status.student_headline:.3f} (") and main.endswith("on 60 held-out gold records")
