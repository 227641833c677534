"""Which of several texts say nearly what an earlier one, or a pool, says already: the first one stays."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass

from annotation_pipelines.quality.near_duplicates import nearest_duplicates
from annotation_pipelines.synthetic.words import words_of


@dataclass(frozen=True)
class Twin:
    """What a text repeats.

    Attributes:
        index: Its place among the texts, or in the pool.
        similarity: 0 to 1.
    """

    index: int
    similarity: float


def repeats_of_pool(
    texts: Sequence[str], pool: Sequence[str], *, threshold: float, rouge_l: float | None = None
) -> list[Twin | None]:
    """For each text what it repeats of a pool; None where it repeats nothing.

    Args:
        threshold: The least Jaccard similarity of near-duplicates.
        rouge_l: The least ROUGE-L F-measure of repeats; None to leave it out.
    """
    found = nearest_duplicates(texts, pool, threshold=threshold) if texts and pool else [None] * len(texts)
    twins = [None if pair is None else Twin(*pair) for pair in found]
    if rouge_l is None:
        return twins
    spoken = [_Spoken.of(text) for text in pool]
    return [twin or _by_rouge(_Spoken.of(text), spoken, rouge_l) for text, twin in zip(texts, twins, strict=True)]


def repeats_among(texts: Sequence[str], *, threshold: float, rouge_l: float | None = None) -> list[Twin | None]:
    """For each text which of the earlier ones that stay it repeats; None for those that stay.

    A text that repeats only one that is dropped stays: nothing says what it says any more. Where ROUGE-L is looked at,
    too, what repeats one that ROUGE-L drops is dropped with it.
    """
    twins = _jaccard_repeats(texts, threshold)
    if rouge_l is None:
        return twins
    staying: list[int] = []
    spoken: list[_Spoken] = []
    for index, twin in enumerate(twins):
        if twin is not None:
            continue
        words = _Spoken.of(texts[index])
        if same := _by_rouge(words, spoken, rouge_l):
            twins[index] = Twin(staying[same.index], same.similarity)
            continue
        staying.append(index)
        spoken.append(words)
    return _told_again(twins, staying)


@dataclass(frozen=True)
class _Spoken:
    """A text as words: in order, and how often each occurs."""

    words: list[str]
    counts: Counter[str]

    @classmethod
    def of(cls, text: str) -> _Spoken:
        words = words_of(text)
        return cls(words, Counter(words))


def rouge_l(first: Sequence[str], second: Sequence[str]) -> float:
    """The ROUGE-L F-measure of two texts given as words (Lin 2004): twice their longest common subsequence over the
    sum of their lengths."""
    if not first or not second:
        return 0.0
    return 2 * _common(first, second) / (len(first) + len(second))


def _jaccard_repeats(texts: Sequence[str], threshold: float) -> list[Twin | None]:
    twins: list[Twin | None] = [None] * len(texts)
    open_now = list(range(len(texts)))
    while open_now:
        found = nearest_duplicates([texts[i] for i in open_now], threshold=threshold)
        staying = [i for i, pair in zip(open_now, found, strict=True) if pair is None]
        rest = [i for i, pair in zip(open_now, found, strict=True) if pair is not None]
        again = []
        # What is near no earlier text stays; what is near one that stays goes; the others are looked at once more.
        near = nearest_duplicates([texts[i] for i in rest], [texts[i] for i in staying], threshold=threshold)
        for i, pair in zip(rest, near, strict=True):
            if pair is None:
                again.append(i)
            else:
                twins[i] = Twin(staying[pair[0]], pair[1])
        open_now = again
    return twins


def _told_again(twins: list[Twin | None], staying: Sequence[int]) -> list[Twin | None]:
    """The same with every twin one that stays: a text whose twin was dropped names that one's twin."""
    kept = set(staying)
    for index, twin in enumerate(twins):
        while twin is not None and twin.index not in kept:
            further = twins[twin.index]
            assert further is not None
            twin = Twin(further.index, min(twin.similarity, further.similarity))
        twins[index] = twin
    return twins


def _by_rouge(text: _Spoken, pool: Sequence[_Spoken], threshold: float) -> Twin | None:
    """The first of a pool with the highest ROUGE-L, where that is high enough."""
    best: Twin | None = None
    for index, other in enumerate(pool):
        total = len(text.words) + len(other.words)
        least = (best.similarity if best else threshold) * total / 2
        # A common subsequence is no longer than the shorter text, nor than the words that both have.
        if not total or min(len(text.words), len(other.words)) < least:
            continue
        if sum(min(n, other.counts[word]) for word, n in text.counts.items() if word in other.counts) < least:
            continue
        found = 2 * _common(text.words, other.words) / total
        if found >= threshold and (best is None or found > best.similarity):
            best = Twin(index, found)
    return best


def _common(first: Sequence[str], second: Sequence[str]) -> int:
    """The length of the longest common subsequence, by bits (Hyyrö 2004): a row of the table is one number."""
    places: dict[str, int] = {}
    for index, word in enumerate(first):
        places[word] = places.get(word, 0) | 1 << index
    every = (1 << len(first)) - 1
    row = every
    for word in second:
        match = row & places.get(word, 0)
        row = ((row + match) | (row - match)) & every
    return len(first) - row.bit_count()
