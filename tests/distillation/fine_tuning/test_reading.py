"""What is read of a record: markers around mentions, and what is kept of a text that is too long."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from annotation_pipelines.distillation.fine_tuning.encoder import TrainableEncoder
from annotation_pipelines.distillation.fine_tuning.reading import around, marked, token_at, tokens_of
from annotation_pipelines.tasks.classification import Classification
from annotation_pipelines.tasks.given_relations import GivenRelationsTask
from annotation_pipelines.tasks.marked_pair import MarkedPair

PAIRS = GivenRelationsTask(types={"Cause": ""}, none="Other", none_description="", directed=True, part=None)
LABELS = Classification(labels=["sun", "moon"]).make()


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("the <e1>storm</e1> and <e2>rain</e2>.", "the @ storm @ and # rain #."),
        ("the <e2>storm</e2> and <e1>rain</e1>.", "the # storm # and @ rain @."),
        ("<e1>the <e2>cat</e2></e1> sat", "@ the # cat # @ sat"),
        ("<e2><e1>cat</e1> food</e2>", "# @ cat @ food #"),
        ("<e1>fire</e1><e2>smoke</e2>", "@ fire @# smoke #"),
    ],
)
def test_markers_stand_around_both_mentions(text: str, expected: str) -> None:
    found, ((e1, end1), (e2, end2)) = marked(MarkedPair.read(text))
    assert found == expected
    assert (found[e1], found[e2]) == ("@", "#")
    assert (found[end1 - 1], found[end2 - 1]) == ("@", "#")


def test_places_are_those_of_the_opening_markers(tiny: TrainableEncoder) -> None:
    texts = ["# @ the <e2>storm</e2> and xq <e1>rain</e1>.", "<e1>fire</e1> <e2>smoke</e2>"]
    found = tokens_of(PAIRS, texts, tiny, 64)
    assert found.places is not None
    assert found.read.tolist() == [True, True]
    for ids, places, follows in zip(found.ids, found.places, (("rain", "storm"), ("fire", "smoke")), strict=True):
        words = tiny.tokenizer.convert_ids_to_tokens(ids.tolist())
        assert [words[place] for place in places] == ["@", "#"]
        assert tuple(words[place + 1] for place in places) == follows


@pytest.mark.parametrize("filler", ["the cat", "xyz"])
@pytest.mark.parametrize("between", [0, 5, 200])
@pytest.mark.parametrize("before", [0, 3, 200])
def test_of_a_long_text_what_stands_around_both_mentions_is_kept(
    tiny: TrainableEncoder, before: int, between: int, filler: str
) -> None:
    text = (
        f"{f'{filler} ' * before}sun <e1>storm</e1> flood {f'{filler} ' * between}moon <e2>fire</e2> "
        f"smoke {f'{filler} ' * 100}"
    )
    found = tokens_of(PAIRS, [text], tiny, 40)
    assert found.places is not None
    (ids,), ((first, second),) = found.ids, found.places
    words = tiny.tokenizer.convert_ids_to_tokens(ids.tolist())
    assert len(words) <= 40
    assert words[first : first + 3] == ["@", "storm", "@"]
    assert words[second : second + 3] == ["#", "fire", "#"]
    assert words[first - 1] == "sun"
    assert words[second - 1] == "moon"
    assert words[first + 3] == "flood"


def test_whole_texts_are_cut_at_their_end_and_empty_ones_are_read(tiny: TrainableEncoder) -> None:
    found = tokens_of(LABELS, ["sun " * 100, "", "moon \ud800"], tiny, 16)
    assert found.places is None
    assert found.lengths.tolist()[:2] == [16, 2]
    assert tokens_of(LABELS, [], tiny, 16).ids == []
    assert tokens_of(PAIRS, [], tiny, 16).ids == []


def test_a_text_that_marks_no_pair_is_told_apart(tiny: TrainableEncoder) -> None:
    found = tokens_of(PAIRS, ["no marks at all", "<e1>sun</e1> <e2>moon</e2>", ""], tiny, 16)
    assert found.read.tolist() == [False, True, False]


@given(
    st.lists(st.integers(1, 6), min_size=12, max_size=60),
    st.data(),
    st.integers(4, 20),
)
def test_no_more_is_kept_than_there_is_room_for_and_both_mentions_begin_in_it(
    lengths: list[int], data: st.DataObject, budget: int
) -> None:
    words = [chr(ord("a") + index % 26) * length for index, length in enumerate(lengths)]
    text = " ".join(words)
    offsets, place = [], 0
    for word in words:
        offsets.append((place, place + len(word)))
        place += len(word) + 1
    mentions = []
    for _ in range(2):
        first = data.draw(st.integers(0, len(words) - 1))
        last = data.draw(st.integers(first, len(words) - 1))
        mentions.append((offsets[first][0], offsets[last][1]))
    kept, starts = around(text, mentions, offsets, budget)
    assert len(kept.split(" ")) <= budget
    for (start, _), found in zip(mentions, starts, strict=True):
        assert kept[found] == text[start]
        assert found == 0 or kept[found - 1] == " "


def test_a_character_is_found_in_its_token_or_the_next_one() -> None:
    offsets = [(0, 0), (0, 3), (4, 6), (6, 9), (0, 0)]
    assert [token_at(offsets, place) for place in (0, 2, 3, 4, 6, 8, 9)] == [1, 1, 2, 2, 3, 3, 3]
