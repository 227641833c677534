"""The batch API of an OpenAI-compatible endpoint: files up, batches made and asked about, files down.

https://platform.openai.com/docs/api-reference/batch. The openai SDK sends; its own retries are off, since a batch whose
creation was sent twice is bought twice. Files go from disk to the wire and from the wire to disk: none is held in
memory, and none is parsed here.
"""

from __future__ import annotations

import json
import os
import random
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import AbstractContextManager
from pathlib import Path
from types import TracebackType
from typing import TYPE_CHECKING, Any, Final, TypeVar

from annotation_pipelines.annotators.endpoint.batch_files import PrivateFile
from annotation_pipelines.annotators.endpoint.remote_batch import RemoteBatch, read_batch
from annotation_pipelines.annotators.endpoint.url import is_local
from annotation_pipelines.annotators.endpoint.verdicts import Failure, judge, pause
from annotation_pipelines.annotators.fence import well_formed
from annotation_pipelines.annotators.limits.headers import retry_after
from annotation_pipelines.errors import AnnotatorError
from annotation_pipelines.project import OpenAIAnnotator

if TYPE_CHECKING:
    import httpx2
    from openai import OpenAI

COMPLETIONS: Final = "/v1/chat/completions"
"""What the requests of a batch are for; so the endpoint calls it, wherever its base URL ends."""

WINDOW: Final = "24h"

TRIES = 5
LONGEST_PAUSE = 20.0
"""Seconds; who asks to wait longer is asked again at the next poll."""

CALL_SECONDS = 60.0
FILE_SECONDS = 1800.0
"""At most, for the whole of a file: a server that drips would otherwise hold its caller for ever."""

Read = TypeVar("Read")

_PAGE = 100
_MOST_PAGES = 500
_SHORTEST_SECRET = 8


class Unavailable(AnnotatorError):
    """The endpoint did not answer as it should, now; later it may."""


class Busy(Unavailable):
    """The endpoint takes no more for now."""


class Unclear(Unavailable):
    """Nobody knows whether the endpoint took a batch.

    Attributes:
        answered: Whether it said itself that it failed; otherwise no answer arrived.
    """

    def __init__(self, problem: str, *, where: object, todo: str | None, answered: bool = False) -> None:
        super().__init__(problem, where=where, todo=todo)
        self.answered = answered


class Refused(AnnotatorError):
    """The endpoint will not do that, however often it is asked."""


class NotOffered(Refused):
    """The endpoint does not know the object, or has nothing at that address.

    Attributes:
        status: The HTTP status.
        worded: Whether it says so as the API does.
    """

    def __init__(self, problem: str, *, where: object, todo: str, status: int, worded: bool) -> None:
        super().__init__(problem, where=where, todo=todo)
        self.status, self.worded = status, worded


