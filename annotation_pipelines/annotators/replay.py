"""Recorded answers behind an OpenAI-compatible endpoint: the whole pipeline without a key, for trials, tests and
benchmarks.

The answer to a chat completion is the one that was recorded for the record in its last user message. Where a file holds
a text several times, the first row answers for all: equal texts make equal requests, and are asked only once. A
canary's code is repeated, as a model would; codes in the place of labels (`injection: aliases`) can be answered where
the task is known. Of several samples all are the same. Token counts are approximate: four characters count as one
token.
"""

from __future__ import annotations

import asyncio
import contextlib
import json
import signal
import sys
import threading
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import polars as pl

from annotation_pipelines.annotators import canary
from annotation_pipelines.annotators.aliases import AliasedTask
from annotation_pipelines.annotators.fence import unfence
from annotation_pipelines.errors import AnnotatorError, SourceError
from annotation_pipelines.tasks.base import Task
from annotation_pipelines.tasks.classification import ClassificationTask

if TYPE_CHECKING:
    from aiohttp import web

_READERS: dict[str, Callable[[Path], pl.DataFrame]] = {
    ".csv": lambda file: pl.read_csv(file, infer_schema_length=None),
    ".jsonl": lambda file: pl.read_ndjson(file, infer_schema_length=None),
    ".ndjson": lambda file: pl.read_ndjson(file, infer_schema_length=None),
    ".parquet": pl.read_parquet,
}
_TEXT_COLUMNS = ("text", "content", "sentence")
_PEOPLE = ("human", "gold", "true")
_MOST_SAMPLES = 128


@dataclass(frozen=True)
class RecordedAnswer:
    """What a model once answered."""

    label: str
    confidence: float | None


class Recording:
    """The answers of a file, by text.

    Attributes:
        answers: The first answer to each text.
        rows: How many rows had one.
        codes: Label to the code that goes for it, where the task is known.
    """

    def __init__(self, answers: dict[str, RecordedAnswer], rows: int, codes: Mapping[str, str] | None = None) -> None:
        self.answers, self.rows, self.codes = answers, rows, codes or {}
        self.labels = {answer.label for answer in answers.values()}
        self._stripped = {text.strip(): answer for text, answer in reversed(answers.items())}
        self._longest_first = sorted(answers, key=len, reverse=True)

    @classmethod
    def load(
        cls,
        file: Path | str,
        *,
        text_column: str | None = None,
        label_column: str | None = None,
        confidence_column: str | None = None,
        task: Task | None = None,
    ) -> Recording:
        """Read a CSV, JSON Lines or Parquet file.

        The text is looked for in a column named text, content or sentence; the label in the one column named label or
        ending in _label that is not people's (human_label, gold_label, true_label); the confidence in the column with
        the label's prefix and _confidence, where there is one.

        Args:
            task: What the requests will ask, to know the codes of its labels; None where they go by their names.

        Raises:
            SourceError: The file cannot be read, or a column is not there or not to be told.
            DeclarationError: The task's labels leave no codes.
        """
        frame = _frame(Path(file))
        text_column = _column(frame, file, "text", text_column, [c for c in _TEXT_COLUMNS if c in frame.columns][:1])
        labels = [c for c in frame.columns if c == "label" or c.endswith("_label")]
        labels = [c for c in labels if not c.startswith(_PEOPLE)]
        label_column = _column(frame, file, "label", label_column, labels)
        guess = label_column.removesuffix("label") + "confidence"
        if confidence_column or guess in frame.columns:
            confidence_column = _column(frame, file, "confidence", confidence_column, [guess])
        answers: dict[str, RecordedAnswer] = {}
        kept = frame.filter(pl.col(text_column).is_not_null() & pl.col(label_column).is_not_null())
        try:
            columns = kept.select(
                pl.col(text_column).cast(pl.String).alias("text"),
                pl.col(label_column).cast(pl.String).alias("label"),
                (pl.col(confidence_column) if confidence_column else pl.lit(None)).cast(pl.Float64).alias("confidence"),
            )
        except pl.exceptions.PolarsError:
            raise SourceError(
                f"expected numbers from 0 to 1 in the column {confidence_column}",
                where=file,
                todo="Name another column with --confidence",
            ) from None
        for text, label, confidence in columns.iter_rows():
            answers.setdefault(text, RecordedAnswer(label, confidence))
        return cls(answers, len(kept), AliasedTask(task).codes if isinstance(task, ClassificationTask) else None)

    def answer_to(self, message: str) -> RecordedAnswer | None:
        """The answer to the record in a message: the fenced text, else the longest recorded text in the message."""
        text = unfence(message)
        if text is not None:
            return self.answers.get(text) or self._stripped.get(text.strip())
        found = next((text for text in self._longest_first if text and text in message), None)
        return None if found is None else self.answers[found]


