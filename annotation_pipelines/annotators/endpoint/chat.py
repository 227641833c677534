"""One request to an endpoint: send it, try again where that can help, and say how it ended.

The openai SDK's client gives the address, the headers and the key, and its HTTP client on the aiohttp transport sends.
Its request layer above that is left out: with `client.post` a request costs twice the CPU time, with
`chat.completions.create` four times. What it would add is done here: the raw body is kept before anything reads it;
retries tell a mistyped model from a busy server; and the timeout is that of the whole reply, not of each read, so that
a server that drips does not outlive it.

When a request may go out is the gate's decision, shared by all processes of this machine; whether it may be paid for is
the purse's.
"""

from __future__ import annotations

import asyncio
import os
import random
import time
from collections.abc import AsyncIterator, Coroutine, Mapping
from contextlib import asynccontextmanager
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, TypeVar

from annotation_pipelines.annotators.base import Ask, Keep, Reply, Request
from annotation_pipelines.annotators.endpoint import wire
from annotation_pipelines.annotators.endpoint.dialect import Dialect, Prompt
from annotation_pipelines.annotators.endpoint.url import is_local
from annotation_pipelines.annotators.endpoint.verdicts import Failure, judge, pause
from annotation_pipelines.annotators.endpoint.wire import Completion
from annotation_pipelines.annotators.limits.gate import Gate, GaveUp, Outcome
from annotation_pipelines.annotators.spending.prices import cost
from annotation_pipelines.annotators.spending.purse import Purse
from annotation_pipelines.errors import AnnotatorError, BudgetSpent
from annotation_pipelines.project import OpenAIAnnotator as Settings
from annotation_pipelines.project import Price

if TYPE_CHECKING:
    import httpx2

T = TypeVar("T")

_SHORTEST_SECRET = 8
_OVERLOADED = frozenset({408, 500, 502, 503, 504, 529})


@dataclass(frozen=True, slots=True)
class _Try:
    """What came of sending a request once.

    Attributes:
        seconds: From the request to the whole reply.
    """

    verdict: Completion | Failure
    seconds: float
    status: int | None = None
    text: str | None = None
    headers: Mapping[str, str] | None = None

    @property
    def unreachable(self) -> bool:
        """Whether no connection came about at all."""
        return isinstance(self.verdict, Failure) and self.verdict.unreachable


class Chat:
    """The requests of one run to one endpoint.

    Args:
        url: The checked base URL.
        price: None where it is unknown.
    """

    def __init__(self, settings: Settings, url: str, dialect: Dialect, price: Price | None) -> None:
        self._settings, self._url, self._dialect, self._price = settings, url, dialect, price

    @asynccontextmanager
    async def session(self, key: str, keep: Keep, purse: Purse) -> AsyncIterator[Ask]:
        """A coroutine function that gives the reply to a request, on one shared client.

        It raises AnnotatorError where the failure would befall every record: in the first requests, or at any time
        for a refused key and an empty account.
        """
        import httpx2
        from openai import AsyncOpenAI, DefaultAioHttpClient

        settings = self._settings
        self._dialect.recall()
        connections = httpx2.Limits(
            max_connections=settings.concurrency, max_keepalive_connections=settings.concurrency
        )
        # A proxy of the environment is not asked for the way to this machine.
        http = DefaultAioHttpClient(limits=connections, timeout=None, trust_env=not is_local(self._url))
        gate = Gate(
            self._url,
            settings.model,
            maximum=settings.concurrency,
            limits=settings.limits,
            patience=settings.patience,
        )
        client = AsyncOpenAI(api_key=key, base_url=self._url, max_retries=0, http_client=http)
        declared = {**client.default_headers, **client.auth_headers, "Content-Type": "application/json"}
        headers = {name: value for name, value in declared.items() if isinstance(value, str)}
        target = httpx2.URL(self._url + wire.path(settings))
        async with client, gate:
            session = _Session(
                settings, self._url, self._dialect, self._price, http, target, headers, gate, keep, purse, key
            )
            yield session.ask


