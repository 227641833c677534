"""A process that asks an endpoint through the gate, for so many seconds; prints what the replies were.

    python -m tests.annotators.limits.client URL FOLDER SECONDS WORKERS [REQUESTS_PER_MINUTE]

It speaks HTTP over bare streams: dozens of these processes run at once in the tests.
"""

from __future__ import annotations

import asyncio
import json
import sys
import time
from collections import Counter
from pathlib import Path
from types import SimpleNamespace
from typing import Any
from urllib.parse import urlsplit

from annotation_pipelines.annotators.limits.gate import Gate, Outcome

_KINDS: dict[int, Any] = {200: "answered", 429: "throttled", 503: "overloaded"}


async def ask(reader: asyncio.StreamReader, writer: asyncio.StreamWriter, text: str) -> Outcome:
    """One request over an open connection."""
    body = json.dumps({"model": "m", "messages": [{"role": "user", "content": text}]}).encode()
    head = f"POST /v1/chat/completions HTTP/1.1\r\nHost: e\r\nContent-Length: {len(body)}\r\n\r\n"
    writer.write(head.encode() + body)
    lines = (await reader.readuntil(b"\r\n\r\n")).decode().split("\r\n")
    headers = {name.lower(): value.strip() for name, _, value in (line.partition(":") for line in lines[1:] if line)}
    await reader.readexactly(int(headers["content-length"]))
    status = int(lines[0].split()[1])
    return Outcome(_KINDS[status], headers, tokens=110, status=status)


async def work(url: str, folder: Path, seconds: float, workers: int, requests_per_minute: int | None) -> Counter[str]:
    """Replies by kind."""
    limits: Any = SimpleNamespace(requests_per_minute=requests_per_minute, tokens_per_minute=None)
    counts: Counter[str] = Counter()
    end = time.monotonic() + seconds
    parts = urlsplit(url)
    async with Gate(url, "m", maximum=64, limits=limits, patience=60, folder=folder) as gate:

        async def worker(number: int) -> None:
            reader, writer = await asyncio.open_connection(parts.hostname, parts.port)
            while True:
                await gate.enter(100)
                outcome = Outcome("other")
                try:
                    outcome = await ask(reader, writer, f"record {number}")
                finally:
                    gate.leave(outcome)
                counts[outcome.kind] += 1

        async with asyncio.TaskGroup() as group:
            tasks = [group.create_task(worker(number)) for number in range(workers)]
            await asyncio.sleep(max(end - time.monotonic(), 0))
            for task in tasks:
                task.cancel()
    return counts


if __name__ == "__main__":
    url, folder, seconds, workers, *declared = sys.argv[1:]
    limit = int(declared[0]) if declared else None
    print(json.dumps(asyncio.run(work(url, Path(folder), float(seconds), int(workers), limit))))
