"""The champion over HTTP.

    POST /predict   {"texts": ["...", ...]} or {"records": [{part: text, ...}, ...]} -> labels
    GET  /health    whether it answers, and which model
    GET  /model     the model's card

What is wrong with a request is answered with a status from 400 to 499 and {"error": what was expected and found}.
"""

from __future__ import annotations

import json
import logging
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from typing import TYPE_CHECKING, Any

from annotation_pipelines.content import SOLE, Content
from annotation_pipelines.distillation.champion import Champion
from annotation_pipelines.distillation.fast.choice import WORTH
from annotation_pipelines.distillation.registry import ModelRegistry
from annotation_pipelines.errors import WorkspaceError
from annotation_pipelines.project import Project
from annotation_pipelines.serving.live import LiveChampion, Stopped
from annotation_pipelines.store.database import Store

if TYPE_CHECKING:
    from starlette.applications import Starlette
    from starlette.requests import Request
    from starlette.responses import Response

MOST_BYTES = 2 << 20
MOST_TEXTS = 1_000
_STOP_SECONDS = 20
_SOME = "SELECT content FROM records WHERE deleted_at IS NULL ORDER BY content_hash LIMIT 8"


class BadRequest(ValueError):
    """A request that cannot be answered; the message says what was expected and found."""

    def __init__(self, problem: str, status: int = 400) -> None:
        super().__init__(problem)
        self.status = status


def application(live: LiveChampion, project: Project) -> Starlette:
    """The ASGI application that answers with a champion."""
    from starlette.applications import Starlette
    from starlette.exceptions import HTTPException
    from starlette.responses import JSONResponse
    from starlette.routing import Route

    parts = list(project.declaration.source.templates)

    async def predict(request: Request) -> Response:
        contents = read_request(await _body(request), parts)
        version, found = await live.predict(contents)
        return JSONResponse({"model": version, "predictions": found.to_dicts()})

    async def health(_: Request) -> Response:
        return JSONResponse({"status": "ok", "project": project.name, "model": live.champion.model.version})

    async def model(_: Request) -> Response:
        champion = live.champion
        promoted = champion.model.promoted_at
        return JSONResponse(
            {
                **champion.card,
                "status": "champion",
                "promoted_at": promoted.isoformat() if promoted else None,
                "abstain_below": champion.abstain_below,
                "encoded_by": champion.encoded_by,
            }
        )

    def refuse(_: Request, error: Exception) -> Response:
        assert isinstance(error, BadRequest)
        return JSONResponse({"error": str(error)}, error.status)

    def going_down(_: Request, __: Exception) -> Response:
        return JSONResponse({"error": "the server is going down"}, 503)

    def other(request: Request, error: Exception) -> Response:
        assert isinstance(error, HTTPException)
        there = "there are POST /predict, GET /health and GET /model"
        problem = f"{request.method} {request.url.path} is not there; {there}"
        return JSONResponse({"error": problem}, error.status_code, headers=error.headers)

    def failed(_: Request, error: Exception) -> Response:
        logging.getLogger(__name__).error("a request failed", exc_info=error)
        return JSONResponse({"error": "the prediction failed; the server's log says why"}, 500)

    @asynccontextmanager
    async def lifespan(_: Starlette) -> AsyncIterator[None]:
        await live.start()
        try:
            yield
        finally:
            await live.stop()

    handlers: Any = {BadRequest: refuse, Stopped: going_down, HTTPException: other, Exception: failed}
    return Starlette(
        routes=[
            Route("/predict", predict, methods=["POST"]),
            Route("/health", health),
            Route("/model", model),
        ],
        exception_handlers=handlers,
        lifespan=lifespan,
    )


