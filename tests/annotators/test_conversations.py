"""Conversations, with a server and with this machine: kept before read, equal ones held once, all of them ended."""

from __future__ import annotations

import threading
from collections import Counter
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import polars as pl
import pytest

from annotation_pipelines.annotators.base import Conversation, LocalAnnotator, Reply, Request, Turn
from annotation_pipelines.annotators.conversations import LocalTalk, RemoteTalk, Talk, advance
from annotation_pipelines.errors import AnnotatorError, StoreError
from annotation_pipelines.project import Budget, Price
from annotation_pipelines.tasks.base import Annotation
from tests.annotators.label_scene import KEY, Scene, frame, numbered
from tests.annotators.talking import purse
from tests.mock_endpoint import Act, Call, MockEndpoint, answer, error


class Shout:
    """Answers with the text in capitals, and asks again about what was not shouted loud enough."""

    name, endpoint, fingerprint = "shout", None, "f"

    def __init__(self) -> None:
        self.asked: list[str] = []

    def requests(self, records: pl.DataFrame) -> list[Request]:
        return [Request(text, record, "h", text) for record, text in records.select("record_id", "content").iter_rows()]

    def annotate(self, requests: Sequence[Request]) -> Iterator[Reply]:
        for request in reversed(requests):
            self.asked.append(request.body)
            yield Reply(request, "ok", request.body.upper())

    def proceed(self, turns: Sequence[Turn]) -> Request | Annotation:
        request, said = turns[-1].request, turns[-1].text or ""
        if said.endswith("?"):
            return Request(f"{request.key}!", request.record_id, "h", f"{request.body}!", "repair")
        return Annotation("labelled", said)


def ended(talk: Talk) -> dict[str, Conversation]:
    """All conversations by record, once none is open."""
    found: dict[str, Conversation] = {}
    while talk.open:
        found |= {conversation.first.record_id: conversation for conversation in talk.take()}
    return found


def begun(annotator: Any, texts: Sequence[str], first: int = 0) -> list[Conversation]:
    records = frame({f"r{first + n}": text for n, text in enumerate(texts)})
    return [Conversation(request) for request in annotator.requests(records)]


def label(conversation: Conversation) -> str | None:
    assert conversation.annotation
    return conversation.annotation.label


def test_a_turn_leads_to_the_next_request_or_to_the_end() -> None:
    (conversation,) = begun(shout := Shout(), ["what?"])
    first = conversation.first
    advance(conversation, Turn(first, "ok", "WHAT?"), shout.proceed)
    assert conversation.request and conversation.request.purpose == "repair" and not conversation.annotation
    advance(conversation, Turn(conversation.request, "ok", "WHAT?!"), shout.proceed)
    assert (conversation.request, label(conversation), conversation.first) == (None, "WHAT?!", first)


class TestOnThisMachine:
    def test_every_conversation_ends_and_equal_requests_are_answered_once(self) -> None:
        shout: LocalAnnotator = Shout()
        kept: list[Reply] = []
        with LocalTalk(shout, kept.append) as talk:
            talk.put(begun(shout, ["a", "b", "a"]))
            assert talk.open == 3
            found = ended(talk)
        assert {name: label(c) for name, c in found.items()} == {"r0": "A", "r1": "B", "r2": "A"}
        assert sorted(reply.text or "" for reply in kept) == ["A", "B"]
        assert sum(conversation.bought for conversation in found.values()) == 2

    def test_what_follows_is_asked_too_also_of_what_comes_in_between(self) -> None:
        shout = Shout()
        with LocalTalk(shout, lambda reply: None) as talk:
            talk.put(begun(shout, ["a?", "b"]))
            talk.take()
            talk.put(begun(shout, ["c", "a?"], first=2))
            found = ended(talk)
        assert {name: label(c) for name, c in found.items()} == {"r0": "A?!", "r1": "B", "r2": "C", "r3": "A?!"}
        assert Counter(shout.asked)["a?!"] == 1

    def test_a_reply_is_kept_before_it_is_read(self) -> None:
        shout = Shout()

        def full(reply: Reply) -> None:
            raise StoreError("no space left on device")

        with LocalTalk(shout, full) as talk, pytest.raises(StoreError):
            talk.put(begun(shout, ["a"]))
            ended(talk)


