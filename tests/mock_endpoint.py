"""A chat completions endpoint that misbehaves on request, over real HTTP.

    with MockEndpoint(lambda call: error(429) if call.number == 0 else answer("yes")) as mock:
        ...
        assert len(mock.calls) == 2

For benchmarks it also runs as a process of its own: `python -m tests.mock_endpoint --latency-ms 50` prints its URL.
"""

from __future__ import annotations

import argparse
import asyncio
import contextlib
import json
import threading
import time
from collections import Counter
from collections.abc import Callable, Iterable
from dataclasses import dataclass, field
from typing import Any, Literal, Self

from aiohttp import web

from annotation_pipelines.annotators.prompts import unfence


@dataclass(frozen=True)
class Call:
    """One request that arrived.

    Attributes:
        number: 0 for the first.
        arrived: Seconds of a monotonic clock.
        text: The record that it asks about: the last one that is fenced, else the last message.
        attempt: 0 for the first request with this text.
        path: Below the host, such as /v1/chat/completions.
    """

    number: int
    arrived: float
    text: str
    attempt: int
    body: dict[str, Any]
    headers: dict[str, str]
    path: str = "/v1/chat/completions"


@dataclass(frozen=True)
class Act:
    """What the endpoint does with a request; `billed` where a provider would charge for it."""

    status: int = 200
    body: str = ""
    headers: dict[str, str] = field(default_factory=dict)
    manner: Literal["reply", "hang", "reset", "cut", "drip"] = "reply"
    billed: bool = False


Behaviour = Callable[[Call], Act]


def completion(
    content: str | list[str] | None,
    *,
    finish: str = "stop",
    refusal: str | None = None,
    usage: tuple[int, int] | None = (100, 10),
    tokens: list[tuple[str, float]] | None = None,
) -> Act:
    """A chat completion with this content, or with several choices; with log-probabilities where tokens are given."""
    contents = content if isinstance(content, list) else [content]
    logprobs = {"content": [{"token": t, "logprob": p} for t, p in tokens]} if tokens else None
    document: dict[str, Any] = {
        "id": "chatcmpl-mock",
        "object": "chat.completion",
        "created": 0,
        "model": "mock",
        "choices": [
            {
                "index": index,
                "message": {"role": "assistant", "content": each, "refusal": refusal},
                "finish_reason": finish,
                "logprobs": logprobs,
            }
            for index, each in enumerate(contents)
        ],
    }
    if usage:
        document["usage"] = {"prompt_tokens": usage[0], "completion_tokens": usage[1], "total_tokens": sum(usage)}
    return Act(body=json.dumps(document), billed=True)


def answer(label: str, confidence: float | None = 0.9) -> Act:
    """A good answer."""
    return completion(json.dumps({"label": label, **({} if confidence is None else {"confidence": confidence})}))


def called(label: str, confidence: float = 0.9) -> Act:
    """A good answer as the call of the tool `annotation`."""
    function = {"name": "annotation", "arguments": json.dumps({"label": label, "confidence": confidence})}
    message = {"role": "assistant", "content": None, "tool_calls": [{"type": "function", "function": function}]}
    document = {"object": "chat.completion", "choices": [{"message": message, "finish_reason": "tool_calls"}]}
    return Act(body=json.dumps(document), billed=True)


def response(text: str, usage: tuple[int, int] = (100, 10)) -> Act:
    """An answer of the Responses API."""
    message = {"type": "message", "role": "assistant", "content": [{"type": "output_text", "text": text}]}
    counts = {"input_tokens": usage[0], "output_tokens": usage[1]}
    document = {"object": "response", "status": "completed", "output": [message], "usage": counts}
    return Act(body=json.dumps(document), billed=True)


def error(
    status: int,
    message: str = "no",
    *,
    code: str | None = None,
    param: str | None = None,
    headers: dict[str, str] | None = None,
) -> Act:
    """An error as OpenAI words it."""
    document = {"error": {"message": message, "type": "mock_error", "param": param, "code": code}}
    return Act(status, json.dumps(document), headers or {})


def raw(body: str, status: int = 200) -> Act:
    """Any body."""
    return Act(status, body, billed=status == 200)


def hang() -> Act:
    """Never answers."""
    return Act(manner="hang")


def reset() -> Act:
    """Breaks the connection."""
    return Act(manner="reset")


def cut(label: str) -> Act:
    """A good answer of which half arrives."""
    return Act(body=answer(label).body, manner="cut", billed=True)


