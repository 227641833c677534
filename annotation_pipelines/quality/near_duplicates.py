"""Texts that say nearly the same: most of their character shingles are the same.

The similarity of two texts is the Jaccard similarity of their sets of shingles: runs of four characters of the text in
Unicode form NFKC, case folded, white space made one blank (Broder 1997, "On the resemblance and containment of
documents"). Pairs that may be similar enough are found by MinHash signatures cut into bands (Leskovec, Rajaraman and
Ullman 2020, chapter 3); then their similarity is computed exactly. So nothing is called a near-duplicate that is none;
a pair right at the threshold is missed with a probability below one in two hundred, a closer one far more rarely.

Characters, not words: Japanese has no blanks between words, and a typing error costs four shingles, not a whole word.
"""

from __future__ import annotations

import unicodedata
from collections.abc import Iterator, Sequence

import numpy as np
from numpy.typing import NDArray

THRESHOLD = 0.8
SHINGLE = 4
LONGEST = 20_000
"""Only so many characters of a text count, the first ones: this bounds the time that a text takes."""

_SIGNATURE = 128
_BEGINNING = 32
_MISSED = 0.005
_NEIGHBOURS = 100
_CHUNK = 1 << 18
_PAIRS = 1 << 16
_DEVIATIONS = 3.5

Ints = NDArray[np.int64]
_Hashes = NDArray[np.uint64]


def near_duplicate_groups(texts: Sequence[str], *, threshold: float = THRESHOLD) -> Ints:
    """The group of each text: near-duplicates, and near-duplicates of those, share one.

    Args:
        texts: n texts in any language; empty ones are duplicates of one another.
        threshold: The least Jaccard similarity of near-duplicates, above 0 and at most 1.

    Returns:
        Shape (n,): groups are numbered from 0 in the order of their first texts.

    Raises:
        ValueError: The threshold is not above 0 and at most 1.
    """
    distinct, of_text = _distinct(texts)
    sketches = _Sketches(distinct, threshold)
    groups = np.arange(len(distinct))
    edges = np.empty((0, 2), np.int64)
    for first, second in sketches.candidates():
        # Pairs that share a group already need no look: a cluster of m takes about m comparisons, not m².
        apart = groups[first] != groups[second]
        similar, _ = sketches.verified(first[apart], second[apart])
        if len(similar):
            edges = np.concatenate([edges, similar])
            groups = _components(edges, len(distinct))
    return _numbered(groups[of_text])


def nearest_duplicates(
    texts: Sequence[str], pool: Sequence[str] | None = None, *, threshold: float = THRESHOLD
) -> list[tuple[int, float] | None]:
    """For each text the most similar one of a pool, where one is a near-duplicate.

    Args:
        pool: What to compare with; None for the texts themselves, each with those before it.
        threshold: The least Jaccard similarity of near-duplicates, above 0 and at most 1.

    Returns:
        One entry a text: the index in the pool (or in the texts) and the similarity, 1.0 where the two texts are the
        same once normalised; None where nothing is similar enough. Of several that are equally similar, the first.

    Raises:
        ValueError: The threshold is not above 0 and at most 1.
    """
    distinct, of_all = _distinct(texts if pool is None else [*pool, *texts])
    first_place = np.unique(of_all, return_index=True)[1]
    in_pool = len(distinct) if pool is None else int(of_all[: len(pool)].max(initial=-1)) + 1
    # Distinct texts stand in the order of their first places, the pool's first: the lower index is the partner.
    best: dict[int, tuple[float, int]] = {}
    sketches = _Sketches(distinct, threshold)
    for first, second in sketches.candidates():
        wanted = (first < in_pool) & ((second >= in_pool) | (pool is None))
        pairs, figures = sketches.verified(first[wanted], second[wanted])
        for (partner, text), figure in zip(pairs.tolist(), figures.tolist(), strict=True):
            best[text] = max(best.get(text, (0.0, 0)), (figure, -partner))

    found: list[tuple[int, float] | None] = []
    offset, limit = (0, None) if pool is None else (len(pool), len(pool))
    for place, text in enumerate(of_all[offset:].tolist()):
        same = int(first_place[text])
        if same < (place if limit is None else limit):
            found.append((same, 1.0))
        elif text in best:
            figure, partner = best[text]
            found.append((int(first_place[-partner]), figure))
        else:
            found.append(None)
    return found


def similarity(first: str, second: str) -> float:
    """The Jaccard similarity of the shingles of two texts, 0 to 1."""
    one, other = (
        {text[i : i + SHINGLE] for i in range(max(1, len(text) - SHINGLE + 1))}
        for text in (normalised(first), normalised(second))
    )
    return len(one & other) / len(one | other)


def normalised(text: str) -> str:
    """A text as it is compared: NFKC, case folded, white space made one blank, at most LONGEST characters."""
    # Cut twice: white space and the rest of a very long text need not be looked at.
    return " ".join(unicodedata.normalize("NFKC", text[: 2 * LONGEST]).casefold().split())[:LONGEST]


