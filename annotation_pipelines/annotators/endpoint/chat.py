"""One chat completion: send the request, try again where that can help, and say how it ended.

The openai SDK sends, on its aiohttp transport and by its low-level `post`: twice as fast as `chat.completions.create`,
and it gives the raw body, which is kept before anything reads it. Its own retries are off: they do not tell a mistyped
model from a busy server, and its timeout counts each read, so that a server that drips outlives it.
"""

from __future__ import annotations

import asyncio
import contextlib
import json
import logging
import os
import random
import time
from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager
from typing import TYPE_CHECKING, Any

from annotation_pipelines.annotators.base import Reply, Request
from annotation_pipelines.annotators.endpoint.url import is_local
from annotation_pipelines.annotators.endpoint.verdicts import LONGEST_PAUSE, Completion, Failure, judge, pause
from annotation_pipelines.annotators.streaming import Work
from annotation_pipelines.errors import AnnotatorError
from annotation_pipelines.project import OpenAIAnnotator as Settings

if TYPE_CHECKING:
    from openai import AsyncOpenAI

_FORMATS = ("json_schema", "json_object", "none")
_SHORTEST_SECRET = 8
_log = logging.getLogger(__name__)


class Chat:
    """The conversations of one run with one endpoint.

    What is sent is adapted to the server in two respects, remembered for the instance: the response format (the
    request's JSON schema, else JSON mode, else none) and the name of the token limit. The first request of a run goes
    alone, so that is where both are found out.

    Args:
        url: The checked base URL.
    """

    def __init__(self, settings: Settings, url: str) -> None:
        self._settings, self._url = settings, url
        self._format = 0
        self._token_limit = "max_tokens"
        self._answered = False
        self._reached = False
        self._stopped = asyncio.Event()

    @asynccontextmanager
    async def session(self, key: str) -> AsyncIterator[Work[Request, Reply]]:
        """A coroutine function that gives the reply to a request, on one shared client.

        It raises AnnotatorError where the failure would befall every record: in the first requests, or at any time
        for a refused key and an empty account.
        """
        import httpx2
        from openai import AsyncOpenAI, DefaultAioHttpClient

        self._reached, self._stopped = False, asyncio.Event()
        count = self._settings.concurrency
        limits = httpx2.Limits(max_connections=count, max_keepalive_connections=count)
        # A proxy of the environment is not asked for the way to this machine.
        transport = DefaultAioHttpClient(limits=limits, timeout=None, trust_env=not is_local(self._url))
        async with AsyncOpenAI(
            api_key=key, base_url=self._url, max_retries=0, timeout=None, http_client=transport
        ) as client:

            async def ask(request: Request) -> Reply:
                return await self._ask(client, request, key)

            yield ask

    async def _ask(self, client: AsyncOpenAI, request: Request, key: str) -> Reply:
        retries = 0
        while True:
            start, sent_format, sent_limit = time.monotonic(), self._format, self._token_limit
            verdict, status, text = await self._try(client, request.body, key)
            seconds = time.monotonic() - start
            if isinstance(verdict, Completion):
                self._answered = True
                return self._answer(request, verdict, status, text, seconds)
            if verdict.kind == "format" and self._step_down(sent_format):
                continue
            if verdict.kind == "token_limit" and sent_limit == "max_tokens":
                self._token_limit = "max_completion_tokens"
                continue
            if self._may_retry(verdict, retries):
                with contextlib.suppress(TimeoutError):
                    await asyncio.wait_for(self._stopped.wait(), pause(retries, verdict.retry_after, random.random()))
                if not self._stopped.is_set():
                    retries += 1
                    continue
            if (
                verdict.kind == "stop"
                or (verdict.kind in ("doubtful", "format", "token_limit") and not self._answered)
                or (verdict.unreachable and not self._reached)
            ):
                self._stopped.set()
                raise self._fatal(verdict)
            return Reply(
                request=request,
                status="refused" if verdict.refused else "error",
                text=text,
                error=verdict.problem + (f" ({retries + 1} tries)" if retries else ""),
                http_status=status,
                seconds=seconds,
            )

    async def _try(
        self, client: AsyncOpenAI, body: Mapping[str, Any], key: str
    ) -> tuple[Completion | Failure, int | None, str | None]:
        """Send a request once: what came back means, its HTTP status, its raw body."""
        import aiohttp
        import httpx2
        from openai import APIConnectionError, APIStatusError

        try:
            content = json.dumps(self._adapted(body), separators=(",", ":")).encode()
            async with asyncio.timeout(self._settings.timeout):
                response = await client.post(
                    "/chat/completions",
                    cast_to=httpx2.Response,
                    content=content,
                    options={"headers": {"Content-Type": "application/json"}},
                )
        except APIStatusError as error:
            response = error.response
        except TimeoutError:
            return Failure("retry", f"no whole reply within {self._settings.timeout:g} s"), None, None
        except (APIConnectionError, aiohttp.ClientError, OSError) as error:
            return _not_sent(error), None, None
        except Exception as error:
            # Whatever one record does to the client must not stop the others.
            problem = f"the request could not be sent, or its reply not read ({type(error).__name__})"
            return Failure("record", problem), None, None
        self._reached = True
        text = _without(key, response.content.decode("utf-8", errors="replace"))
        verdict = judge(
            response.status_code,
            response.headers,
            text,
            model=self._settings.model,
            parameters=body.keys() - {"messages"},
        )
        return verdict, response.status_code, text

    def _adapted(self, body: Mapping[str, Any]) -> dict[str, Any]:
        """The body in the form that this server has been found to take; what the user set stays as it is."""
        adapted, own = dict(body), self._settings.extra_body
        if "max_tokens" in adapted and "max_tokens" not in own:
            adapted[self._token_limit] = adapted.pop("max_tokens")
        if self._format and "response_format" not in own:
            del adapted["response_format"]
            if _FORMATS[self._format] == "json_object":
                adapted["response_format"] = {"type": "json_object"}
        return adapted

    def _step_down(self, refused: int) -> bool:
        """Whether to ask again in a simpler response format.

        Once one request was answered in a format, a complaint about it is about the record.
        """
        if self._format == refused:
            if self._answered or refused + 1 == len(_FORMATS) or "response_format" in self._settings.extra_body:
                return False
            self._format += 1
            _log.warning("%s refuses response format %s: going on with %s", self._url, *_FORMATS[refused : refused + 2])
        return True

    def _may_retry(self, failure: Failure, retries: int) -> bool:
        return (
            failure.kind == "retry"
            and retries < self._settings.max_retries
            and (failure.retry_after or 0) <= LONGEST_PAUSE
            and not self._stopped.is_set()
        )

    def _answer(
        self, request: Request, completion: Completion, status: int | None, text: str | None, seconds: float
    ) -> Reply:
        price, cost = self._settings.price, None
        read, written = completion.prompt_tokens, completion.completion_tokens
        if price and read is not None and written is not None:
            cost = (price.input * read + price.output * written) / 1e6
        return Reply(
            request=request,
            status="refused" if completion.refusal else "ok",
            text=text,
            error=completion.refusal,
            http_status=status,
            prompt_tokens=read,
            completion_tokens=written,
            cost_usd=cost,
            seconds=seconds,
        )

    def _fatal(self, failure: Failure) -> AnnotatorError:
        todo = failure.todo
        if failure.status == 401:
            todo = f"Set the environment variable {self._settings.api_key_env} to a valid key"
        if failure.unreachable:
            todo = "Check base_url and the network"
            if is_local(self._url):
                todo = "Start it first; recorded answers are served by: annotation-pipelines replay FILE"
        return AnnotatorError(failure.problem, where=self._url, todo=todo)


def _not_sent(error: BaseException) -> Failure:
    """A failure of the connection, described by its innermost cause: the SDK calls a refused connection a timeout."""
    import aiohttp

    unreachable = False
    while True:
        unreachable |= isinstance(error, aiohttp.ClientConnectorError)
        if error.__cause__ is None:
            break
        error = error.__cause__
    reason = str(error) or type(error).__name__
    if isinstance(error, OSError) and error.strerror:
        reason = os.strerror(error.errno) if error.errno and error.errno > 0 else error.strerror
    problem = "no server answers" if unreachable else "the connection broke"
    return Failure("retry", f"{problem}: {' '.join(reason.split())[:200]}", unreachable=unreachable)


def _without(key: str, text: str) -> str:
    """A body without the API key, should the endpoint repeat it. A key of a few letters is a word, not a secret."""
    return text.replace(key, "***") if len(key) >= _SHORTEST_SECRET else text
