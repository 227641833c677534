"""A project whose labels form a tree, from nested YAML over prompts and answers to its metrics."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import polars as pl
import pytest

from annotation_pipelines.annotators.factory import make_panel
from annotation_pipelines.annotators.pending import Wanted
from annotation_pipelines.selection.select import select_records
from annotation_pipelines.sources.gold import gather_human_labels
from annotation_pipelines.sources.ingest import ingest
from tests.mock_endpoint import Act, Call, MockEndpoint, answer
from tests.workspaces import LABELS, Fixture, declaration, ml_records, openai_annotator

TREE = {
    "models": {
        "computer-vision": LABELS["computer-vision"],
        "natural-language-processing": LABELS["natural-language-processing"],
    },
    "mlops": LABELS["mlops"],
    "other": LABELS["other"],
}
PATHS = {name: f"models/{name}" if name in TREE["models"] else name for name in LABELS}


@pytest.fixture
def mock(monkeypatch: pytest.MonkeyPatch) -> Iterator[MockEndpoint]:
    monkeypatch.setenv("OPENAI_API_KEY", "sk-not-a-key")
    with MockEndpoint() as endpoint:
        yield endpoint


def labelled(fixture: Fixture) -> pl.DataFrame:
    """Gold and label of every record, after a run up to the labels."""
    store, project = fixture.store, fixture.project
    gather_human_labels(store, project)
    ingest(store, project, "all")
    select_records(store, project, "all")
    make_panel(project, store).label(store, Wanted.of_partition("all"), "all")
    return store.query("SELECT gold, label, l.state, problem FROM llm_labels l JOIN records USING (record_id)")


def fixture_with(tmp_path: Path, annotators: list[dict[str, object]] | None) -> Fixture:
    records = ml_records().with_columns(pl.col("tag").replace_strict(PATHS))
    attributes = declaration(
        task={"classification": {"labels": TREE}}, partitions={"every": "none"}, annotators=annotators
    )
    return Fixture(tmp_path, records, attributes)


def test_a_model_answers_with_paths_and_with_names_and_is_told_what_is_a_branch(
    tmp_path: Path, mock: MockEndpoint
) -> None:
    fixture = fixture_with(tmp_path, openai_annotator(mock.url, concurrency=1))

    def behave(call: Call) -> Act:
        if "</problem>" in call.body["messages"][-1]["content"]:
            return answer("models/computer-vision")
        return answer(["models/computer-vision", "MLOps", "models"][call.number % 3])

    mock.behave = behave
    rows = labelled(fixture)
    assert set(rows["state"]) == {"labelled"}
    assert set(rows["label"]) == {"models/computer-vision", "mlops"}
    asked = [call.body["messages"] for call in mock.calls]
    assert '- models:\n  - "models/computer-vision"' in asked[0][0]["content"]
    told = [m[-1]["content"] for m in asked if "</problem>" in m[-1]["content"]]
    assert told
    assert all("'models' is a branch, expected the whole path" in words for words in told)
    enumerated = mock.calls[0].body["response_format"]["json_schema"]["schema"]["properties"]["label"]["enum"]
    assert enumerated == list(PATHS.values()) == list(fixture.project.task.labels)


def test_levels_are_measured_and_the_embedded_annotator_knows_the_tree(tmp_path: Path) -> None:
    fixture = fixture_with(tmp_path, None)
    rows = labelled(fixture)
    task = fixture.project.task
    assert set(rows["label"]) <= set(task.labels)
    metrics = {m.metric: m.value or 0.0 for m in task.measure(rows["gold"].to_list(), rows["label"].to_list())}
    assert metrics["accuracy_level_2"] == metrics["accuracy"] > 0.4
    assert metrics["accuracy_level_1"] >= metrics["accuracy_level_2"]
    assert metrics["accuracy_level_1"] >= metrics["hierarchical_f1"] - 0.1
