"""Caps and the account: pure, event by event."""

from __future__ import annotations

import json
from datetime import date, timedelta
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, precondition, rule

from annotation_pipelines.annotators.spending.budget import (
    KEPT_DAYS,
    KEPT_SCOPES,
    Account,
    Amount,
    Cap,
    declared_caps,
)
from annotation_pipelines.project import Budget

TODAY = date(2026, 11, 21)
DAY = "day:2026-11-21"
RUN = "run:a"


def caps(day: float | None = 1.0, run: int | None = None) -> dict[str, Cap]:
    found = {DAY: Cap("day", day, None)}
    return found if run is None else {**found, RUN: Cap("run", None, run)}


def test_only_declared_caps_count() -> None:
    assert declared_caps(Budget()) == ()
    assert declared_caps(Budget(per_day_usd=0, per_run_tokens=5)) == (Cap("run", None, 5), Cap("day", 0.0, None))


def test_caps_in_words() -> None:
    assert Cap("run", 5.0, 1_000_000).words == "5 USD and 1,000,000 tokens a run"
    assert Cap("day", 0.25, None).words == "0.25 USD a day (UTC)"


def test_unknown_money_stays_unknown_and_tokens_go_on_counting() -> None:
    assert Amount(None, 3) + Amount(1.0, 4) == Amount(None, 7)
    assert Amount(None, 3).larger(Amount(1.0, 2)) == Amount(1.0, 3)


def test_money_is_added_without_drift() -> None:
    total = Amount()
    for _ in range(30_000):
        total += Amount(0.0001, 1)
    assert total == Amount(3.0, 30_000)


def test_what_fits_may_be_held_up_to_the_cap_exactly() -> None:
    account = Account({})
    for _ in range(10):
        assert account.answer(caps(), Amount(0.1, 1)).answer == "yes"
        account.hold(caps(), "p", Amount(0.1, 1), TODAY)
    assert account.held(DAY) == Amount(1.0, 10)
    assert account.answer(caps(), Amount(0.000000001, 1)).answer == "wait"


def test_what_is_in_flight_is_worth_waiting_for_and_what_is_spent_is_not() -> None:
    account = Account({})
    account.hold(caps(), "other", Amount(0.9, 90), TODAY)
    assert account.answer(caps(), Amount(0.2, 20)).answer == "wait"
    account.settle((DAY,), "other", Amount(0.9, 90), Amount(0.1, 10), TODAY)
    assert account.answer(caps(), Amount(0.2, 20)).answer == "yes"
    account.settle((DAY,), "other", Amount(), Amount(0.75, 75), TODAY)
    verdict = account.answer(caps(), Amount(0.2, 20))
    assert verdict.answer == "no"
    assert verdict.cap == caps()[DAY]
    assert verdict.spent == Amount(0.85, 85)


def test_every_scope_must_have_room() -> None:
    account = Account({})
    both = caps(day=1.0, run=100)
    account.settle((RUN,), "p", Amount(), Amount(0.0, 90), TODAY)
    verdict = account.answer(both, Amount(0.1, 20))
    assert verdict.answer == "no"
    assert verdict.cap
    assert verdict.cap.exceeded_by(verdict.spent + Amount(0.1, 20)) == "per_run_tokens"
    assert account.answer({DAY: both[DAY]}, Amount(0.1, 20)).answer == "yes"


def test_a_cap_of_zero_lets_nothing_through() -> None:
    assert Account({}).answer(caps(day=0.0), Amount(0.000001, 1)).answer == "no"


def test_a_cap_on_money_is_not_kept_by_bounds_without_money() -> None:
    with pytest.raises(ValueError, match="needs a bound in money"):
        Account({}).answer(caps(), Amount(None, 1))


def test_what_a_dead_process_held_counts_as_spent() -> None:
    account = Account({})
    account.hold(caps(), "dead", Amount(0.9, 90), TODAY)
    account.hold(caps(), "alive", Amount(0.05, 5), TODAY)
    assert account.reclaim(lambda holder: holder == "alive")
    assert account.spent(DAY) == Amount(0.9, 90)
    assert account.held(DAY) == Amount(0.05, 5)
    assert account.answer(caps(), Amount(0.2, 20)).answer == "no"
    assert not account.reclaim(lambda holder: holder == "alive")


def test_nobody_waits_for_a_batch_and_it_outlives_the_process() -> None:
    account = Account({})
    account.hold(caps(), "p", Amount(0.9, 90), TODAY)
    account.hand_to_batch((DAY,), "p", Amount(0.9, 90), "b1", TODAY)
    assert not account.reclaim(lambda holder: False)
    assert account.spent(DAY) == Amount()
    assert account.answer(caps(), Amount(0.2, 20)).answer == "no"
    account.settle_batch("b1", Amount(0.3, 30), TODAY + timedelta(days=1))
    assert (account.spent(DAY), account.held(DAY)) == (Amount(0.3, 30), Amount())
    assert account.answer(caps(), Amount(0.2, 20)).answer == "yes"


def test_a_batch_of_unknown_cost_counts_with_its_bound_and_only_once() -> None:
    account = Account({})
    account.hold(caps(), "p", Amount(0.9, 90), TODAY)
    account.hand_to_batch((DAY,), "p", Amount(0.9, 90), "b1", TODAY)
    account.settle_batch("b1", None, TODAY)
    account.settle_batch("b1", None, TODAY)
    assert account.spent(DAY) == Amount(0.9, 90)