class BatchApi:
    """The batch API of one endpoint, as a context manager. Messages and replies never hold the key.

    Args:
        url: The checked base URL.
        key: The API key.
        key_name: The environment variable it comes from, for messages.
        seconds: The longest that a call may take; files have `FILE_SECONDS`.
    """

    def __init__(
        self, url: str, key: str, *, key_name: str = "OPENAI_API_KEY", seconds: float = CALL_SECONDS, tries: int = TRIES
    ) -> None:
        self.url = url
        self._key, self._key_name, self._seconds, self._tries = key, key_name, seconds, tries
        self._sdk: OpenAI | None = None

    def __enter__(self) -> BatchApi:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if self._sdk:
            self._sdk.close()
            self._sdk = None

    def upload(self, path: Path) -> str:
        """Send a file of requests; gives the endpoint's id of it.

        Raises:
            AnnotatorError: A bad key. Refused: it does not take the file; NotOffered: it has no batch API.
                Unavailable: later it may work; Busy: once it has done what it has.
        """

        def send() -> bytes:
            with path.open("rb") as file:
                files = self._client.files.with_streaming_response
                return self._read(files.create(file=(path.name, file), purpose="batch"), FILE_SECONDS)

        document = self._document(self._call("the upload of a batch", send))
        identifier = document.get("id")
        if not isinstance(identifier, str) or not identifier:
            raise self._error("the reply to an upload names no file")
        return identifier

    def create(self, input_file_id: str, metadata: Mapping[str, str]) -> RemoteBatch:
        """Make a batch of an uploaded file; sent again only where it certainly was not taken.

        Raises:
            Unclear: It was sent, and may have been taken.
            AnnotatorError: As `upload`.
        """

        def send() -> bytes:
            batches = self._client.batches.with_streaming_response
            return self._read(
                batches.create(
                    completion_window=WINDOW,
                    endpoint=COMPLETIONS,
                    input_file_id=input_file_id,
                    metadata={name: value[:512] for name, value in metadata.items()},
                ),
                self._seconds,
            )

        body = self._call("the creation of a batch", send, once=True)
        try:
            return self._batch(body)
        except Unavailable as error:
            raise Unclear(error.problem, where=self.url, todo=error.todo) from None

    def retrieve(self, batch_id: str) -> RemoteBatch | None:
        """A batch as it stands; None where the endpoint does not know it any more.

        Raises:
            AnnotatorError: As `upload`.
        """
        batches = self._client.batches.with_streaming_response
        return self._known(
            f"batch {batch_id}", lambda: self._read(batches.retrieve(batch_id), self._seconds), self._batch
        )

    def cancel(self, batch_id: str) -> RemoteBatch | None:
        """Ask for a batch to be cancelled; it ends in some minutes, with the answers there are by then.

        Returns:
            The batch as it stands, also where it had ended before; None where the endpoint does not know it any more.

        Raises:
            AnnotatorError: As `upload`.
        """
        batches = self._client.batches.with_streaming_response
        try:
            return self._known(
                f"the cancellation of batch {batch_id}",
                lambda: self._read(batches.cancel(batch_id), self._seconds),
                self._batch,
            )
        except NotOffered:
            raise
        except Refused:  # it has ended, or is being cancelled already
            return self.retrieve(batch_id)

    def recent(self) -> Iterator[RemoteBatch]:
        """The endpoint's batches, the latest first, whoever made them.

        Raises:
            AnnotatorError: As `upload`; also where the endpoint gives no list.
        """
        after: str | None = None
        seen: set[str] = set()
        for _ in range(_MOST_PAGES):

            def send(after: str | None = after) -> bytes:
                from openai import omit

                batches = self._client.batches.with_streaming_response
                return self._read(batches.list(limit=_PAGE, after=after or omit), self._seconds)

            document = self._document(self._call("the list of batches", send))
            page = [read_batch(entry) for entry in document.get("data") or [] if isinstance(entry, dict)]
            fresh = [batch for batch in page if batch and batch.batch_id not in seen]
            yield from fresh
            # Some servers give the same page whatever they are asked to begin after.
            if not fresh or not document.get("has_more"):
                return
            seen |= {batch.batch_id for batch in fresh}
            after = fresh[-1].batch_id

    def download(self, file_id: str, path: Path) -> bool:
        """Write a file of the endpoint to disk; it stands under its name once it is whole.

        Returns:
            False where the endpoint does not have it any more.

        Raises:
            AnnotatorError: As `upload`.
            StoreError: The disk is full or gone.
        """
        part = path.with_name(f"{path.name}.part")

        def receive() -> bytes:
            content = self._client.files.with_streaming_response.content(file_id)
            with PrivateFile(part) as file:
                self._read(content, FILE_SECONDS, file.write)
            return b""

        try:
            found = self._known(f"file {file_id}", receive, lambda _: True)
            if found:
                part.replace(path)
            return bool(found)
        finally:
            part.unlink(missing_ok=True)

    def without_key(self, text: str) -> str:
        """A text without the API key, should it repeat it. A key of a few letters is a word, not a secret."""
        return text.replace(self._key, "***") if len(self._key) >= _SHORTEST_SECRET else text

    # -- calls -----------------------------------------------------------------------------------------------------

    @property
    def _client(self) -> OpenAI:
        if self._sdk is None:
            import httpx2
            from openai import DefaultHttpxClient, OpenAI

            # Of each read and write; the whole is limited by `_read`.
            timeout = httpx2.Timeout(self._seconds, connect=min(10.0, self._seconds))
            # A proxy of the environment is not asked for the way to this machine.
            transport = DefaultHttpxClient(timeout=timeout, trust_env=not is_local(self.url))
            self._sdk = OpenAI(
                api_key=self._key, base_url=self.url, max_retries=0, timeout=timeout, http_client=transport
            )
        return self._sdk

    def _read(
        self, opening: AbstractContextManager[Any], seconds: float, take: Callable[[bytes], object] | None = None
    ) -> bytes:
        """The body of a reply, or nothing where `take` is given and takes it piece by piece."""
        start, pieces = time.monotonic(), []
        with opening as response:
            for piece in response.iter_bytes():
                if take:
                    take(piece)
                else:
                    pieces.append(piece)
                if time.monotonic() - start > seconds:
                    raise TimeoutError(f"no whole reply within {seconds:g} s")
        return b"".join(pieces)

    def _known(self, what: str, send: Callable[[], bytes], read: Callable[[bytes], Read]) -> Read | None:
        """What a call about one object gives; None where the endpoint does not know the object.

        A 404 in the API's own words says so. Any other may come from a gateway, or from a base URL that leads
        elsewhere, and would make us give up what was paid for: there the list of batches must answer first.
        """
        try:
            return read(self._call(what, send))
        except NotOffered as error:
            if error.status != 404:
                raise
            if not error.worded:
                next(self.recent(), None)
            return None

    def _call(self, what: str, send: Callable[[], bytes], *, once: bool = False) -> bytes:
        """The body of the reply to a call, tried again where that can help.

        Args:
            once: Whether what was sent and not answered may have been taken, so that it is not sent again.
        """
        import httpx2
        from openai import APIConnectionError, APIStatusError

        retry = 0
        while True:
            wait: float | None = None
            status = 0
            try:
                return send()
            except APIStatusError as error:
                failure, wait = self._refusal(what, error.response), retry_after(error.response.headers)
                status = error.response.status_code
                unclear = status >= 500
            except (APIConnectionError, httpx2.HTTPError, OSError) as error:
                if isinstance(error, OSError) and not isinstance(error, TimeoutError | ConnectionError):
                    raise
                failure, unclear = self._unreached(what, error)
            if once and unclear:
                raise Unclear(failure.problem, where=self.url, todo=failure.todo, answered=status in (500, 503))
            last = retry + 1 >= self._tries or (wait or 0.0) > LONGEST_PAUSE
            if not isinstance(failure, Unavailable) or last:
                raise failure
            time.sleep(pause(retry, random.random()) + (wait or 0.0))
            retry += 1

    def _refusal(self, what: str, response: httpx2.Response) -> AnnotatorError:
        """What a reply other than 200 means."""
        status, text = response.status_code, self.without_key(response.text)
        if status in (404, 405, 501):
            return NotOffered(
                f"the endpoint does not know {what} (HTTP {status})",
                where=self.url,
                todo="If it has no batch API, set mode: live under annotators: openai",
                status=status,
                worded=_is_worded(text),
            )
        verdict = judge(status, text, model="")
        if not isinstance(verdict, Failure):  # a redirect that was not followed
            return self._error(f"{what}: HTTP {status}")
        problem = f"{what}: {verdict.problem}"
        if verdict.kind == "retry" and status != 409:
            kind = Busy if status == 429 else Unavailable
            return kind(problem, where=self.url, todo="Run again later: what was submitted is kept")
        if status == 401:
            return self._error(problem, f"Set the environment variable {self._key_name} to a valid key")
        if verdict.kind == "stop":
            return self._error(problem, verdict.todo)
        todo = "Lower max_megabytes under annotators: openai: batch" if status == 413 else None
        return Refused(problem, where=self.url, todo=todo)

    def _unreached(self, what: str, error: Exception) -> tuple[AnnotatorError, bool]:
        """A failure of the connection, and whether the request may have arrived."""
        import httpx2

        chain: list[BaseException] = [error]
        while cause := chain[-1].__cause__ or chain[-1].__context__:
            chain.append(cause)
        not_sent = any(isinstance(e, httpx2.ConnectError | httpx2.ConnectTimeout | httpx2.PoolTimeout) for e in chain)
        reason = next((os.strerror(e.errno) for e in chain if isinstance(e, OSError) and e.errno), None)
        reason = reason or self.without_key(str(chain[-1])) or type(chain[-1]).__name__
        problem = f"{what}: {'no server answers' if not_sent else 'the connection broke'}: {reason[:200]}"
        return Unavailable(problem, where=self.url, todo="Check base_url and the network"), not not_sent

    def _document(self, body: bytes) -> dict[str, Any]:
        try:
            document = json.loads(body)
        except (ValueError, RecursionError):
            document = None
        if not isinstance(document, dict):
            shown = self.without_key(well_formed(body[:200].decode("utf-8", errors="replace")))
            raise Unavailable(
                f"expected JSON from the batch API, found {shown!r}", where=self.url, todo="A base_url ends in /v1"
            )
        return document

    def _batch(self, body: bytes) -> RemoteBatch:
        remote = read_batch(self._document(body))
        if remote is None:
            raise Unavailable("expected a batch with an id and a status, found another object", where=self.url)
        return remote

    def _error(self, problem: str, todo: str | None = None) -> AnnotatorError:
        return AnnotatorError(problem, where=self.url, todo=todo)


def batch_api(settings: OpenAIAnnotator, url: str, key: str) -> BatchApi:
    """The batch API of an annotator's endpoint.

    Args:
        url: The checked base URL.
        key: The API key, from the environment.
    """
    return BatchApi(url, key, key_name=settings.api_key_env)


def _is_worded(body: str) -> bool:
    """Whether a 404 has an error in the API's own form."""
    try:
        document = json.loads(body)
    except (ValueError, RecursionError):
        return False
    return isinstance(document, dict) and isinstance(document.get("error"), dict)
