"""Kill -9 at random moments, resume, and count what was lost and what was bought twice.

The endpoint's list of what it billed is held against what the storage keeps, read past the product. At a kill an answer
is either kept (in a journal file or in the ledger) or in flight: sent for, perhaps billed, not yet written down.
"""

from __future__ import annotations

import multiprocessing
import os
import random
import signal
import time
from collections import Counter
from dataclasses import dataclass, field
from multiprocessing.process import BaseProcess
from pathlib import Path

from tests.faults.labelling import filled_store, label, ledger, record_ids
from tests.mock_endpoint import MockEndpoint

# Runs are forked from a server that has imported everything: of a start of a second, most kills would hit the imports.
_PRELOAD = [
    "tests.faults.killing",
    "annotation_pipelines.annotators.annotation",
    "annotation_pipelines.annotators.endpoint.annotator",
    "annotation_pipelines.tasks.classification",
    "annotation_pipelines.workspace",
    "openai",
    "httpx2",
    "aiohttp",
    "jinja2",
    "truststore",
    "pyarrow.parquet",
]


@dataclass
class Tally:
    """What came of it.

    Attributes:
        kills: Runs killed.
        labellings: Sets of records labelled to the end.
        billed: Answers the endpoint billed.
        in_flight: Billed answers that were in flight at a kill, so that nobody has them.
        most_in_flight: The most of them at one kill.
        bought_again: Purchases beyond one for each record.
        bought_again_though_kept: Of these, purchases of an answer that was kept at an earlier kill.
        lost: Answers that were kept at a kill and are not in the ledger at the end.
        unlabelled: Records without a label at the end.
    """

    kills: int = 0
    labellings: int = 0
    billed: int = 0
    in_flight: int = 0
    most_in_flight: int = 0
    bought_again: int = 0
    bought_again_though_kept: int = 0
    lost: int = 0
    unlabelled: int = 0
    moments: list[int] = field(default_factory=list)
    """Records kept at each kill."""


def killed_and_resumed(
    folder: Path, mock: MockEndpoint, *, kills: int, records: int, concurrency: int, seed: int = 0
) -> Tally:
    """Label sets of records, killing the run about ten times in each, until there were so many kills."""
    draw = random.Random(seed)
    tally = Tally()
    state = folder / "state"
    whole, start = _undisturbed(folder / "undisturbed", mock, records, concurrency, state)
    longest = start + (whole - start) / 8
    while tally.kills < kills:
        home = folder / f"labelling-{tally.labellings}"
        filled_store(home, records)
        watch = _Watch(home, mock, records, tally)
        while tally.kills < kills:
            run = _started(home, mock.url, concurrency, state)
            run.join(draw.uniform(0, longest))
            if run.exitcode is not None:
                break
            assert run.pid
            os.kill(run.pid, signal.SIGKILL)
            run.join()
            tally.kills += 1
            watch.after_kill()
        else:
            run = _started(home, mock.url, concurrency, state)
            run.join()
        assert run.exitcode == 0, f"a run ended with {run.exitcode}"
        watch.at_end()
        tally.labellings += 1
    return tally


def kill_after(answers: int, home: Path, mock: MockEndpoint, *, concurrency: int, state: Path) -> None:
    """Kill a run when the endpoint has billed so many answers, and wait until it has billed all that was sent."""
    billed = len(mock.billed)
    run = _started(home, mock.url, concurrency, state)
    while len(mock.billed) - billed < answers:
        assert run.exitcode is None, f"the run ended with {run.exitcode}"
        time.sleep(0.002)
    assert run.pid
    os.kill(run.pid, signal.SIGKILL)
    run.join()
    while mock.in_flight:
        time.sleep(0.002)


class _Watch:
    """Holds the endpoint's bills against the storage of one set of records."""

    def __init__(self, home: Path, mock: MockEndpoint, records: int, tally: Tally) -> None:
        self._home, self._mock, self._tally = home, mock, tally
        self._record = record_ids(records)
        self._records = records
        self._begin = self._seen = len(mock.billed)
        self._kept: dict[str, str] = {}
        self._gone = 0

    def after_kill(self) -> None:
        """Look at what is kept, once the endpoint has billed all that was sent."""
        while self._mock.in_flight:
            time.sleep(0.002)
        found = ledger(self._home).calls
        self._compare(found)
        gone = len(self._mock.billed) - self._begin - len(found)
        self._tally.most_in_flight = max(self._tally.most_in_flight, gone - self._gone)
        self._gone = gone
        self._tally.moments.append(len(found))

    def at_end(self) -> None:
        """Count what is left when all records should be labelled."""
        kept = ledger(self._home)
        assert not kept.journalled, "a journal is left"
        self._compare(kept.calls)
        billed = Counter(self._mock.billed[self._begin :])
        self._tally.billed += billed.total()
        self._tally.in_flight += billed.total() - len(kept.calls)
        self._tally.bought_again += billed.total() - len(billed)
        self._tally.unlabelled += self._records - kept.labelled

    def _compare(self, found: dict[str, str]) -> None:
        self._tally.lost += len(self._kept.keys() - found.keys())
        already = set(self._kept.values())
        since = [self._record[text] for text in self._mock.billed[self._seen :]]
        self._tally.bought_again_though_kept += sum(record in already for record in since)
        self._seen = len(self._mock.billed)
        self._kept = found


def _undisturbed(home: Path, mock: MockEndpoint, records: int, concurrency: int, state: Path) -> tuple[float, float]:
    """Seconds of a whole run, and until its first answer was billed."""
    filled_store(home, records)
    _imports_done()
    begin, billed = time.monotonic(), len(mock.billed)
    run = _started(home, mock.url, concurrency, state)
    while len(mock.billed) == billed and run.exitcode is None:
        time.sleep(0.002)
    first = time.monotonic() - begin
    run.join()
    assert run.exitcode == 0, f"a run ended with {run.exitcode}"
    return time.monotonic() - begin, first


def _started(home: Path, url: str, concurrency: int, state: Path) -> BaseProcess:
    context = multiprocessing.get_context("forkserver")
    context.set_forkserver_preload(_PRELOAD)
    run = context.Process(target=_run, args=(home, url, concurrency, state))
    run.start()
    return run


def _imports_done() -> None:
    """Return when the server that runs are forked from has imported everything."""
    context = multiprocessing.get_context("forkserver")
    context.set_forkserver_preload(_PRELOAD)
    nothing = context.Process(target=_nothing)
    nothing.start()
    nothing.join()


def _nothing() -> None:
    pass


def _run(home: Path, url: str, concurrency: int, state: Path) -> None:
    os.environ["ANNOTATION_PIPELINES_STATE"] = str(state)
    label(home, url, concurrency)