def test_what_a_damaged_document_lost_is_made_good_from_memory() -> None:
    account = Account({"scopes": {DAY: {"spent": "much"}}})
    account.restore(DAY, Amount(0.5, 50), "p", Amount(0.1, 10), TODAY)
    assert (account.spent(DAY), account.held(DAY, "p")) == (Amount(0.5, 50), Amount(0.1, 10))
    account.restore(DAY, Amount(0.4, 60), "p", Amount(0.1, 10), TODAY)
    assert account.spent(DAY) == Amount(0.5, 60)


@pytest.mark.parametrize(
    "document",
    [
        {"scopes": []},
        {"scopes": {DAY: None}},
        {"scopes": {DAY: {"spent": [1.0], "held": {}, "day": "x"}}},
        {"scopes": {DAY: {"spent": [1.0, 1], "held": {"p": 3}, "day": "x"}}},
        {"scopes": {DAY: {"spent": [1.0, 1], "held": {}, "day": 3}}},
    ],
)
def test_an_entry_that_makes_no_sense_counts_as_empty(document: dict[str, Any]) -> None:
    account = Account(document)
    assert account.answer(caps(), Amount(0.5, 5)).answer == "yes"
    account.hold(caps(), "p", Amount(0.5, 5), TODAY)
    assert Account(json.loads(json.dumps(document))).held(DAY) == Amount(0.5, 5)


def test_scopes_that_are_not_used_any_more_are_dropped() -> None:
    document: dict[str, Any] = {}
    account = Account(document)
    account.settle(("day:2026-11-01",), "p", Amount(), Amount(1.0, 1), TODAY - timedelta(days=KEPT_DAYS + 1))
    for number in range(40):
        account.settle((f"run:{number}",), "p", Amount(), Amount(1.0, 1), TODAY)
    account.hold(("run:0",), "p", Amount(0.5, 5), TODAY)
    account.settle(("run:1",), "p", Amount(), Amount(1.0, 1), TODAY)
    account.hold(("run:2",), "p", Amount(0.5, 5), TODAY)
    account.drop_old(TODAY)
    kept = Account(json.loads(json.dumps(document))).scopes
    assert len(kept) == KEPT_SCOPES + 2
    assert {"run:0", "run:2"} <= set(kept), "something is held there"
    assert "run:1" in kept, "it was used a moment ago"
    assert "run:39" in kept
    assert "day:2026-11-01" not in kept


amounts = st.builds(Amount, st.integers(0, 4_000_000).map(lambda n: n / 1e6), st.integers(0, 4_000))


class Processes(RuleBasedStateMachine):
    """Processes hold, settle and die, in any order, under a cap on the day's money and one on the run's tokens."""

    @initialize(day=st.integers(0, 10_000_000), run=st.integers(0, 10_000))
    def begin(self, day: int, run: int) -> None:
        self.caps = caps(day=day / 1e6, run=run)
        self.document: dict[str, Any] = {}
        self.holds: list[tuple[str, Amount]] = []
        self.billed = self.lost = Amount()
        self.born = {"a": 0, "b": 0, "c": 0}

    def alive(self, holder: str) -> bool:
        return holder in {f"{name}{born}" for name, born in self.born.items()}

    def account(self) -> Account:
        self.document = json.loads(json.dumps(self.document))
        return Account(self.document)

    @rule(name=st.sampled_from("abc"), bound=amounts)
    def reserve(self, name: str, bound: Amount) -> None:
        account = self.account()
        verdict = account.answer(self.caps, bound)
        if verdict.answer == "yes":
            holder = f"{name}{self.born[name]}"
            account.hold(self.caps, holder, bound, TODAY)
            self.holds.append((holder, bound))
        elif verdict.answer == "wait":
            assert self.holds or self.lost, "waited for nothing"

    @precondition(lambda self: self.holds)
    @rule(data=st.data(), share=st.floats(0, 1))
    def settle(self, data: st.DataObject, share: float) -> None:
        hold = data.draw(st.sampled_from(self.holds))
        holder, bound = hold
        spent = Amount(round((bound.usd or 0) * share, 9), int(bound.tokens * share))
        self.account().settle(tuple(self.caps), holder, bound, spent, TODAY)
        self.holds.remove(hold)
        self.billed += spent

    @rule(name=st.sampled_from("abc"))
    def kill(self, name: str) -> None:
        holder = f"{name}{self.born[name]}"
        self.born[name] += 1
        self.lost = sum((bound for other, bound in self.holds if other == holder), self.lost)
        self.holds = [hold for hold in self.holds if hold[0] != holder]

    @rule()
    def reclaim(self) -> None:
        self.account().reclaim(self.alive)
        self.billed, self.lost = self.billed + self.lost, Amount()

    @invariant()
    def the_caps_hold_and_the_sums_are_right(self) -> None:
        account = Account(self.document)
        in_flight = sum((bound for _, bound in self.holds), self.lost)
        for scope, cap in self.caps.items():
            assert (account.spent(scope), account.held(scope)) == (self.billed, in_flight)
            assert cap.fits(self.billed + in_flight)


Processes.TestCase.settings = settings(max_examples=60, stateful_step_count=25, deadline=None)
TestProcesses = Processes.TestCase


@given(spent=amounts, held=amounts, bound=amounts, cap=st.integers(0, 8_000_000), tokens=st.integers(0, 8_000))
def test_an_answer_says_what_it_says(spent: Amount, held: Amount, bound: Amount, cap: int, tokens: int) -> None:
    both = {DAY: Cap("day", cap / 1e6, tokens)}
    account = Account({})
    account.settle((DAY,), "p", Amount(), spent, TODAY)
    account.hold((DAY,), "p", held, TODAY)
    answer = account.answer(both, bound).answer
    assert (answer == "yes") == both[DAY].fits(spent + held + bound)
    assert (answer == "no") == (not both[DAY].fits(spent + bound))
