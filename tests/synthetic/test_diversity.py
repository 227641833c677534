"""How diverse texts are, and how new."""

from __future__ import annotations

from itertools import combinations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from annotation_pipelines.synthetic.diversity import OVERLAP, distinct, diversity, spread
from annotation_pipelines.synthetic.words import ngrams, words_of


def test_words_are_runs_of_letters_and_single_signs() -> None:
    assert words_of("Don’t STOP, café 42!") == ["don’t", "stop", "café", "42"]
    assert words_of("東京に行く Tokyo") == ["東", "京", "に", "行", "く", "tokyo"]
    assert words_of("... \n") == []


def test_ngrams_are_runs_of_n_words() -> None:
    assert ngrams(["a", "b", "c"], 2) == [("a", "b"), ("b", "c")]
    assert ngrams(["a"], 2) == []


def test_distinct_is_the_share_of_different_ngrams() -> None:
    texts = [["a", "b", "a"], ["a", "b"]]
    assert distinct(texts, 1) == 2 / 5
    assert distinct(texts, 2) == 2 / 3
    assert distinct(texts, 3) == 1
    assert distinct(texts, 4) is None


def test_equal_texts_overlap_wholly_and_different_ones_not() -> None:
    same = diversity(["one two three four"] * 3)
    assert same.self_overlap == 1 and same.distinct_3 == 2 / 6
    other = diversity(["one two three", "four five six"])
    assert other.self_overlap == 0 and other.distinct_1 == 1


def test_a_repetition_within_one_text_is_no_overlap_with_others() -> None:
    assert diversity(["a b c a b c", "d e f"]).self_overlap == 0


def test_novelty_is_measured_beside_the_pool() -> None:
    assert diversity(["one two three four"], pool=["zero one two three"]).novelty == 0.5
    assert diversity(["one two three"], pool=[]).novelty == 1


def test_without_texts_there_is_nothing_to_say() -> None:
    nothing = diversity([], vectors=np.zeros((0, 4), np.float32))
    assert nothing.facts() == {
        "texts": 0,
        "distinct_1": None,
        "distinct_2": None,
        "distinct_3": None,
        "self_overlap": None,
        "embedding_spread": None,
        "novelty": None,
    }


@settings(max_examples=100, deadline=None)
@given(st.lists(st.lists(st.sampled_from("abcd"), max_size=8).map(" ".join), min_size=1, max_size=6))
def test_the_overlap_is_what_comparing_all_pairs_gives(texts: list[str]) -> None:
    runs = [set(ngrams(words_of(text), OVERLAP)) for text in texts]
    shares = []
    for index, grams in enumerate(runs):
        others = set().union(*(other for place, other in enumerate(runs) if place != index))
        if grams:
            shares.append(len(grams & others) / len(grams))
    expected = sum(shares) / len(shares) if shares else None
    assert diversity(texts).self_overlap == pytest.approx(expected) if shares else diversity(texts).self_overlap is None


@pytest.mark.parametrize("count", [2, 3, 17])
def test_the_spread_is_the_mean_cosine_distance_of_all_pairs(count: int) -> None:
    vectors = np.random.default_rng(count).normal(size=(count, 8)).astype(np.float32)
    vectors /= np.linalg.norm(vectors, axis=1, keepdims=True)
    pairs = [1 - float(vectors[i] @ vectors[j]) for i, j in combinations(range(count), 2)]
    assert spread(vectors) == pytest.approx(sum(pairs) / len(pairs), abs=1e-6)


def test_one_vector_has_no_spread() -> None:
    assert spread(np.ones((1, 1), np.float32)) is None
    assert spread(np.ones((5, 1), np.float32)) == pytest.approx(0)
