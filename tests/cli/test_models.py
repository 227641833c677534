"""Models on the command line: list them, go back, promote by hand."""

from __future__ import annotations

from pathlib import Path

import pytest
import yaml
from click.testing import CliRunner, Result

from annotation_pipelines.cli import cli
from annotation_pipelines.distillation.evaluate import evaluate
from annotation_pipelines.distillation.registry import ModelRegistry
from annotation_pipelines.distillation.training import train
from annotation_pipelines.errors import StoreError
from annotation_pipelines.project import COMPONENT_TYPE
from tests.distillation.stars import Stars, star_declaration


@pytest.fixture
def stars(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Stars:
    """A workspace with two champions, one after the other."""
    folder = tmp_path / "assets" / "stars"
    folder.mkdir(parents=True)
    document = {"type": COMPONENT_TYPE, "attributes": star_declaration()}
    (folder / "defs.yaml").write_text(yaml.safe_dump(document))
    (tmp_path / "workspace.yaml").touch()
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("DAGSTER_HOME", str(tmp_path / ".dagster"))
    stars = Stars(tmp_path / "storage")
    for seed in (0, 1):
        rows, truth = stars.add(30, seed=seed)
        stars.trust(rows, truth)
        train(stars.store, stars.project, stars.embedder)
        evaluate(stars.store, stars.project, stars.embedder)
    return stars


def ask(*arguments: str) -> Result:
    return CliRunner().invoke(cli, arguments)


def test_models_are_listed_rolled_back_and_promoted_by_hand(stars: Stars) -> None:
    second, first = (model.version for model in ModelRegistry(stars.store).all())
    back = ask("rollback", "stars", "--reason", "wrong about moons")
    assert (back.exit_code, back.stdout) == (0, f"{first} is the champion again; {second} is rejected\n")
    assert stars.store.query("SELECT DISTINCT model_version FROM predictions")["model_version"].to_list() == [first]
    listed = ask("models", "stars").stdout
    assert f"{second}  rejected" in listed and f"{first}  champion" in listed
    assert f"rejected: rolled back to {first}: wrong about moons" in listed
    assert "30 silver and 0 gold labels" in listed
    by_hand = ask("promote", "stars", second, "--reason", "it was right")
    assert by_hand.exit_code == 0 and by_hand.stdout.startswith(f"{second} is the champion")
    assert "promoted: by hand: it was right" in ask("models", "stars").stdout
    assert ask("promote", "stars", first).exit_code == 2
    assert isinstance(ask("promote", "stars", "x", "--reason", "y").exception, StoreError)


def test_a_project_without_models_says_so(tmp_path: Path, stars: Stars) -> None:
    with stars.store.transaction() as con:
        con.execute("DELETE FROM models")
    assert ask("models", "stars").stdout == "no model was trained yet: annotation-pipelines run stars\n"
