"""The nightly refresh: each partition once, retraining once, after the last of them."""

from __future__ import annotations

from collections.abc import Iterator
from datetime import UTC, datetime
from pathlib import Path

import dagster as dg
import polars as pl
import pytest
from hypothesis import given
from hypothesis import strategies as st

from annotation_pipelines.annotators.refresh import plan
from annotation_pipelines.graph.local import run_partitions
from annotation_pipelines.graph.project import project_definitions
from annotation_pipelines.graph.refresh import PARTITION_TAG, REFRESH_TAG, RETRAIN, next_steps
from tests.mock_endpoint import MockEndpoint, answer
from tests.workspaces import Fixture, declaration, ml_records, openai_annotator

KEYS = ["2020-03-16", "2020-03-23", "2020-03-30"]


@pytest.fixture
def endpoint() -> Iterator[MockEndpoint]:
    with MockEndpoint(lambda call: answer("mlops")) as mock:
        yield mock


@pytest.fixture
def shop(tmp_path: Path, endpoint: MockEndpoint) -> Fixture:
    return Fixture(tmp_path, ml_records(), declaration(annotators=openai_annotator(endpoint.url)))


@given(st.permutations(KEYS), st.randoms())
def test_whatever_the_order_of_events_each_run_is_asked_for_until_launched_and_retraining_comes_last(
    order: list[str], random: object
) -> None:
    launched: dict[str, bool] = {}
    for key in order:
        waiting = {step.partition_key for step in next_steps("r", KEYS, launched)}
        assert waiting == set(KEYS) - set(launched)
        launched[key] = False
    for key in order:
        assert next_steps("r", KEYS, launched) == []
        launched[key] = True
    (last,) = next_steps("r", KEYS, launched)
    assert (last.partition_key, last.run_key) == (None, "r:retrain")
    launched[RETRAIN] = False
    assert next_steps("r", KEYS, launched) == []


def test_a_refresh_with_nothing_to_label_goes_on_to_retraining() -> None:
    assert [step.partition_key for step in next_steps("r", [], {})] == [None]


def test_the_plan_holds_the_partitions_that_the_source_has_touched_and_no_others(
    shop: Fixture, endpoint: MockEndpoint
) -> None:
    now = datetime(2026, 1, 1, tzinfo=UTC)
    first = plan(shop.store, shop.project, "first", now=now)
    assert first["partition_key"].to_list() == [k for k in KEYS if first.filter(pl.col("partition_key") == k)["new"][0]]
    with dg.DagsterInstance.ephemeral() as instance:
        run_partitions(shop.project, shop.workspace, instance, KEYS)
    assert plan(shop.store, shop.project, "second", now=now).is_empty()

    late = shop.records.head(1).with_columns(
        pl.lit("late").alias("id"), pl.lit("2020-03-25 08:00:00").alias("created_on")
    )
    changed = shop.records["id"][-1]
    shop.write_records(
        pl.concat([shop.records, late]).with_columns(
            pl.when(pl.col("id") == changed).then(pl.lit("new title")).otherwise("title").alias("title")
        )
    )
    third = plan(shop.store, shop.project, "third", now=now)
    assert third.select("partition_key", "new", "changed").rows() == [(KEYS[1], 1, 0), (KEYS[2], 0, 1)]


def test_a_new_guideline_makes_every_labelled_partition_part_of_the_plan(shop: Fixture) -> None:
    with dg.DagsterInstance.ephemeral() as instance:
        run_partitions(shop.project, shop.workspace, instance, KEYS[:2])
    shop.write_records(shop.records.filter(pl.col("created_on") < "2020-03-30"))
    shop.declare(guideline="Something else altogether.")
    touched = plan(shop.store, shop.project, "r", now=datetime(2026, 1, 1, tzinfo=UTC))
    labelled = shop.store.query("SELECT partition_key, count(*) AS n FROM llm_labels GROUP BY ALL ORDER BY ALL")
    assert touched.select("partition_key", "stale").rows() == labelled.rows()


def test_the_sensor_turns_a_plan_into_runs_and_then_into_one_retraining(shop: Fixture, endpoint: MockEndpoint) -> None:
    defs = project_definitions(shop.project, shop.workspace)
    repository = defs.get_repository_def()
    sensor = repository.get_sensor_def("shop_refresh_sensor")
    with dg.DagsterInstance.ephemeral() as instance:

        def tick() -> list[dg.RunRequest]:
            with dg.build_sensor_context(instance=instance, repository_def=repository) as context:
                return list(sensor.evaluate_tick(context).run_requests or [])

        assert tick() == []
        refresh = defs.resolve_job_def("shop_refresh").execute_in_process(instance=instance)
        asked = tick()
        planned = {request.tags[PARTITION_TAG] for request in asked}
        assert planned and planned <= set(KEYS)
        assert {request.job_name for request in asked} == {"shop_backfill"}
        assert {request.tags[REFRESH_TAG] for request in asked} == {refresh.run_id}
        assert [r.run_key for r in tick()] == [r.run_key for r in asked], "run keys must not change between ticks"
        for request in asked:
            defs.resolve_job_def("shop_backfill").execute_in_process(
                instance=instance, partition_key=request.partition_key, tags=dict(request.tags)
            )
        (retrain,) = tick()
        assert (retrain.job_name, retrain.partition_key) == ("shop_retrain", None)
        defs.resolve_job_def("shop_retrain").execute_in_process(instance=instance, tags=dict(retrain.tags))
        assert tick() == []
    assert len(endpoint.calls) == len(shop.records)


def test_the_schedule_launches_the_refresh_in_the_declared_time_zone(shop: Fixture) -> None:
    shop.declare(schedule={"cron": "30 3 * * *", "timezone": "Europe/Berlin"})
    schedule = project_definitions(shop.project, shop.workspace).get_repository_def().get_schedule_def("shop_nightly")
    assert (schedule.job_name, schedule.cron_schedule, schedule.execution_timezone) == (
        "shop_refresh",
        "30 3 * * *",
        "Europe/Berlin",
    )
    assert schedule.default_status == dg.DefaultScheduleStatus.STOPPED