class _Sketches:
    """Signatures of distinct normalised texts, and the pairs that they point to."""

    def __init__(self, texts: Sequence[str], threshold: float) -> None:
        if not 0 < threshold <= 1:
            raise ValueError(f"expected a threshold above 0 and at most 1, found {threshold}")
        self._texts, self._threshold = texts, threshold
        self._signatures = _signatures(texts)
        self._beginnings = np.ascontiguousarray(self._signatures[:, :_BEGINNING])
        rows = _rows_of_a_band(threshold)
        self._bands = np.stack(
            [
                _mixed_columns(self._signatures[:, start : start + rows])
                for start in range(0, _SIGNATURE - rows + 1, rows)
            ]
        )
        self._compared: list[Ints] = []

    def candidates(self) -> Iterator[tuple[Ints, Ints]]:
        """Pairs that share a band, the lower index first; none that `verified` has compared in an earlier band.

        In a bucket of many texts, those at distance d in it come together, for d from 1 up, so that clusters are joined
        after the first turn. Buckets of texts with the same long boilerplate can be large: only so many neighbours are
        compared there, the more similar ones first (their next band is the same, too).
        """
        known = np.empty(0, np.int64)
        for number, band in enumerate(self._bands):
            known = np.unique(np.concatenate([known, *self._compared]))
            self._compared = []
            order = np.lexsort((self._bands[(number + 1) % len(self._bands)], band))
            ordered = band[order]
            for distance in range(1, min(_NEIGHBOURS, len(order) - 1) + 1):
                # Buckets are runs in the order: what is equal at a distance is equal in between.
                together = np.flatnonzero(ordered[distance:] == ordered[:-distance])
                if not len(together):
                    break
                for chunk in range(0, len(together), _PAIRS):
                    places = together[chunk : chunk + _PAIRS]
                    one, other = order[places], order[places + distance]
                    first, second = np.minimum(one, other), np.maximum(one, other)
                    new = ~_contained(self._keys(first, second), known)
                    yield first[new], second[new]

    def verified(self, first: Ints, second: Ints) -> tuple[Ints, NDArray[np.float64]]:
        """Those of some pairs that are similar enough, shape (m, 2), and their similarities, shape (m,)."""
        for signatures in (self._beginnings, self._signatures):
            agreement = (signatures[first] == signatures[second]).mean(axis=1)
            kept = agreement >= self._least_agreement(signatures.shape[1])
            first, second = first[kept], second[kept]
        self._compared.append(self._keys(first, second))
        pairs, figures = [np.empty((0, 2), np.int64)], [np.empty(0)]
        lengths = np.array([len(self._texts[i]) + len(self._texts[j]) for i, j in zip(first, second, strict=True)])
        for chunk in _chunks(lengths):
            figure = _jaccard([self._texts[i] for i in first[chunk]], [self._texts[j] for j in second[chunk]])
            similar = figure >= self._threshold
            pairs.append(np.stack([first[chunk], second[chunk]], axis=1)[similar])
            figures.append(figure[similar])
        return np.concatenate(pairs), np.concatenate(figures)

    def _keys(self, first: Ints, second: Ints) -> Ints:
        """One number a pair."""
        return first * len(self._texts) + second

    def _least_agreement(self, hashes: int) -> float:
        """Pairs of which fewer hashes agree are below the threshold: each agrees with the similarity as probability."""
        return self._threshold - _DEVIATIONS * float(np.sqrt(self._threshold * (1 - self._threshold) / hashes))


