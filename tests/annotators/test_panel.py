"""Several annotators: a jury's votes, a cascade from the cheap to the dear, and what each costs."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import pytest

from annotation_pipelines.annotators.panel import Said, cascade, jury
from annotation_pipelines.errors import AnnotatorError
from annotation_pipelines.project import Budget
from annotation_pipelines.tasks.base import Annotation, State
from annotation_pipelines.tasks.classification import Classification, ClassificationTask
from tests.annotators.label_scene import KEY, ONE_REPLY, Scene, numbered
from tests.mock_batches import MockBatches
from tests.mock_endpoint import MockEndpoint, answer, completion, error

TASK = ClassificationTask(Classification(labels={"x": "x", "y": "y"}))


def says(annotator: str, label: str | None, confidence: float | None = None, rationale: str | None = None) -> Said:
    state: State = "labelled" if label else "abstained"
    return Said(annotator, Annotation(state, label, confidence, rationale=rationale))


def ends(annotator: str, state: State) -> Said:
    return Said(annotator, Annotation(state, problem=f"{annotator} {state}"))


# -- how votes make a label -----------------------------------------------------------------------------------------


def test_the_label_with_the_most_votes_wins_and_its_share_is_the_confidence() -> None:
    made = jury([says("a", "x", 0.2, "first"), says("b", "y", 0.9), says("c", "x", 0.4, "last")], TASK, {})
    assert (made.state, made.label, made.rationale) == ("labelled", "x", "first")
    assert made.confidence == pytest.approx(2 / 3)
    assert made.scores == pytest.approx({"x": 2 / 3, "y": 1 / 3})


def test_weights_count_and_a_vote_without_one_counts_1() -> None:
    made = jury([says("a", "x"), says("b", "y"), says("c", "x")], TASK, {"b": 3.0})
    assert (made.label, made.confidence) == ("y", pytest.approx(3 / 5))


def test_of_a_tie_the_surer_label_wins_then_the_first() -> None:
    assert jury([says("a", "x", 0.6), says("b", "y", 0.7)], TASK, {}).label == "y"
    assert jury([says("a", "x"), says("b", "y")], TASK, {}).label == "x"
    third = {"a": 0.1, "b": 0.2, "c": 0.3}
    assert jury([says("a", "x"), says("b", "x"), says("c", "y", 0.9)], TASK, third).label == "y", "0.1 + 0.2 is 0.3"


def test_to_abstain_is_a_vote() -> None:
    made = jury([says("a", None), says("b", None), says("c", "x")], TASK, {})
    assert (made.state, made.label, made.confidence, made.scores) == (
        "abstained",
        None,
        pytest.approx(2 / 3),
        pytest.approx({"x": 1 / 3}),
    )


def test_a_vote_that_failed_or_is_invalid_is_none() -> None:
    made = jury([ends("a", "failed"), says("b", "x"), ends("c", "invalid"), ends("d", "refused")], TASK, {"a": 9})
    assert (made.label, made.confidence) == ("x", 1.0)


@pytest.mark.parametrize("state", ["submitted", "over_budget"])
def test_a_vote_that_is_to_come_is_waited_for(state: State) -> None:
    made = jury([says("a", "x"), says("b", "x"), ends("c", state)], TASK, {})
    assert (made.state, made.label, made.problem) == (state, None, f"c {state}")


def test_without_a_valid_vote_the_most_frequent_end_counts() -> None:
    made = jury([ends("a", "failed"), ends("b", "invalid"), ends("c", "invalid")], TASK, {})
    assert (made.state, made.problem) == ("invalid", "b invalid")


def test_a_cascade_takes_the_first_label_that_is_sure_else_the_last_one() -> None:
    assert cascade([says("a", "x", 0.8), says("b", "y", 0.9)], 0.8).label == "x"
    assert cascade([says("a", "x", 0.7), says("b", "y", 0.9)], 0.8).label == "y"
    assert cascade([says("a", "x", 0.7), says("b", "y", 0.1)], 0.8).label == "y"
    assert cascade([says("a", "x", None), says("b", "y", 0.1)], 0.0).label == "y", "without a confidence it is not sure"
    assert cascade([says("a", "x", 0.7), ends("b", "invalid")], 0.8).label == "x", "better than none"
    assert cascade([says("a", "x", 0.7), ends("b", "over_budget")], 0.8).state == "over_budget"
    assert cascade([ends("a", "invalid"), says("b", None)], 0.8).state == "abstained"


# -- over HTTP --------------------------------------------------------------------------------------------------------


class Jurors:
    """Three endpoints, and what is said there."""

    def __init__(self, scene: Scene, mocks: list[MockEndpoint]) -> None:
        self.scene, self.mocks = scene, mocks

    def member(self, number: int, **settings: Any) -> Any:
        """An annotator called a, b or c, behind its endpoint."""
        return self.scene.annotator(name="abc"[number], base_url=self.mocks[number].url, **settings)

    def members(self, count: int = 3, **settings: Any) -> list[Any]:
        return [self.member(number, **settings) for number in range(count)]

    @property
    def calls(self) -> list[int]:
        """How many requests came to each."""
        return [len(mock.calls) for mock in self.mocks]


@pytest.fixture
def jurors(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Jurors]:
    monkeypatch.setenv("OPENAI_API_KEY", KEY)
    with ExitStack() as stack:
        mocks = [stack.enter_context(MockEndpoint()) for _ in range(3)]
        yield Jurors(Scene(tmp_path / "shop", mocks[0].url), mocks)


def test_a_jury_of_three_endpoints_labels_by_majority(jurors: Jurors) -> None:
    scene = jurors.scene
    jurors.mocks[1].behave = lambda call: answer("denies", 0.9)
    jurors.mocks[2].behave = lambda call: answer("denies" if call.text == "text 1" else "agrees", 0.5)
    counts = scene.panel(jurors.members(), numbered(3))
    assert scene.rows("label, annotator, partition_key, run_id, reused") == [
        ("agrees", "jury", "p", "run", False),
        ("denies", "jury", "p", "run", False),
        ("agrees", "jury", "p", "run", False),
    ]
    assert scene.rows("confidence") == [(pytest.approx(2 / 3),)] * 3
    assert len(scene.rows("record_id", "llm_votes")) == 9
    assert (counts.selected, counts.new, counts.called) == (3, 3, 9)
    assert counts.cost_usd == pytest.approx(9 * ONE_REPLY)
    assert counts.states == Counter(labelled=3)


def test_an_unchanged_jury_makes_no_call_and_keeps_its_labels(jurors: Jurors) -> None:
    scene = jurors.scene
    scene.panel(jurors.members(), numbered(2))
    rows = scene.rows("*")
    counts = scene.panel(jurors.members(), numbered(2), run_id="later")
    assert (jurors.calls, counts.unchanged, counts.called) == ([2, 2, 2], 2, 0)
    assert scene.rows("*") == rows


def test_other_weights_count_the_votes_again_without_a_call(jurors: Jurors) -> None:
    scene = jurors.scene
    jurors.mocks[2].behave = lambda call: answer("denies")
    scene.panel(jurors.members(), numbered(2))
    assert set(scene.rows("label")) == {("agrees",)}
    counts = scene.panel(jurors.members(), numbered(2), weights={"c": 5})
    assert (set(scene.rows("label")), counts.called, jurors.calls) == ({("denies",)}, 0, [2, 2, 2])


def test_a_juror_that_fails_is_left_out_and_asked_again(jurors: Jurors) -> None:
    scene = jurors.scene
    jurors.mocks[1].behave = lambda call: error(400, "no") if call.text == "text 1" else answer("denies")
    jurors.mocks[2].behave = lambda call: answer("denies")
    counts = scene.panel(jurors.members(), numbered(2))
    assert counts.states == Counter(labelled=2)
    assert dict(scene.rows("record_id, confidence"))["r001"] == 0.5
    jurors.mocks[1].behave = lambda call: answer("denies")
    counts = scene.panel(jurors.members(), numbered(2), run_id="later")
    assert (counts.called, jurors.calls) == (1, [2, 3, 2])
    assert scene.rows("label, confidence") == [("denies", pytest.approx(2 / 3))] * 2


def test_a_juror_that_gives_up_stops_the_run_and_the_others_votes_stay(jurors: Jurors) -> None:
    scene = jurors.scene
    jurors.mocks[1].behave = lambda call: error(401)
    with pytest.raises(AnnotatorError, match="refused the key"):
        scene.panel(jurors.members(), numbered(3))
    assert (jurors.calls, scene.states()) == ([3, 1, 0], {})
    jurors.mocks[1].behave = lambda call: answer("agrees")
    assert scene.panel(jurors.members(), numbered(3)).states == Counter(labelled=3)
    assert jurors.calls == [3, 4, 3]


def test_a_juror_that_is_added_or_left_out_costs_only_its_own_votes(jurors: Jurors) -> None:
    scene = jurors.scene
    jurors.mocks[2].behave = lambda call: answer("denies", 1.0)
    scene.panel(jurors.members(2), numbered(2))
    scene.panel(jurors.members(3), numbered(2))
    assert jurors.calls == [2, 2, 2]
    counts = scene.panel([jurors.member(0), jurors.member(2)], numbered(2))
    assert (counts.called, {name for (name,) in scene.rows("annotator", "llm_votes")}) == (0, {"a", "c"})
    assert set(scene.rows("label")) == {("denies",)}, "the surer one of a tie"


def test_one_annotator_in_the_place_of_a_jury_buys_nothing_again_and_leaves_no_votes(jurors: Jurors) -> None:
    """A vote that failed would seem to be missing for ever."""
    scene = jurors.scene
    jurors.mocks[1].behave = lambda call: error(400, "no")
    scene.panel(jurors.members(2), numbered(2))
    counts = scene.panel([jurors.member(0)], numbered(2))
    assert (counts.called, jurors.calls) == (0, [2, 2, 0])
    assert (set(scene.rows("annotator")), scene.rows("record_id", "llm_votes")) == ({("a",)}, [])
    assert scene.panel([jurors.member(0), jurors.member(2)], numbered(2)).called == 2, "and back: the ledger knows"


def test_a_changed_record_is_put_to_the_jury_again_and_one_that_left_loses_its_votes(jurors: Jurors) -> None:
    scene = jurors.scene
    scene.panel(jurors.members(2), {"a": "one", "b": "two", "c": "three"})
    counts = scene.panel(jurors.members(2), {"a": "one", "b": "two, again"})
    assert (counts.changed, counts.called, jurors.calls) == (1, 2, [4, 4, 0])
    for table in ("llm_votes", "llm_labels"):
        assert {key for (key,) in scene.rows("record_id", table)} == {"a", "b"}
    assert {tuple(row) for row in scene.rows("content_hash")} == {
        tuple(r) for r in scene.rows("content_hash", "llm_votes")
    }


def test_a_budget_stops_the_jury_where_it_is_and_the_next_run_goes_on(jurors: Jurors) -> None:
    scene, texts = jurors.scene, numbered(12)
    members = jurors.members(2, concurrency=2)
    caps = Budget(per_run_usd=0.022)
    counts = scene.panel(members, texts, budget=caps)
    assert counts.states["over_budget"] and jurors.calls[1] < 12
    assert counts.cost_usd is not None and counts.cost_usd <= 0.022
    for run in range(5):
        if scene.panel(members, texts, budget=caps, run_id=f"run {run}").states == Counter(labelled=12):
            break
    assert jurors.calls == [12, 12, 0], "nothing is bought twice"


def test_no_juror_is_asked_where_one_has_no_price_for_a_cap_on_money(jurors: Jurors) -> None:
    members = [jurors.member(0), jurors.member(1, price=None)]
    with pytest.raises(AnnotatorError, match=r"b at .*the price of the model is not known"):
        jurors.scene.panel(members, numbered(3), budget=Budget(per_day_usd=1))
    assert jurors.calls == [0, 0, 0]
    assert jurors.scene.panel(members, numbered(3)).cost_usd is None, "unknown as soon as one is"


def test_a_cascade_asks_the_next_one_only_about_what_is_unsure(jurors: Jurors) -> None:
    scene = jurors.scene
    acts = {
        "sure": answer("agrees", 0.95),
        "unsure": answer("agrees", 0.5),
        "silent": answer("agrees", None),
        "invalid": completion("nonsense"),
        "failed": error(400, "no"),
    }
    jurors.mocks[0].behave = lambda call: acts[call.text]
    jurors.mocks[1].behave = lambda call: answer("denies", 0.9 if call.text == "unsure" else 0.6)
    jurors.mocks[2].behave = lambda call: answer("denies", 0.99)
    texts = {name: name for name in acts}
    counts = scene.panel(jurors.members(repairs=0), texts, combine="cascade")
    assert sorted(call.text for call in jurors.mocks[1].calls) == ["invalid", "silent", "unsure"]
    assert sorted(call.text for call in jurors.mocks[2].calls) == ["invalid", "silent"]
    assert dict(scene.rows("record_id, label")) == {
        "sure": "agrees",
        "unsure": "denies",
        "silent": "denies",
        "invalid": "denies",
        "failed": None,
    }
    assert dict(scene.rows("record_id, confidence"))["unsure"] == 0.9
    assert counts.states == Counter(labelled=4, failed=1)
    assert {name for (name,) in scene.rows("annotator")} == {"cascade"}
    jurors.mocks[0].behave = lambda call: answer("agrees", 0.6)
    counts = scene.panel(jurors.members(repairs=0), texts, combine="cascade", run_id="later")
    assert (counts.called, counts.states) == (3, Counter(labelled=5)), "what failed goes all the way"


def test_another_min_confidence_asks_only_about_what_it_makes_unsure(jurors: Jurors) -> None:
    scene = jurors.scene
    jurors.mocks[0].behave = lambda call: answer("agrees", 0.7)
    jurors.mocks[1].behave = lambda call: answer("denies", 0.75)
    members = jurors.members(2)
    scene.panel(members, numbered(3), combine="cascade", min_confidence=0.6)
    assert (jurors.calls, set(scene.rows("label"))) == ([3, 0, 0], {("agrees",)})
    counts = scene.panel(members, numbered(3), combine="cascade", min_confidence=0.72)
    assert (counts.called, jurors.calls, set(scene.rows("label"))) == (3, [3, 3, 0], {("denies",)})
    counts = scene.panel(members, numbered(3), combine="cascade", min_confidence=0.6)
    assert (counts.called, jurors.calls, set(scene.rows("label"))) == (0, [3, 3, 0], {("agrees",)})
    counts = scene.panel(members, numbered(3), combine="cascade", min_confidence=0.72)
    assert (counts.called, jurors.calls) == (0, [3, 3, 0]), "the replies are in the ledger"


def test_a_juror_by_batch_is_waited_for(jurors: Jurors) -> None:
    scene, server = jurors.scene, MockBatches(lambda call: answer("denies", 0.9))
    with MockEndpoint(lambda call: answer("denies", 0.9), routes=server.routes) as mock:
        members = [jurors.member(0), scene.annotator(name="b", base_url=mock.url, mode="batch"), jurors.member(2)]
        counts = scene.panel(members, numbered(3))
        assert counts.states == Counter(labelled=1, submitted=2), "the first tells how the server is to be asked"
        assert scene.panel(members, numbered(3), run_id="second").called == 0
        server.finish("batch_0")
        counts = scene.panel(members, numbered(3), run_id="third")
        assert counts.states == Counter(labelled=3)
        assert (set(scene.rows("label")), jurors.calls, len(server.batches)) == ({("agrees",)}, [3, 0, 3], 1)


def test_a_cascade_passes_on_what_a_batch_has_brought(jurors: Jurors) -> None:
    scene, server = jurors.scene, MockBatches(lambda call: answer("agrees", 0.5))
    with MockEndpoint(lambda call: answer("agrees", 0.9), routes=server.routes) as mock:
        members = [scene.annotator(name="a", base_url=mock.url, mode="batch"), jurors.member(1)]
        scene.panel(members, numbered(3), combine="cascade")
        assert jurors.calls == [0, 0, 0], "what waits is not passed on"
        server.finish("batch_0")
        counts = scene.panel(members, numbered(3), combine="cascade", run_id="second")
        assert (counts.states, jurors.calls) == (Counter(labelled=3), [0, 2, 0])
