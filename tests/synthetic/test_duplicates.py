"""Which texts say what was said already: the first one stays."""

from __future__ import annotations

from itertools import product

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from annotation_pipelines.quality.near_duplicates import similarity
from annotation_pipelines.synthetic.duplicates import repeats_among, repeats_of_pool, rouge_l

PARCEL = "Write a short letter to the courier who lost the parcel last week."


def test_of_several_that_say_the_same_the_first_stays() -> None:
    texts = ["Name three trees of the forest.", PARCEL, PARCEL.upper(), "Add two numbers.", PARCEL[:-1] + "!"]
    found = repeats_among(texts, threshold=0.8)
    assert [twin.index if twin else None for twin in found] == [None, None, 1, None, 1]
    assert found[2] and found[2].similarity == 1.0
    assert found[4] and found[4].similarity == similarity(texts[1], texts[4])


def test_a_text_that_is_near_a_dropped_one_only_stays() -> None:
    chain = [
        "abcdefghijklmnopqrstuvwxyz",
        "abcdefghijklmnopqrstuvwxyz0123",
        "abcdefghijklmnopqrstuvwxyz01234567",
    ]
    near, far = similarity(chain[0], chain[1]), similarity(chain[0], chain[2])
    assert far < 0.78 < near and similarity(chain[1], chain[2]) > 0.78
    found = repeats_among(chain, threshold=0.78)
    assert [twin.index if twin else None for twin in found] == [None, 0, None]


def test_a_text_is_compared_with_the_whole_pool() -> None:
    found = repeats_of_pool([PARCEL.lower(), "Add two numbers."], ["Something else.", PARCEL], threshold=0.8)
    assert found[0] and (found[0].index, found[0].similarity) == (1, 1.0)
    assert found[1] is None
    assert repeats_of_pool([], [PARCEL], threshold=0.8) == []
    assert repeats_of_pool([PARCEL], [], threshold=0.8) == [None]


def test_rouge_finds_what_has_the_same_words_in_the_same_order() -> None:
    text = "Write now a letter to my landlord about the heating"
    other = "Please write a letter to the landlord about broken heating"
    assert similarity(text, other) < 0.6
    assert repeats_of_pool([text], [other], threshold=0.8) == [None]
    twin = repeats_of_pool([text], ["", other], threshold=0.8, rouge_l=0.7)[0]
    assert twin and twin.index == 1 and 0.7 <= twin.similarity < 1
    among = repeats_among([other, text], threshold=0.8, rouge_l=0.7)
    assert among[0] is None and among[1] and among[1].index == 0


words = st.lists(st.sampled_from(["a", "b", "c", "d"]), max_size=9)


@settings(max_examples=100, deadline=None)
@given(words, words)
def test_rouge_is_what_the_table_of_all_prefixes_gives(first: list[str], second: list[str]) -> None:
    table = dict.fromkeys(product(range(len(first) + 1), range(len(second) + 1)), 0)
    for i, j in product(range(len(first)), range(len(second))):
        same = first[i] == second[j]
        table[i + 1, j + 1] = table[i, j] + 1 if same else max(table[i, j + 1], table[i + 1, j])
    common = table[len(first), len(second)]
    expected = 2 * common / (len(first) + len(second)) if first and second else 0.0
    assert rouge_l(first, second) == pytest.approx(expected)


@settings(max_examples=60, deadline=None)
@given(
    st.lists(st.text("ab ", min_size=4, max_size=20), max_size=8),
    st.sampled_from([0.5, 0.8, 1.0]),
)
def test_what_stays_is_apart_and_what_goes_is_near_something_that_stays(texts: list[str], threshold: float) -> None:
    found = repeats_among(texts, threshold=threshold)
    staying = [index for index, twin in enumerate(found) if twin is None]
    for index, twin in enumerate(found):
        if twin:
            assert twin.index in staying and twin.index < index
            assert twin.similarity >= threshold
    for one, other in ((i, j) for i in staying for j in staying if i < j):
        # MinHash may miss a pair right at the threshold, and no other.
        assert similarity(texts[one], texts[other]) < min(1.0, threshold + 0.1)
