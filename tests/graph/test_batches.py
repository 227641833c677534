"""The batch sensor: polls without a worker, and launches each labelling run once, when there is something to read."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from pathlib import Path

import dagster as dg
import polars as pl
import pytest

from annotation_pipelines.annotators.endpoint import batches
from annotation_pipelines.annotators.endpoint.annotator import OpenAIAnnotator
from annotation_pipelines.annotators.endpoint.batch_rows import BY_HAND, LATE, BatchRow
from annotation_pipelines.annotators.factory import make_panel
from annotation_pipelines.annotators.open_batches import cancel_batches, described, poll_batches
from annotation_pipelines.errors import AnnotatorError
from annotation_pipelines.graph.batches import BATCHES_TAG, batches_sensor, next_readings
from annotation_pipelines.graph.partitions import partitions_definition
from annotation_pipelines.graph.stage import StageBuilder
from annotation_pipelines.store.schema import HELD_OUT
from tests.mock_batches import MockBatches
from tests.mock_endpoint import MockEndpoint, answer
from tests.workspaces import Fixture, declaration, ml_records, openai_annotator

NOW = datetime(2026, 11, 1, tzinfo=UTC)
KEYS = ["2020-03-16", "2020-03-23"]


def batch(
    batch_id: str, partition_key: str = "p", *, ended: int | None = 0, answered: int = 1, **more: object
) -> BatchRow:
    """A row; `ended` hours after noon, or None while it is open."""
    row = BatchRow(
        batch_id=batch_id,
        partition_key=partition_key,
        annotator="a",
        endpoint="e",
        status="completed",
        requests=3,
        prompt_tokens=30,
        input_file_id="f",
        answered=None if ended is None else answered,
        failed=0,
        error=None,
        submitted_at=NOW,
        polled_at=None,
        harvested_at=None if ended is None else NOW + timedelta(hours=ended),
        run_id="r",
        backfill_id=None,
    )
    return replace(row, **more)  # type: ignore[arg-type]


def asked(
    rows: list[BatchRow], submitted: list[str], auto: tuple[str, ...] = (), launched: tuple[str, ...] = ()
) -> list[str]:
    """The partitions to read, with a star where they go after room."""
    found = next_readings(rows, submitted, auto, lambda key: key in launched)
    return [reading.partition_key + "*" * reading.run_key.startswith("room:") for reading in found]


def test_a_partition_is_read_once_all_its_batches_have_ended() -> None:
    assert asked([batch("1"), batch("2", ended=None)], ["p"]) == []
    assert asked([batch("1"), batch("2"), batch("3", "q", ended=None)], ["p", "q"]) == ["p"]
    assert asked([batch("1")], []) == [], "nothing waits for it any more"


def test_a_reading_is_asked_for_until_it_was_launched_and_the_next_batches_make_another() -> None:
    rows = [batch("1"), batch("2", answered=0)]
    (first,) = next_readings(rows, ["p"], (), lambda key: False)
    assert next_readings(rows, ["p"], (), lambda key: False) == [first]
    later = [*rows, batch("3", ended=1, run_id="r2")]
    (second,) = next_readings(later, ["p"], (), {first.run_key}.__contains__)
    assert second.run_key != first.run_key


def test_without_an_answer_nothing_is_repeated_unless_the_rest_is_asked_live() -> None:
    failed = batch("1", answered=0, status="failed", error="invalid_model: none")
    assert asked([batch("0", "q"), failed], ["p"]) == []
    assert asked([failed], ["p"], auto=("a",)) == ["p"]
    late = batch("1", answered=0, status="cancelled", error=LATE)
    assert asked([late], ["p"], auto=("a",)) == ["p"]


def test_after_a_cancellation_by_hand_nothing_starts_by_itself() -> None:
    rows = [batch("0", "q"), batch("1", answered=2, status="cancelled", error=BY_HAND)]
    assert asked(rows, ["p"]) == [] and asked(rows, ["p"], auto=("a",)) == []


def test_what_found_no_room_follows_one_partition_at_a_time_as_batches_end() -> None:
    full = batch("2", "q", answered=0, status="failed", error="token_limit_exceeded: enqueued token limit")
    rows = [batch("1", "p", ended=1), full]
    assert asked(rows, ["o", "q"]) == ["o*"], "o was never submitted at all"
    assert asked(rows, ["q"]) == ["q*"]
    assert asked(rows, ["o", "q"], launched=("room:1",)) == [], "the room is taken"
    assert asked([*rows, batch("3", "p", ended=2)], ["o", "q"], launched=("room:1",)) == ["o*"]
    (reading,) = next_readings([batch("1")], ["p"], (), lambda key: False)
    assert asked([batch("1")], ["p"], launched=(reading.run_key,)) == ["p*"], "its own rest had no room"


@pytest.fixture
def server() -> MockBatches:
    return MockBatches(lambda call: answer("mlops"))


@pytest.fixture
def endpoint(server: MockBatches) -> Iterator[MockEndpoint]:
    with MockEndpoint(routes=server.routes) as mock:
        yield mock


@pytest.fixture
def shop(tmp_path: Path, endpoint: MockEndpoint) -> Fixture:
    return Fixture(tmp_path, ml_records(14), declaration(annotators=openai_annotator(endpoint.url, mode="batch")))


def submit(shop: Fixture, partition_key: str, records: int = 3) -> list[str]:
    """Submit some records of a partition, and say in the labels that they wait; gives the batches."""
    (annotator,) = make_panel(shop.project, shop.store).members
    assert isinstance(annotator, OpenAIAnnotator)
    frame = pl.DataFrame(
        {
            "record_id": [f"{partition_key} {n}" for n in range(records)],
            "content_hash": [str(n) for n in range(records)],
            "content": [f"text {n} of {partition_key}" for n in range(records)],
        }
    )
    with batches.batch_api(annotator.settings, annotator.endpoint, annotator.key()) as api:
        submitted = batches.submit(
            shop.store,
            api,
            annotator.requests(frame),
            line=annotator.batch_line,
            partition_key=partition_key,
            annotator=annotator.name,
            settings=annotator.settings.batch,
            tokens_of=lambda request: 10,
            run_id=f"run {partition_key}",
        )
    rows = frame.select("record_id", "content_hash").with_columns(
        partition_key=pl.lit(partition_key),
        annotator=pl.lit(annotator.name),
        fingerprint=pl.lit(annotator.fingerprint),
        state=pl.lit("submitted"),
        reused=pl.lit(False),
        labelled_at=pl.lit(NOW),
    )
    with shop.store.transaction() as con:
        shop.store.upsert(con, "llm_labels", rows)
    return submitted.batches


class Daemon:
    """Ticks of the sensor, as Dagster's daemon makes them."""

    def __init__(self, shop: Fixture) -> None:
        project = shop.project
        builder = StageBuilder(project, shop.workspace, partitions_definition(project.declaration.partitions))
        label = dg.define_asset_job("shop_backfill", dg.AssetSelection.all())
        retrain = dg.define_asset_job("shop_retrain", dg.AssetSelection.all())
        self.sensor = batches_sensor(
            builder,
            label_job="shop_backfill",
            label_stages=("llm_labels",),
            retrain_job="shop_retrain",
            jobs=[label, retrain],
        )

        @dg.asset(key=builder.key("llm_labels"), partitions_def=builder.partitions_def)
        def labels() -> None:
            pass

        sensors = [self.sensor] if self.sensor else []
        self.defs = dg.Definitions(assets=[labels], jobs=[label, retrain], sensors=sensors)

    def tick(self, instance: dg.DagsterInstance) -> tuple[list[dg.RunRequest], str | None]:
        """The runs it asks for, or why none."""
        assert self.sensor
        with dg.build_sensor_context(instance=instance, repository_def=self.defs.get_repository_def()) as context:
            evaluated = self.sensor.evaluate_tick(context)
        return list(evaluated.run_requests or []), evaluated.skip_message