def _rows_of_a_band(threshold: float) -> int:
    """The longest bands with which a pair at the threshold is missed rarely enough: few pairs are looked at in vain."""
    for rows in range(_SIGNATURE, 1, -1):
        if (1 - threshold**rows) ** (_SIGNATURE // rows) <= _MISSED:
            return rows
    return 1


def _signatures(texts: Sequence[str]) -> NDArray[np.uint32]:
    """MinHash signatures, shape (n, _SIGNATURE): the least of each of many hashes over the shingles of a text."""
    generator = np.random.default_rng(0)
    factors = generator.integers(0, 1 << 63, _SIGNATURE, dtype=np.uint64) * np.uint64(2) + np.uint64(1)
    signatures = np.empty((len(texts), _SIGNATURE), np.uint32)
    for chunk in _chunks(np.fromiter(map(len, texts), np.int64, len(texts))):
        hashes, starts = _shingles([texts[i] for i in chunk])
        for column, factor in enumerate(factors):
            # Multiply-shift hashing (Dietzfelbinger et al. 1997) of a hash that is mixed already.
            turned = ((hashes * factor) >> np.uint64(32)).astype(np.uint32)
            signatures[chunk, column] = np.minimum.reduceat(turned, starts)
    return signatures


def _jaccard(first: Sequence[str], second: Sequence[str]) -> NDArray[np.float64]:
    """The similarity of each of m pairs of normalised texts, shape (m,)."""
    one, other = _sets(first), _sets(second)
    # Both sets of a pair have no hash twice: two equal neighbours in the order are one shingle that both have.
    everything = np.concatenate([one[1], other[1]])
    pair = np.concatenate([one[0], other[0]])
    order = np.lexsort((everything, pair))
    everything, pair = everything[order], pair[order]
    shared = pair[1:][(everything[1:] == everything[:-1]) & (pair[1:] == pair[:-1])]
    common = np.bincount(shared, minlength=len(first))
    both = np.bincount(pair, minlength=len(first))
    return common / (both - common)


def _sets(texts: Sequence[str]) -> tuple[Ints, _Hashes]:
    """The different shingles of texts: for each the number of its text, and its hash."""
    hashes, starts = _shingles(texts)
    text = np.repeat(np.arange(len(texts)), np.diff(starts, append=len(hashes)))
    order = np.lexsort((hashes, text))
    hashes, text = hashes[order], text[order]
    new = np.ones(len(hashes), bool)
    new[1:] = (hashes[1:] != hashes[:-1]) | (text[1:] != text[:-1])
    return text[new], hashes[new]


def _shingles(texts: Sequence[str]) -> tuple[_Hashes, Ints]:
    """The hashes of all shingles of texts, one text after the other, and where each text starts.

    A text shorter than a shingle is filled up with null characters, so that every text has one.
    """
    padded = [text.ljust(SHINGLE, "\0") for text in texts]
    lengths = np.fromiter(map(len, padded), np.int64, len(padded))
    points = np.frombuffer("".join(padded).encode("utf-32-le", "surrogatepass"), np.uint32).astype(np.uint64)
    windows = len(points) - SHINGLE + 1
    hashes = np.zeros(windows, np.uint64)
    for offset in range(SHINGLE):
        hashes = _mixed(hashes + points[offset : offset + windows])
    ends = np.cumsum(lengths)
    # Windows that reach into the next text are no shingles.
    inside = np.ones(windows, bool)
    for offset in range(1, SHINGLE):
        inside[ends[:-1] - offset] = False
    starts = np.concatenate([[0], np.cumsum(lengths - SHINGLE + 1)[:-1]])
    return hashes[inside], starts


def _mixed(numbers: _Hashes) -> _Hashes:
    """The finaliser of SplitMix64 (Steele, Lea and Flood 2014): every bit of the input moves every bit."""
    numbers = numbers + np.uint64(0x9E3779B97F4A7C15)
    numbers = (numbers ^ (numbers >> np.uint64(30))) * np.uint64(0xBF58476D1CE4E5B9)
    numbers = (numbers ^ (numbers >> np.uint64(27))) * np.uint64(0x94D049BB133111EB)
    return numbers ^ (numbers >> np.uint64(31))


def _mixed_columns(columns: NDArray[np.uint32]) -> _Hashes:
    """One hash a row."""
    hashes = np.zeros(len(columns), np.uint64)
    for column in columns.T:
        hashes = _mixed(hashes + column)
    return hashes


def _contained(keys: Ints, known: Ints) -> NDArray[np.bool_]:
    """Which of some numbers are among known ones, which are sorted."""
    if not len(known):
        return np.zeros(len(keys), bool)
    found: NDArray[np.bool_] = known[np.minimum(np.searchsorted(known, keys), len(known) - 1)] == keys
    return found


def _chunks(lengths: Ints) -> Iterator[Ints]:
    """Indexes in runs, each with about _CHUNK characters, or one text."""
    if len(lengths):
        bins = np.cumsum(lengths + SHINGLE) // _CHUNK
        yield from np.split(np.arange(len(lengths)), np.flatnonzero(np.diff(bins)) + 1)


def _distinct(texts: Sequence[str]) -> tuple[list[str], Ints]:
    """The different normalised texts in the order of their first places, and which of them each text is."""
    numbers: dict[str, int] = {}
    of_text = [numbers.setdefault(normalised(text), len(numbers)) for text in texts]
    return list(numbers), np.asarray(of_text, dtype=np.int64)


def _components(edges: Ints, nodes: int) -> Ints:
    """The connected component of each node."""
    from scipy.sparse import coo_array
    from scipy.sparse.csgraph import connected_components

    graph = coo_array((np.ones(len(edges), np.int8), (edges[:, 0], edges[:, 1])), shape=(nodes, nodes))
    found: Ints = connected_components(graph, directed=False)[1].astype(np.int64)
    return found


def _numbered(groups: Ints) -> Ints:
    """The same groups, numbered in the order of their first members."""
    _, first, inverse = np.unique(groups, return_index=True, return_inverse=True)
    number = np.empty(len(first), np.int64)
    number[np.argsort(first)] = np.arange(len(first))
    return number[inverse]
