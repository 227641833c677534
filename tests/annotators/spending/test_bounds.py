"""Bounds: before a request is sent, what it may use at most."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from annotation_pipelines.annotators.spending.bounds import REPLIES_TO_LEARN, Bounds
from annotation_pipelines.annotators.spending.prices import cost
from annotation_pipelines.project import Price

PRICE = Price(input=2, cached_input=0.5, output=8)


def test_before_any_reply_two_bytes_may_be_a_token() -> None:
    bound = Bounds(PRICE).bound(1000, 100)
    assert bound.tokens == 600
    assert bound.usd == pytest.approx((500 * 2 + 100 * 8) / 1e6)


def test_a_batch_is_bounded_at_its_own_price() -> None:
    bounds = Bounds(PRICE)
    assert bounds.bound(1000, 100, batch=True).usd == pytest.approx((bounds.bound(1000, 100).usd or 0) / 2)


def test_without_a_price_a_bound_has_tokens_and_no_money() -> None:
    bound = Bounds(None).bound(1000, 100)
    assert (bound.usd, bound.tokens) == (None, 600)


def test_replies_narrow_the_bound_once_there_are_some() -> None:
    bounds = Bounds(PRICE)
    for _ in range(REPLIES_TO_LEARN - 1):
        bounds.learn(1000, 200)
    assert bounds.tokens_per_byte == 0.5
    bounds.learn(1000, 240)
    assert bounds.tokens_per_byte == pytest.approx(0.264)


def test_one_reply_with_more_tokens_widens_it_at_once() -> None:
    bounds = Bounds(PRICE)
    bounds.learn(1000, 900)
    assert bounds.tokens_per_byte == pytest.approx(0.99)


def test_a_byte_never_counts_less_than_an_eighth_of_a_token() -> None:
    bounds = Bounds(PRICE)
    for _ in range(100):
        bounds.learn(1000, 1)
        bounds.learn(0, 5)
    assert bounds.tokens_per_byte == 0.125


@given(
    seen=st.lists(st.tuples(st.integers(1, 10**6), st.floats(0.01, 1)), max_size=30),
    size=st.integers(0, 10**6),
    share=st.floats(0, 1),
    answer=st.integers(0, 4096),
)
def test_a_prompt_with_no_more_tokens_a_byte_than_those_seen_is_within_its_bound(
    seen: list[tuple[int, float]], size: int, share: float, answer: int
) -> None:
    bounds = Bounds(PRICE)
    for prompt_bytes, ratio in seen:
        bounds.learn(prompt_bytes, int(prompt_bytes * ratio))
    largest = max((int(b * r) / b for b, r in seen), default=0.5)
    prompt = int(size * largest * share)
    bound = bounds.bound(size, answer)
    assert prompt + answer <= bound.tokens
    used = cost(PRICE, prompt_tokens=prompt, completion_tokens=answer)
    assert used is not None
    assert bound.usd is not None
    assert used <= bound.usd + 1e-9
