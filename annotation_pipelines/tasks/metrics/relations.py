"""How good relations are against gold. The null class is no relation: it counts in accuracy, and in no F1.

Of given pairs: micro F1 as in TACRED (Zhang et al. 2017, section 5) over all relations together, direction included;
macro F1 as SemEval-2010 Task 8 scores officially (Hendrickx et al. 2010, section 4.2, and its scorer, "(9+1)-way with
directionality taken into account"): both directions of a type are one class, and a wrong direction counts against its
precision and its recall.

Of relations that are found: strict F1 as in Taillé et al. 2020 (arXiv 2009.10684), and one that takes any overlap of
the mentions.
"""

from __future__ import annotations

import json
import warnings
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from annotation_pipelines.tasks.metrics.bootstrap import RESAMPLES, Array, Metric, bootstrap

Relation = Mapping[str, Any]
"""type, head and tail; a mention has start, end, text, and type where mentions are typed."""


def measure_given(
    gold: Sequence[str],
    given: Sequence[str | None],
    type_of: Mapping[str, str | None],
    *,
    resamples: int = RESAMPLES,
    seed: int = 0,
) -> list[Metric]:
    """Every metric of the relations of given pairs.

    Args:
        gold: n labels.
        given: n labels; None, and whatever is no label, is wrong, and claims no relation.
        type_of: Label to the type it is of, whatever its direction; None for the null class.

    Returns:
        micro_f1, macro_f1 (over the types that gold has, as the official scorer does), accuracy, and f1 of each type;
        nothing without records.

    Raises:
        ValueError: Lengths differ, or a gold label is none.
    """
    if len(gold) != len(given):
        raise ValueError(f"expected as many labels as gold labels, found {len(given)} and {len(gold)}")
    if unknown := set(gold) - set(type_of):
        raise ValueError(f"gold labels outside the label set: {', '.join(sorted(unknown))}")
    types = list(dict.fromkeys(name for name in type_of.values() if name is not None))
    position = {name: index for index, name in enumerate(types)}
    n, k = len(gold), len(types)
    there, claimed, hits, right = np.zeros((n, k)), np.zeros((n, k)), np.zeros((n, k)), np.zeros((n, 1))
    for row, (truth, answer) in enumerate(zip(gold, given, strict=True)):
        true_type = type_of[truth]
        said_type = type_of.get(answer) if answer is not None else None
        right[row] = truth == answer
        if true_type is not None:
            there[row, position[true_type]] = 1
            hits[row, position[true_type]] = truth == answer
        if said_type is not None:
            claimed[row, position[said_type]] = 1
    names = [("micro_f1", ""), ("macro_f1", ""), ("accuracy", ""), *(("f1", name) for name in types)]
    counts = [n, n, n, *there.sum(axis=0).astype(int).tolist()]

    def metrics(sums: Array) -> Array:
        each, micro, macro = _f1(*np.split(sums[:, : 3 * k], 3, axis=1))
        # A draw always has n records.
        return np.column_stack([micro, macro, sums[:, -1] / n, each])

    return bootstrap(
        np.concatenate([there, claimed, hits, right], axis=1),
        metrics,
        [(*name, int(count)) for name, count in zip(names, counts, strict=True)],
        resamples=resamples,
        seed=seed,
    )


def measure_found(
    gold: Sequence[str],
    given: Sequence[str | None],
    types: Sequence[str],
    *,
    resamples: int = RESAMPLES,
    seed: int = 0,
) -> list[Metric]:
    """Every metric of relations that were found.

    Args:
        gold: n canonical JSON lists of relations.
        given: n such lists; None finds nothing.
        types: Of relations.

    Returns:
        micro_f1 (type and both mentions exactly: offsets, and their types where they have some), macro_f1 over the
        types that gold has, overlap_f1 (type, and both mentions overlap), exact (the share of records with the very
        relations of gold), and f1 of each type, strictly; nothing without records.

    Raises:
        ValueError: Lengths differ.
    """
    if len(gold) != len(given):
        raise ValueError(f"expected as many annotations as gold annotations, found {len(given)} and {len(gold)}")
    position = {name: index for index, name in enumerate(types)}
    n, k = len(gold), len(types)
    there, claimed, hits = np.zeros((n, k)), np.zeros((n, k)), np.zeros((n, k))
    others = np.zeros((n, 2))
    for row, (truth, answer) in enumerate(zip(gold, given, strict=True)):
        true, said = json.loads(truth), json.loads(answer) if answer is not None else []
        for found, counts in ((true, there), (said, claimed)):
            for relation in found:
                counts[row, position[relation["type"]]] += 1
        same = {_strict(relation) for relation in true} & {_strict(relation) for relation in said}
        for key in same:
            hits[row, position[key[0]]] += 1
        others[row] = overlapping(true, said), answer is not None and len(same) == len(true) == len(said)
    names = [("micro_f1", ""), ("macro_f1", ""), ("overlap_f1", ""), ("exact", ""), *(("f1", name) for name in types)]
    with_type = [int((there[:, index] > 0).sum()) for index in range(k)]

    def metrics(sums: Array) -> Array:
        gold_sums, claims, right = np.split(sums[:, : 3 * k], 3, axis=1)
        each, micro, macro = _f1(gold_sums, claims, right)
        with np.errstate(invalid="ignore", divide="ignore"):
            overlap = 2 * sums[:, -2] / (gold_sums.sum(axis=1) + claims.sum(axis=1))
        return np.column_stack([micro, macro, overlap, sums[:, -1] / n, each])

    return bootstrap(
        np.concatenate([there, claimed, hits, others], axis=1),
        metrics,
        [(*name, count) for name, count in zip(names, [n, n, n, n, *with_type], strict=True)],
        resamples=resamples,
        seed=seed,
    )


def overlapping(true: Sequence[Relation], said: Sequence[Relation]) -> int:
    """How many relations can be paired one to one, each with one of its type whose mentions overlap its own.

    The largest such pairing: taking the first that fits would depend on the order.
    """
    fits = np.array([[_overlap(relation, other) for other in said] for relation in true], dtype=np.bool_)
    if not fits.any():
        return 0
    from scipy.sparse import csr_array
    from scipy.sparse.csgraph import maximum_bipartite_matching

    return int((maximum_bipartite_matching(csr_array(fits), perm_type="column") >= 0).sum())


def _f1(there: Array, claimed: Array, hits: Array) -> tuple[Array, Array, Array]:
    """F1 of each type, of all together, and the mean over the types that are there; nan where undefined.

    Args:
        there, claimed, hits: How often each type is gold, claimed, and claimed rightly, shape (b, k).

    Returns:
        Shapes (b, k), (b,) and (b,).
    """
    with np.errstate(invalid="ignore", divide="ignore"), warnings.catch_warnings():
        warnings.simplefilter("ignore", RuntimeWarning)  # a draw without any relation has no mean
        each = 2 * hits / (there + claimed)
        micro = 2 * hits.sum(axis=1) / (there + claimed).sum(axis=1)
        macro = np.nanmean(np.where(there > 0, each, np.nan), axis=1)
    return each, micro, macro


def _strict(relation: Relation) -> tuple[Any, ...]:
    head, tail = relation["head"], relation["tail"]
    mentions = [(mention["start"], mention["end"], mention.get("type")) for mention in (head, tail)]
    return relation["type"], *mentions


def _overlap(one: Relation, other: Relation) -> bool:
    return one["type"] == other["type"] and all(
        one[role]["start"] < other[role]["end"] and other[role]["start"] < one[role]["end"] for role in ("head", "tail")
    )
