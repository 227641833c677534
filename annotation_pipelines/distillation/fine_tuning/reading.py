"""What a student reads of a record: the whole text, or a marked pair with markers around its mentions.

The pair is read as in Baldini Soares et al. 2019 (arXiv 1906.03158): markers stand around both mentions, and the
student sees the states of the two opening markers. The markers are characters that the encoder knows, @ and #, as
in Zhou and Chen 2022 (arXiv 2102.01373): with few labels new tokens would stay near their random beginnings.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from annotation_pipelines.content import Content, readable
from annotation_pipelines.distillation.fine_tuning.encoder import TrainableEncoder
from annotation_pipelines.tasks.base import Invalid, Task
from annotation_pipelines.tasks.given_relations import GivenRelationsTask
from annotation_pipelines.tasks.marked_pair import MarkedPair

MARKERS = ("@", "#")
"""What stands around e1, and around e2."""

_SLACK = 4  # a text that is cut may have other tokens at its ends

Offsets = Sequence[tuple[int, int]]
Places = NDArray[np.int64]


@dataclass(frozen=True)
class Tokens:
    """n texts as tokens.

    Attributes:
        ids: For each text its token ids, special tokens included.
        places: Shape (n, 2): where the two opening markers stand among them; None where texts are read whole.
        read: Shape (n,): false where a text marks no pair, though one was expected.
    """

    ids: list[NDArray[np.int32]]
    places: Places | None
    read: NDArray[np.bool_]

    @property
    def lengths(self) -> NDArray[np.int64]:
        """Shape (n,): the number of tokens of each."""
        return np.array([len(ids) for ids in self.ids], dtype=np.int64)

    def take(self, rows: NDArray[np.int64]) -> Tokens:
        """Some of the texts."""
        return Tokens(
            [self.ids[row] for row in rows], None if self.places is None else self.places[rows], self.read[rows]
        )


def reads_pairs(task: Task) -> bool:
    """Whether the task is about two mentions that a text marks."""
    return isinstance(task, GivenRelationsTask)


def tokens_of(task: Task, contents: Sequence[str], encoder: TrainableEncoder, window: int) -> Tokens:
    """The tokens of n stored contents, at most `window` each.

    Whole texts are cut at their end; of a text that marks a pair what stands around the mentions is kept.
    """
    if not isinstance(task, GivenRelationsTask):
        given = encoder.tokenize([readable(text) for text in contents], window) if contents else {"input_ids": []}
        return Tokens(_arrays(given["input_ids"]), None, np.ones(len(contents), dtype=np.bool_))
    texts, starts, read = [], [], []
    for stored in contents:
        try:
            text, opened = marked(task.pair(Content.read(stored)))
            read.append(True)
        except Invalid:
            text, opened = readable(stored), ((0, 1), (0, 1))
            read.append(False)
        texts.append(text)
        starts.append(opened)
    return Tokens(*_pairs(texts, starts, encoder, window), np.array(read, dtype=np.bool_))


def marked(pair: MarkedPair) -> tuple[str, tuple[tuple[int, int], tuple[int, int]]]:
    """A pair's text with markers around the mentions, and where each marked mention starts and ends in it.

    A mention within the other is marked within its marks.
    """
    events: list[tuple[int, bool, int, int]] = []
    for which, (start, end) in enumerate((pair.e1, pair.e2)):
        # Of marks at one place those that close come first; of those that open, the longer mention's.
        events += [(start, True, -end, which), (end, False, -start, which)]
    kept, length, last = [], 0, 0
    bounds = [[0, 0], [0, 0]]
    for place, opens, _, which in sorted(events):
        piece = pair.text[last:place]
        mark = f"{MARKERS[which]} " if opens else f" {MARKERS[which]}"
        kept += [piece, mark]
        length += len(piece)
        bounds[which][0 if opens else 1] = length if opens else length + len(mark)
        length += len(mark)
        last = place
    kept.append(pair.text[last:])
    return "".join(kept), ((bounds[0][0], bounds[0][1]), (bounds[1][0], bounds[1][1]))


def around(text: str, mentions: Sequence[tuple[int, int]], offsets: Offsets, budget: int) -> tuple[str, list[int]]:
    """What is kept of a text that is too long: at most `budget` tokens around its two mentions.

    Where both fit, it is one piece with as much before as behind; otherwise one piece around the start of each.

    Args:
        mentions: Start and end of the two, in characters.
        offsets: Start and end of each token, in characters, rising; without special tokens.

    Returns:
        The text that is kept, and where the two mentions start in it.
    """
    first = [token_at(offsets, start) for start, _ in mentions]
    last = [token_at(offsets, end - 1) for _, end in mentions]
    low, high = min(first), max(last) + 1
    if high - low <= budget:
        start = max(0, min(low - (budget - (high - low)) // 2, len(offsets) - budget))
        pieces = [(start, min(start + budget, len(offsets)))]
    else:
        half = budget // 2
        pieces = []
        for begin, end in sorted(zip(first, last, strict=True)):
            before = max(0, half - (end + 1 - begin)) // 2
            start = max(begin - before, pieces[-1][1] if pieces else 0)
            pieces.append((start, max(start, min(start + half, len(offsets)))))
    kept: list[str] = []
    starts, length = [0] * len(mentions), 0
    for start, end in pieces:
        if start == end:
            continue
        left, right = offsets[start][0], offsets[end - 1][1]
        for which, place in enumerate(first):
            if start <= place < end:
                starts[which] = length + max(0, mentions[which][0] - left)
        kept.append(text[left:right])
        length += right - left + 1
    return " ".join(kept), starts


def token_at(offsets: Offsets, place: int) -> int:
    """The token that holds a character, or the first behind it; the last where there is none behind it.

    Tokens without characters, the special ones, are passed over.
    """
    last = 0
    for index, (start, end) in enumerate(offsets):
        if end > start:
            if end > place:
                return index
            last = index
    return last


def _pairs(
    texts: list[str],
    mentions: list[tuple[tuple[int, int], tuple[int, int]]],
    encoder: TrainableEncoder,
    window: int,
) -> tuple[list[NDArray[np.int32]], Places]:
    if not texts:
        return [], np.zeros((0, 2), dtype=np.int64)
    starts = [[start for start, _ in pair] for pair in mentions]
    whole = encoder.tokenize(texts, None, offsets=True)
    ids, offsets = list(whole["input_ids"]), list(whole["offset_mapping"])
    long = [row for row, found in enumerate(ids) if len(found) > window]
    if long:
        for row in long:
            bare = [bounds for bounds in offsets[row] if bounds[1] > bounds[0]]
            special = len(offsets[row]) - len(bare)
            texts[row], starts[row] = around(texts[row], mentions[row], bare, max(2, window - special - _SLACK))
        again = encoder.tokenize([texts[row] for row in long], window, offsets=True)
        for row, found, bounds in zip(long, again["input_ids"], again["offset_mapping"], strict=True):
            ids[row], offsets[row] = found, bounds
    places = [[token_at(bounds, start) for start in pair] for bounds, pair in zip(offsets, starts, strict=True)]
    return _arrays(ids), np.array(places, dtype=np.int64)


def _arrays(listed: Sequence[Sequence[int]]) -> list[NDArray[np.int32]]:
    return [np.array(ids, dtype=np.int32) for ids in listed]
