"""One process's door to an endpoint: quick when there is room, fair when there is not, honest when nothing helps."""

from __future__ import annotations

import asyncio
import json
import subprocess
import sys
import time
from collections.abc import Awaitable, Callable
from pathlib import Path

import pytest

from annotation_pipelines.annotators.limits.gate import Gate, GaveUp, Outcome
from annotation_pipelines.errors import StoreError
from annotation_pipelines.project import Limits
from tests.mock_endpoint import MockEndpoint
from tests.rate_limits import Following, TokenBucket

ANSWERED, THROTTLED, BROKEN = (
    Outcome("answered", {}, status=200),
    Outcome("throttled", {}, status=429),
    Outcome("broken"),
)


def gate(
    folder: Path, *, maximum: int = 64, limits: Limits | None = None, patience: float = 30.0, model: str = "m"
) -> Gate:
    return Gate("http://e/v1", model, maximum=maximum, limits=limits or Limits(), patience=patience, folder=folder)


def run(work: Callable[[], Awaitable[None]]) -> None:
    async def limited() -> None:
        async with asyncio.timeout(20):
            await work()

    asyncio.run(limited())


async def tries(door: Gate, count: int, outcome: Outcome = ANSWERED) -> None:
    for _ in range(count):
        await door.enter(100)
        door.leave(outcome)


def test_where_there_is_room_nothing_is_waited_for(tmp_path: Path) -> None:
    async def work() -> None:
        async with gate(tmp_path) as door:
            start = time.perf_counter()
            for _ in range(10):
                entering = door.enter(100)
                with pytest.raises(StopIteration):
                    entering.send(None)  # it ends without ever giving way to the loop
                door.leave(ANSWERED)
            assert time.perf_counter() - start < 0.04

    run(work)


def test_the_first_request_of_a_second_process_does_not_wait_for_the_first(tmp_path: Path) -> None:
    async def work() -> None:
        async with gate(tmp_path) as one, gate(tmp_path) as other:
            await one.enter(100)
            start = time.perf_counter()
            await other.enter(100)
            assert time.perf_counter() - start < 0.04
            other.leave(ANSWERED)
            one.leave(ANSWERED)

    run(work)


def test_a_request_costs_microseconds(tmp_path: Path) -> None:
    async def work() -> None:
        async with gate(tmp_path) as door:
            await tries(door, 500)
            start = time.process_time()
            await tries(door, 5_000)
            assert (time.process_time() - start) / 5_000 < 40e-6, "20 are aimed at; tests share the machine"

    run(work)


def test_no_more_are_let_in_than_the_maximum_and_those_who_wait_follow_in_order(tmp_path: Path) -> None:
    async def work() -> None:
        inside, order = 0, []
        async with gate(tmp_path, maximum=3) as door:

            async def worker(number: int) -> None:
                nonlocal inside
                await door.enter(100)
                order.append(number)
                inside += 1
                assert inside <= 3
                await asyncio.sleep(0.002)
                inside -= 1
                door.leave(ANSWERED)

            await asyncio.gather(*[worker(number) for number in range(30)])
        assert order == list(range(30))

    run(work)


def test_a_cancelled_waiter_leaks_no_slot(tmp_path: Path) -> None:
    async def work() -> None:
        async with gate(tmp_path, maximum=2) as door:
            await door.enter(100)
            release = asyncio.Event()

            async def hold() -> None:
                await door.enter(100)
                await release.wait()
                door.leave(ANSWERED)

            holder = asyncio.create_task(hold())
            await asyncio.sleep(0)
            waiters = [asyncio.create_task(door.enter(100)) for _ in range(5)]
            await asyncio.sleep(0.01)
            waiters[0].cancel()
            waiters[2].cancel()
            release.set()
            door.leave(ANSWERED)
            await asyncio.sleep(0)
            waiters[1].cancel()  # let in perhaps, and not told yet
            waiters[3].cancel()
            waiters[4].cancel()
            await asyncio.gather(*waiters, holder, return_exceptions=True)
            await tries(door, 10)

            async def both() -> None:
                await door.enter(100)
                await asyncio.sleep(0.01)
                door.leave(ANSWERED)

            async with asyncio.timeout(1):
                await asyncio.gather(both(), both())

    run(work)


def test_a_declared_limit_is_sent_evenly_and_not_at_once(tmp_path: Path) -> None:
    async def work() -> None:
        async with gate(tmp_path, limits=Limits(requests_per_minute=3_000)) as door:
            start = time.monotonic()
            await tries(door, 50)
            assert 0.8 < time.monotonic() - start < 1.3

    run(work)


def test_the_processes_of_a_machine_wait_for_what_the_endpoint_asked_one_of_them(tmp_path: Path) -> None:
    async def work() -> None:
        async with gate(tmp_path) as one, gate(tmp_path) as other, gate(tmp_path, model="another") as apart:
            await one.enter(100)
            one.leave(Outcome("throttled", {"retry-after-ms": "400"}, status=429))
            start = time.monotonic()
            await tries(apart, 1)
            assert time.monotonic() - start < 0.1
            await asyncio.sleep(0.06)
            await tries(other, 1)
            assert 0.35 < time.monotonic() - start < 0.8

    run(work)