class _Session:
    """The requests that go over one client."""

    def __init__(
        self,
        settings: Settings,
        url: str,
        dialect: Dialect,
        price: Price | None,
        http: httpx2.AsyncClient,
        target: httpx2.URL,
        headers: Mapping[str, str],
        gate: Gate,
        keep: Keep,
        purse: Purse,
        key: str,
    ) -> None:
        self._settings, self._url, self._dialect, self._price = settings, url, dialect, price
        self._http, self._gate, self._keep, self._purse, self._key = http, gate, keep, purse, key
        self._target = target
        self._headers = headers
        self._fields = [*wire.parameters(settings, dialect.manner, {}), "max_completion_tokens"]
        self._answered = self._reached = False
        self._stop: Exception | None = None
        self._waiting: set[asyncio.Task[object]] = set()

    async def ask(self, request: Request) -> Reply:
        """The reply to a request, kept where one was sent."""
        try:
            return await self._answer(request)
        except GaveUp as error:
            return Reply(request, "error", error=str(error))
        except BudgetSpent:
            raise
        except Exception as error:
            raise self._stop_all(error) from None

    async def _answer(self, request: Request) -> Reply:
        retries = 0
        while True:
            sent = self._dialect.manner
            tried = await self._try(request)
            verdict = tried.verdict
            if isinstance(verdict, Completion):
                self._answered = True
                self._dialect.confirm()
                return self._reply(request, tried)
            if self._dialect.adapt(verdict, sent, answered=self._answered):
                continue
            if verdict.kind == "retry" and not self._stop:
                if tried.status == 429:
                    continue  # the gate paces these, and gives up in the end
                if retries < self._settings.max_retries:
                    if not verdict.unreachable:
                        self._keep(self._reply(request, tried))
                    await self._wait(asyncio.sleep(pause(retries, random.random())))
                    retries += 1
                    continue
            if self._befalls_all(verdict):
                raise self._fatal(verdict)
            reply = self._reply(request, tried, tries=retries + 1)
            self._keep(reply)
            return reply

    async def _try(self, request: Request) -> _Try:
        """Send a request once, when the gate lets it through and the purse pays for it."""
        prompt: Prompt = request.body
        completion_tokens = self._settings.answer_tokens * prompt.n
        await self._wait(self._gate.enter(len(prompt.messages) // 4 + completion_tokens))
        outcome = Outcome("other")
        try:
            reservation = await self._wait(self._purse.reserve(len(prompt.messages), completion_tokens))
            try:
                tried = await self._send(prompt)
            except BaseException:
                self._purse.settle(reservation, prompt_tokens=None, completion_tokens=None, cost_usd=None)
                raise
            outcome = _outcome(tried)
            if outcome.kind == "answered":  # before anything else can fail: it is paid for
                self._keep(self._reply(request, tried))
            if tried.unreachable or 400 <= (tried.status or 0) < 500:
                self._purse.release(reservation)
            else:
                usage = tried.verdict if isinstance(tried.verdict, Completion) else Completion(())
                self._purse.settle(
                    reservation,
                    prompt_tokens=usage.prompt_tokens,
                    completion_tokens=usage.completion_tokens,
                    cost_usd=self._cost(usage),
                )
            return tried
        finally:
            self._gate.leave(outcome)

    async def _send(self, prompt: Prompt) -> _Try:
        import httpx2

        start = time.monotonic()

        def failed(failure: Failure) -> _Try:
            return _Try(failure, time.monotonic() - start)

        try:
            body = self._dialect.body(prompt)
            async with asyncio.timeout(self._settings.timeout):
                response = await self._http.send(
                    httpx2.Request("POST", self._target, headers=self._headers, content=body)
                )
        except TimeoutError:
            return failed(Failure("retry", f"no whole reply within {self._settings.timeout:g} s"))
        except (httpx2.TransportError, OSError) as error:
            return failed(_not_sent(error))
        except Exception as error:
            # Whatever one record does to the client must not stop the others.
            problem = f"the request could not be sent, or its reply not read ({type(error).__name__})"
            return failed(Failure("record", problem))
        self._reached = True
        text = _without(self._key, response.content.decode("utf-8", errors="replace"))
        status = response.status_code
        verdict = judge(status, text, model=self._settings.model, parameters=self._fields)
        return _Try(verdict, time.monotonic() - start, status, text, response.headers)

    async def _wait(self, waited_for: Coroutine[Any, Any, T]) -> T:
        """Wait; when the run stops meanwhile, so does the waiting."""
        task = asyncio.current_task()
        assert task
        self._waiting.add(task)
        try:
            if self._stop:
                waited_for.close()
                raise self._stop
            return await waited_for
        except asyncio.CancelledError:
            if self._stop is None:
                raise
            task.uncancel()
            raise self._stop from None
        finally:
            self._waiting.discard(task)

    def _stop_all(self, error: Exception) -> Exception:
        """Nothing is sent any more; what is in flight is waited for."""
        if self._stop is None:
            self._stop = error
            for task in self._waiting - {asyncio.current_task()}:
                task.cancel()
        return self._stop

    def _befalls_all(self, failure: Failure) -> bool:
        if failure.kind in ("retry", "record"):
            return failure.unreachable and not self._reached
        return failure.kind == "stop" or not self._answered

    def _reply(self, request: Request, tried: _Try, tries: int = 1) -> Reply:
        verdict = tried.verdict
        if isinstance(verdict, Failure):
            return Reply(
                request,
                "refused" if verdict.refused else "error",
                text=tried.text,
                error=verdict.problem + (f" ({tries} tries)" if tries > 1 else ""),
                http_status=tried.status,
                seconds=tried.seconds,
            )
        return Reply(
            request,
            "refused" if verdict.refusal else "ok",
            text=tried.text,
            error=verdict.refusal,
            http_status=tried.status,
            prompt_tokens=verdict.prompt_tokens,
            completion_tokens=verdict.completion_tokens,
            cached_tokens=verdict.cached_tokens,
            cost_usd=self._cost(verdict),
            seconds=tried.seconds,
            read=verdict,
        )

    def _cost(self, usage: Completion) -> float | None:
        return cost(
            self._price,
            prompt_tokens=usage.prompt_tokens,
            completion_tokens=usage.completion_tokens,
            cached_tokens=usage.cached_tokens,
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


def _outcome(tried: _Try) -> Outcome:
    """What a try says of the endpoint's load."""
    verdict = tried.verdict
    if isinstance(verdict, Completion):
        used = (verdict.prompt_tokens or 0) + (verdict.completion_tokens or 0)
        return Outcome("answered", headers=tried.headers, tokens=used or None, status=tried.status)
    if tried.status == 429 and verdict.kind == "retry":
        return Outcome("throttled", headers=tried.headers, status=tried.status)
    if tried.status in _OVERLOADED or (tried.status is None and verdict.kind == "retry" and not tried.unreachable):
        return Outcome("overloaded", headers=tried.headers, status=tried.status)
    return Outcome("broken" if tried.unreachable else "other", headers=tried.headers, status=tried.status)


def _not_sent(error: BaseException) -> Failure:
    """A failure of the connection, described by its innermost cause: the transport calls a refused one a timeout."""
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
