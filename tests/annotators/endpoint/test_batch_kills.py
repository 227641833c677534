"""kill -9 while a batch is submitted or harvested: nothing is bought twice, nothing that was paid for is lost."""

from __future__ import annotations

import subprocess
import time
from collections.abc import Callable, Iterator
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest

from annotation_pipelines.annotators.endpoint import batches
from annotation_pipelines.store.journal import fold_leftovers
from tests.batch_scene import Scene, key, keys, scene
from tests.mock_batches import Manner

PATIENCE = 60.0


@pytest.fixture
def shop(tmp_path: Path) -> Iterator[Scene]:
    with scene(tmp_path) as made:
        yield made


def kill_when(process: subprocess.Popen[bytes], there: Callable[[], bool]) -> None:
    """Kill a process at a moment that was looked out for."""
    end = time.monotonic() + PATIENCE
    while not there():
        assert time.monotonic() < end and process.poll() is None, "it ended before it could be killed"
        time.sleep(0.001)
    process.kill()
    process.wait()


def finish(shop: Scene, count: int) -> None:
    """Every request ends answered, and was paid for once."""
    for batch_id in shop.server.open:
        shop.server.finish(batch_id)
    shop.poll()
    assert shop.answered() == keys(*range(count))
    assert len(shop.ledger()) == count
    assert shop.server.billed == dict.fromkeys(keys(*range(count)), 1)
    assert list((shop.store.home / "batches").iterdir()) == [], "no text stays behind"


@pytest.mark.parametrize("manner", ["hang_before", "hang_after"])
def test_killed_while_its_file_goes_up_it_is_submitted_by_the_next_run(shop: Scene, manner: Manner) -> None:
    trouble = shop.server.trouble("POST /files", manner)
    kill_when(shop.process("submit", 5), trouble.reached.is_set)
    assert batches.batch_rows(shop.store)[0].status == "uploading"
    submitted = shop.submit(range(5))
    assert (submitted.requests, submitted.batches) == (5, ["batch_0"])
    finish(shop, 5)


def test_killed_after_the_batch_was_created_it_is_taken_over_by_the_next_run(shop: Scene) -> None:
    trouble = shop.server.trouble("POST /batches", "hang_after")
    kill_when(shop.process("submit", 5), trouble.reached.is_set)
    assert batches.batch_rows(shop.store)[0].status == "creating"
    submitted = shop.submit(range(6))
    assert (submitted.requests, submitted.waiting) == (1, 5)
    assert [row.batch_id for row in batches.batch_rows(shop.store)] == ["batch_0", "batch_1"]
    finish(shop, 6)


def test_killed_before_the_batch_was_created_it_is_submitted_once_that_is_certain(shop: Scene) -> None:
    trouble = shop.server.trouble("POST /batches", "hang_before")
    kill_when(shop.process("submit", 5), trouble.reached.is_set)
    assert shop.submit(range(5)).requests == 0, "the creation may still be under way"
    assert batches.waiting(shop.store, [key(0)]) == keys(0)
    assert shop.poll(datetime.now(UTC) + timedelta(minutes=5)) == []
    assert shop.submit(range(5)).requests == 5
    finish(shop, 5)


def test_what_a_living_run_is_submitting_is_left_to_it(shop: Scene) -> None:
    trouble = shop.server.trouble("POST /files", "hang_before")
    process = shop.process("submit", 5)
    assert trouble.reached.wait(PATIENCE)
    assert shop.poll(datetime.now(UTC) + timedelta(hours=1))[0].status == "uploading"
    assert shop.submit(range(5)).waiting == 5
    kill_when(process, lambda: True)
    assert shop.submit(range(5)).requests == 5
    finish(shop, 5)


def test_killed_while_its_answers_come_down_they_are_fetched_again(shop: Scene) -> None:
    shop.submit(range(5))
    shop.server.finish("batch_0")
    trouble = shop.server.trouble("GET /files/{id}/content", "half")
    kill_when(shop.process("poll"), trouble.reached.is_set)
    finish(shop, 5)


@pytest.mark.parametrize("segment", [0, 1])
def test_killed_while_its_answers_are_written_down_none_is_lost_and_none_counts_twice(
    shop: Scene, segment: int
) -> None:
    count = 8_000  # more than one segment of the journal
    shop.submit(range(count))
    shop.server.finish("batch_0")

    def written() -> bool:
        return any(path.stat().st_size for path in (shop.store.home / "journal").glob(f"*-{segment:04d}.jsonl"))

    kill_when(shop.process("poll"), written)
    assert batches.batch_rows(shop.store)[0].open
    assert any((shop.store.home / "journal").glob("*.jsonl"))
    shop.poll()
    fold_leftovers(shop.store)  # what the killed process had written down comes in as well
    finish(shop, count)
    assert shop.ledger("sum(cost_usd)") == [(pytest.approx(0.005 * count),)]