def test_when_nothing_is_answered_it_probes_and_gives_up_after_the_patience(tmp_path: Path) -> None:
    async def work() -> None:
        async with gate(tmp_path, patience=1.0) as door:
            start, sent = time.monotonic(), 0
            with pytest.raises(GaveUp, match="nothing was answered for 1 s"):
                while True:
                    await door.enter(100)
                    sent += 1
                    door.leave(BROKEN)
            assert 0.9 < time.monotonic() - start < 2
            assert 8 <= sent <= 11
            assert door.interrupted
            with pytest.raises(GaveUp):
                await door.enter(100)

    run(work)


def test_another_run_is_not_out_of_patience_from_the_start(tmp_path: Path) -> None:
    async def work() -> None:
        async with gate(tmp_path, patience=0.3) as door:
            with pytest.raises(GaveUp):
                await tries(door, 100, BROKEN)
        async with gate(tmp_path, patience=3.0) as door:
            async with asyncio.timeout(2.5):
                await tries(door, 1)
            await tries(door, 20)
            assert not door.interrupted

    run(work)


def test_a_pause_longer_than_the_patience_is_not_waited_for(tmp_path: Path) -> None:
    async def work() -> None:
        async with gate(tmp_path, patience=30) as door:
            waiting = [asyncio.create_task(tries(door, 2)) for _ in range(3)]
            await door.enter(100)
            door.leave(Outcome("throttled", {"retry-after": "3600"}, status=429))
            ended = await asyncio.gather(*waiting, return_exceptions=True)
            assert all(isinstance(end, GaveUp | None) for end in ended)
            with pytest.raises(GaveUp, match=r"the endpoint asks to wait for 3,[56]\d\d s"):
                await door.enter(100)

    run(work)


def test_an_unusable_folder_is_one_clear_error_at_the_start(tmp_path: Path) -> None:
    async def work() -> None:
        (tmp_path / "limits").write_text("")
        with pytest.raises(StoreError, match="cannot be used"):
            await gate(tmp_path).__aenter__()

    run(work)


def test_a_folder_that_breaks_later_is_told_to_all_who_wait(tmp_path: Path) -> None:
    async def work() -> None:
        async with gate(tmp_path, maximum=1) as door:
            await door.enter(100)
            waiters = [asyncio.create_task(door.enter(100)) for _ in range(3)]
            await asyncio.sleep(0)
            (path,) = (tmp_path / "limits").iterdir()
            path.unlink()
            path.mkdir()
            ended = await asyncio.gather(*waiters, return_exceptions=True)
            assert all(isinstance(end, StoreError) for end in ended)
            door.leave(ANSWERED)
            with pytest.raises(StoreError):
                await door.enter(100)

    run(work)


def test_what_a_killed_process_held_is_free_again(tmp_path: Path) -> None:
    code = """
import asyncio, sys
from pathlib import Path
from annotation_pipelines.annotators.limits.gate import Gate
from annotation_pipelines.project import Limits
async def work():
    async with Gate("http://e/v1", "m", maximum=2, limits=Limits(), patience=30, folder=Path(sys.argv[1])) as door:
        await door.enter(100)
        await door.enter(100)
        print("inside", flush=True)
        await asyncio.sleep(60)
asyncio.run(work())
"""
    with subprocess.Popen([sys.executable, "-c", code, str(tmp_path)], stdout=subprocess.PIPE, text=True) as victim:
        assert victim.stdout and victim.stdout.readline() == "inside\n"

        async def work() -> None:
            async with gate(tmp_path, maximum=2) as door:
                with pytest.raises(TimeoutError):
                    async with asyncio.timeout(0.3):
                        await door.enter(100)
                victim.kill()
                victim.wait()
                start = time.monotonic()
                await door.enter(100)
                door.leave(ANSWERED)
                assert time.monotonic() - start < 2

        run(work)


def test_eight_processes_share_a_limit_declared_told_or_only_felt(tmp_path: Path) -> None:
    """Each on an endpoint of its own, at the same time: 50 requests a second, in whatever way that is known."""
    per_minute, burst, seconds, learning = 3_000, 25, 8.0, 4.0
    endpoints = {
        "declared": Following(TokenBucket(per_minute, burst)),
        "told": Following(TokenBucket(per_minute, burst, tells=("headers",))),
        "felt": Following(TokenBucket(per_minute, burst)),
    }
    processes = []
    with (
        MockEndpoint(endpoints["declared"], latency=0.02) as declared,
        MockEndpoint(endpoints["told"], latency=0.02) as told,
        MockEndpoint(endpoints["felt"], latency=0.02) as felt,
    ):
        for mock, more in ((declared, [str(per_minute)]), (told, []), (felt, [])):
            command = [
                sys.executable,
                "-m",
                "tests.annotators.limits.client",
                mock.url,
                str(tmp_path),
                str(seconds),
                "4",
            ]
            processes += [subprocess.Popen([*command, *more], stdout=subprocess.PIPE, text=True) for _ in range(8)]
        replies = [json.loads(process.communicate(timeout=60)[0]) for process in processes]
    for name, endpoint in endpoints.items():
        answered = sum(status == 200 for _, status in endpoint.seen)
        # Learned in less than half the time that is allowed, on a machine that does other things, too.
        assert endpoint.share(429, after=learning) <= 0.04, name
        assert answered >= 0.5 * (seconds - 1) * per_minute / 60, name
        if name != "felt":
            assert endpoint.share(429) <= 0.02, name
    assert all(reply.get("answered", 0) >= 5 for reply in replies), "somebody got next to nothing"
