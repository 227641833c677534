"""Recorded ChatGPT answers on undirected relations, served over HTTP and read back by the whole engine."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import polars as pl
import pytest
import yaml
from sklearn.metrics import f1_score

from annotation_pipelines.annotators.recording import Recording
from annotation_pipelines.annotators.replay import replaying
from annotation_pipelines.tasks.given_relations import GivenRelationsTask
from tests.examples.example import EXAMPLES, Example

NAME = "re_semeval2010_chatgpt"
RECORDED = EXAMPLES / NAME / "data" / "recorded.csv"
MODEL = "gpt-3.5-turbo"


def annotators(url: str) -> list[dict[str, Any]]:
    """The declared annotator, at another address."""
    declared = yaml.safe_load((EXAMPLES / NAME / "defs.yaml").read_text(encoding="utf-8"))
    openai = declared["attributes"]["annotators"][0]["openai"]
    return [{"openai": {**openai, "base_url": url, "max_retries": 1}}]


@contextmanager
def served(folder: Path) -> Iterator[str]:
    """The replay server as `replay FILE --project` starts it; its address."""
    project = Example(folder / "knows", NAME).project
    with replaying(RECORDED, model=MODEL, task=project.task, source=project.declaration.source) as url:
        yield url


@pytest.fixture(scope="module")
def recorded() -> pl.DataFrame:
    return pl.read_csv(RECORDED, schema_overrides={"id": pl.String}).sort("id")


def test_the_whole_slice_comes_back_as_it_was_recorded(tmp_path: Path, recorded: pl.DataFrame) -> None:
    with served(tmp_path) as url:
        example = Example(tmp_path / "asks", NAME, annotators=annotators(url))
        counts = example.read()
        assert counts["rows"] == counts["new"] == 905
        labels = example.annotate()
    assert (labels.called, labels.states["labelled"]) == (905, 905)
    read = example.annotations()
    assert read["record_id"].to_list() == recorded["id"].to_list()
    assert read["label"].to_list() == recorded["chatgpt_label"].to_list()
    assert read["confidence"].to_list() == recorded["chatgpt_confidence"].to_list()
    assert read["gold"].to_list() == recorded["gold"].to_list()
    reasons = read["rationale"].to_list()
    assert reasons == [reason and reason.strip() for reason in recorded["chatgpt_rationale"]]
    assert sum(reason is not None for reason in reasons) == 61

    measured = {
        metric.metric: metric.value
        for metric in example.project.task.measure(read["gold"].to_list(), read["label"].to_list())
        if not metric.label
    }
    accuracy = (recorded["gold"] == recorded["chatgpt_label"]).mean()
    assert accuracy == pytest.approx(0.3801, abs=5e-5)
    assert measured["accuracy"] == pytest.approx(accuracy, abs=1e-12)
    task = example.project.task
    assert isinstance(task, GivenRelationsTask)
    truth, given = recorded["gold"].to_list(), recorded["chatgpt_label"].to_list()
    micro = f1_score(truth, given, labels=task.types, average="micro", zero_division=0)
    assert measured["micro_f1"] == pytest.approx(micro, abs=1e-9)
    assert measured["macro_f1"] == pytest.approx(
        f1_score(truth, given, labels=task.types, average="macro", zero_division=0), abs=1e-9
    )


def test_a_canary_is_repeated_and_some_records_may_be_asked_about_alone(tmp_path: Path, recorded: pl.DataFrame) -> None:
    with served(tmp_path) as url:
        example = Example(
            tmp_path / "asks",
            NAME,
            annotators=annotators(url),
            injection={"canary": True},
            selection={"strategy": "random", "per_partition": 40},
        )
        example.read()
        assert example.annotate().states == {"labelled": 40}
    known = dict(recorded.select("id", "chatgpt_label").iter_rows())
    assert all(
        known[record_id] == label for record_id, label in example.annotations()["record_id", "label"].iter_rows()
    )


def test_the_recording_says_what_the_file_says_without_a_project(recorded: pl.DataFrame) -> None:
    recording = Recording.load(RECORDED)
    assert recording.rows == len(recording.answers) == 905
    first = recorded.row(0, named=True)
    answer = recording.answers[first["sentence"]]
    assert (answer.label, answer.confidence) == (first["chatgpt_label"], first["chatgpt_confidence"])


def test_the_slice_is_what_the_readme_says(recorded: pl.DataFrame) -> None:
    assert recorded["sentence"].n_unique() == 905
    assert set(recorded["chatgpt_label"]) == set(recorded["gold"])
    assert recorded["gold"].value_counts().filter(pl.col("gold") == "Other")["count"].item() == 146
    assert (recorded["chatgpt_label"] == "Other").sum() == 3
    assert recorded["chatgpt_confidence"].is_between(0, 1).all()
