"""A cap on a day's money over several processes: budget_overshoot_calls, the calls that were billed beyond it.

Four processes label one project at once. The endpoint, the tests' mock, bills answers of varying length, answers that
it breaks off half way, and invalid ones that are asked again; some requests it fails. It keeps the bill itself.
"""

from __future__ import annotations

import argparse
import json
import random
import subprocess
import sys
import tempfile
from itertools import accumulate
from pathlib import Path

from _common import ROOT, figure

sys.path.insert(0, str(ROOT))

from annotation_pipelines.annotators.spending.prices import cost
from annotation_pipelines.project import Budget, Price
from annotation_pipelines.store.database import Store
from tests.faults.labelling import annotator, environment, filled_store
from tests.mock_endpoint import Act, Call, MockEndpoint, completion, cut, error

PRICE = Price(input=2.5, output=10)
"""As tests.faults.labelling declares it."""


class Bill:
    """What the endpoint charges, call by call, in the order of their arrival."""

    def __init__(self) -> None:
        self.dollars: list[float] = []

    def behave(self, call: Call) -> Act:
        draw = random.Random(call.number)
        fate = draw.random()
        if fate < 0.03:
            return error(500)
        # Four bytes a token, and the schema; the client does not know of it before the reply.
        read = len(json.dumps(call.body["messages"])) // 4 + draw.randint(80, 120)
        written = draw.randint(8, 120)
        self.dollars.append(cost(PRICE, prompt_tokens=read, completion_tokens=written) or 0.0)
        if fate < 0.05:
            return cut("agrees")
        said = "I would rather not say" if fate < 0.1 else json.dumps({"label": "agrees", "confidence": 0.9})
        return completion(said, usage=(read, written))


def work(home: Path, url: str, worker: int, workers: int, cap: float, concurrency: int) -> None:
    """Label a share of the records."""
    from annotation_pipelines.annotators.annotation import Occasion, annotate
    from annotation_pipelines.annotators.pending import Wanted

    store = Store(home)
    share = store.query(
        "SELECT record_id, content_hash, content FROM records WHERE hash(record_id) % ? = ?", [workers, worker]
    )
    occasion = Occasion(run_id=f"run{worker}", budget=Budget(per_day_usd=cap))
    asked = annotator(url, concurrency)
    counts = annotate(store, asked, Wanted.of_frame(share), f"part{worker}", occasion=occasion)
    print(json.dumps(counts.facts()))


def run(records: int, workers: int, cap: float, concurrency: int, latency_ms: float) -> None:
    """Label with so many processes at once, and print the figure."""
    bill = Bill()
    with (
        tempfile.TemporaryDirectory() as folder,
        MockEndpoint(bill.behave, latency=latency_ms / 1000) as mock,
    ):
        home = Path(folder) / "project"
        filled_store(home, records)
        command = [sys.executable, __file__, "--home", str(home), "--url", mock.url, "--workers", str(workers)]
        command += ["--cap-usd", str(cap), "--concurrency", str(concurrency)]
        processes = [
            subprocess.Popen(
                [*command, "--worker", str(worker)],
                cwd=ROOT,
                env=environment(Path(folder) / "state"),
                stdout=subprocess.PIPE,
                text=True,
            )
            for worker in range(workers)
        ]
        told = [process.communicate()[0] for process in processes]
        if any(process.returncode for process in processes):
            sys.exit("a process failed")
        facts = [json.loads(lines.splitlines()[-1]) for lines in told]
        states = {state: sum(found[state] for found in facts) for state in ("labelled", "over_budget", "failed")}
        figure(
            "budget_overshoot_calls",
            sum(total > cap for total in accumulate(bill.dollars)),
            "calls",
            cap_usd=cap,
            spent_usd=round(sum(bill.dollars), 4),
            in_flight=mock.peak,
            billed_calls=len(bill.dollars),
            processes=workers,
            records=records,
            **states,
        )


if __name__ == "__main__":
    parser = argparse.ArgumentParser()
    parser.add_argument("--records", type=int, default=6000)
    parser.add_argument("--workers", type=int, default=4)
    parser.add_argument("--cap-usd", type=float, default=4.0)
    parser.add_argument("--concurrency", type=int, default=64)
    parser.add_argument("--latency-ms", type=float, default=50)
    parser.add_argument("--home", type=Path)
    parser.add_argument("--url")
    parser.add_argument("--worker", type=int)
    options = parser.parse_args()
    if options.worker is None:
        run(options.records, options.workers, options.cap_usd, options.concurrency, options.latency_ms)
    else:
        work(options.home, options.url, options.worker, options.workers, options.cap_usd, options.concurrency)
