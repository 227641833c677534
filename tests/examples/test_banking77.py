"""banking77: 77 intents, of which a model is shown the twelve likeliest with each record."""

from __future__ import annotations

import csv
import json
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import dagster as dg
import pytest
import yaml

from annotation_pipelines.annotators.plan import plan_run
from annotation_pipelines.graph.project import project_definitions
from annotation_pipelines.tasks.choices import CHOICES
from annotation_pipelines.tasks.classification import ClassificationTask
from tests.examples.example import EXAMPLES, Example
from tests.mock_endpoint import Act, Call, MockEndpoint, answer

NAME, COUNT, SHOWN = "banking77", 12, 3
FILE = EXAMPLES / NAME / "data" / "train.csv"
_LISTED = re.compile(r'^- ("(?:[^"\\]|\\.)*")', re.MULTILINE)


def rows() -> list[dict[str, str]]:
    with FILE.open(encoding="utf-8", newline="") as file:
        return list(csv.DictReader(file))


def cut(folder: Path, each: int) -> None:
    """Leave a few rows of every intent, as the file has them."""
    seen: dict[str, int] = {}
    kept = []
    for row in rows():
        seen[row["category"]] = seen.get(row["category"], 0) + 1
        if seen[row["category"]] <= each:
            kept.append(row)
    with (folder / "data" / "train.csv").open("w", encoding="utf-8", newline="") as file:
        writer = csv.DictWriter(file, ["text", "category"], lineterminator="\r\n")
        writer.writeheader()
        writer.writerows(kept)


@pytest.fixture
def mock(monkeypatch: pytest.MonkeyPatch) -> Iterator[MockEndpoint]:
    monkeypatch.setenv("OPENAI_API_KEY", "sk-not-a-key")
    with MockEndpoint() as endpoint:
        yield endpoint


def asking(url: str, **changes: Any) -> dict[str, Any]:
    """What is declared otherwise: a model at this address, a small pool, and settings of the task."""
    settings = yaml.safe_load((EXAMPLES / NAME / "defs.yaml").read_text(encoding="utf-8"))["attributes"]["task"]
    return {
        "annotators": [{"openai": {"model": "gpt-4o-mini", "base_url": url}}],
        "demonstrations": {"pool": 60, "per_prompt": SHOWN},
        "task": {"classification": {**settings["classification"], **changes}},
    }


def listed(call: Call) -> list[str]:
    """The labels that a call lists with its record."""
    before, _, _ = call.body["messages"][-1]["content"].partition("\n\n<record")
    return [json.loads(name) for name in _LISTED.findall(before)]


def truthful(call: Call) -> Act:
    """The right label where it is listed, else the first one listed."""
    gold = next(row["category"] for row in rows() if row["text"].strip() == call.text.strip())
    names = listed(call)
    return answer(gold if gold in names else names[0])


def test_the_slice_is_as_dirty_as_the_whole_and_has_every_intent() -> None:
    raw = FILE.read_bytes()
    found = rows()
    assert raw.count(b"\r\n") == len(found) + 1
    assert raw.count(b"\n") > raw.count(b"\r\n"), "texts with line ends of their own"
    assert {row["category"] for row in found} == set(declared().labels)
    assert {"Refund_not_showing_up", "reverted_card_payment?"} <= set(declared().labels)
    assert any("\xa0" in row["text"] for row in found)
    assert len({row["text"].strip() for row in found}) < len(found)
    assert len(raw) < 300_000


def declared() -> ClassificationTask:
    from annotation_pipelines.declaration_file import load_project

    task = load_project(EXAMPLES / NAME / "defs.yaml").task
    assert isinstance(task, ClassificationTask)
    return task


def test_the_embedded_annotator_gives_most_intents_without_a_key(tmp_path: Path) -> None:
    example = Example(tmp_path, NAME)
    cut(example.folder, 5)
    read = example.read()
    assert read["records"] == read["rows"] == 385
    counts = example.annotate()
    assert counts.states["labelled"] == counts.selected > 100
    labels = example.annotations()
    metrics = {
        m.metric: m.value for m in example.project.task.measure(labels["gold"].to_list(), labels["label"].to_list())
    }
    assert (metrics["accuracy"] or 0) > 0.6


def test_a_model_is_shown_twelve_labels_with_each_record_and_prompts_are_short(
    tmp_path: Path, mock: MockEndpoint
) -> None:
    mock.behave = truthful
    example = Example(tmp_path, NAME, **asking(mock.url))
    cut(example.folder, 2)
    example.read()
    counts = example.annotate()
    assert counts.states["labelled"] == counts.selected > 60
    order = list(example.project.task.labels)
    for call in mock.calls:
        system, *between, _ = call.body["messages"]
        assert CHOICES in system["content"]
        assert "card_arrival" not in system["content"]
        names = listed(call)
        assert len(names) == COUNT
        assert names == sorted(names, key=order.index)
        taught = [json.loads(message["content"])["label"] for message in between if message["role"] == "assistant"]
        assert len(taught) == SHOWN
        assert set(taught) <= set(names)
        assert "enum" not in json.dumps(call.body["response_format"])
        assert len(json.dumps(call.body["messages"])) < 6_000
    labels = example.annotations()
    right = (labels["gold"] == labels["label"]).mean()
    assert isinstance(right, float)
    assert right > 0.9, "the share of records whose label was among the twelve"


def test_the_plan_counts_the_short_prompts_and_what_the_run_then_sends(tmp_path: Path, mock: MockEndpoint) -> None:
    mock.behave = truthful
    planned = {}
    for name, task in (("short", {}), ("long", {"candidates": None})):
        example = Example(tmp_path / name, NAME, **asking(mock.url, **task))
        cut(example.folder, 2)
        planned[name] = plan_run(example.store, example.project).total
        assert not mock.calls
    assert planned["short"].calls == planned["long"].calls
    assert planned["short"].prompt_tokens < 0.6 * planned["long"].prompt_tokens
    example = Example(tmp_path / "run", NAME, **asking(mock.url))
    cut(example.folder, 2)
    example.read()
    example.annotate()
    sent = sum(len(json.dumps(call.body["messages"], ensure_ascii=False).encode()) for call in mock.calls) / 4
    assert planned["short"].prompt_tokens == pytest.approx(sent, rel=0.1)


def test_a_run_says_how_many_right_labels_were_shown(tmp_path: Path, mock: MockEndpoint) -> None:
    mock.behave = truthful
    example = Example(tmp_path, NAME, **asking(mock.url))
    cut(example.folder, 2)
    stages = ("human_labels", "raw_records", "embeddings", "selected_records", "llm_labels")
    job = project_definitions(example.project, example.workspace).resolve_job_def(f"{NAME}_backfill")
    with dg.DagsterInstance.ephemeral() as instance:
        result = job.execute_in_process(
            instance=instance,
            asset_selection=[dg.AssetKey([NAME, stage]) for stage in stages],
            raise_on_error=True,
        )
    (event,) = result.asset_materializations_for_node(f"{NAME}__llm_labels")
    share = event.metadata["candidate_recall"].value
    labels = example.annotations()
    assert share == pytest.approx((labels["gold"] == labels["label"]).mean(), abs=1e-4)
