"""A store, a mock batch API and requests about numbered records, for tests of batches.

As a process of its own, to be killed: `python -m tests.batch_scene FOLDER URL submit COUNT`, or `... poll`.
"""

from __future__ import annotations

import hashlib
import json
import subprocess
import sys
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from datetime import datetime
from pathlib import Path
from typing import Any

from annotation_pipelines.annotators.base import Request
from annotation_pipelines.annotators.endpoint import batches
from annotation_pipelines.annotators.endpoint.batch_api import BatchApi
from annotation_pipelines.annotators.endpoint.batches import BatchRow, Submitted
from annotation_pipelines.annotators.endpoint.wire import Completion
from annotation_pipelines.annotators.spending.purse import Purse
from annotation_pipelines.project import Batch, Budget, Price
from annotation_pipelines.store.database import Store
from tests.mock_batches import MockBatches
from tests.mock_endpoint import MockEndpoint

KEY = "sk-secret-0123456789"
ANNOTATOR = "openai:mock"


def key(number: int) -> str:
    """The key of the request about a record."""
    return hashlib.md5(str(number).encode()).hexdigest()


def keys(*numbers: int) -> set[str]:
    """The keys of several."""
    return {key(number) for number in numbers}


def request(number: int) -> Request:
    """The request about a record."""
    return Request(key(number), f"record {number}", f"content {number}", body=f"text {number}")


def line(asked: Request) -> bytes:
    """Its body; 10 tokens."""
    return json.dumps({"model": "mock", "messages": [{"role": "user", "content": asked.body}]}).encode()


def half_a_cent(completion: Completion) -> float:
    """A price."""
    assert completion.prompt_tokens
    return 0.005


class Scene:
    """What the tests of batches work on."""

    def __init__(self, home: Path, server: MockBatches, url: str) -> None:
        self.home, self.store, self.server, self.url = home, Store(home / "shop"), server, url
        self.api = BatchApi(url, KEY, seconds=5.0)

    def submit(self, numbers: Sequence[int], *, purse: Purse | None = None, **settings: Any) -> Submitted:
        """Submit the requests about these records."""
        return batches.submit(
            self.store,
            self.api,
            map(request, numbers),
            line=line,
            partition_key=settings.pop("partition_key", "2026-11"),
            annotator=ANNOTATOR,
            settings=Batch(**settings),
            tokens_of=lambda asked: 10,
            answer_tokens=lambda asked: 20,
            purse=purse,
            run_id="run",
            backfill_id="backfill",
        )

    def poll(self, now: datetime | None = None, purse: Purse | None = None) -> list[BatchRow]:
        """Ask after the open batches."""
        return batches.poll(
            self.store, self.api, annotator=ANNOTATOR, model="mock", cost=half_a_cent, now=now, purse=purse
        )

    def purse(self, **caps: float) -> Purse:
        """What may be spent, at 10 dollars for a million tokens."""
        price = Price(input=10, output=10)
        return Purse.open(self.store, Budget(**caps), run_id="run", backfill_id=None, price=price, where=ANNOTATOR)

    def process(self, *what: object) -> subprocess.Popen[bytes]:
        """Submit or poll in a process of its own."""
        command = [sys.executable, "-m", "tests.batch_scene", self.home, self.url, *what]
        return subprocess.Popen([str(word) for word in command], cwd=Path(__file__).parents[1])

    def ledger(self, columns: str = "request_key, status") -> list[tuple[Any, ...]]:
        """Columns of the calls."""
        rows: list[tuple[Any, ...]] = self.store.query(f"SELECT {columns} FROM llm_calls ORDER BY ALL").rows()
        return rows

    def answered(self) -> set[str]:
        """The keys with an answer in the ledger."""
        return {row[0] for row in self.ledger() if row[1] in ("ok", "refused")}


@contextmanager
def scene(home: Path, server: MockBatches | None = None) -> Iterator[Scene]:
    """A scene with a server that runs."""
    server = server or MockBatches(key=KEY)
    with MockEndpoint(routes=server.routes) as mock:
        made = Scene(home, server, mock.url)
        with made.api:
            yield made


if __name__ == "__main__":
    home, url, what, *count = sys.argv[1:]
    made = Scene(Path(home), MockBatches(), url)
    with made.api:
        if what == "submit":
            made.submit(range(int(count[0])))
        else:
            made.poll()
