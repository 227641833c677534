"""The batch API of a mock endpoint, over real HTTP: files and batches that end when and how a test says.

    batches = MockBatches()
    with MockEndpoint(routes=batches.routes) as mock:
        ...                                   # submit to mock.url
        batches.finish(batch_id)              # every request is answered

It checks an input file as OpenAI does, and keeps count of what it would have charged for.
"""

from __future__ import annotations

import asyncio
import json
import random
import threading
import time
from collections import Counter
from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import dataclass
from itertools import count
from typing import Any, Literal

from aiohttp import web

from annotation_pipelines.annotators.fence import unfence
from tests.mock_endpoint import Act, Behaviour, Call, answer

Manner = Literal["hang_before", "hang_after", "reset_before", "reset_after", "half"]


@dataclass
class Trouble:
    """What goes wrong with the next call to a route.

    Attributes:
        route: Such as "POST /batches" or "GET /files/{id}/content".
        manner: An HTTP status; or the server hangs or breaks the connection, before or after it has done what it was
            asked; or it sends half of the body and hangs.
        reached: Set when the trouble is there.
    """

    route: str
    manner: Manner | int
    body: str = ""
    headers: Mapping[str, str] | None = None
    times: int = 1

    def __post_init__(self) -> None:
        self.reached = threading.Event()


