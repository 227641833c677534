"""The purse of a run: reserve, settle, wait, refuse; and what it knows after a loss."""

from __future__ import annotations

import asyncio
import json
import random
import resource
import signal
import threading
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import polars as pl
import pytest

from annotation_pipelines.annotators.spending import purse as purse_module
from annotation_pipelines.annotators.spending.budget import Amount
from annotation_pipelines.annotators.spending.purse import Purse, Reservation
from annotation_pipelines.errors import AnnotatorError, BudgetSpent, StoreError
from annotation_pipelines.project import Budget, Price
from annotation_pipelines.store.database import Store
from annotation_pipelines.store.journal import Journal
from annotation_pipelines.store.ledger import call_row

PRICE = Price(input=2, output=8)
NOON = datetime(2026, 11, 21, 12, tzinfo=UTC)
BOUND = Amount(0.0018, 600)
"""Of a prompt of 1,000 bytes and an answer of 100 tokens, before any reply."""


@pytest.fixture
def store(tmp_path: Path) -> Store:
    return Store(tmp_path / "project")


class Clock:
    def __init__(self, now: datetime = NOON) -> None:
        self.now = now

    def __call__(self) -> datetime:
        return self.now


def open_purse(store: Store, *, clock: Clock | None = None, **caps: Any) -> Purse:
    settings = {"run_id": "run1", "backfill_id": None, "price": PRICE, "where": "openai:m at https://x/v1"}
    settings |= {key: caps.pop(key) for key in list(caps) if key in settings}
    return Purse.open(store, Budget(**caps), **settings, now=clock or Clock())


def reserve(purse: Purse, prompt_bytes: int = 1000, completion_tokens: int = 100) -> Reservation:
    return asyncio.run(purse.reserve(prompt_bytes, completion_tokens))


def settle(purse: Purse, reservation: Reservation, prompt: int | None = 200, answer: int | None = 20) -> None:
    purse.settle(reservation, prompt_tokens=prompt, completion_tokens=answer, cost_usd=None)


def add_calls(store: Store, *rows: dict[str, Any]) -> None:
    with Journal(store.home) as journal:
        for row in rows:
            plain = {"request_key": "k", "record_id": "r", "content_hash": "h", "annotator": "openai:m"}
            called_at = {"called_at": row.pop("at", NOON).isoformat()}
            journal.append({**call_row(endpoint="https://x/v1", status="ok", **plain), **called_at, **row})
        journal.fold(store)


def test_without_caps_nothing_is_kept_and_nothing_refused(store: Store) -> None:
    purse = open_purse(store, price=None)
    settle(purse, reserve(purse, 10**12))
    purse.release(reserve(purse))
    assert purse.reserve_batch([(10**12, 1)] * 3)[0] == 3
    purse.settle_batch("b", prompt_tokens=None, completion_tokens=None, cost_usd=None)
    assert (purse.caps, purse.spent()) == ("", {})
    purse.close()
    assert not store.home.exists()


def test_a_cap_on_a_backfill_does_not_apply_outside_one(store: Store) -> None:
    purse = open_purse(store, per_backfill_usd=0)
    reserve(purse)
    assert purse.caps == ""
    with open_purse(store, per_backfill_usd=0, backfill_id="b1") as inside, pytest.raises(BudgetSpent):
        reserve(inside)


def test_a_cap_on_money_with_an_unknown_price_is_refused_before_any_request(store: Store) -> None:
    with pytest.raises(AnnotatorError) as caught:
        open_purse(store, price=None, per_day_usd=5, per_run_tokens=100)
    message = str(caught.value)
    assert message.startswith("openai:m at https://x/v1: the budget caps money (per_day_usd), but the price")
    assert "prices.yaml beside workspace.yaml" in message
    assert not store.home.exists()


def test_a_cap_on_tokens_needs_no_price(store: Store) -> None:
    with open_purse(store, price=None, per_run_tokens=1000) as purse:
        settle(purse, reserve(purse))
        assert purse.spent() == {"run": Amount(None, 220)}
        with pytest.raises(BudgetSpent, match=r"budget: per_run_tokens: the cap of 1,000 tokens a run is reached"):
            reserve(purse, 10_000)


def test_the_caps_are_told_in_words(store: Store) -> None:
    with open_purse(store, per_run_usd=5, per_day_usd=20, per_day_tokens=10**6) as purse:
        assert purse.caps == "5 USD a run, 20 USD and 1,000,000 tokens a day (UTC)"


