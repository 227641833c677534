"""Tokens with tags, as CoNLL files have them, and entities as spans of a text: each into the other.

Tags are those of the BIO scheme (Ramshaw and Marcus 1995, as IOB2): B-type begins an entity, I-type goes on with it, O
is outside. One tag a token has room for neither nested entities nor those that begin or end within a token; they are
left out, and said to be.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Sequence
from dataclasses import dataclass

import regex

from annotation_pipelines.tasks.spans import Span, TypedSpan

OUTSIDE = "O"


@dataclass(frozen=True)
class Tagged:
    """The tags of a text's tokens.

    Attributes:
        tags: One for each token.
        unaligned: Entities that begin or end within a token, or hold none.
        overlapping: Entities that share a token with one that was kept.
    """

    tags: tuple[str, ...]
    unaligned: tuple[TypedSpan, ...]
    overlapping: tuple[TypedSpan, ...]


def blank_tokens(text: str) -> list[Span]:
    """What stands between white space."""
    return [Span(*match.span()) for match in re.finditer(r"\S+", text)]


def character_tokens(text: str) -> list[Span]:
    """Every grapheme cluster that is not white space: the tokens of scripts without blanks between words."""
    return [Span(*match.span()) for match in regex.finditer(r"\X", text) if not match.group().isspace()]


def joined(words: Iterable[str]) -> tuple[str, list[Span]]:
    """The text made by joining words with blanks, and where each of them stands in it."""
    spans: list[Span] = []
    at = 0
    listed = list(words)
    for word in listed:
        spans.append(Span(at, at + len(word)))
        at += len(word) + 1
    return " ".join(listed), spans


def bio_tags(entities: Iterable[TypedSpan], tokens: Sequence[Span]) -> Tagged:
    """The tag of each token.

    Args:
        entities: In any order. Of those that overlap the longest is kept, then the first.
        tokens: In order; none overlap.
    """
    starts = {token.start: index for index, token in enumerate(tokens)}
    ends = {token.end: index for index, token in enumerate(tokens)}
    tags = [OUTSIDE] * len(tokens)
    unaligned, overlapping = [], []
    for entity in sorted(entities, key=lambda entity: (entity.start - entity.end, entity)):
        first, last = starts.get(entity.start), ends.get(entity.end)
        if first is None or last is None or last < first:
            unaligned.append(entity)
        elif any(tag != OUTSIDE for tag in tags[first : last + 1]):
            overlapping.append(entity)
        else:
            tags[first : last + 1] = [f"B-{entity.type}", *[f"I-{entity.type}"] * (last - first)]
    return Tagged(tuple(tags), tuple(sorted(unaligned)), tuple(sorted(overlapping)))


def tagged_entities(tags: Sequence[str], tokens: Sequence[Span]) -> list[TypedSpan]:
    """The entities that tags mark, as conlleval reads them: an I that goes on with nothing begins an entity.

    Args:
        tags: One for each token.
        tokens: In order.

    Raises:
        ValueError: A tag is none of the scheme's, or there are more tags than tokens, or fewer.
    """
    if len(tags) != len(tokens):
        raise ValueError(f"expected a tag for each of {len(tokens)} tokens, found {len(tags)}")
    found: list[TypedSpan] = []
    start, kind, end = 0, "", 0
    for tag, token in zip(tags, tokens, strict=True):
        prefix, _, name = tag.partition("-")
        if tag != OUTSIDE and (prefix not in ("B", "I") or not name):
            raise ValueError(f"expected O, B-<type> or I-<type>, found {tag!r}")
        if kind and (prefix != "I" or name != kind):
            found.append(TypedSpan(start, end, kind))
            kind = ""
        if name and not kind:
            start, kind = token.start, name
        end = token.end
    if kind:
        found.append(TypedSpan(start, end, kind))
    return found
