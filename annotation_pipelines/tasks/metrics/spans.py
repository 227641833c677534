"""How good entities are against gold: strict span F1 as CoNLL counts it, and the kinder ones of MUC and SemEval-2013.

Strict (Tjong Kim Sang and De Meulder 2003, section 3): an entity is right where start, end and type are.

The others align every gold entity with one given entity at most (Chinchor and Sundheim 1993, "MUC-5 evaluation
metrics"; Segura-Bedmar et al. 2013, SemEval-2013 task 9, section 4) and ask less of a pair:

- exact: the boundaries are right, whatever the type;
- partial: as exact, and where the two only overlap half a point;
- type: the two overlap, and the type is right.

An entity without a partner is missed, or made up.
"""

from __future__ import annotations

import warnings
from collections.abc import Sequence

import numpy as np

from annotation_pipelines.tasks.metrics.bootstrap import RESAMPLES, Array, Metric, bootstrap
from annotation_pipelines.tasks.spans import TypedSpan, labelled_spans

_WHOLE = [
    "f1",
    "precision",
    "recall",
    "macro_f1",
    "exact_f1",
    "partial_f1",
    "type_f1",
    "record_accuracy",
]


def measure(
    gold: Sequence[str],
    given: Sequence[str | None],
    types: Sequence[str],
    *,
    resamples: int = RESAMPLES,
    seed: int = 0,
) -> list[Metric]:
    """Every metric of entities against gold.

    Args:
        gold: n canonical labels, with types out of `types`.
        given: n canonical labels to be measured; None counts as no entity, and as a record that is wrong. Entities of
            other types are wrong.
        types: The type set. Macro F1 is the mean over those that occur in either column, as in seqeval.

    Returns:
        Strict f1, precision, recall and macro_f1; exact_f1, partial_f1 and type_f1; record_accuracy, the share of
        records where all entities are right and none is missed; strict f1 of each type. Nothing without records.

    Raises:
        ValueError: Lengths differ, or a gold type is not in the set.
    """
    if len(gold) != len(given):
        raise ValueError(f"expected as many labels as gold labels, found {len(given)} and {len(gold)}")
    if not gold:
        return []
    position = {name: index for index, name in enumerate(types)}
    n, k = len(gold), len(types)
    # One more type for those that are not in the set.
    there, answered, hits = np.zeros((3, n, k + 1))
    pairs, whole = np.zeros((n, 3)), np.zeros((n, 2))
    with_type = dict.fromkeys(types, 0)
    for row, (label, answer) in enumerate(zip(gold, given, strict=True)):
        true, found = labelled_spans(label), () if answer is None else labelled_spans(answer)
        if unknown := {span.type for span in true} - set(position):
            raise ValueError(f"gold types outside the type set: {', '.join(sorted(unknown))}")
        for spans, counts in ((true, there), (found, answered), (set(true) & set(found), hits)):
            for span in spans:
                counts[row, position.get(span.type, k)] += 1
        for name in {span.type for span in true}:
            with_type[name] += 1
        pairs[row] = _points(align(true, found))
        whole[row] = answer is not None and set(true) == set(found), 1
    return bootstrap(
        np.concatenate([there, answered, hits, pairs, whole], axis=1),
        lambda sums: _metrics(*np.split(sums, np.cumsum([k + 1, k + 1, k + 1, 3]), axis=1)),
        [*((name, "", n) for name in _WHOLE), *(("f1", name, count) for name, count in with_type.items())],
        resamples=resamples,
        seed=seed,
    )


def align(gold: Sequence[TypedSpan], given: Sequence[TypedSpan]) -> list[tuple[TypedSpan, TypedSpan]]:
    """Pairs of a gold entity and a given one that overlap, each entity in one pair at most.

    Equal ones first, then those with equal boundaries, then those of one type, then others; of several those that share
    more, then the first.
    """
    candidates = []
    for true in gold:
        for found in given:
            shared = min(true.end, found.end) - max(true.start, found.start)
            if shared > 0:
                bounds = (true.start, true.end) != (found.start, found.end)
                kind = true.type != found.type
                candidates.append(((bounds, kind, -shared), true, found))
    pairs = []
    left, open_ = set(gold), set(given)
    for _, true, found in sorted(candidates):
        if true in left and found in open_:
            left.remove(true)
            open_.remove(found)
            pairs.append((true, found))
    return pairs


def _points(pairs: Sequence[tuple[TypedSpan, TypedSpan]]) -> tuple[float, float, float]:
    exact = partial = kind = 0.0
    for true, found in pairs:
        bounds = (true.start, true.end) == (found.start, found.end)
        exact += bounds
        partial += 1.0 if bounds else 0.5
        kind += true.type == found.type
    return exact, partial, kind


def _metrics(there: Array, given: Array, hits: Array, pairs: Array, whole: Array) -> Array:
    """Shape (b, 8 + types); nan where undefined.

    Args:
        there, given, hits: How often each type is gold, given, and both, shape (b, types + 1), the last for others.
        pairs: Points for exact, partial and type, shape (b, 3).
        whole: Records that are right in whole, and records, shape (b, 2).
    """
    all_there, all_given, all_hits = (counts.sum(axis=1) for counts in (there, given, hits))
    with np.errstate(invalid="ignore", divide="ignore"), warnings.catch_warnings():
        warnings.simplefilter("ignore", RuntimeWarning)  # a draw without any entity has no mean
        by_type = 2 * hits / (there + given)
        kinder = 2 * pairs / (all_there + all_given)[:, None]
        micro = 2 * all_hits / (all_there + all_given)
        columns = [micro, all_hits / all_given, all_hits / all_there, np.nanmean(by_type, axis=1)]
        right = whole[:, 0] / whole[:, 1]
    return np.column_stack([*columns, kinder, right, by_type[:, :-1]])