def test_no_annotator_with_a_batch_api_means_no_sensor(shop: Fixture, endpoint: MockEndpoint) -> None:
    shop.declare(annotators=openai_annotator(endpoint.url))
    assert Daemon(shop).sensor is None


def test_the_sensor_polls_harvests_and_asks_for_each_run_once(
    shop: Fixture, server: MockBatches, endpoint: MockEndpoint
) -> None:
    daemon = Daemon(shop)
    assert daemon.sensor and daemon.sensor.minimum_interval_seconds == 60
    with dg.DagsterInstance.ephemeral() as instance:
        assert daemon.tick(instance) == ([], "nothing was submitted yet")
        (first,), (second,) = (submit(shop, key) for key in KEYS)
        assert daemon.tick(instance)[0] == []
        server.finish(first)
        (request,), _ = daemon.tick(instance)
        assert (request.job_name, request.partition_key) == ("shop_backfill", KEYS[0])
        assert request.asset_selection == [dg.AssetKey(["shop", "llm_labels"])]
        assert request.tags["annotation_pipelines/partition"] == KEYS[0]
        assert shop.store.query("SELECT count(*) AS n FROM llm_calls WHERE status = 'ok'")["n"].item() == 3
        assert [again.run_key for again in daemon.tick(instance)[0]] == [request.run_key]

        server.finish(second)
        running = instance.create_run_for_job(
            daemon.defs.resolve_job_def("shop_backfill"),
            tags={**request.tags, "dagster/partition": KEYS[0]},
            status=dg.DagsterRunStatus.STARTED,
        )
        assert running.tags[BATCHES_TAG] == request.run_key
        (other,), _ = daemon.tick(instance)
        assert other.partition_key == KEYS[1], "the first partition has a run in progress"
    assert endpoint.calls == [], "nothing was asked live"


