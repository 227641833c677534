"""Several annotations of one record made into one."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Sequence
from statistics import fmean

from annotation_pipelines.tasks.base import Annotation, Vote


def weighted_vote(votes: Sequence[Vote]) -> Annotation:
    """The label with the most weight behind it; where two tie, the one with the higher mean confidence, then the first.

    Args:
        votes: One at least; an abstention is a vote for no label.

    Returns:
        The label with its share of the weight as confidence, the shares of all labels as scores, and the first
        rationale for it.
    """
    weight: defaultdict[str | None, float] = defaultdict(float)
    stated: defaultdict[str | None, list[float]] = defaultdict(list)
    for vote in votes:
        label, confidence = vote.annotation.label, vote.annotation.confidence
        weight[label] += vote.weight
        if confidence is not None:
            stated[label].append(confidence)
    total = sum(weight.values())
    best = max(weight, key=lambda label: (round(weight[label], 9), fmean(stated[label] or [0.0])))
    given = [vote.annotation for vote in votes if vote.annotation.label == best]
    return Annotation(
        state=given[0].state,
        label=best,
        confidence=weight[best] / total,
        scores={label: share / total for label, share in weight.items() if label is not None},
        problem=given[0].problem,
        rationale=next((annotation.rationale for annotation in given if annotation.rationale), None),
    )
