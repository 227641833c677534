"""What the benchmarks of the annotation engine share: the endpoint, a run of the engine, the same calls without it."""

from __future__ import annotations

import asyncio
import os
import resource
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from _common import ROOT

sys.path.insert(0, str(ROOT))

from tests.faults.labelling import annotator, filled_store

CONCURRENCY = 256
LATENCY_MS = 50


@dataclass(frozen=True)
class Run:
    """One run: how many records it labelled (or requests it had answered), and what it took."""

    labelled: int
    seconds: float
    cpu_seconds: float

    @property
    def rate(self) -> float:
        """Records a second."""
        return self.labelled / self.seconds

    @property
    def cpu_ms(self) -> float:
        """Milliseconds of CPU, user and system, for each record."""
        return 1000 * self.cpu_seconds / self.labelled


@contextmanager
def endpoint(latency_ms: float = LATENCY_MS) -> Iterator[str]:
    """The URL of the tests' mock endpoint, in a process of its own."""
    command = [sys.executable, "-m", "tests.mock_endpoint", "--latency-ms", str(latency_ms)]
    process = subprocess.Popen(command, cwd=ROOT, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True)
    try:
        assert process.stdout
        yield process.stdout.readline().strip()
    finally:
        process.kill()
        process.wait()


@contextmanager
def state() -> Iterator[Path]:
    """A folder for what the limiter learns: the benchmark's runs meet each other there, and no others."""
    with tempfile.TemporaryDirectory() as name:
        os.environ["ANNOTATION_PIPELINES_STATE"] = name
        yield Path(name)


def engine(url: str, records: int, concurrency: int = CONCURRENCY) -> Run:
    """Label so many records that are new to a new store: render, call, journal, parse, store."""
    from annotation_pipelines.annotators.annotation import annotate
    from annotation_pipelines.annotators.pending import Wanted

    with tempfile.TemporaryDirectory() as folder:
        store = filled_store(Path(folder) / "project", records)
        asked = annotator(url, concurrency)
        start, cpu = time.perf_counter(), _cpu()
        counts = annotate(store, asked, Wanted.of_partition("all"), "all")
        return Run(counts.states["labelled"], time.perf_counter() - start, _cpu() - cpu)


def bodies(url: str, records: int, concurrency: int = CONCURRENCY) -> list[bytes]:
    """The requests that the engine sends about these records."""
    with tempfile.TemporaryDirectory() as folder:
        store = filled_store(Path(folder) / "project", records)
        frame = store.query("SELECT record_id, content_hash, content FROM records ORDER BY record_id")
    asked = annotator(url, concurrency)
    return [asked.batch_line(request) for request in asked.requests(frame)]


Call = Literal["post", "send"]


def bare(url: str, requests: Sequence[bytes], call: Call = "post", concurrency: int = CONCURRENCY) -> Run:
    """The same requests by a call of the SDK, on the same transport, in a loop that keeps nothing.

    Args:
        call: post, the SDK's own low-level call; or send of the HTTP client below it, which is what the engine uses.
    """
    start, cpu = time.perf_counter(), _cpu()
    answered = asyncio.run(_bare(url, requests, call, concurrency))
    return Run(answered, time.perf_counter() - start, _cpu() - cpu)


async def _bare(url: str, requests: Sequence[bytes], call: Call, concurrency: int) -> int:
    import httpx2
    from openai import AsyncOpenAI, DefaultAioHttpClient

    limits = httpx2.Limits(max_connections=concurrency, max_keepalive_connections=concurrency)
    http = DefaultAioHttpClient(limits=limits, timeout=None, trust_env=False)
    client = AsyncOpenAI(api_key="none", base_url=url, max_retries=0, timeout=None, http_client=http)
    target = httpx2.URL(f"{url}/chat/completions")
    sent = {name: value for name, value in client.default_headers.items() if isinstance(value, str)}
    headers = {**sent, "Content-Type": "application/json"}
    queue = iter(requests)
    answered = 0

    async def post(content: bytes) -> httpx2.Response:
        only_type = {"headers": {"Content-Type": "application/json"}}
        return await client.post("/chat/completions", cast_to=httpx2.Response, content=content, options=only_type)

    async def send(content: bytes) -> httpx2.Response:
        return await http.send(httpx2.Request("POST", target, headers=headers, content=content))

    ask = post if call == "post" else send

    async def work() -> None:
        nonlocal answered
        for content in queue:
            response = await ask(content)
            answered += response.status_code == 200

    async with client:
        await asyncio.gather(*(work() for _ in range(concurrency)))
    return answered


def _cpu() -> float:
    used = resource.getrusage(resource.RUSAGE_SELF)
    return used.ru_utime + used.ru_stime