@pytest.fixture
def scene(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Scene]:
    monkeypatch.setenv("OPENAI_API_KEY", KEY)
    with MockEndpoint() as mock:
        made = Scene(tmp_path / "shop", mock.url)
        made.mock = mock  # type: ignore[attr-defined]
        yield made


class TestWithAServer:
    @pytest.fixture
    def mock(self, scene: Scene) -> MockEndpoint:
        return scene.mock  # type: ignore[attr-defined,no-any-return]

    def test_the_first_request_goes_alone(self, scene: Scene, mock: MockEndpoint) -> None:
        in_flight: list[int] = []

        def behave(call: Call) -> Act:
            in_flight.append(mock.in_flight)
            return answer("agrees")

        mock.behave, mock.latency = behave, 0.02
        asked = scene.annotator()
        with purse() as paid, RemoteTalk(asked, lambda reply: None, paid) as talk:
            talk.put(begun(asked, numbered(20)))
            ended(talk)
        assert in_flight[0] == 1 and max(in_flight[1:]) > 1
        assert mock.calls[1].arrived - mock.calls[0].arrived >= 0.02

    def test_conversations_may_come_when_all_before_them_have_ended(self, scene: Scene, mock: MockEndpoint) -> None:
        asked = scene.annotator()
        with purse() as paid, RemoteTalk(asked, lambda reply: None, paid) as talk:
            talk.put([])
            assert (talk.open, talk.take()) == (0, [])
            for first in (0, 5):
                talk.put(begun(asked, numbered(5, first), first))
                assert len(ended(talk)) == 5
        assert sorted(mock.billed) == numbered(10)

    def test_what_was_answered_on_the_last_two_pages_is_remembered(self, scene: Scene, mock: MockEndpoint) -> None:
        """Older replies are in the ledger, where the caller looks first."""
        asked = scene.annotator()
        with purse() as paid, RemoteTalk(asked, lambda reply: None, paid) as talk:
            for page, calls in enumerate([1, 1, 2]):
                talk.put(begun(asked, ["same"] * 2, 2 * page))
                assert len(ended(talk)) == 2
                assert len(mock.calls) == calls
                talk.turn_page()
                if page:
                    talk.turn_page()

    def test_followers_of_one_that_found_no_budget_find_none_either(self, scene: Scene, mock: MockEndpoint) -> None:
        asked = scene.annotator()
        no_money = purse(Budget(per_run_usd=0), price=Price(input=1, output=1))
        with no_money as paid, RemoteTalk(asked, lambda reply: None, paid) as talk:
            talk.put(begun(asked, ["same", "same", "other"]))
            found = ended(talk)
        assert Counter(c.annotation.state for c in found.values() if c.annotation) == {"over_budget": 3}
        assert all(c.request for c in found.values()), "what would be asked next is known"
        assert mock.calls == []

    def test_a_reply_that_cannot_be_kept_stops_everything(self, scene: Scene, mock: MockEndpoint) -> None:
        kept: list[Reply] = []

        def nearly_full(reply: Reply) -> None:
            if len(kept) == 5:
                raise StoreError("no space left on device")
            kept.append(reply)

        asked = scene.annotator(concurrency=2)
        with purse() as paid, RemoteTalk(asked, nearly_full, paid) as talk:
            talk.put(begun(asked, numbered(50)))
            found: dict[str, Conversation] = {}
            with pytest.raises(StoreError, match="no space"):
                while talk.open:
                    found |= {c.first.record_id: c for c in talk.take()}
        assert len(kept) == len(found) == 5
        assert len(mock.calls) <= 5 + 2

    def test_what_ended_before_a_failure_is_handed_over_before_it_is_raised(
        self, scene: Scene, mock: MockEndpoint
    ) -> None:
        mock.behave = lambda call: error(401) if call.number >= 30 else answer("agrees")
        asked, found = scene.annotator(), []
        with purse() as paid, RemoteTalk(asked, lambda reply: None, paid) as talk:
            talk.put(begun(asked, numbered(100)))
            with pytest.raises(AnnotatorError):
                while True:
                    found += talk.take()
        assert len(found) == len(mock.billed) == 30
        assert not [thread for thread in threading.enumerate() if thread.name == "annotate"]
