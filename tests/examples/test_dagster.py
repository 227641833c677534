"""Every example runs through Dagster as it is declared: backfill, retrain, report."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import yaml

from annotation_pipelines.graph.local import dagster_instance, existing_partitions, run_job, run_partitions
from tests.distillation.fine_tuning.tiny import write_encoder
from tests.examples.example import EXAMPLES, Example
from tests.examples.oracle import oracle
from tests.mock_endpoint import Act, Call, MockEndpoint
from tests.workspaces import openai_annotator

pytestmark = pytest.mark.heavy

# What the models behind the other examples answer where people gave no label.
OTHERWISE = {"pandalm": "tie", "contact_extraction": None, "re_semeval2010_chatgpt": None}
DECLARED = {file.parent.name: yaml.safe_load(file.read_text(encoding="utf-8")) for file in EXAMPLES.glob("*/defs.yaml")}
ON_THIS_MACHINE = sorted(
    name for name, declared in DECLARED.items() if "openai" not in str(declared["attributes"].get("annotators"))
)
FEW: dict[str, Any] = {
    "selection": {"strategy": "random", "per_partition": 40},
    "demonstrations": {"pool": 40},
    "promotion": {"texts": 20},
}
"""What makes a run short, with `shorten`. On all of an example there are its own test and the benchmark."""


TAKE_FEW = """
import runpy
from pathlib import Path


def records(start, end):
    rows = list(runpy.run_path(str(Path(__file__).with_name("source.py")))["records"](start, end))
    return rows[:: max(1, len(rows) // 80)]
"""


@pytest.fixture(scope="module")
def encoder(tmp_path_factory: pytest.TempPathFactory) -> str:
    return str(write_encoder(tmp_path_factory.mktemp("encoders") / "tiny"))


def shorten(example: Example, encoder: str) -> None:
    """Let the source give some 80 of its rows, from all over, and a small encoder read them."""
    declared = DECLARED[example.name]["attributes"]
    example.redeclare(distillation={**declared.get("distillation", {}), "encoder": encoder})
    if "python" in declared["source"]:
        (example.folder / "few.py").write_text(TAKE_FEW, encoding="utf-8")
        example.redeclare(source={**declared["source"], "python": "few.py:records"})


def run(example: Example, monkeypatch: pytest.MonkeyPatch) -> None:
    """What `annotation-pipelines run` does."""
    monkeypatch.setenv("DAGSTER_HOME", str(example.workspace.dagster_home))
    with dagster_instance(example.workspace) as instance:
        project = example.project
        summary = run_partitions(project, example.workspace, instance, existing_partitions(project))
        assert summary.blocked == {}
        run_job(project, example.workspace, instance, "retrain")


def shown(example: Example) -> str:
    return (example.store.home / "reports" / "quality_report.html").read_text(encoding="utf-8")


@pytest.fixture(autouse=True)
def _key(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("OPENAI_API_KEY", "sk-test")


@pytest.mark.parametrize("name", ON_THIS_MACHINE)
def test_an_example_without_a_key_runs_through(
    name: str, encoder: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    example = Example(tmp_path / "workspace", name, **FEW)
    shorten(example, encoder)
    run(example, monkeypatch)
    states = dict(example.store.query("SELECT state, count(*) FROM llm_labels GROUP BY ALL").iter_rows())
    assert states.keys() <= {"labelled", "abstained"}
    headline = example.project.task.headline
    measured = example.store.query(
        "SELECT value FROM model_evaluation WHERE model_version = 'teacher' AND metric = ? AND label = '' "
        "AND slice = ''",
        [headline],
    )
    assert measured["value"].null_count() == 0
    assert len(measured) > 0
    assert headline.replace("_", " ") in shown(example)


@pytest.mark.parametrize("name", OTHERWISE)
def test_an_example_that_asks_a_model_runs_through(
    name: str, encoder: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    behave: list[Callable[[Call], Act]] = []
    with MockEndpoint(lambda call: behave[0](call)) as mock:
        example = Example(
            tmp_path / "workspace",
            name,
            annotators=openai_annotator(mock.url),
            selection=FEW["selection"],
            promotion=FEW["promotion"],
        )
        shorten(example, encoder)
        behave.append(oracle(example.project, OTHERWISE[name]))
        run(example, monkeypatch)
        assert len(mock.calls) > 0
    headline = example.project.task.headline
    [value] = measured_by_teacher(example, headline)
    assert value == pytest.approx(1)


def measured_by_teacher(example: Example, metric: str) -> list[Any]:
    return example.store.query(
        "SELECT value FROM model_evaluation "
        "WHERE model_version = 'teacher' AND split = 'evaluation' AND slice = '' AND metric = ? AND label = ''",
        [metric],
    )["value"].to_list()