def serve(
    file: Path | str,
    host: str = "127.0.0.1",
    port: int = 8089,
    text_column: str | None = None,
    label_column: str | None = None,
    confidence_column: str | None = None,
    model: str = "gpt-4o",
    latency_ms: float = 0,
    task: Task | None = None,
) -> None:
    """Answer on http://HOST:PORT/v1 until interrupted (SIGINT or SIGTERM); prints one line when it is ready.

    Raises:
        SourceError: The file is not to be used.
        AnnotatorError: The port cannot be listened on.
    """
    recording = Recording.load(
        file, text_column=text_column, label_column=label_column, confidence_column=confidence_column, task=task
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
    model: str = "gpt-4o",
    latency_ms: float = 0,
    task: Task | None = None,
) -> Iterator[str]:
    """Serve in a thread on a free port of this machine; gives the base URL.

    Raises:
        SourceError: The file is not to be used.
    """
    recording = Recording.load(
        file, text_column=text_column, label_column=label_column, confidence_column=confidence_column, task=task
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
    label = _as_asked(answer.label, recording, schema)
    if label is None:
        text = "None of the recorded labels may be answered. Where they go by codes (injection: aliases), start the "
        return 400, _error(text + "replay with the project that asks, or with the right column", "labels_not_recorded")
    fields = {canary.FIELD: canary.code_of(asked), "label": label, "confidence": answer.confidence}
    fields = {name: value for name, value in fields.items() if value is not None and (not schema or name in schema)}
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


def _as_asked(label: str, recording: Recording, schema: dict[str, Any]) -> str | None:
    """A recorded label, or its code where the schema's labels are codes; None where no recorded label is among them."""
    field = schema.get("label")
    allowed = field.get("enum") if isinstance(field, dict) else None
    if not isinstance(allowed, list):
        return label
    names = {name for name in allowed if isinstance(name, str)}
    if recording.labels & names:
        return label
    return recording.codes.get(label, label) if names & set(recording.codes.values()) else None


def _error(message: str, code: str) -> dict[str, Any]:
    return {"error": {"message": message, "type": "invalid_request_error", "param": None, "code": code}}


def _text(content: object) -> str:
    if isinstance(content, list):
        return "".join(str(part.get("text", "")) for part in content if isinstance(part, dict))
    return content if isinstance(content, str) else ""


def _frame(file: Path) -> pl.DataFrame:
    reader = _READERS.get(file.suffix.lower())
    if reader is None:
        raise SourceError(
            f"expected a file that ends in {', '.join(_READERS)}, found {file.suffix or 'no ending'}",
            where=file,
            todo="Convert it to one of these",
        )
    try:
        return reader(file)
    except (OSError, pl.exceptions.PolarsError) as error:
        reason = "no such file" if isinstance(error, FileNotFoundError) else str(error).splitlines()[0]
        raise SourceError(
            f"the recorded answers cannot be read: {reason}", where=file, todo="Check the path and the file"
        ) from None


def _column(frame: pl.DataFrame, file: object, what: str, named: str | None, candidates: Sequence[str]) -> str:
    """The named column, else the only candidate."""
    if named in frame.columns or (named is None and len(candidates) == 1):
        return named or candidates[0]
    found = f"found the columns {', '.join(frame.columns)}"
    expected = f"the column {named!r}" if named else f"one column with the {what}"
    raise SourceError(f"expected {expected}, {found}", where=file, todo=f"Name it with --{what}")