def drip(label: str) -> Act:
    """A good answer, a byte every twentieth of a second."""
    return Act(body=answer(label).body, manner="drip", billed=True)


class MockEndpoint:
    """Serves in a thread, on a free port of this machine.

    Args:
        routes: Further routes, such as those of `tests.mock_batches.MockBatches`.

    Attributes:
        url: The base URL.
        calls: Every request, in order of arrival.
        billed: The texts whose answers a provider would have charged for, in order.
        peak: The most requests that were in flight at once.
    """

    def __init__(
        self,
        behave: Behaviour = lambda call: answer("agrees"),
        *,
        latency: float = 0.0,
        port: int = 0,
        routes: Iterable[web.RouteDef] = (),
    ) -> None:
        self._routes = routes
        self.behave, self.latency, self._port = behave, latency, port
        self.url = ""
        self.calls: list[Call] = []
        self.billed: list[str] = []
        self.in_flight = self.peak = 0
        self._attempts: Counter[str] = Counter()
        self._loop = asyncio.new_event_loop()
        self._stop = asyncio.Event()
        self._ready = threading.Event()
        self._thread = threading.Thread(target=self._run, name="mock endpoint", daemon=True)

    def __enter__(self) -> Self:
        self._thread.start()
        assert self._ready.wait(10)
        return self

    def __exit__(self, *_: object) -> None:
        with contextlib.suppress(RuntimeError):
            self._loop.call_soon_threadsafe(self._stop.set)
        self._thread.join()

    def _run(self) -> None:
        with asyncio.Runner(loop_factory=lambda: self._loop) as runner:
            runner.run(self.serve())

    async def serve(self) -> None:
        """Serve until stopped."""
        application = web.Application(client_max_size=64 * 2**20)
        application.router.add_post("/v1/chat/completions", self._complete)
        application.router.add_post("/v1/responses", self._complete)
        application.add_routes(self._routes)
        runner = web.AppRunner(application, access_log=None, shutdown_timeout=0.05)
        await runner.setup()
        await web.TCPSite(runner, "127.0.0.1", self._port, backlog=1024).start()
        self.url = f"http://127.0.0.1:{runner.addresses[0][1]}/v1"
        self._ready.set()
        await self._stop.wait()
        await runner.cleanup()

    async def _complete(self, request: web.Request) -> web.StreamResponse:
        body = json.loads(await request.read())
        messages = [message["content"] for message in body.get("messages") or body["input"]]
        text = next((found for message in reversed(messages) if (found := unfence(message)) is not None), messages[-1])
        arrived, headers = time.monotonic(), dict(request.headers)
        call = Call(len(self.calls), arrived, text, self._attempts[text], body, headers, request.path)
        self._attempts[text] += 1
        self.calls.append(call)
        self.in_flight += 1
        self.peak = max(self.peak, self.in_flight)
        try:
            act = self.behave(call)
            if self.latency:
                await asyncio.sleep(self.latency)
            if act.billed:
                self.billed.append(text)
            return await self._perform(request, act)
        finally:
            self.in_flight -= 1

    async def _perform(self, request: web.Request, act: Act) -> web.StreamResponse:
        if act.manner == "reply":
            headers = {"Content-Type": "application/json", **act.headers}
            return web.Response(status=act.status, body=act.body.encode(), headers=headers)
        if act.manner == "hang":
            await asyncio.Event().wait()
        response = web.StreamResponse(
            headers={"Content-Length": str(len(act.body)), "Content-Type": "application/json"}
        )
        if act.manner in ("cut", "drip"):
            await response.prepare(request)
        if act.manner == "cut":
            await response.write(act.body[: len(act.body) // 2].encode())
        if act.manner == "drip":
            for byte in act.body.encode():
                await response.write(bytes([byte]))
                await asyncio.sleep(0.05)
        if request.transport:
            request.transport.abort()
        return response


if __name__ == "__main__":
    parser = argparse.ArgumentParser()
    parser.add_argument("--latency-ms", type=float, default=0)
    parser.add_argument("--port", type=int, default=0)
    parser.add_argument("--label", default="agrees")
    options = parser.parse_args()
    good = answer(options.label)

    def forgetful(call: Call) -> Act:
        mock.calls.clear()  # a long benchmark must not slow down as they pile up
        return good

    with MockEndpoint(forgetful, latency=options.latency_ms / 1000, port=options.port) as mock:
        print(mock.url, flush=True)
        with contextlib.suppress(KeyboardInterrupt):
            threading.Event().wait()