def read_request(body: bytes, parts: list[str]) -> list[str]:
    """The contents that a request is about, as they are stored.

    Args:
        parts: The names of a record's parts; only `text` where a record is one text.

    Raises:
        BadRequest: It is not what it should be.
    """
    try:
        given = json.loads(body)
    except (ValueError, RecursionError):
        raise BadRequest("expected JSON in UTF-8") from None
    if not isinstance(given, dict) or len(given.keys() & {"texts", "records"}) != 1:
        raise BadRequest('expected a JSON object with either "texts" or "records"')
    name = "texts" if "texts" in given else "records"
    listed = given[name]
    if not isinstance(listed, list) or not listed:
        raise BadRequest(f'expected "{name}" to be a list with an entry or more')
    if len(listed) > MOST_TEXTS:
        raise BadRequest(f"expected {MOST_TEXTS:,} {name} at most, found {len(listed):,}", 413)
    if name == "texts":
        if parts != [SOLE]:
            raise BadRequest(f'a record has the parts {", ".join(parts)}: expected "records", found "texts"')
        return [_content({SOLE: text}, [SOLE], f"texts[{place}]") for place, text in enumerate(listed)]
    return [_content(record, parts, f"records[{place}]") for place, record in enumerate(listed)]


def _content(record: object, parts: list[str], where: str) -> str:
    if not isinstance(record, dict) or set(record) != set(parts):
        found = ", ".join(map(str, record)) if isinstance(record, dict) else type(record).__name__
        raise BadRequest(f"{where}: expected an object with {', '.join(parts)}, found {found or 'nothing'}")
    texts: dict[str, str] = {}
    for name in parts:
        if not isinstance(record[name], str):
            raise BadRequest(f"{where}: expected a text, found {type(record[name]).__name__}")
        texts[name] = _whole(record[name]).strip()
    if not any(texts.values()):
        raise BadRequest(f"{where}: expected a text, found an empty one")
    return (Content.of_text(texts[SOLE]) if parts == [SOLE] else Content.of_parts(texts)).stored


def _whole(text: str) -> str:
    """The text without what no encoder takes: NUL, and halves of surrogate pairs."""
    return text.replace("\0", "\ufffd").encode("utf-8", "replace").decode("utf-8")


async def _body(request: Request) -> bytes:
    too_large = BadRequest(f"expected {MOST_BYTES:,} bytes at most", 413)
    declared = request.headers.get("content-length", "")
    if declared.isdigit() and int(declared) > MOST_BYTES:
        raise too_large
    body = bytearray()
    async for part in request.stream():
        body += part
        if len(body) > MOST_BYTES:
            raise too_large
    return bytes(body)


def serve(store: Store, project: Project, host: str, port: int, say: Callable[[str], None]) -> None:
    """Answer requests with the project's champion until the process is told to stop (SIGINT, SIGTERM).

    Requests that are being answered then are answered. A champion that is promoted while it runs takes over within
    seconds.

    Args:
        port: 0 for any that is free.
        say: Told the address.

    Raises:
        TrainingError: There is no champion.
        StoreCorrupted: Its files are missing or damaged.
        WorkspaceError: The address cannot be listened on.
    """
    import socket

    import uvicorn

    def load() -> Champion:
        champion = Champion.open(store, project, wanted=WORTH)
        # The first texts load the encoder, and choose how it runs.
        champion.predict(store.query(_SOME)["content"].to_list())
        return champion

    def version() -> str | None:
        found = ModelRegistry(Store(store.home, wait=2.0, announce=lambda _: None)).champion()
        return None if found is None else found.version

    live = LiveChampion(load, version)
    if live.champion.encoded_by:
        say(f"texts are encoded by {live.champion.encoded_by}")
    listener = socket.socket(socket.AF_INET6 if ":" in host else socket.AF_INET)
    try:
        listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        listener.bind((host, port))
        listener.listen(1_024)  # who reads the address may connect at once
    except (OSError, OverflowError) as error:
        listener.close()
        raise WorkspaceError(
            f"cannot be listened on: {getattr(error, 'strerror', None) or error}",
            where=f"{host}:{port}",
            todo="Choose another with --host and --port",
        ) from None
    shown = f"[{host}]" if ":" in host else host
    say(
        f"champion {live.champion.model.version} of {project.name} answers on http://{shown}:{listener.getsockname()[1]}"
    )
    config = uvicorn.Config(
        application(live, project),
        log_level="warning",
        access_log=False,
        timeout_graceful_shutdown=_STOP_SECONDS,
    )
    with listener:
        uvicorn.Server(config).run(sockets=[listener])