def test_a_reply_costs_what_it_used_and_not_its_bound(store: Store) -> None:
    with open_purse(store, per_run_usd=1) as purse:
        reservation = reserve(purse)
        assert reservation.bound == BOUND
        assert purse.spent() == {"run": Amount()}
        settle(purse, reservation, 200, 20)
        assert purse.spent() == {"run": Amount(0.00056, 220)}
        settle(purse, reservation, 200, 20)
        purse.release(reservation)
        assert purse.spent() == {"run": Amount(0.00056, 220)}, "a reservation counts once"


def test_what_may_have_been_billed_costs_its_bound_and_what_was_not_costs_nothing(store: Store) -> None:
    with open_purse(store, per_run_usd=1) as purse:
        settle(purse, reserve(purse), None, None)
        assert purse.spent() == {"run": BOUND}
        purse.release(reserve(purse))
        assert purse.spent() == {"run": BOUND}


def test_a_stated_cost_counts_even_where_the_tokens_are_unknown(store: Store) -> None:
    with open_purse(store, per_run_usd=1) as purse:
        purse.settle(reserve(purse), prompt_tokens=None, completion_tokens=None, cost_usd=0.25)
        assert purse.spent() == {"run": Amount(0.25, BOUND.tokens)}


def test_the_cap_that_is_reached_is_named_with_what_was_spent(store: Store) -> None:
    with open_purse(store, per_run_usd=1, per_day_usd=0.003) as purse:
        settle(purse, reserve(purse), None, None)
        with pytest.raises(BudgetSpent) as caught:
            reserve(purse)
    assert str(caught.value) == (
        "budget: per_day_usd: the cap of 0.003 USD a day (UTC) is reached: 0.0018 USD spent, and the next request may "
        "take 0.0018 USD. The next run goes on from here; to go on now, raise the cap"
    )


def test_what_a_broken_off_run_had_in_flight_counts_as_spent(store: Store) -> None:
    with pytest.raises(KeyboardInterrupt), open_purse(store, per_run_usd=1) as purse:
        reserve(purse)
        raise KeyboardInterrupt
    with open_purse(store, per_run_usd=1) as again:
        assert again.spent() == {"run": BOUND}


def test_a_run_without_an_id_is_a_run_of_its_own(store: Store) -> None:
    for _ in range(2):
        with open_purse(store, run_id=None, per_run_usd=0.002) as purse:
            settle(purse, reserve(purse), None, None)


def test_a_request_waits_for_those_in_flight_and_goes_when_they_cost_less(store: Store) -> None:
    async def story() -> None:
        first = await other.reserve(1000, 100)
        waiting = asyncio.create_task(purse.reserve(1000, 100))
        late = asyncio.create_task(purse.reserve(1000, 100))
        await asyncio.sleep(0.01)
        assert not waiting.done()
        settle(other, first, 10, 10)
        settle(purse, await waiting, 10, 10)
        settle(purse, await late, None, None)

    with open_purse(store, per_day_usd=0.0021) as purse, open_purse(store, per_day_usd=0.0021) as other:
        asyncio.run(story())
        assert purse.spent()["day"] == Amount(0.002, 640)


def test_a_request_that_waits_is_refused_when_those_in_flight_have_used_the_rest(store: Store) -> None:
    async def story() -> None:
        first = await purse.reserve(1000, 100)
        waiting = [asyncio.create_task(purse.reserve(1000, 100)) for _ in range(20)]
        await asyncio.sleep(0.01)
        settle(purse, first, None, None)
        results = await asyncio.gather(*waiting, return_exceptions=True)
        assert all(isinstance(result, BudgetSpent) for result in results)

    with open_purse(store, per_day_usd=0.002) as purse:
        asyncio.run(story())


