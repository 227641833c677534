"""Near-duplicates: what is called one is one, and hardly any is missed."""

from __future__ import annotations

import itertools

import numpy as np
import polars as pl
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.sparse import csr_array

from annotation_pipelines.quality.near_duplicates import (
    LONGEST,
    SHINGLE,
    near_duplicate_groups,
    nearest_duplicates,
    normalised,
    similarity,
)
from tests.workspaces import ML_PROJECTS, STANCE

WORDS = ["card", "bank", "payment", "late", "refund", "transfer", "カード", "支払い", "😀", "naïve", "e\u0301", ""]


def real_texts() -> list[str]:
    """Titles and descriptions of projects, and tweets, each also as people vary them: a typo, a word, another case."""
    ml = pl.read_csv(ML_PROJECTS / "data" / "dataset.csv", infer_schema=False)
    texts = [f"{title}. {description}" for title, description in ml.select("title", "description").iter_rows()]
    texts += pl.read_csv(STANCE, infer_schema=False)["text"].head(400).to_list()
    generator = np.random.default_rng(0)
    varied = []
    for place, text in enumerate(texts[::3]):
        at = int(generator.integers(max(1, len(text))))
        match place % 3:
            case 0:
                varied.append(text[:at] + "x" + text[at + 1 :])
            case 1:
                varied.append(text.upper() + "!")
            case _:
                varied.append(f"{text[:at]} {text[at:]} and more")
    return texts + varied


def all_pairs(texts: list[str], threshold: float) -> dict[tuple[int, int], float]:
    """Every pair of near-duplicates, by counting all shingles."""
    shingles = [{t[i : i + SHINGLE] for i in range(max(1, len(t) - SHINGLE + 1))} for t in map(normalised, texts)]
    column: dict[str, int] = {}
    places = [(row, column.setdefault(one, len(column))) for row, found in enumerate(shingles) for one in found]
    rows, columns = np.array(places).T
    counts = csr_array((np.ones(len(rows), np.int64), (rows, columns)))
    common = (counts @ counts.T).tocoo()
    size = np.array([len(found) for found in shingles])
    figures = common.data / (size[common.row] + size[common.col] - common.data)
    kept = (figures >= threshold) & (common.row < common.col)
    return {
        (int(one), int(other)): float(figure)
        for one, other, figure in zip(common.row[kept], common.col[kept], figures[kept], strict=True)
    }


def components(n: int, pairs: list[tuple[int, int]]) -> list[int]:
    """For each of n the least index of its component."""
    least = list(range(n))
    changed = True
    while changed:
        changed = False
        for one, other in pairs:
            low = min(least[one], least[other])
            changed = changed or least[one] != low or least[other] != low
            least[one] = least[other] = low
    return least


