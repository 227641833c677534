"""Tokens with tags and spans of texts, each into the other."""

from __future__ import annotations

from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from seqeval.metrics.sequence_labeling import get_entities

from annotation_pipelines.tasks.spans import Span, TypedSpan
from annotation_pipelines.tasks.tokens import (
    Tagged,
    bio_tags,
    blank_tokens,
    character_tokens,
    joined,
    tagged_entities,
)

WNUT17 = Path(__file__).parents[2] / "examples" / "wnut17" / "data"

tags = st.lists(st.sampled_from(["O", "B-person", "I-person", "B-creative-work", "I-creative-work"]), max_size=12)


def sentences() -> list[tuple[list[str], list[str]]]:
    """Words and tags of the real sentences; some of the lines between them hold a tab."""
    found: list[tuple[list[str], list[str]]] = []
    for file in sorted(WNUT17.glob("*.conll")):
        words: list[str] = []
        tags: list[str] = []
        for line in [*file.read_text(encoding="utf-8").split("\n"), ""]:
            word, _, tag = line.partition("\t")
            if word:
                words.append(word)
                tags.append(tag)
            elif words:
                found.append((words, tags))
                words, tags = [], []
    return found


def test_real_sentences_keep_their_tags_by_way_of_spans() -> None:
    for words, tagged in sentences():
        text, tokens = joined(words)
        entities = tagged_entities(tagged, tokens)
        assert [token.of(text) for token in tokens] == words
        assert bio_tags(entities, tokens) == Tagged(tuple(tagged), (), ())
        assert bio_tags(entities, blank_tokens(text)).tags == tuple(tagged)


@settings(max_examples=100, deadline=None)
@given(tags)
def test_any_tags_mark_the_entities_that_seqeval_finds(given: list[str]) -> None:
    tokens = [Span(index, index + 1) for index in range(len(given))]
    assert [(e.type, e.start, e.end - 1) for e in tagged_entities(given, tokens)] == get_entities(given)


@settings(max_examples=100, deadline=None)
@given(st.text(max_size=30))
def test_tokens_are_all_that_is_not_white_space(text: str) -> None:
    assert [token.of(text) for token in blank_tokens(text)] == text.split()
    characters = character_tokens(text)
    assert "".join("".join(token.of(text) for token in characters).split()) == "".join(text.split())
    assert characters == sorted(characters)


def test_characters_are_whole() -> None:
    text = "東京 e\u0301👍🏽"
    assert [token.of(text) for token in character_tokens(text)] == ["東", "京", "e\u0301", "👍🏽"]


def test_what_does_not_fit_the_tokens_is_said() -> None:
    text = "New York City is nice"
    city, york, part = TypedSpan(0, 13, "place"), TypedSpan(4, 8, "person"), TypedSpan(17, 19, "x")
    for entities in ([city, york, part], [part, york, city], [york, part, city]):
        tagged = bio_tags(entities, blank_tokens(text))
        assert tagged.tags == ("B-place", "I-place", "I-place", "O", "O")
        assert (tagged.unaligned, tagged.overlapping) == ((part,), (york,))
    assert bio_tags([part], character_tokens(text)).unaligned == ()


@pytest.mark.parametrize(("given", "reason"), [(["X"], "found 'X'"), (["B-"], "found 'B-'"), (["O", "O"], "found 2")])
def test_tags_that_are_none_are_refused(given: list[str], reason: str) -> None:
    with pytest.raises(ValueError, match=reason):
        tagged_entities(given, [Span(0, 1)])
