"""The hybrid batch: doubtful for its price, varied, without near-duplicates while there are others."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from annotation_pipelines.selection.hybrid import different, hybrid


def unit(n: int, seed: int = 0, d: int = 16) -> np.ndarray:
    values = np.random.default_rng(seed).normal(size=(n, d)).astype(np.float32)
    return values / np.linalg.norm(values, axis=1, keepdims=True)


def texts_of(n: int) -> list[str]:
    """Texts that share few runs of characters."""
    letters = np.random.default_rng(n).integers(97, 123, size=(n, 40))
    return ["".join(map(chr, row)) for row in letters]


def picked(
    vectors: np.ndarray,
    count: int,
    *,
    uncertainty: np.ndarray | None = None,
    cost: np.ndarray | None = None,
    texts: list[str] | None = None,
    labelled: np.ndarray | None = None,
    labelled_texts: tuple[str, ...] = (),
) -> list[int]:
    n = len(vectors)
    written = texts_of(n) if texts is None else texts
    rows = hybrid(
        vectors,
        np.ones(n) if uncertainty is None else uncertainty,
        np.ones(n) if cost is None else cost,
        lambda rows: [written[row] for row in rows],
        count,
        labelled=labelled,
        labelled_texts=labelled_texts,
    )
    return [int(row) for row in rows]


@given(n=st.integers(0, 40), count=st.integers(0, 45), copies=st.booleans(), seed=st.integers(0, 3))
@settings(max_examples=30, deadline=None)
def test_as_many_different_rows_are_given_as_there_can_be(n: int, count: int, copies: bool, seed: int) -> None:
    vectors = unit(n, seed)
    if copies and n:
        vectors[:] = vectors[0]
    rows = picked(vectors, count, uncertainty=np.random.default_rng(seed).random(n))
    assert len(rows) == len(set(rows)) == min(n, count)


def test_only_the_most_uncertain_for_their_price_are_looked_at() -> None:
    vectors = unit(200)
    uncertainty = np.where(np.arange(200) % 4 == 0, 0.9, 0.1)
    assert all(row % 4 == 0 for row in picked(vectors, 5, uncertainty=uncertainty))


def test_of_equally_uncertain_ones_the_cheap_are_taken() -> None:
    vectors = unit(200)
    cost = np.where(np.arange(200) % 4 == 0, 1.0, 3.0)
    assert all(row % 4 == 0 for row in picked(vectors, 5, cost=cost))


def test_the_best_for_its_price_comes_first() -> None:
    uncertainty = np.random.default_rng(0).random(80)
    cost = np.random.default_rng(1).uniform(1, 4, 80)
    rows = picked(unit(80), 8, uncertainty=uncertainty, cost=cost)
    worth = (uncertainty / cost)[rows]
    assert (np.diff(worth) <= 0).all()


def test_the_batch_is_spread_over_groups() -> None:
    groups = np.arange(120) % 6
    vectors = np.eye(16, dtype=np.float32)[groups] + 0.5 * unit(120)
    vectors /= np.linalg.norm(vectors, axis=1, keepdims=True)
    assert {int(groups[row]) for row in picked(vectors, 6)} == set(range(6))


def test_near_duplicates_by_vector_or_by_text_come_last() -> None:
    vectors, texts = unit(12), texts_of(12)
    vectors[5] = vectors[2]
    texts[9] = texts[3].upper() + " "
    uncertainty = np.linspace(1, 0.5, 12)
    rows = picked(vectors, 12, uncertainty=uncertainty, texts=texts)
    assert set(rows[-2:]) == {5, 9}
    assert not {5, 9} & set(picked(vectors, 10, uncertainty=uncertainty, texts=texts))


def test_near_duplicates_of_what_is_labelled_come_last() -> None:
    vectors, texts = unit(12), texts_of(12)
    rows = picked(
        vectors, 12, texts=texts, labelled=np.stack([vectors[4], -vectors[0]]), labelled_texts=("?", texts[7])
    )
    assert set(rows[-2:]) == {4, 7}


def test_near_duplicates_are_found_across_blocks(monkeypatch: pytest.MonkeyPatch) -> None:
    from annotation_pipelines.selection import hybrid as module

    vectors, texts = unit(30), texts_of(30)
    vectors[20:] = vectors[:10]
    every = np.arange(30)
    whole = different(vectors, every, lambda rows: [texts[row] for row in rows], vectors[:0])
    assert whole.tolist() == list(range(20))
    monkeypatch.setattr(module, "_BLOCK", 4)
    np.testing.assert_array_equal(
        different(vectors, every, lambda rows: [texts[row] for row in rows], vectors[:0]), whole
    )


def test_a_pool_full_of_near_duplicates_is_looked_at_further() -> None:
    vectors, texts = unit(60), texts_of(60)
    vectors[:25] = vectors[0]
    rows = picked(vectors, 2, uncertainty=np.linspace(1, 0, 60), texts=texts)
    assert sum(row < 25 for row in rows) < 2, "one of the copies at most, though the first twenty all are"


@pytest.mark.parametrize(("uncertainty", "cost"), [(np.ones(2), np.ones(3)), (np.ones(3), np.zeros(3))])
def test_what_does_not_fit_is_refused(uncertainty: np.ndarray, cost: np.ndarray) -> None:
    with pytest.raises(ValueError, match="expected"):
        picked(unit(3), 1, uncertainty=uncertainty, cost=cost)
