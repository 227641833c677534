"""Feedback in words goes the whole way through Dagster: asked for, checked, measured where it is scored, reported."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import polars as pl
import pytest

from annotation_pipelines.content import Content
from annotation_pipelines.graph.local import dagster_instance, existing_partitions, run_job, run_partitions
from annotation_pipelines.tasks.critique import CritiqueTask
from tests.annotators.label_scene import KEY
from tests.mock_endpoint import Act, Call, MockEndpoint, completion
from tests.workspaces import Fixture, openai_annotator

pytestmark = pytest.mark.heavy

SCORE = {"from": 1, "to": 10}


def scored(number: int, **more: Any) -> dict[str, Any]:
    """A critique of the response with this number; people give the scores 1 to 10 in turn."""
    return {"critique": f"Response {number} is too short.", "revision": f"A longer response {number}.", **more}


def responses(score: bool) -> pl.DataFrame:
    """Thirty responses with people's critiques."""
    gold = [json.dumps(scored(n, score=1 + n % 10) if score else scored(n)) for n in range(30)]
    return pl.DataFrame(
        {
            "id": [f"r{n:02}" for n in range(30)],
            "question": [f"question {n}" for n in range(30)],
            "answer": [f"response {n}" for n in range(30)],
            "gold": gold,
        }
    )


@pytest.mark.parametrize("score", [True, False])
def test_critiques_are_given_checked_and_reported(score: bool, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("OPENAI_API_KEY", KEY)

    def behave(call: Call) -> Act:
        number = int(call.text.partition("response ")[2].split()[0])
        more = {"score": min(10, 2 + number % 10)} if score else {}
        revision = {"revision": f"response {number}"} if number % 7 == 0 else {}
        return completion(json.dumps({**scored(number, **more), **revision, "confidence": 0.9}))

    with MockEndpoint(behave) as mock:
        source = {"csv": "records.csv", "id": "id", "gold": "gold"}
        shop = Fixture(
            tmp_path,
            responses(score),
            {
                "source": {**source, "parts": {"question": "{question}", "response": "{answer}"}},
                "task": {"critique": {"of": ["response"], **({"score": SCORE} if score else {})}},
                "annotators": openai_annotator(mock.url),
                "demonstrations": {"pool": 4, "per_prompt": 2, "choose": "fixed"},
                "evaluation": {"share": 0.5},
            },
        )
        monkeypatch.setenv("DAGSTER_HOME", str(shop.workspace.dagster_home))
        with dagster_instance(shop.workspace) as instance:
            summary = run_partitions(shop.project, shop.workspace, instance, existing_partitions(shop.project))
            assert summary.blocked == {}
            run_job(shop.project, shop.workspace, instance, "retrain")
    task = shop.project.task
    assert isinstance(task, CritiqueTask)
    rows = shop.store.query(
        "SELECT record_id, label, l.state, content FROM llm_labels l JOIN records USING (record_id)"
    )
    assert set(rows["state"]) == {"labelled"}
    assert len(mock.calls) == len(rows) == 26
    kept = {record_id: json.loads(label) for record_id, label in rows.select("record_id", "label").iter_rows()}
    assert all(list(found) == sorted(["critique", "revision"] + ["score"] * score) for found in kept.values())
    unrevised = {
        record_id
        for record_id, label, content in rows.select("record_id", "label", "content").iter_rows()
        if task.unrevised(label, Content.read(content))
    }
    assert unrevised == {record_id for record_id in kept if int(record_id[1:]) % 7 == 0} != set()
    measured = shop.store.query(
        "SELECT metric, value FROM model_evaluation WHERE split = 'evaluation' AND model_version = 'teacher'"
    )
    values = dict(measured.iter_rows())
    if not score:
        assert values == {}
        return
    assert values["mae"] < 1
    assert values["spearman"] > 0.9
    assert 1 < values["judge_score"] <= 10
    report = (shop.store.home / "reports" / "quality_report.html").read_text(encoding="utf-8")
    assert task.headline.replace("_", " ") in report
