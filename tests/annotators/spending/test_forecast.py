"""Forecasts: what requests that are not sent yet will take."""

from __future__ import annotations

from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import polars as pl
import pytest

from annotation_pipelines.annotators.spending.forecast import Experience, Forecast, experience, forecast, total
from annotation_pipelines.project import OpenAIAnnotator, Price
from annotation_pipelines.store.database import Store
from annotation_pipelines.store.journal import Journal
from annotation_pipelines.store.ledger import call_row

PRICE = Price(input=2, cached_input=0.5, output=8)
SETTINGS = OpenAIAnnotator(model="m")
NOW = datetime(2026, 11, 21, tzinfo=UTC)
TEXT = "schön" * 20
"""120 bytes of UTF-8."""


@pytest.fixture
def store(tmp_path: Path) -> Store:
    return Store(tmp_path / "project")


def add(store: Store, number: int, fingerprint: str = "now", table: str = "llm_labels", **call: Any) -> None:
    """A record, its label and the reply to it."""
    about = {"record_id": f"r{number}", "content_hash": f"h{number}"}
    record = {**about, "content": TEXT, "partition_key": "all", "first_seen": NOW, "updated_at": NOW}
    label = {**about, "partition_key": "all", "annotator": "openai:m", "fingerprint": fingerprint}
    label |= {"request_key": f"k{number}", "state": "labelled", "reused": False, "labelled_at": NOW}
    with store.transaction() as con:
        store.upsert(con, "records", pl.DataFrame([record]))
        store.upsert(con, table, pl.DataFrame([label]))
    row = {**about, "request_key": f"k{number}", "annotator": "openai:m", "status": "ok", "purpose": "ask"}
    row |= {"prompt_tokens": 250, "completion_tokens": 20, "cached_tokens": 0, **call}
    with Journal(store.home) as journal:
        journal.append(call_row(**row))
        journal.fold(store)


def test_without_replies_the_assumptions_are_stated() -> None:
    found = forecast(SETTINGS, PRICE, Experience(), requests=10, prompt_bytes=10_000, content_bytes=2_000)
    assert (found.calls, found.prompt_tokens, found.completion_tokens) == (10, 2500, 240)
    assert found.cost_usd == pytest.approx((2500 * 2 + 240 * 8) / 1e6)
    assert found.tokens == 2740
    assert found.words == "assumed: 0.25 tokens for a byte of prompt; assumed: 24 tokens an answer"


def test_reasons_and_further_samples_are_assumed_to_take_more() -> None:
    settings = OpenAIAnnotator(model="m", rationale=True, samples=3, temperature=0.7)
    found = forecast(settings, PRICE, Experience(), requests=10, prompt_bytes=10_000, content_bytes=2_000)
    assert found.completion_tokens == 10 * 3 * 160
    short = OpenAIAnnotator(model="m", max_tokens=10)
    assert forecast(short, PRICE, Experience(), requests=1, prompt_bytes=1, content_bytes=1).completion_tokens == 10


def test_an_unknown_price_gives_no_cost_and_says_so() -> None:
    found = forecast(SETTINGS, None, Experience(), requests=10, prompt_bytes=10_000, content_bytes=2_000)
    assert found.cost_usd is None
    assert found.words.endswith("the price is not known")


def test_a_batch_costs_its_share() -> None:
    settings = OpenAIAnnotator(model="m", mode="batch")
    size = {"requests": 10, "prompt_bytes": 10_000, "content_bytes": 2_000}
    live, batch = (forecast(s, PRICE, Experience(), **size).cost_usd for s in (SETTINGS, settings))
    assert live is not None
    assert batch == pytest.approx(live / 2)


def test_nothing_to_send_costs_nothing() -> None:
    found = forecast(SETTINGS, PRICE, Experience(), requests=0, prompt_bytes=0, content_bytes=0)
    assert (found.calls, found.tokens, found.cost_usd) == (0, 0, 0.0)


def test_replies_teach_how_many_tokens_a_byte_and_an_answer_take(store: Store) -> None:
    for number in range(4):
        add(store, number)
    known = experience(store, "openai:m", "now")
    assert known == Experience(
        4, 4, 1000, 0, 80, comparable=4, comparable_prompt_tokens=1000, comparable_content_bytes=480
    )
    # Each of the ten prompts has 880 bytes beside its record, as had the four: 250 tokens for 1,000 bytes.
    found = forecast(SETTINGS, PRICE, known, requests=10, prompt_bytes=20_000, content_bytes=11_200)
    assert (found.prompt_tokens, found.completion_tokens) == (5000, 200)
    assert found.words == "0.25 tokens for a byte of prompt, as in 4 replies; 20 tokens an answer, as in 4 replies"


def test_replies_under_another_declaration_teach_the_answers_and_not_the_prompts(store: Store) -> None:
    add(store, 0, fingerprint="before")
    known = experience(store, "openai:m", "now")
    found = forecast(SETTINGS, PRICE, known, requests=1, prompt_bytes=4000, content_bytes=120)
    assert found.prompt_tokens == 1000
    assert found.words == "assumed: 0.25 tokens for a byte of prompt; 20 tokens an answer, as in 1 reply"


def test_a_record_that_changed_since_teaches_nothing_about_prompts(store: Store) -> None:
    add(store, 0)
    with store.transaction() as con:
        con.execute("UPDATE records SET content_hash = 'other'")
    assert experience(store, "openai:m", "now").comparable == 0


def test_repairs_and_further_samples_are_expected_as_often_as_before(store: Store) -> None:
    for number in range(4):
        add(store, number)
    add(store, 4, purpose="repair")
    found = forecast(
        SETTINGS, PRICE, experience(store, "openai:m", "now"), requests=100, prompt_bytes=100_000, content_bytes=12_000
    )
    assert found.calls == 125
    assert found.prompt_tokens == 31_250
    assert found.completion_tokens == 2500
    assert "1.25 calls a record" in found.words


def test_what_the_endpoint_cached_is_expected_to_be_cached_again(store: Store) -> None:
    add(store, 0, cached_tokens=125)
    found = forecast(
        SETTINGS, PRICE, experience(store, "openai:m", "now"), requests=10, prompt_bytes=10_000, content_bytes=1200
    )
    assert found.cost_usd == pytest.approx((1250 * 2 + 1250 * 0.5 + 200 * 8) / 1e6)
    assert "50% of the prompts cached" in found.words


def test_votes_of_a_panel_teach_as_labels_do(store: Store) -> None:
    add(store, 0, table="llm_votes")
    assert experience(store, "openai:m", "now").comparable == 1


def test_errors_and_others_replies_teach_nothing(store: Store) -> None:
    add(store, 0, status="error")
    add(store, 1, prompt_tokens=None)
    add(store, 2, annotator="openai:other")
    assert experience(store, "openai:m", "now") == Experience()


def test_the_total_of_a_panel_is_unknown_as_soon_as_one_price_is() -> None:
    one, other = Forecast(1, 2, 3, 0.5, "a"), Forecast(10, 20, 30, None, "b")
    assert total([one, one]) == Forecast(2, 4, 6, 1.0, "a")
    assert total([one, other]) == Forecast(11, 22, 33, None, "a | b")
    assert total([]) == Forecast(0, 0, 0, 0, "")
