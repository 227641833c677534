"""Rounds of active selection through Dagster: seen in the UI, stopped by an error, gone on with."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import dagster as dg
import pytest

from annotation_pipelines.annotators.refresh import plan
from annotation_pipelines.errors import DeclarationError
from annotation_pipelines.graph.local import RunFailed, run_partitions
from annotation_pipelines.selection.round_history import rounds_of
from tests.mock_endpoint import Call, MockEndpoint, answer, error
from tests.workspaces import LABELS, Fixture, declaration, ml_records, openai_annotator

ROUNDS = {"strategy": "margin", "rounds": 3, "per_round": 5, "stop": {"patience": 9}}


@pytest.fixture
def instance() -> Iterator[dg.DagsterInstance]:
    with dg.DagsterInstance.ephemeral() as ephemeral:
        yield ephemeral


@pytest.fixture
def endpoint() -> Iterator[MockEndpoint]:
    labels = list(LABELS)
    with MockEndpoint(lambda call: answer(labels[len(call.text) % len(labels)])) as mock:
        yield mock


@pytest.fixture
def shop(tmp_path: Path, endpoint: MockEndpoint) -> Fixture:
    changes: dict[str, Any] = {
        "partitions": None,
        "annotators": openai_annotator(endpoint.url, concurrency=1, price={"input": 1, "output": 1}),
        "demonstrations": {"pool": 10, "per_prompt": 2},
        "selection": ROUNDS,
        "distillation": {"min_labels": 5},
    }
    return Fixture(tmp_path, ml_records(), declaration(**changes))


def run(shop: Fixture, instance: dg.DagsterInstance) -> None:
    assert not run_partitions(shop.project, shop.workspace, instance, ["all"]).blocked


def observations(shop: Fixture, instance: dg.DagsterInstance) -> list[dict[str, Any]]:
    records = instance.fetch_observations(dg.AssetKey(["shop", "llm_labels"]), limit=100).records
    found = [record.asset_observation for record in records]
    return [{name: entry.value for name, entry in each.metadata.items()} for each in reversed(found) if each]


def test_every_round_is_an_observation_and_the_learning_curve_is_in_the_metadata(
    shop: Fixture, instance: dg.DagsterInstance, endpoint: MockEndpoint
) -> None:
    run(shop, instance)
    assert len(endpoint.calls) == 15
    seen = observations(shop, instance)
    assert [each["round"] for each in seen] == [1, 2, 3]
    assert [each["silver"] for each in seen] == [5, 10, 15]
    assert all(each["cost_usd"] > 0 and each["gold"] > 0 and 0 <= each["accuracy"] <= 1 for each in seen)
    assert "agreement" in seen[-1] and seen[-1]["stopped"] == "all rounds are done"
    event = instance.get_latest_materialization_event(dg.AssetKey(["shop", "llm_labels"]))
    assert event is not None and event.asset_materialization is not None
    metadata = event.asset_materialization.metadata
    assert metadata["rounds"].value == 3 and metadata["rounds_ended"].value == "all rounds are done"
    assert "data:image/png" in str(metadata["learning_curve"].value)
    assert len(metadata["table_of_rounds"].value.records) == 3


def test_rounds_that_an_error_stopped_go_on_and_nothing_is_bought_twice(
    shop: Fixture, instance: dg.DagsterInstance, endpoint: MockEndpoint
) -> None:
    good = endpoint.behave

    def break_down(call: Call) -> object:
        return error(401, "key revoked") if call.number >= 7 else good(call)

    endpoint.behave = break_down  # type: ignore[assignment]
    with pytest.raises(RunFailed):
        run(shop, instance)
    assert len(rounds_of(shop.store, "all")) == 1
    assert plan(shop.store, shop.project, "night")["partition_key"].to_list() == ["all"]
    endpoint.behave = good
    run(shop, instance)
    assert len(rounds_of(shop.store, "all")) == 3
    assert len(endpoint.billed) == 15, "an answer was bought twice"
    assert plan(shop.store, shop.project, "next night").is_empty()


def test_rounds_for_a_task_without_a_student_are_refused(shop: Fixture) -> None:
    shop.declare(task={"critique": {}})
    with pytest.raises(DeclarationError, match="rounds need a student"):
        _ = shop.project
