"""Recorded answers behind an OpenAI-compatible endpoint: the whole pipeline without a key, for trials, tests and
benchmarks.

The answer to a chat completion is the one that was recorded for the record in its last user message (`recording`). A
canary's code is repeated, as a model would; codes in the place of labels (`injection: aliases`), and answers of other
tasks than classification, can be given where the task is known. A record that is shown in several ways, such as a pair
in both orders, is answered alike in all of them. Of several samples all are the same. Token counts are approximate:
four characters count as one token.
"""

from __future__ import annotations

import asyncio
import contextlib
import json
import signal
import sys
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from annotation_pipelines.annotators import canary
from annotation_pipelines.annotators.fence import unfence
from annotation_pipelines.annotators.recording import RecordedAnswer, Recording
from annotation_pipelines.errors import AnnotatorError
from annotation_pipelines.project import RecordColumns
from annotation_pipelines.tasks.base import Task

if TYPE_CHECKING:
    from aiohttp import web

__all__ = ["RecordedAnswer", "Recording", "chat_reply", "replaying", "serve"]

_MOST_SAMPLES = 128


def serve(
    file: Path | str,
    host: str = "127.0.0.1",
    port: int = 8089,
    text_column: str | None = None,
    label_column: str | None = None,
    confidence_column: str | None = None,
    rationale_column: str | None = None,
    model: str = "gpt-4o",
    latency_ms: float = 0,
    task: Task | None = None,
    source: RecordColumns | None = None,
) -> None:
    """Answer on http://HOST:PORT/v1 until interrupted (SIGINT or SIGTERM); prints one line when it is ready.

    Raises:
        SourceError: The file is not to be used.
        AnnotatorError: The port cannot be listened on.
    """
    recording = Recording.load(
        file,
        text_column=text_column,
        label_column=label_column,
        confidence_column=confidence_column,
        rationale_column=rationale_column,
        task=task,
        source=source,
    )

    def ready(url: str) -> None:
        sys.stdout.write(f"replaying {recording.rows:,} recorded answers of {file} at {url}\n")
        sys.stdout.flush()

    async def main() -> None:
        stop = asyncio.Event()
        for name in (signal.SIGINT, signal.SIGTERM):
            asyncio.get_running_loop().add_signal_handler(name, stop.set)
        await _listen(recording, host, port, model, latency_ms, ready, stop)

    asyncio.run(main())


@contextlib.contextmanager
def replaying(
    file: Path | str,
    *,
    text_column: str | None = None,
    label_column: str | None = None,
    confidence_column: str | None = None,
    rationale_column: str | None = None,
    model: str = "gpt-4o",
    latency_ms: float = 0,
    task: Task | None = None,
    source: RecordColumns | None = None,
) -> Iterator[str]:
    """Serve in a thread on a free port of this machine; gives the base URL.

    Raises:
        SourceError: The file is not to be used.
    """
    recording = Recording.load(
        file,
        text_column=text_column,
        label_column=label_column,
        confidence_column=confidence_column,
        rationale_column=rationale_column,
        task=task,
        source=source,
    )
    url: list[str] = []
    failure: list[BaseException] = []
    ready = threading.Event()
    loop = asyncio.new_event_loop()
    stop = asyncio.Event()

    def started(address: str) -> None:
        url.append(address)
        ready.set()

    def run() -> None:
        try:
            with asyncio.Runner(loop_factory=lambda: loop) as runner:
                runner.run(_listen(recording, "127.0.0.1", 0, model, latency_ms, started, stop))
        except BaseException as error:
            failure.append(error)
            ready.set()

    thread = threading.Thread(target=run, name="replay", daemon=True)
    thread.start()
    ready.wait()
    if failure:
        raise failure[0]
    try:
        yield url[0]
    finally:
        with contextlib.suppress(RuntimeError):
            loop.call_soon_threadsafe(stop.set)
        thread.join()


async def _listen(
    recording: Recording,
    host: str,
    port: int,
    model: str,
    latency_ms: float,
    ready: Callable[[str], None],
    stop: asyncio.Event,
) -> None:
    from aiohttp import web

    runner = web.AppRunner(_application(recording, model, latency_ms), access_log=None, shutdown_timeout=1)
    await runner.setup()
    try:
        try:
            await web.TCPSite(runner, host, port).start()
        except OSError as error:
            raise AnnotatorError(
                f"cannot listen there: {error.strerror or error}",
                where=f"{host}:{port}",
                todo="Choose another port with --port",
            ) from None
        address = runner.addresses[0]
        shown = f"[{host}]" if ":" in host else host
        ready(f"http://{shown}:{address[1]}/v1")
        await stop.wait()
    finally:
        await runner.cleanup()