class MockBatches:
    """Files and batches of one endpoint.

    Args:
        behave: What each request of a batch is answered.
        key: The only API key that is taken; default: any.
        at_once: Whether a batch is finished as soon as it is asked after.
        listed: Whether there is a list of batches.

    Attributes:
        files: Contents by id.
        batches: The API's own JSON by id, in order of creation.
        calls: How often each route was called.
        billed: How often each custom_id was answered.
        troubles: What goes wrong, each with the next call it fits.
    """

    def __init__(
        self,
        behave: Behaviour = lambda call: answer("agrees"),
        *,
        key: str | None = None,
        at_once: bool = False,
        listed: bool = True,
        latest_first: bool = True,
    ) -> None:
        self.behave, self.key, self.at_once, self.listed = behave, key, at_once, listed
        self.latest_first = latest_first
        self.start_over()
        self.calls: Counter[str] = Counter()
        self.billed: Counter[str] = Counter()
        self.troubles: list[Trouble] = []
        self._random = random.Random(0)

    @property
    def routes(self) -> list[web.RouteDef]:
        """For `MockEndpoint(routes=...)`."""
        routes = {
            "POST /files": self._upload,
            "GET /files/{id}/content": self._content,
            "POST /batches": self._create,
            "GET /batches": self._list,
            "GET /batches/{id}": self._retrieve,
            "POST /batches/{id}/cancel": self._cancel,
        }
        return [
            web.route(name.split()[0], "/v1" + name.split()[1], self._troubled(name, handler))
            for name, handler in routes.items()
        ]

    def start_over(self) -> None:
        """Forget everything, numbers included."""
        self.files: dict[str, bytes] = {}
        self.batches: dict[str, dict[str, Any]] = {}
        self._file_numbers, self._batch_numbers = count(), count()

    # -- what a test does ------------------------------------------------------------------------------------------

    @property
    def open(self) -> list[str]:
        """The batches that have not ended, in order of creation."""
        return [key for key, batch in self.batches.items() if batch["status"] in ("in_progress", "cancelling")]

    def trouble(self, route: str, manner: Manner | int, **more: Any) -> Trouble:
        """Let the next call to a route go wrong."""
        self.troubles.append(Trouble(route, manner, **more))
        return self.troubles[-1]

    def requests(self, batch_id: str) -> list[dict[str, Any]]:
        """The lines of a batch's input file."""
        return [json.loads(line) for line in self.files[self.batches[batch_id]["input_file_id"]].splitlines()]

    def finish(
        self,
        batch_id: str,
        status: str = "completed",
        *,
        answered: Collection[str] | None = None,
        edit: Callable[[list[bytes]], Sequence[bytes]] = lambda lines: lines,
    ) -> None:
        """End a batch; its lines come in random order.

        Args:
            answered: The custom_ids that were worked on; default: all. Of an expired batch the others stand in the
                error file, as OpenAI writes them.
            edit: What becomes of the lines of its output file.
        """
        batch = self.batches[batch_id]
        output, errors = [], []
        for number, request in enumerate(self.requests(batch_id)):
            key = request["custom_id"]
            if answered is not None and key not in answered:
                if status == "expired":
                    errors.append(_line(key, error={"code": "batch_expired", "message": "It came too late."}))
                continue
            text = request["body"]["messages"][-1]["content"]
            act = self.behave(Call(number, time.monotonic(), unfence(text) or text, 0, request["body"], {}))
            self.billed[key] += act.billed
            (output if act.status == 200 else errors).append(_line(key, act))
        self._random.shuffle(output)
        output = list(edit(output))
        for name, lines in (("output_file_id", output), ("error_file_id", errors)):
            if lines:
                batch[name] = self._keep(b"\n".join(lines) + b"\n")
        batch["request_counts"] = {"total": len(self.requests(batch_id)), "completed": len(output), "failed": 0}
        batch["status"] = status
        batch[f"{status}_at"] = int(time.time())

    def fail(self, batch_id: str, code: str, message: str, line: int | None = None) -> None:
        """End a batch in its validation."""
        batch = self.batches[batch_id]
        batch["errors"] = {"object": "list", "data": [{"code": code, "message": message, "line": line, "param": None}]}
        batch["status"], batch["failed_at"] = "failed", int(time.time())

    # -- routes ----------------------------------------------------------------------------------------------------

    def _troubled(self, name: str, handler: Any) -> Any:
        async def handle(request: web.Request) -> web.StreamResponse:
            self.calls[name] += 1
            trouble = next((t for t in self.troubles if t.route == name), None)
            if trouble:
                trouble.times -= 1
                if not trouble.times:
                    self.troubles.remove(trouble)
            if trouble and isinstance(trouble.manner, int):
                trouble.reached.set()
                return web.Response(status=trouble.manner, text=trouble.body, headers=trouble.headers)
            if self.key and request.headers.get("Authorization") != f"Bearer {self.key}":
                sent = request.headers.get("Authorization", "")
                return _error(401, f"Incorrect API key provided: {sent.removeprefix('Bearer ')}.")
            manner = trouble.manner if trouble else ""
            response: web.StreamResponse | None = None
            if manner not in ("hang_before", "reset_before"):
                response = await handler(request)
            if trouble and isinstance(manner, str):
                if manner == "half":
                    assert isinstance(response, web.Response) and isinstance(response.body, bytes)
                    half = web.StreamResponse(headers={"Content-Length": str(len(response.body))})
                    await half.prepare(request)
                    await half.write(response.body[: len(response.body) // 2])
                trouble.reached.set()
                if manner.startswith("reset"):
                    assert request.transport
                    request.transport.abort()
                else:
                    await asyncio.Event().wait()
            return response or web.Response()

        return handle

    def _keep(self, content: bytes) -> str:
        file_id = f"file-{next(self._file_numbers)}"
        self.files[file_id] = content
        return file_id

    async def _upload(self, request: web.Request) -> web.Response:
        form = await request.post()
        assert form["purpose"] == "batch"
        file = form["file"]
        assert isinstance(file, web.FileField) and file.filename.endswith(".jsonl")
        content = file.file.read()
        return web.json_response({"id": self._keep(content), "object": "file", "bytes": len(content)})

    async def _content(self, request: web.Request) -> web.Response:
        content = self.files.get(request.match_info["id"])
        if content is None:
            return _error(404, f"No such File object: {request.match_info['id']}")
        return web.Response(body=content, content_type="application/octet-stream")

    async def _create(self, request: web.Request) -> web.Response:
        body = await request.json()
        if body["input_file_id"] not in self.files:
            return _error(400, f"Invalid file id {body['input_file_id']}")
        batch_id = f"batch_{next(self._batch_numbers)}"
        self.batches[batch_id] = {
            "id": batch_id,
            "object": "batch",
            "status": "in_progress",
            "created_at": int(time.time()) + len(self.batches),
            "output_file_id": None,
            "error_file_id": None,
            "errors": None,
            **body,
        }
        self._validate(batch_id)
        return web.json_response(self.batches[batch_id])

    def _validate(self, batch_id: str) -> None:
        lines = self.files[self.batches[batch_id]["input_file_id"]].splitlines()
        seen = set()
        for number, text in enumerate(lines, 1):
            line = json.loads(text)
            assert line["method"] == "POST"
            if line["url"] != self.batches[batch_id]["endpoint"]:
                return self.fail(batch_id, "mismatched_url", "The URL is another.", number)
            if line["custom_id"] in seen:
                return self.fail(batch_id, "duplicate_custom_id", "The custom_id is there twice.", number)
            seen.add(line["custom_id"])
        return None

    async def _list(self, request: web.Request) -> web.Response:
        if not self.listed:
            return web.Response(status=404, text='{"detail": "Not Found"}')
        batches = list(self.batches.values())[:: -1 if self.latest_first else 1]
        ids = [batch["id"] for batch in batches]
        begin = ids.index(request.query["after"]) + 1 if "after" in request.query else 0
        end = begin + int(request.query.get("limit", 20))
        return web.json_response({"object": "list", "data": batches[begin:end], "has_more": end < len(ids)})

    async def _retrieve(self, request: web.Request) -> web.Response:
        batch_id = request.match_info["id"]
        if batch_id not in self.batches:
            return _error(404, f"No batch found with id '{batch_id}'.")
        if self.at_once and self.batches[batch_id]["status"] == "in_progress":
            self.finish(batch_id)
        return web.json_response(self.batches[batch_id])

    async def _cancel(self, request: web.Request) -> web.Response:
        batch_id = request.match_info["id"]
        if batch_id not in self.batches:
            return _error(404, f"No batch found with id '{batch_id}'.")
        batch = self.batches[batch_id]
        if batch["status"] != "in_progress":
            return _error(409, f"Cannot cancel a batch with status '{batch['status']}'.")
        batch["status"], batch["cancelling_at"] = "cancelling", int(time.time())
        return web.json_response(batch)


def _line(key: str, act: Act | None = None, error: Mapping[str, Any] | None = None) -> bytes:
    """A line of an output or error file, as OpenAI writes it."""
    response = {"status_code": act.status, "request_id": "r", "body": json.loads(act.body)} if act else None
    return json.dumps({"id": f"batch_req_{key[:8]}", "custom_id": key, "response": response, "error": error}).encode()


def _error(status: int, message: str) -> web.Response:
    document = {"error": {"message": message, "type": "invalid_request_error", "param": None, "code": None}}
    return web.json_response(document, status=status)
