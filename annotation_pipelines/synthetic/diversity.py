"""How diverse texts are, and how new beside a pool. All figures lie between 0 and 1, but for the spread (0 to 2)."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import asdict, dataclass

import numpy as np
from numpy.typing import NDArray

from annotation_pipelines.synthetic.words import NGram, ngrams, words_of

OVERLAP = 3
"""Words of the runs of which overlap and novelty are computed."""


@dataclass(frozen=True)
class Diversity:
    """How diverse n texts are; a figure is None where there is nothing to compute it from.

    Attributes:
        texts: How many there are.
        distinct_1, distinct_2, distinct_3: Different n-grams of words over all n-grams of all texts (Li et al. 2016,
            arXiv 1510.03055). It falls as texts are added: compare sets of one size.
        self_overlap: Mean over the texts of the share of a text's different 3-grams that another text has, too: the
            3-gram precision of Self-BLEU (Zhu et al. 2018, arXiv 1802.01886) without brevity penalty, over all texts.
        embedding_spread: Mean cosine distance of all pairs of vectors.
        novelty: Mean over the texts of the share of a text's different 3-grams that no text of the pool has.
    """

    texts: int
    distinct_1: float | None
    distinct_2: float | None
    distinct_3: float | None
    self_overlap: float | None
    embedding_spread: float | None
    novelty: float | None

    def facts(self) -> dict[str, float | int | None]:
        """Every figure by name, to four digits."""
        return {k: round(v, 4) if isinstance(v, float) else v for k, v in asdict(self).items()}


def diversity(texts: Sequence[str], pool: Iterable[str] = (), vectors: NDArray[np.float32] | None = None) -> Diversity:
    """How diverse texts are.

    Args:
        pool: Texts beside which they are to be new.
        vectors: Of the texts, shape (n, d), rows of length 1.
    """
    spoken = [words_of(text) for text in texts]
    runs = [set(ngrams(words, OVERLAP)) for words in spoken]
    known = {gram for text in pool for gram in ngrams(words_of(text), OVERLAP)}
    times: Counter[NGram] = Counter(gram for grams in runs for gram in grams)
    return Diversity(
        len(texts),
        distinct(spoken, 1),
        distinct(spoken, 2),
        distinct(spoken, 3),
        self_overlap=_mean([sum(times[g] > 1 for g in grams) / len(grams) for grams in runs if grams]),
        embedding_spread=None if vectors is None else spread(vectors),
        novelty=_mean([len(grams - known) / len(grams) for grams in runs if grams]),
    )


def distinct(texts: Sequence[Sequence[str]], n: int) -> float | None:
    """Different n-grams over all n-grams of texts that are given as words; None without any."""
    grams = [gram for words in texts for gram in ngrams(words, n)]
    return len(set(grams)) / len(grams) if grams else None


def spread(vectors: NDArray[np.float32]) -> float | None:
    """The mean cosine distance of all pairs of rows of length 1, shape (n, d); None where there is no pair.

    The sum over all pairs follows from the sum of the vectors, so no pair is looked at.
    """
    n = len(vectors)
    if n < 2:
        return None
    exact = vectors.astype(np.float64)
    total = exact.sum(axis=0)
    similarity = (float(total @ total) - float((exact * exact).sum())) / (n * (n - 1))
    return 1 - similarity


def _mean(values: Sequence[float]) -> float | None:
    return sum(values) / len(values) if values else None