def _application(recording: Recording, model: str, latency_ms: float) -> web.Application:
    from aiohttp import web

    async def models(_: web.Request) -> web.Response:
        entry = {"id": model, "object": "model", "created": 0, "owned_by": "annotation-pipelines"}
        return web.json_response({"object": "list", "data": [entry]})

    async def complete(request: web.Request) -> web.Response:
        if latency_ms:
            await asyncio.sleep(latency_ms / 1000)
        status, reply = chat_reply(recording, model, await request.text())
        return web.json_response(reply, status=status)

    application = web.Application(client_max_size=64 * 2**20)
    application.router.add_get("/v1/models", models)
    application.router.add_post("/v1/chat/completions", complete)
    return application


def chat_reply(recording: Recording, model: str, body: str) -> tuple[int, dict[str, Any]]:
    """HTTP status and JSON document that answer a chat completions request."""
    try:
        request = json.loads(body)
        messages = request["messages"]
        asked = _asked([_text(m["content"]) for m in messages if m["role"] == "user"])
        samples = min(max(1, int(request.get("n") or 1)), _MOST_SAMPLES)
    except (ValueError, KeyError, TypeError, IndexError, AttributeError, RecursionError):
        return 400, _error("expected a JSON body with model and messages, one of them a user's", "invalid_request")
    if request.get("model") != model:
        text = f"The model {request.get('model')!r} does not exist: only {model!r} was recorded"
        return 404, _error(text, "model_not_found")
    answer = recording.answer_to(asked)
    if answer is None:
        text = f"No answer was recorded for this text: {asked[:80]!r}. The recording serves only the texts of its file"
        return 404, _error(text, "text_not_recorded")
    schema = _schema(request)
    own = _as_asked(answer, recording, schema)
    if own is None:
        text = (
            "None of the recorded answers may be given. Where labels go by codes (injection: aliases), or the task is "
        )
        text += "no classification, start the replay with the project that asks, or with the right column"
        return 400, _error(text, "labels_not_recorded")
    said = {
        canary.FIELD: canary.code_of(asked),
        "rationale": answer.rationale,
        **own,
        "confidence": answer.confidence,
    }
    fields = {name: value for name, value in said.items() if value is not None and (not schema or name in schema)}
    # A server that is held to a schema gives its fields in that order.
    fields = {name: fields[name] for name in [*schema, *fields] if name in fields}
    content = json.dumps(fields, ensure_ascii=False)
    prompt = sum(len(_text(m.get("content"))) for m in messages if isinstance(m, dict)) // 4 + 1
    written = samples * (len(content) // 4 + 1)
    message = {"role": "assistant", "content": content, "refusal": None}
    return 200, {
        "id": f"chatcmpl-replay-{time.monotonic_ns()}",
        "object": "chat.completion",
        "created": int(time.time()),
        "model": model,
        "choices": [
            {"index": index, "message": message, "finish_reason": "stop", "logprobs": None} for index in range(samples)
        ],
        "usage": {"prompt_tokens": prompt, "completion_tokens": written, "total_tokens": prompt + written},
    }


def _asked(users: Sequence[str]) -> str:
    """The user's message that asks about a record: the last one that holds a fenced record, else the last one."""
    return next((text for text in reversed(users) if unfence(text) is not None), users[-1])


def _schema(request: dict[str, Any]) -> dict[str, Any]:
    """The fields that the request's schema has; empty without one."""
    node: Any = request.get("response_format")
    for key in ("json_schema", "schema", "properties"):
        node = node.get(key) if isinstance(node, dict) else None
    return node if isinstance(node, dict) else {}


def _as_asked(answer: RecordedAnswer, recording: Recording, schema: dict[str, Any]) -> dict[str, Any] | None:
    """The recorded answer, with the label's code where the schema's labels are codes.

    None where the schema has no field for it, or none of the recorded labels is among the schema's.
    """
    if schema and not schema.keys() & answer.fields.keys():
        return None
    field = schema.get("label")
    allowed = field.get("enum") if isinstance(field, dict) else None
    if not isinstance(allowed, list):
        return answer.fields
    names = {name for name in allowed if isinstance(name, str)}
    if recording.labels & names:
        return answer.fields
    if not names & set(recording.codes.values()):
        return None
    return {**answer.fields, "label": recording.codes.get(answer.label, answer.label)}


def _error(message: str, code: str) -> dict[str, Any]:
    return {"error": {"message": message, "type": "invalid_request_error", "param": None, "code": code}}


def _text(content: object) -> str:
    if isinstance(content, list):
        return "".join(str(part.get("text", "")) for part in content if isinstance(part, dict))
    return content if isinstance(content, str) else ""