class TestGroups:
    @pytest.mark.parametrize("threshold", [0.5, 0.8, 0.95])
    def test_on_real_texts_the_groups_are_those_of_comparing_all_pairs(self, threshold: float) -> None:
        texts = real_texts()
        pairs = all_pairs(texts, threshold)
        assert len(pairs) > 150
        groups = near_duplicate_groups(texts, threshold=threshold)
        missed = [pair for pair in pairs if groups[pair[0]] != groups[pair[1]]]
        assert len(missed) <= 0.005 * len(pairs)
        if not missed:
            truth = components(len(texts), list(pairs))
            assert len(set(groups.tolist())) == len(set(truth))
            assert len({*zip(groups.tolist(), truth, strict=True)}) == len(set(truth))

    def test_groups_are_numbered_in_the_order_of_their_first_texts(self) -> None:
        texts = ["the first of them all", "another one entirely", "The FIRST of  them all", "a third thing to say"]
        assert near_duplicate_groups(texts).tolist() == [0, 1, 0, 2]

    @pytest.mark.parametrize(
        ("one", "other"),
        [
            ("Where is my card?", "where   is\nMY card?"),
            ("カードが届きません。いつ届きますか？", "ｶｰﾄﾞが届きません。いつ届きますか?"),
            ("café au lait, s'il vous plaît", "cafe\u0301 au lait, s'il vous plai\u0302t"),
            ("😀😀 great news 😀😀", "😀😀 GREAT news 😀😀"),
            ("", " \n\t"),
        ],
    )
    def test_case_white_space_and_unicode_form_make_no_difference(self, one: str, other: str) -> None:
        assert near_duplicate_groups([one, "something else altogether", other]).tolist() == [0, 1, 0]
        assert similarity(one, other) == 1

    def test_a_typing_error_in_a_japanese_sentence_is_a_near_duplicate_and_another_sentence_is_none(self) -> None:
        text = "東京都は日本の首都であり、世界でも最大級の都市圏を形成している大都市である。"
        groups = near_duplicate_groups(
            [text, text.replace("最大級", "最大"), "大阪府は近畿地方の中央に位置する府である。"], threshold=0.7
        )
        assert groups.tolist() == [0, 0, 1]

    def test_short_texts_that_differ_are_apart(self) -> None:
        assert near_duplicate_groups(["", "a", "ab", "ba", "abc", "😀", "😁"]).tolist() == list(range(7))

    def test_of_a_very_long_text_the_first_characters_count(self) -> None:
        long = " ".join(f"word{number}" for number in range(LONGEST))
        groups = near_duplicate_groups([long, long + " and so on", "x" * 3_000_000])
        assert groups.tolist() == [0, 0, 1]

    def test_a_chain_is_one_group(self) -> None:
        text = "abcdefghijklmnopqrstuvwxyz0123456789 the quick brown fox jumps over a lazy dog, said the other animal"
        chain = [text[start : start + 60] for start in range(0, 40, 2)]
        assert similarity(chain[0], chain[-1]) < 0.5
        assert set(near_duplicate_groups(chain).tolist()) == {0}

    def test_many_texts_with_the_same_long_beginning_are_told_apart_in_time(self) -> None:
        beginning = "Dear customer, thank you for your message, we have received it and will answer it soon. "
        texts = [f"{beginning}Your case number {number * 7919 % 100_003} is about {number}." for number in range(3_000)]
        groups = near_duplicate_groups(texts, threshold=0.95)
        pairs = itertools.islice(itertools.combinations(range(0, 3_000, 40), 2), 2_000)
        for one, other in pairs:
            if similarity(texts[one], texts[other]) >= 0.97:
                assert groups[one] == groups[other]

    def test_nothing_gives_nothing(self) -> None:
        assert near_duplicate_groups([]).tolist() == []
        assert nearest_duplicates([]) == []
        assert nearest_duplicates(["a text"], []) == [None]

    @pytest.mark.parametrize("threshold", [0, -0.1, 1.01])
    def test_a_threshold_that_is_no_share_is_refused(self, threshold: float) -> None:
        with pytest.raises(ValueError, match="above 0 and at most 1"):
            near_duplicate_groups(["a"], threshold=threshold)

    @settings(max_examples=60, deadline=None)
    @given(st.lists(st.lists(st.sampled_from(WORDS), max_size=8).map(" ".join), max_size=12), st.floats(0.3, 1))
    def test_near_duplicates_that_are_found_are_near_duplicates(self, texts: list[str], threshold: float) -> None:
        groups = near_duplicate_groups(texts, threshold=threshold).tolist()
        pairs = [
            (one, other)
            for one, other in itertools.combinations(range(len(texts)), 2)
            if similarity(texts[one], texts[other]) >= threshold - 1e-9
        ]
        truth = components(len(texts), pairs)
        for one, other in itertools.combinations(range(len(texts)), 2):
            if groups[one] == groups[other]:
                assert truth[one] == truth[other]
            if normalised(texts[one]) == normalised(texts[other]):
                assert groups[one] == groups[other]


class TestNearest:
    def test_on_real_texts_it_is_the_most_similar_earlier_text(self) -> None:
        texts = real_texts()
        best: dict[int, tuple[float, int]] = {}
        for (one, other), figure in all_pairs(texts, 0.8).items():
            best[other] = max(best.get(other, (0.0, 0)), (figure, -one))
        found = nearest_duplicates(texts)
        wrong = 0
        for index, match in enumerate(found):
            truth = best.get(index)
            if truth is None or match is None:
                wrong += (truth is None) != (match is None)
                continue
            assert match[1] == pytest.approx(truth[0])
            assert match[0] == -truth[1]
        assert wrong <= 0.005 * len(best)

    def test_in_a_pool_it_is_the_most_similar_of_the_pool_only(self) -> None:
        pool = ["Where is my new card?", "I lost my wallet yesterday.", "I lost my wallet yesterday"]
        texts = [
            "I lost my wallet yesterday!",
            "where is my new card",
            "I lost my wallet yesterday!",
            "nothing of it",
            "i lost my wallet yesterday",
        ]
        found = nearest_duplicates(texts, pool)
        assert [match and match[0] for match in found] == [2, 0, 2, None, 2]
        assert found[4] == (2, 1.0)
        assert found[0] is not None
        assert found[0][1] == pytest.approx(max(similarity(texts[0], each) for each in pool))

    def test_a_repeated_text_is_like_its_first_place(self) -> None:
        assert nearest_duplicates(["one text here", "other words there", "One text here", "one text  here"]) == [
            None,
            None,
            (0, 1.0),
            (0, 1.0),
        ]
