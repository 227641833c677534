"""kill -9 at 100 random moments of labelling 2,000 records, resumed each time.

Prints kill9_lost and kill9_rebought_beyond_in_flight; both must be 0.

Every run is a process of its own. The endpoint's bills are held against what the storage keeps after each kill, read
past the product (tests/faults/killing.py).
"""

from __future__ import annotations

import argparse
import sys
import tempfile
import time
from pathlib import Path

from _common import ROOT, figure

sys.path.insert(0, str(ROOT))

from tests.faults.killing import killed_and_resumed
from tests.mock_endpoint import MockEndpoint, answer

if __name__ == "__main__":
    parser = argparse.ArgumentParser()
    parser.add_argument("--kills", type=int, default=100)
    parser.add_argument("--records", type=int, default=2000)
    parser.add_argument("--concurrency", type=int, default=32)
    parser.add_argument("--seed", type=int, default=0)
    options = parser.parse_args()
    start = time.monotonic()
    with tempfile.TemporaryDirectory() as folder, MockEndpoint(lambda call: answer("agrees"), latency=0.02) as mock:
        tally = killed_and_resumed(
            Path(folder),
            mock,
            kills=options.kills,
            records=options.records,
            concurrency=options.concurrency,
            seed=options.seed,
        )
    figure(
        "kill9_lost",
        tally.lost + max(0, tally.most_in_flight - options.concurrency) + tally.unlabelled,
        "answers",
        kills=tally.kills,
        labellings=tally.labellings,
        records=options.records,
        written_down_and_gone=tally.lost,
        unlabelled_at_the_end=tally.unlabelled,
        most_in_flight_at_a_kill=tally.most_in_flight,
        concurrency=options.concurrency,
        seconds=round(time.monotonic() - start, 1),
    )
    figure(
        "kill9_rebought_beyond_in_flight",
        max(tally.bought_again_though_kept, tally.bought_again - tally.in_flight),
        "answers",
        billed=tally.billed,
        bought_again=tally.bought_again,
        billed_and_in_flight_at_a_kill=tally.in_flight,
        bought_again_though_written_down=tally.bought_again_though_kept,
    )
