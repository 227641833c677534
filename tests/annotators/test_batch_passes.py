"""Passes by the batch API: submitted, harvested, labelled; nothing is bought twice on the way."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from annotation_pipelines.annotators.counts import AnnotationCounts
from annotation_pipelines.errors import AnnotatorError
from tests.annotators.label_scene import KEY, ONE_REPLY, Scene, frame, numbered
from tests.mock_batches import MockBatches
from tests.mock_endpoint import MockEndpoint, answer, completion, error


@pytest.fixture
def server() -> MockBatches:
    return MockBatches(lambda call: answer("denies"), key=KEY)


@pytest.fixture
def mock(server: MockBatches) -> Iterator[MockEndpoint]:
    with MockEndpoint(routes=server.routes) as endpoint:
        yield endpoint


@pytest.fixture
def scene(tmp_path: Path, mock: MockEndpoint, monkeypatch: pytest.MonkeyPatch) -> Scene:
    monkeypatch.setenv("OPENAI_API_KEY", KEY)
    return Scene(tmp_path / "shop", mock.url)


def label(scene: Scene, texts: Any, run_id: str = "run", mode: str = "batch", **more: Any) -> AnnotationCounts:
    """A pass by the batch API; `caps` are those of the budget, all else is the annotator's."""
    caps = more.pop("caps", {})
    return scene.label(texts, scene.annotator(mode=mode, **more), run_id=run_id, **caps)


def submitted(server: MockBatches) -> list[list[str]]:
    """The records in each batch."""
    return [
        [request["body"]["messages"][-1]["content"].splitlines()[1] for request in server.requests(batch_id)]
        for batch_id in server.batches
    ]


def tokens(scene: Scene) -> int:
    """Of one prompt, as estimated."""
    asked = scene.annotator()
    return int(asked.prompt_tokens(asked.requests(frame(numbered(1)))[0]))


def test_records_are_submitted_harvested_and_labelled(scene: Scene, server: MockBatches, mock: MockEndpoint) -> None:
    counts = label(scene, numbered(5))
    assert [call.text for call in mock.calls] == ["text 0"], "of an unknown server it is found out first what it takes"
    assert submitted(server) == [numbered(4, 1)]
    assert counts.states == Counter(labelled=1, submitted=4)
    assert label(scene, numbered(5), "second").states == Counter(labelled=1, submitted=4)
    assert len(server.batches) == 1, "what waits for a batch is not submitted again"
    server.finish("batch_0")
    counts = label(scene, numbered(5), "third")
    assert counts.states == Counter(labelled=5)
    assert (counts.called, counts.from_ledger, len(mock.calls), len(server.batches)) == (0, 4, 1, 1)
    assert scene.rows("label, state, problem") == [("agrees", "labelled", None), *[("denies", "labelled", None)] * 4]
    assert scene.rows("batch_id, run_id, cost_usd", "llm_calls") == [
        (None, "run", pytest.approx(ONE_REPLY)),
        *[("batch_0", "run", pytest.approx(ONE_REPLY / 2))] * 4,
    ]
    assert set(server.billed.values()) == {1}


def test_a_server_that_is_known_is_asked_nothing_live(scene: Scene, server: MockBatches, mock: MockEndpoint) -> None:
    scene.label(["before"])
    label(scene, numbered(3))
    assert len(mock.calls) == 1
    assert submitted(server) == [numbered(3)]


def test_equal_texts_are_bought_once_whichever_way_they_are_asked(
    scene: Scene, server: MockBatches, mock: MockEndpoint
) -> None:
    label(scene, ["same", "twin", "same", "twin"])
    assert ([call.text for call in mock.calls], submitted(server)) == (["same"], [["twin"]])
    server.finish("batch_0")
    assert label(scene, ["same", "twin", "same", "twin"], "second").states == Counter(labelled=4)
    assert [label for (label,) in scene.rows("label")] == ["agrees", "denies", "agrees", "denies"]


def test_an_invalid_answer_of_a_batch_is_repaired_by_the_next_one(scene: Scene, server: MockBatches) -> None:
    scene.label(["before"])
    server.behave = lambda call: answer("shrugs" if len(call.body["messages"]) == 2 else "denies")
    for run, state in enumerate(["submitted", "submitted", "labelled"]):
        assert label(scene, ["a"], f"run {run}").states == Counter({state: 1})
        for batch_id in server.open:
            server.finish(batch_id)
    assert scene.rows("purpose", "llm_calls", "record_id = 'r000'")[-2:] == [("ask",), ("repair",)]
    assert scene.rows("label") == [("denies",)]


def test_only_the_remainder_of_an_expired_batch_is_submitted_again(scene: Scene, server: MockBatches) -> None:
    scene.label(["before"])
    label(scene, numbered(4))
    keys = [request["custom_id"] for request in server.requests("batch_0")]
    server.finish("batch_0", "expired", answered=keys[:3])
    assert label(scene, numbered(4), "second").states == Counter(labelled=3, submitted=1)
    assert submitted(server) == [numbered(4), ["text 3"]]


