"""Whether a rationale can be the reason for its label: checks that need no model.

A rationale that reads well need not be what led to the label (Jacovi and Goldberg 2020, arXiv 2004.03685). What can be
seen from the text alone is the contrary: it quotes what the record does not say, it argues for another label, it
repeats the record instead of giving reasons, or it would serve for any record.
"""

from __future__ import annotations

import itertools
import re
import unicodedata
from collections import Counter
from collections.abc import Sequence

import polars as pl

from annotation_pipelines.content import readable

FABRICATED = "it quotes what the record does not say"
CONTRADICTS = "it argues for another label"
COPIES = "it repeats the record"
BOILERPLATE = "it is the same for several records"

BOILERPLATE_RECORDS = 3
"""So many different records with one rationale make it boilerplate."""
COPIED_SHARE = 0.9
"""The share of a rationale's word pairs that the record has, from which on it is a copy."""

FEWEST_WORDS, QUOTED_SHARE = 3, 0.7
"""A quotation of so many words, with less than this share of them in the record, is none of it. Shorter ones say
nothing: people quote single words for other reasons, too."""

_QUOTED = re.compile(
    r'"([^"\n]{2,})"|\u201c([^\u201d\n]{2,})\u201d|\u00ab([^\u00bb\n]{2,})\u00bb|\u300c([^\u300d\n]{1,})\u300d'
)
_WORD = re.compile(r"\w+")


def rationale_problems(
    rationales: pl.Series, contents: pl.Series, values: pl.Series, labels: Sequence[str] = ()
) -> pl.Series:
    """What speaks against each rationale, the first of what is found; null where nothing does, or there is none.

    Args:
        rationales: n rationales; null for none.
        contents: The contents that they are about, as they are stored.
        values: The labels that they are to give reasons for.
        labels: The closed set of labels, where every value is one of them.
    """
    shared = _shared(rationales, contents)
    found = [
        None if rationale is None else _problem(rationale, readable(content or ""), value, labels, rationale in shared)
        for rationale, content, value in zip(rationales, contents, values, strict=True)
    ]
    return pl.Series("rationale_problem", found, pl.String)


def _problem(rationale: str, content: str, value: str | None, labels: Sequence[str], shared: bool) -> str | None:
    quotes = [next(filter(None, groups)) for groups in _QUOTED.findall(rationale)]
    if any(_fabricated(quote, content, labels) for quote in quotes):
        return FABRICATED
    if value is not None and value in labels and _argues_for_another(rationale, value, labels):
        return CONTRADICTS
    if _copied(rationale, content) >= COPIED_SHARE:
        return COPIES
    return BOILERPLATE if shared else None


def _fabricated(quote: str, content: str, labels: Sequence[str]) -> bool:
    """Whether most of a quotation's words are not the record's. Labels are quoted, too: their words do not count."""
    known = {word for label in labels for word in _words(label)}
    words = [word for word in _words(quote) if word not in known]
    seen = set(_words(content))
    return len(words) >= FEWEST_WORDS and sum(word in seen for word in words) < QUOTED_SHARE * len(words)


def _argues_for_another(rationale: str, value: str, labels: Sequence[str]) -> bool:
    """Whether it names other labels, and not the one given."""
    words = _plain(rationale)
    own = _named(value, words)
    return not own and any(_named(label, words) for label in labels if label != value and not _within(label, value))


def _named(label: str, words: str) -> bool:
    return re.search(rf"(?<!\w){re.escape(_plain(label))}(?!\w)", words) is not None


def _within(label: str, other: str) -> bool:
    return _plain(label) in _plain(other)


def _copied(rationale: str, content: str) -> float:
    said, pairs = _pairs(rationale), _pairs(content)
    return sum(count for pair, count in said.items() if pair in pairs) / said.total() if said.total() >= 5 else 0.0


def _pairs(text: str) -> Counter[tuple[str, str]]:
    words = _words(text)
    return Counter(itertools.pairwise(words))


def _shared(rationales: pl.Series, contents: pl.Series) -> set[str]:
    """Rationales that stand beside several different contents."""
    counts = (
        pl.DataFrame({"rationale": rationales, "content": contents})
        .drop_nulls()
        .group_by("rationale")
        .agg(pl.col("content").n_unique().alias("contents"))
        .filter(pl.col("contents") >= BOILERPLATE_RECORDS)
    )
    return set(counts["rationale"])


def _words(text: str) -> list[str]:
    return _WORD.findall(_plain(text))


def _plain(text: str) -> str:
    return " ".join(unicodedata.normalize("NFKC", text).casefold().split())
