"""Caps on money and tokens during passes: what is spent, what is left out, how the next run goes on."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator
from pathlib import Path

import pytest

from annotation_pipelines.errors import AnnotatorError
from tests.annotators.label_scene import KEY, ONE_REPLY, Scene, numbered
from tests.mock_endpoint import MockEndpoint, answer, completion


@pytest.fixture
def mock() -> Iterator[MockEndpoint]:
    with MockEndpoint() as endpoint:
        yield endpoint


@pytest.fixture
def scene(tmp_path: Path, mock: MockEndpoint, monkeypatch: pytest.MonkeyPatch) -> Scene:
    monkeypatch.setenv("OPENAI_API_KEY", KEY)
    return Scene(tmp_path / "shop", mock.url)


@pytest.mark.parametrize("cap", [{"per_run_usd": 0.02}, {"per_run_tokens": 2_000}])
def test_what_a_run_may_not_buy_the_next_ones_do_and_nothing_is_bought_twice(
    scene: Scene, mock: MockEndpoint, cap: dict[str, float]
) -> None:
    most = cap.get("per_run_usd", cap.get("per_run_tokens", 0) * 1e-5)
    states = []
    for run in range(6):
        counts = scene.label(numbered(30), run_id=f"run {run}", **cap)
        states.append(dict(counts.states))
        assert counts.cost_usd is not None and counts.cost_usd <= most
        if not counts.states["over_budget"]:
            break
    assert states[0]["over_budget"] and states[0]["labelled"] > 5, "most of the cap is used"
    assert states[-1] == {"labelled": 30}
    assert Counter(mock.billed) == Counter(numbered(30))


def test_an_over_budget_record_says_which_cap_and_is_taken_up_again(scene: Scene, mock: MockEndpoint) -> None:
    counts = scene.label(numbered(3), per_run_usd=0.0)
    assert (counts.states, mock.calls) == (Counter(over_budget=3), [])
    ((problem, reused),) = set(scene.rows("problem, reused"))
    assert "0 USD a run is reached" in problem and not reused
    counts = scene.label(numbered(3), run_id="later")
    assert (counts.retried, counts.called, counts.states["labelled"]) == (3, 3, 3)


def test_a_day_is_shared_by_all_runs(scene: Scene, mock: MockEndpoint) -> None:
    first = scene.label(numbered(30), run_id="one", per_day_usd=0.02)
    second = scene.label(numbered(30), run_id="two", per_day_usd=0.02)
    assert first.called and not second.called
    assert scene.spent() <= 0.02
    third = scene.label(numbered(30), run_id="three", per_day_usd=1.0)
    assert third.states == Counter(labelled=30)
    assert len(mock.billed) == 30


def test_a_backfill_is_shared_by_its_runs_alone(scene: Scene, mock: MockEndpoint) -> None:
    cap = {"per_backfill_tokens": 1_500}
    first = scene.label(numbered(20), run_id="one", backfill_id="b1", **cap)
    second = scene.label(numbered(20, 20), run_id="two", backfill_id="b1", partition_key="q", **cap)
    assert first.states["over_budget"] and second.states == Counter(over_budget=20)
    other = scene.label(numbered(20, 20), run_id="three", backfill_id="b2", partition_key="q", **cap)
    assert other.states["labelled"]
    alone = scene.label(numbered(20), run_id="four", **cap)
    assert alone.states == Counter(labelled=20), "a run that belongs to no backfill is not capped"
    tokens = dict(
        scene.store.query(
            "SELECT backfill_id, sum(prompt_tokens + completion_tokens)::BIGINT AS n FROM llm_calls "
            "WHERE backfill_id IS NOT NULL GROUP BY ALL"
        ).iter_rows()
    )
    assert set(tokens) == {"b1", "b2"} and max(tokens.values()) <= 1_500
    assert len(mock.billed) == len(set(mock.billed))


def test_a_repair_that_the_budget_does_not_pay_for_is_made_by_the_next_run_alone(
    scene: Scene, mock: MockEndpoint
) -> None:
    mock.behave = lambda call: completion("nonsense", usage=(900, 100)) if call.attempt == 0 else answer("denies")
    cap = {"per_run_tokens": 1_600}
    counts = scene.label(["a"], **cap)
    assert (counts.called, counts.states) == (1, Counter(over_budget=1))
    counts = scene.label(["a"], run_id="later", **cap)
    assert (counts.called, counts.repairs, counts.states) == (1, 1, Counter(labelled=1))
    assert len(mock.calls) == 2


def test_money_cannot_be_capped_without_a_price_and_nothing_is_sent(scene: Scene, mock: MockEndpoint) -> None:
    unpriced = scene.annotator(price=None)
    with pytest.raises(AnnotatorError, match=r"per_day_usd.*price of the model is not known.*prices\.yaml") as caught:
        scene.label(numbered(3), unpriced, per_day_usd=5)
    assert "\n" not in str(caught.value) and "openai:mock" in str(caught.value)
    assert (mock.calls, scene.states()) == ([], {})
    counts = scene.label(numbered(3), unpriced, per_run_tokens=1_000_000)
    assert (counts.called, counts.cost_usd) == (3, None), "tokens can be capped, and the cost is unknown"


def test_what_was_not_answered_costs_what_it_may_have_cost(scene: Scene, mock: MockEndpoint) -> None:
    """A reply without usage counts with its bound."""
    mock.behave = lambda call: completion('{"label": "agrees", "confidence": 1}', usage=None)
    counts = scene.label(numbered(20), scene.annotator(concurrency=1), per_run_usd=0.05)
    assert 0 < counts.states["labelled"] < 0.05 / ONE_REPLY / 3
    assert counts.states["over_budget"] == 20 - counts.states["labelled"]
