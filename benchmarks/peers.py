"""The engine beside distilabel, bespokelabs-curator and litellm: the same requests to the same server.

Each peer runs in an environment of its own, made once below the cache folder from its requirements in peers/; none is
a dependency of this project. One that cannot be installed is left out, in words. Prints the labelled records a second
of each (peer_records_per_s) and engine_vs_best_peer.
"""

from __future__ import annotations

import argparse
import hashlib
import json
import os
import shutil
import statistics
import subprocess
import sys
import tempfile
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from _common import figure
from _engine import CONCURRENCY, LATENCY_MS, bodies, endpoint, engine, state

PEERS = Path(__file__).parent / "peers"
PATIENCE_SECONDS = 300


@dataclass(frozen=True)
class Peer:
    """A program of peers/, and one way to run it.

    Attributes:
        whole: Whether its answers come with the tokens that were used.
    """

    name: str
    options: tuple[str, ...] = ()
    whole: bool = True

    @property
    def title(self) -> str:
        """Its name and way, as figures call it."""
        return " ".join((self.name, *self.options))


RUNS = (
    Peer("litellm", ("openai",)),
    Peer("litellm", ("hosted_vllm",)),
    Peer("litellm", ("aiohttp_openai",), whole=False),
    Peer("curator"),
    Peer("distilabel"),
)


def installed(name: str) -> Path | None:
    """The Python of a peer's environment, made now where it is missing; None where that fails."""
    requirements = PEERS / name / "requirements.txt"
    mark = hashlib.md5(requirements.read_bytes() + sys.version.encode()).hexdigest()[:8]
    cache = Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache")
    folder = cache / "annotation-pipelines" / "peers" / f"{name}-{mark}"
    python = folder / "bin" / "python"
    if (folder / "complete").exists():
        return python
    shutil.rmtree(folder, ignore_errors=True)
    install = [
        python,
        "-m",
        "pip",
        "install",
        "--quiet",
        "--disable-pip-version-check",
        "--no-deps",
        "-r",
        requirements,
    ]
    for command in ([sys.executable, "-m", "venv", folder], install):
        done = subprocess.run(command, capture_output=True, text=True)
        if done.returncode:
            said = (done.stderr or done.stdout).strip().splitlines()
            print(f"{name} is left out, it cannot be installed here: {said[-1] if said else 'no reason given'}")
            return None
    (folder / "complete").touch()
    return python


def run(peer: Peer, python: Path, url: str, requests: Path) -> dict[str, Any] | None:
    """What the peer's program prints last; None where it fails, with its last words."""
    with tempfile.TemporaryDirectory() as scratch:
        command = [
            python,
            "-W",
            "ignore",
            PEERS / peer.name / "label.py",
            url,
            requests,
            str(CONCURRENCY),
            *peer.options,
        ]
        try:
            done = subprocess.run(
                command, cwd=scratch, env=_environment(python, scratch), capture_output=True, text=True,
                timeout=PATIENCE_SECONDS,
            )  # fmt: skip
        except subprocess.TimeoutExpired:
            print(f"{peer.title} did not end within {PATIENCE_SECONDS} s")
            return None
    lines = [line for line in done.stdout.splitlines() if line.startswith("{")]
    if done.returncode or not lines:
        print(f"{peer.title} failed: {(done.stderr or done.stdout).strip()[-300:]}")
        return None
    result: dict[str, Any] = json.loads(lines[-1])
    return result


def _environment(python: Path, scratch: str) -> dict[str, str]:
    """No telemetry, no downloads, no cache of earlier runs."""
    ours = {
        "HOME": scratch,
        "OPENAI_API_KEY": "none",
        "HF_HUB_OFFLINE": "1",
        "HF_HOME": scratch,
        "HF_DATASETS_DISABLE_PROGRESS_BARS": "1",
        "TELEMETRY_ENABLED": "false",
        "CURATOR_DISABLE_RICH_DISPLAY": "1",
        "CURATOR_CACHE_DIR": scratch,
        "DISTILABEL_CACHE_DIR": scratch,
        "DISTILABEL_LOG_LEVEL": "ERROR",
        "LITELLM_LOCAL_MODEL_COST_MAP": "True",
        "LITELLM_LOG": "ERROR",
    }
    # litellm carries the token tables that curator would otherwise download.
    tables = list(python.parents[1].glob("lib/python*/site-packages/litellm/litellm_core_utils/tokenizers"))
    return {**os.environ, **ours, **({"TIKTOKEN_CACHE_DIR": str(tables[0])} if tables else {})}


def write_requests(path: Path, url: str, records: int) -> None:
    """The engine's own requests, one JSON object a line: id and body."""
    lines = [
        json.dumps({"id": f"r{number:07}", "body": json.loads(body)})
        for number, body in enumerate(bodies(url, records))
    ]
    path.write_text("\n".join(lines) + "\n", encoding="utf-8")


if __name__ == "__main__":
    parser = argparse.ArgumentParser()
    parser.add_argument("--records", type=int, default=6000)
    options = parser.parse_args()
    pythons = {name: installed(name) for name in sorted({peer.name for peer in RUNS})}
    rates: dict[Peer, float] = {}
    ratios: dict[Peer, float] = {}
    ours: list[float] = []
    with state(), endpoint() as url, tempfile.TemporaryDirectory() as folder:
        requests = Path(folder) / "requests.jsonl"
        write_requests(requests, url, options.records)
        engine(url, options.records)  # the limiter grows to the concurrency
        ours.append(engine(url, options.records).rate)
        for peer in RUNS:
            python = pythons[peer.name]
            done = run(peer, python, url, requests) if python else None
            ours.append(engine(url, options.records).rate)
            if done is None:
                continue
            rates[peer] = done["labelled"] / done["seconds"]
            ratios[peer] = statistics.mean(ours[-2:]) / rates[peer]  # the engine just before, and just after
            figure(
                "peer_records_per_s",
                round(rates[peer], 1),
                "records/s",
                peer=peer.title,
                labelled=done["labelled"],
                of=options.records,
                with_token_counts=peer.whole,
                cpu_ms=round(1000 * done["cpu_seconds"] / options.records, 2),
                memory_mb=round(done["memory_mb"]),
            )
    complete = [peer for peer in rates if peer.whole]
    best = max(complete, key=lambda peer: rates[peer], default=None)
    figure(
        "engine_vs_best_peer",
        round(ratios[best], 2) if best else None,
        "ratio",
        engine_records_per_s=round(statistics.median(ours), 1),
        best_peer=best.title if best else None,
        ratios={peer.title: round(ratio, 2) for peer, ratio in ratios.items()},
        records=options.records,
        concurrency=CONCURRENCY,
        latency_ms=LATENCY_MS,
        note="best of those whose answers come with token counts; the engine's figure includes its journal and store",
    )
