"""A storm of 429s, and eight processes under one limit.

Prints storm_wall_ratio, the wall time of the whole engine over the ideal at the rate that is let through (the worse of
two storms: refusals at random, and a limit without any header), and shared_limit_429_share, the share of requests that
eight processes get refused after the first ten seconds (the worse of two endpoints: one that tells its limit, and one
that does not).
"""

from __future__ import annotations

import subprocess
import sys
import tempfile
import time
from dataclasses import dataclass
from pathlib import Path

from _common import ROOT, figure

sys.path.insert(0, str(ROOT))

from tests.faults.labelling import command, environment, filled_store, label
from tests.mock_endpoint import MockEndpoint
from tests.rate_limits import Following, Ruling, Storm, Telling, TokenBucket

RECORDS, CONCURRENCY, LATENCY = 4_000, 16, 0.05
STORM_SECONDS, REFUSED = 20.0, 0.6
PROCESSES, PER_MINUTE, SECONDS, LEARNING = 8, 1_200, 70.0, 10.0


@dataclass
class Squeeze:
    """For some seconds a limit that nobody tells of; after that none."""

    limit: TokenBucket
    seconds: float

    def __call__(self, now: float) -> Ruling:
        return self.limit(now) if now < self.seconds else Ruling()


def storms() -> None:
    """Two storms of 20 seconds, each after the other."""
    capacity = CONCURRENCY / LATENCY
    in_storm = STORM_SECONDS * (1 - REFUSED) * capacity
    ideal = STORM_SECONDS + (RECORDS - in_storm) / capacity
    told = {}
    allowed = (1 - REFUSED) * capacity
    for name, rule in (
        ("refused_at_random", Storm(REFUSED, STORM_SECONDS)),
        ("limited_without_headers", Squeeze(TokenBucket(60 * allowed, burst=allowed / 2), STORM_SECONDS)),
    ):
        trouble = Following(rule)
        with tempfile.TemporaryDirectory() as folder, MockEndpoint(trouble, latency=LATENCY) as mock:
            home = Path(folder) / "project"
            filled_store(home, RECORDS)
            start = time.monotonic()
            counts = label(home, mock.url, CONCURRENCY)
            wall = time.monotonic() - start
            told[name] = {
                "ratio": round(wall / ideal, 3),
                "wall_seconds": round(wall, 1),
                "labelled": counts["labelled"],
                "requests": len(trouble.seen),
                "billed": len(mock.billed),
            }
    figure(
        "storm_wall_ratio",
        max(storm["ratio"] for storm in told.values()),
        "ratio",
        records=RECORDS,
        ideal_seconds=round(ideal, 1),
        **told,
    )


def shared_limit() -> None:
    """Eight processes with more to do than the limit allows in the time."""
    told = {}
    kinds: dict[str, tuple[Telling, ...]] = {"limit_told": ("headers",), "limit_not_told": ()}
    for name, tells in kinds.items():
        limit = Following(TokenBucket(PER_MINUTE, burst=PER_MINUTE / 60, tells=tells))
        with tempfile.TemporaryDirectory() as folder, MockEndpoint(limit, latency=0.02) as mock:
            homes = [Path(folder) / f"p{number}" for number in range(PROCESSES)]
            for home in homes:
                filled_store(home, int(PER_MINUTE * SECONDS / 60))
            env = environment(Path(folder) / "state")
            runs = [subprocess.Popen(command(home, mock.url, 16), env=env, stdout=subprocess.DEVNULL) for home in homes]
            while not limit.seen:
                time.sleep(0.1)
            time.sleep(SECONDS)
            for run in runs:
                run.kill()
                run.wait()
        told[name] = {
            "share": round(limit.share(429, after=LEARNING), 4),
            "sent_in_the_fullest_minute": limit.most_in(60),
            "requests": len(limit.seen),
            "refused": sum(status == 429 for _, status in limit.seen),
        }
    figure(
        "shared_limit_429_share",
        max(each["share"] for each in told.values()),
        "share",
        processes=PROCESSES,
        requests_per_minute=PER_MINUTE,
        seconds=SECONDS,
        after_seconds=LEARNING,
        **told,
    )


if __name__ == "__main__":
    storms()
    shared_limit()
