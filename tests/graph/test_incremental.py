"""Incremental from the first day: what is unchanged costs nothing, what changed costs just that."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import dagster as dg
import polars as pl
import pytest

from annotation_pipelines.graph.local import RunFailed, run_partitions
from annotation_pipelines.tasks.base import STATES
from tests.mock_endpoint import Call, MockEndpoint, answer, error
from tests.workspaces import LABELS, Fixture, declaration, ml_records, openai_annotator

WEEK = "2020-03-23"
KEYS = ["2020-03-16", WEEK, "2020-03-30"]


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
    return Fixture(tmp_path, ml_records(), declaration(annotators=openai_annotator(endpoint.url)))


def in_week(records: pl.DataFrame, start: str = WEEK, days: int = 7) -> pl.DataFrame:
    begin = pl.lit(start).str.to_datetime()
    time = pl.col("created_on").str.to_datetime()
    return records.filter((time >= begin) & (time < begin + pl.duration(days=days)))


def run(shop: Fixture, instance: dg.DagsterInstance, *keys: str) -> None:
    summary = run_partitions(shop.project, shop.workspace, instance, keys or [WEEK])
    assert not summary.blocked


def test_an_unchanged_partition_makes_no_call(
    shop: Fixture, instance: dg.DagsterInstance, endpoint: MockEndpoint
) -> None:
    run(shop, instance)
    records = len(in_week(shop.records))
    assert len(endpoint.calls) == records
    run(shop, instance)
    assert len(endpoint.calls) == records
    facts = shop.facts("llm_labels", WEEK)
    assert (facts["called"], facts["reused"], facts["unchanged"]) == (0, records, records)


def test_three_changed_records_make_three_calls(
    shop: Fixture, instance: dg.DagsterInstance, endpoint: MockEndpoint
) -> None:
    run(shop, instance)
    before = len(endpoint.calls)
    changed = in_week(shop.records)["id"].head(3)
    shop.write_records(
        shop.records.with_columns(
            pl.when(pl.col("id").is_in(changed.implode()))
            .then(pl.col("title") + " (second edition)")
            .otherwise("title")
            .alias("title")
        )
    )
    run(shop, instance)
    assert len(endpoint.calls) - before == 3
    facts = shop.facts("llm_labels", WEEK)
    assert (facts["new"], facts["changed"], facts["stale"], facts["called"]) == (0, 3, 0, 3)


def test_a_new_sentence_in_the_guideline_makes_all_records_stale(
    shop: Fixture, instance: dg.DagsterInstance, endpoint: MockEndpoint
) -> None:
    run(shop, instance)
    records = len(in_week(shop.records))
    shop.declare(guideline=shop.attributes["guideline"] + " When in doubt, prefer other.")
    run(shop, instance)
    assert len(endpoint.calls) == 2 * records
    facts = shop.facts("llm_labels", WEEK)
    assert (facts["stale"], facts["called"], facts["new"]) == (records, records, 0)


def test_going_back_to_the_old_guideline_buys_nothing_again(
    shop: Fixture, instance: dg.DagsterInstance, endpoint: MockEndpoint
) -> None:
    old = shop.attributes["guideline"]
    run(shop, instance)
    shop.declare(guideline=old + " When in doubt, prefer other.")
    run(shop, instance)
    calls = len(endpoint.calls)
    shop.declare(guideline=old)
    run(shop, instance)
    assert len(endpoint.calls) == calls
    facts = shop.facts("llm_labels", WEEK)
    assert (facts["stale"], facts["from_ledger"], facts["called"]) == (calls // 2, calls // 2, 0)


def test_a_deleted_record_leaves_every_stage_and_comes_back_for_free(
    shop: Fixture, instance: dg.DagsterInstance, endpoint: MockEndpoint
) -> None:
    run(shop, instance)
    calls = len(endpoint.calls)
    everything = shop.records
    gone = in_week(everything)["id"][0]
    shop.write_records(everything.filter(pl.col("id") != gone))
    run(shop, instance)
    for table in ("selected_records", "llm_labels", "trusted_labels"):
        assert shop.store.query(f"SELECT count(*) AS n FROM {table} WHERE record_id = ?", [gone])["n"].item() == 0
    shop.write_records(everything)
    run(shop, instance)
    assert len(endpoint.calls) == calls
    assert shop.store.query("SELECT count(*) AS n FROM llm_labels WHERE record_id = ?", [gone])["n"].item() == 1


def test_a_record_that_moves_to_another_week_takes_its_label_along(
    shop: Fixture, instance: dg.DagsterInstance, endpoint: MockEndpoint
) -> None:
    run(shop, instance, WEEK, KEYS[2])
    calls = len(endpoint.calls)
    moved = in_week(shop.records)["id"][0]
    shop.write_records(
        shop.records.with_columns(
            pl.when(pl.col("id") == moved)
            .then(pl.lit("2020-03-31 10:00:00"))
            .otherwise("created_on")
            .alias("created_on")
        )
    )
    run(shop, instance, KEYS[2], WEEK)
    assert len(endpoint.calls) == calls
    rows = shop.store.query("SELECT partition_key, state FROM llm_labels WHERE record_id = ?", [moved])
    assert rows.rows() == [(KEYS[2], "labelled")]


def test_a_call_that_failed_is_made_again_and_the_others_are_not(
    shop: Fixture, instance: dg.DagsterInstance, endpoint: MockEndpoint
) -> None:
    unlucky = in_week(shop.records)["title"][0]
    good = endpoint.behave

    def fail_one(call: Call) -> object:
        return error(400, "cannot be answered") if unlucky in call.text else good(call)

    endpoint.behave = fail_one  # type: ignore[assignment]
    run(shop, instance)
    assert shop.facts("llm_labels", WEEK)["failed"] == 1
    endpoint.behave = good
    before = len(endpoint.calls)
    run(shop, instance)
    assert len(endpoint.calls) - before == 1
    facts = shop.facts("llm_labels", WEEK)
    assert (facts["retried"], facts["failed"], facts["called"]) == (1, 0, 1)


def test_every_record_ends_in_exactly_one_state_in_each_stage(
    shop: Fixture, instance: dg.DagsterInstance, endpoint: MockEndpoint
) -> None:
    acts = [answer("mlops"), answer("no such label"), error(400, "no"), answer("other")]
    texts: dict[str, int] = {}  # one act a text: repairs ask about a text again
    endpoint.behave = lambda call: acts[texts.setdefault(call.text, len(texts)) % len(acts)]
    run_partitions(shop.project, shop.workspace, instance, [WEEK])
    live = len(in_week(shop.records))
    selected, labels = shop.facts("selected_records", WEEK), shop.facts("llm_labels", WEEK)
    assert selected["selected"] + selected["waiting"] + selected["gold"] == live
    assert sum(labels[state] for state in STATES) == live
    assert labels["invalid"] and labels["failed"]


def test_a_bad_key_fails_the_run_in_one_line_after_one_request(
    shop: Fixture, instance: dg.DagsterInstance, endpoint: MockEndpoint
) -> None:
    endpoint.behave = lambda call: error(401, "Incorrect API key provided")
    with pytest.raises(RunFailed, match="key") as caught:
        run(shop, instance)
    assert "\n" not in str(caught.value)
    assert len(endpoint.calls) == 1


def test_a_blocking_check_stops_its_partition_before_trusted_labels_and_no_other(
    shop: Fixture, instance: dg.DagsterInstance
) -> None:
    not_too_long = {"expect_column_value_lengths_to_be_between": {"column": "text", "max_value": 5000}}
    shop.declare(quality={"expectations": [{**not_too_long, "blocking": True}]})
    longest = in_week(shop.records)["id"][0]
    shop.write_records(
        shop.records.with_columns(
            pl.when(pl.col("id") == longest).then(pl.lit("very " * 2000)).otherwise("description").alias("description")
        )
    )
    summary = run_partitions(shop.project, shop.workspace, instance, [WEEK, KEYS[2]])
    assert summary.done == [KEYS[2]]
    assert list(summary.blocked) == [WEEK]
    trusted = shop.store.query("SELECT DISTINCT partition_key FROM trusted_labels")["partition_key"].to_list()
    assert trusted == [KEYS[2]]


def test_what_a_killed_run_paid_for_is_not_bought_again(
    shop: Fixture, instance: dg.DagsterInstance, endpoint: MockEndpoint
) -> None:
    """The run dies at the fifth reply; its journal holds the first ones."""
    good, stop_at = endpoint.behave, 5

    def break_down(call: Call) -> object:
        return error(401, "key revoked") if call.number >= stop_at else good(call)

    endpoint.behave = break_down  # type: ignore[assignment]
    shop.declare(annotators=openai_annotator(endpoint.url, concurrency=1))
    with pytest.raises(RunFailed):
        run(shop, instance)
    paid = len(endpoint.billed)
    assert paid == stop_at
    endpoint.behave = good
    run(shop, instance)
    assert len(endpoint.billed) == len(in_week(shop.records)), "a paid answer was bought again"
    assert shop.facts("llm_labels", WEEK)["unchanged"] == paid, "what was answered before the end was labelled, too"