def test_held_out_records_are_labelled_by_the_run_that_evaluates(shop: Fixture, server: MockBatches) -> None:
    (batch_id,) = submit(shop, HELD_OUT)
    server.finish(batch_id)
    with dg.DagsterInstance.ephemeral() as instance:
        (request,), _ = Daemon(shop).tick(instance)
    assert (request.job_name, request.partition_key) == ("shop_retrain", None)


def test_trouble_at_the_endpoint_is_the_reason_of_a_skipped_tick(
    shop: Fixture, server: MockBatches, monkeypatch: pytest.MonkeyPatch
) -> None:
    submit(shop, KEYS[0])
    server.key = "another"
    monkeypatch.setenv("OPENAI_API_KEY", "sk-secret-0123456789")
    with dg.DagsterInstance.ephemeral() as instance:
        requests, reason = Daemon(shop).tick(instance)
    assert requests == [] and reason and "refused the key (HTTP 401)" in reason and "sk-secret" not in reason


def test_in_mode_auto_what_is_late_is_cancelled_and_its_partition_labelled(
    shop: Fixture, server: MockBatches, endpoint: MockEndpoint
) -> None:
    shop.declare(annotators=openai_annotator(endpoint.url, mode="auto", batch={"late_after_hours": 2}))
    (batch_id,) = submit(shop, KEYS[0])
    poll_batches(shop.project, shop.store)
    assert server.batches[batch_id]["status"] == "in_progress"
    poll_batches(shop.project, shop.store, now=datetime.now(UTC) + timedelta(hours=3))
    assert server.batches[batch_id]["status"] == "cancelling"
    server.finish(batch_id, "cancelled", answered=())
    with dg.DagsterInstance.ephemeral() as instance:
        (request,), _ = Daemon(shop).tick(instance)
    assert request.partition_key == KEYS[0]


def test_a_batch_costs_its_share_of_the_price_and_keeps_to_the_budget(
    shop: Fixture, server: MockBatches, endpoint: MockEndpoint
) -> None:
    price = {"input": 1.0, "output": 2.0, "batch": 0.25}
    shop.declare(annotators=openai_annotator(endpoint.url, mode="batch", price=price), budget={"per_day_usd": 1.0})
    (batch_id,) = submit(shop, KEYS[0])
    server.finish(batch_id)
    poll_batches(shop.project, shop.store)
    costs = shop.store.query("SELECT DISTINCT cost_usd FROM llm_calls")["cost_usd"]
    assert costs.to_list() == [pytest.approx((100 * 1.0 + 10 * 2.0) * 0.25 / 1e6)]


def test_batches_are_cancelled_by_id_or_all(shop: Fixture, server: MockBatches) -> None:
    (first,), (second,) = (submit(shop, key) for key in KEYS)
    with pytest.raises(AnnotatorError, match="no open batch nonsense; open are: batch_0, batch_1"):
        cancel_batches(shop.project, shop.store, ["nonsense"])
    assert [row.batch_id for row in cancel_batches(shop.project, shop.store, [first])] == [first]
    assert server.batches[second]["status"] == "in_progress"
    assert len(cancel_batches(shop.project, shop.store)) == 2
    assert {row.error for row in batches.batch_rows(shop.store)} == {BY_HAND}


def test_a_batch_is_described_in_one_line() -> None:
    assert described(batch("b1", ended=None)) == "b1  p  a  completed  3 requests, submitted 2026-11-01 00:00 UTC"
    failed = batch("b2", answered=0, status="failed", error="no such model")
    assert described(failed) == "b2  p  a  failed  0 of 3 answered, 0 failed (no such model)"