def test_waiting_has_an_end(store: Store, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(purse_module, "LONGEST_WAIT", 0.0)
    with open_purse(store, per_day_usd=0.002) as purse, open_purse(store, per_day_usd=0.002) as other:
        reserve(other)
        with pytest.raises(BudgetSpent, match=r"per_day_usd: .*0\.0018 USD spent"):
            reserve(purse)


def test_a_cancelled_wait_leaves_nothing_behind(store: Store) -> None:
    async def story() -> None:
        first = await purse.reserve(1000, 100)
        waiting = asyncio.create_task(purse.reserve(1000, 100))
        await asyncio.sleep(0.01)
        waiting.cancel()
        await asyncio.gather(waiting, return_exceptions=True)
        purse.release(first)
        purse.release(await purse.reserve(1000, 100))

    with open_purse(store, per_day_usd=0.002) as purse:
        asyncio.run(story())
        assert purse.spent()["day"] == Amount()


def test_bounds_that_do_not_hold_overshoot_by_no_more_than_what_was_in_flight(store: Store) -> None:
    draw, billed, at_once = random.Random(3), Amount(), 8

    async def spend() -> None:
        nonlocal billed
        while True:
            try:
                reservation = await purse.reserve(1000, 100)
            except BudgetSpent:
                return
            usd = (reservation.bound.usd or 0) * draw.uniform(0.5, 2)
            billed += Amount(usd, 1)
            await asyncio.sleep(draw.random() * 0.002)
            purse.settle(reservation, prompt_tokens=400, completion_tokens=50, cost_usd=usd)

    async def story() -> None:
        await asyncio.gather(*(spend() for _ in range(at_once)))

    with open_purse(store, per_day_usd=0.2) as purse:
        asyncio.run(story())
        assert 0.2 - 0.0018 <= (billed.usd or 0) <= 0.2 + at_once * 2 * 0.0018
        assert purse.spent()["day"].usd == pytest.approx(billed.usd)


def test_threads_share_a_purse(store: Store) -> None:
    def spend() -> None:
        for _ in range(100):
            settle(purse, reserve(purse), 200, 20)

    with open_purse(store, per_run_usd=1, per_run_tokens=10**6) as purse:
        threads = [threading.Thread(target=spend) for _ in range(4)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        assert purse.spent()["run"] == Amount(0.224, 88_000)


def test_a_day_ends_at_midnight_utc_and_a_request_belongs_to_the_day_it_was_sent(store: Store) -> None:
    clock = Clock(datetime(2026, 11, 21, 23, 59, 59, tzinfo=UTC))
    with open_purse(store, clock=clock, per_day_usd=0.002) as purse:
        reservation = reserve(purse)
        clock.now += timedelta(seconds=2)
        assert purse.spent()["day"] == Amount()
        settle(purse, reservation, None, None)
        assert purse.spent()["day"] == Amount()
        settle(purse, reserve(purse), None, None)
        with pytest.raises(BudgetSpent):
            reserve(purse)


def test_what_the_ledger_says_counts_from_the_start(store: Store) -> None:
    used = {"prompt_tokens": 100, "completion_tokens": 10, "cost_usd": 0.1}
    add_calls(
        store,
        {**used, "run_id": "run1", "backfill_id": "b1"},
        {**used, "run_id": "run1", "backfill_id": "b1", "at": NOON - timedelta(days=2)},
        {**used, "run_id": "run0", "backfill_id": "b1", "at": datetime(2026, 11, 20, 23, 59, 59, tzinfo=UTC)},
        {**used, "run_id": "run0", "at": datetime(2026, 11, 21, tzinfo=UTC)},
        {"run_id": "run0", "status": "error"},
        {**used, "run_id": "run0", "cost_usd": None},
        {**used, "run_id": "run0", "endpoint": None},
    )
    everything = {"per_run_usd": 9, "per_day_usd": 9, "per_backfill_usd": 9}
    with open_purse(store, backfill_id="b1", **everything) as purse:
        assert purse.spent() == {"run": Amount(0.2, 220), "day": Amount(0.2, 330), "backfill": Amount(0.3, 330)}


def test_a_batch_counts_on_the_day_it_was_submitted(store: Store) -> None:
    with store.transaction() as con:
        for batch_id, day in (("old", NOON - timedelta(days=1)), ("new", NOON)):
            plain = {"partition_key": "all", "annotator": "openai:m", "endpoint": "https://x/v1", "status": "completed"}
            row = {"batch_id": batch_id, **plain, "requests": 1, "prompt_tokens": 1, "submitted_at": day}
            store.append(con, "llm_batches", pl.DataFrame([row]))
    used = {"prompt_tokens": 100, "completion_tokens": 10, "run_id": "run0"}
    add_calls(store, {**used, "cost_usd": 0.1, "batch_id": "old"}, {**used, "cost_usd": 0.2, "batch_id": "new"})
    with open_purse(store, per_day_usd=9) as purse:
        assert purse.spent() == {"day": Amount(0.2, 110)}


def test_of_ledger_and_account_the_larger_figure_counts(store: Store) -> None:
    with open_purse(store, per_day_usd=9) as purse:
        settle(purse, reserve(purse), None, None)
    add_calls(store, {"prompt_tokens": 10, "completion_tokens": 10, "cost_usd": 0.0001})
    with open_purse(store, per_day_usd=9) as purse:
        assert purse.spent() == {"day": BOUND}
    add_calls(store, {"prompt_tokens": 10, "completion_tokens": 10, "cost_usd": 0.5})
    with open_purse(store, per_day_usd=9) as purse:
        assert purse.spent() == {"day": Amount(0.5001, 600)}


@pytest.fixture(params=["", "{", "null", '{"scopes": 3}', '{"scopes": {"day:2026-11-21": {"spent": "x"}}}'])
def damage(request: pytest.FixtureRequest) -> Iterator[str]:
    yield request.param


def test_a_damaged_account_is_made_again_by_those_who_spend(store: Store, damage: str) -> None:
    with open_purse(store, per_day_usd=0.01) as purse, open_purse(store, per_day_usd=0.01) as other:
        settle(purse, reserve(purse), None, None)
        held = reserve(other)
        (store.home / "spending.json").write_text(damage)
        settle(purse, reserve(purse), None, None)
        settle(other, held, None, None)
        assert purse.spent()["day"] == Amount(0.0054, 1800)


def test_a_damaged_account_is_made_again_from_the_ledger(store: Store, damage: str) -> None:
    add_calls(store, {"prompt_tokens": 10, "completion_tokens": 10, "cost_usd": 0.5})
    (store.home / "spending.json").write_text(damage)
    with open_purse(store, per_day_usd=0.5) as purse, pytest.raises(BudgetSpent, match=r"0\.5000 USD spent"):
        reserve(purse)


def test_a_full_disk_is_one_clear_error_and_what_was_in_flight_still_counts(store: Store) -> None:
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    handler = signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
    with open_purse(store, per_day_usd=1) as purse:
        reservation = reserve(purse)
        size = (store.home / "spending.json").stat().st_size
        try:
            resource.setrlimit(resource.RLIMIT_FSIZE, (size // 2, hard))
            with pytest.raises(StoreError, match=r"spending\.json: cannot be used"):
                settle(purse, reservation, 200, 20)
        finally:
            resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))
            signal.signal(signal.SIGXFSZ, handler)
    with open_purse(store, per_day_usd=1) as again:
        assert again.spent()["day"] == BOUND


def test_a_batch_takes_what_fits_at_half_the_price_and_keeps_it_until_it_is_settled(store: Store) -> None:
    with open_purse(store, per_run_usd=0.005) as purse:
        fit, reservation = purse.reserve_batch([(1000, 100)] * 9)
        assert (fit, reservation.bound) == (5, Amount(0.0045, 3000))
        purse.hand_over(reservation, "b1")
    with open_purse(store, per_run_usd=0.005) as later, pytest.raises(BudgetSpent, match=r"0\.0045 USD spent"):
        reserve(later)
    with open_purse(store, run_id="poll", per_run_usd=0.005) as harvest:
        harvest.settle_batch("b1", prompt_tokens=1000, completion_tokens=100, cost_usd=None)
        assert harvest.spent()["run"] == Amount(), "it was another run that submitted it"
    with open_purse(store, per_run_usd=0.005) as later:
        assert later.spent()["run"] == Amount(0.0014, 1100)


def test_a_batch_that_was_not_submitted_is_let_go(store: Store) -> None:
    with open_purse(store, per_run_usd=0.005) as purse:
        _, reservation = purse.reserve_batch([(1000, 100)] * 9)
        purse.release(reservation)
        assert purse.reserve_batch([(1000, 100)] * 9)[0] == 5


def test_a_batch_of_which_nothing_fits_holds_nothing(store: Store) -> None:
    with open_purse(store, per_run_usd=0) as purse:
        fit, reservation = purse.reserve_batch([(1000, 100)])
        assert (fit, reservation.bound) == (0, Amount())
        purse.release(reservation)


def test_the_account_stays_small(store: Store) -> None:
    for number in range(60):
        with open_purse(store, run_id=f"0b1c2d3e-aaaa-bbbb-cccc-{number:012d}", per_run_usd=1, per_day_usd=9) as purse:
            settle(purse, reserve(purse), None, None)
    content = (store.home / "spending.json").read_text()
    assert len(content) < 4096, "a page: written at once or not at all"
    assert json.loads(content)["scopes"]["day:2026-11-21"]["spent"] == [0.108, 36000]