def test_in_mode_auto_the_remainder_is_asked_live(scene: Scene, server: MockBatches, mock: MockEndpoint) -> None:
    scene.label(["before"])
    label(scene, numbered(4), mode="auto")
    assert label(scene, numbered(4), "second", "auto").called == 0, "the batch is still being worked on"
    server.finish("batch_0", "expired", answered=[server.requests("batch_0")[0]["custom_id"]])
    counts = label(scene, numbered(5), "third", "auto")
    assert [call.text for call in mock.calls[1:]] == ["text 1", "text 2", "text 3"]
    assert counts.states == Counter(labelled=4, submitted=1)
    assert submitted(server) == [numbered(4), ["text 4"]], "what is new goes by batch"


def test_what_finds_no_room_waits_and_follows(scene: Scene, server: MockBatches) -> None:
    scene.label(["before"])
    room = {"max_enqueued_tokens": 2 * tokens(scene) + 50}
    assert label(scene, numbered(3), batch=room).states == Counter(submitted=3)
    assert label(scene, numbered(3), "second", batch=room).states == Counter(submitted=3)
    assert submitted(server) == [["text 0", "text 1"]]
    server.finish("batch_0")
    assert label(scene, numbered(3), "third", batch=room).states == Counter(labelled=2, submitted=1)
    assert submitted(server)[1:] == [["text 2"]]


def test_what_the_budget_does_not_pay_for_is_over_budget_and_follows(scene: Scene, server: MockBatches) -> None:
    scene.label(["before"], run_id="earlier")
    caps = {"per_run_tokens": 1_500}
    counts = label(scene, numbered(4), caps=caps)
    (first,) = submitted(server)
    assert 0 < len(first) < 4
    assert counts.states == Counter(submitted=len(first), over_budget=4 - len(first))
    server.finish("batch_0")
    counts = label(scene, numbered(4), "second", caps=caps)
    assert counts.states["labelled"] == len(first) and counts.states["submitted"] > 0
    everything = [text for batch in submitted(server) for text in batch]
    assert len(everything) == len(set(everything)), "nothing is submitted twice"


def test_a_money_cap_counts_what_a_batch_holds_until_it_ends(scene: Scene, server: MockBatches) -> None:
    scene.label(["before"], run_id="earlier")
    caps = {"per_day_usd": 0.02}
    first = label(scene, numbered(30), caps=caps).states
    assert first["submitted"] and first["over_budget"]
    assert label(scene, numbered(30), "second", caps=caps).states == first, "the batch holds what it may cost"
    server.finish("batch_0")
    second = label(scene, numbered(30), "third", caps=caps).states
    assert second["labelled"] == first["submitted"]
    assert second["submitted"], "what the batch did not use is free again"
    assert scene.spent() <= 0.02


def test_a_switch_to_live_does_not_buy_what_a_batch_is_working_on(
    scene: Scene, server: MockBatches, mock: MockEndpoint
) -> None:
    scene.label(["before"])
    label(scene, numbered(3))
    counts = label(scene, numbered(5), "second", "live")
    assert [call.text for call in mock.calls[1:]] == ["text 3", "text 4"]
    assert counts.states == Counter(labelled=2, submitted=3)
    server.finish("batch_0")
    assert label(scene, numbered(5), "third", "live").states == Counter(labelled=5)
    assert (len(mock.calls), len(server.batches)) == (3, 1)


def test_what_could_not_be_submitted_does_not_seem_to_wait(scene: Scene, server: MockBatches) -> None:
    scene.label(["before"])
    server.trouble("POST /files", 404, body="not found")
    with pytest.raises(AnnotatorError):
        label(scene, numbered(3))
    assert "submitted" not in scene.states().values()
    assert label(scene, numbered(3), "second").states == Counter(submitted=3)


def test_a_first_request_that_is_refused_stops_before_anything_is_submitted(
    scene: Scene, server: MockBatches, mock: MockEndpoint
) -> None:
    mock.behave = lambda call: error(404, "no such model", code="model_not_found")
    with pytest.raises(AnnotatorError, match="no model 'mock'"):
        label(scene, numbered(3))
    assert (len(mock.calls), server.batches, scene.states()) == (1, {}, {})


def test_refusals_and_failures_of_a_batch_end_as_such(scene: Scene, server: MockBatches) -> None:
    scene.label(["before"])
    acts = {"text 0": completion(None, refusal="no"), "text 1": error(400, "too long"), "text 2": answer("denies")}
    server.behave = lambda call: acts[call.text]
    label(scene, numbered(3))
    server.finish("batch_0")
    counts = label(scene, numbered(3), "second")
    assert counts.states == Counter(refused=1, submitted=1, labelled=1), "what failed is tried again"
