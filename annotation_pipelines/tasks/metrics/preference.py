"""How well preferences agree with gold, criterion by criterion, and how far they follow the order they are shown in."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from dataclasses import replace as with_

import numpy as np

from annotation_pipelines.tasks.metrics import labels
from annotation_pipelines.tasks.metrics.bootstrap import RESAMPLES, Array, Metric, bootstrap

SHOWN_FIRST, SHOWN_SECOND = "shown first", "shown second"
"""Keys of `scores` beside A, B and tie: the share of the orders in which the part shown there was preferred."""


def score_key(criterion: str, what: str) -> str:
    """Under which key `scores` say something of a criterion; '' is the whole."""
    return f"{criterion}: {what}" if criterion else what


def measure(
    truth: Mapping[str, Sequence[str]],
    given: Mapping[str, Sequence[str | None]],
    answers: Sequence[str],
    *,
    resamples: int = RESAMPLES,
    seed: int = 0,
) -> list[Metric]:
    """Every metric of preferences against gold.

    Args:
        truth: Criterion to n gold answers; the one criterion of a whole is ''.
        given: Likewise, with None where there is no answer, which is wrong.
        answers: The answers that there are.

    Returns:
        Of a whole accuracy, macro_f1, kappa, and f1 of each answer. Of several criteria accuracy (the mean of theirs),
        all_criteria (the share of records right by every one), and accuracy and kappa of each criterion, which stands
        in the place of the label.

    Raises:
        ValueError: Lengths differ, or a gold answer is none of `answers`.
    """
    if list(truth) == [""]:
        return labels.measure(truth[""], given[""], answers, resamples=resamples, seed=seed)
    each = {name: labels.measure(truth[name], given[name], answers, resamples=resamples, seed=seed) for name in truth}
    right = np.array([[g == t for g, t in zip(given[name], truth[name], strict=True)] for name in truth]).T
    if not right.size:
        return []

    def means(sums: Array) -> Array:
        return sums[:, 1:] / sums[:, :1]

    overall = bootstrap(
        np.column_stack([np.ones(len(right)), right.mean(axis=1), right.all(axis=1)]),
        means,
        [("accuracy", "", len(right)), ("all_criteria", "", len(right))],
        resamples=resamples,
        seed=seed,
    )
    kept = [
        with_(metric, label=name)
        for name, metrics in each.items()
        for metric in metrics
        if metric.metric in ("accuracy", "kappa")
    ]
    return overall + kept


@dataclass(frozen=True)
class PositionBias:
    """How far answers follow the order in which two parts are shown, by one criterion.

    Attributes:
        criterion: '' for the whole.
        records: Records that were answered in both orders.
        disagreeing: Of these, those whose orders disagree.
        shown_first, shown_second: In how many answers, two a record, the part in that place was preferred; the others
            are ties.
    """

    criterion: str
    records: int
    disagreeing: int
    shown_first: int
    shown_second: int

    @property
    def position_consistency(self) -> float | None:
        """The share of records whose orders agree; None without records."""
        return 1 - self.disagreeing / self.records if self.records else None

    @property
    def first_shown_wins(self) -> float | None:
        """How often the part shown first was preferred, of the answers that are no ties; 0.5 is fair."""
        decided = self.shown_first + self.shown_second
        return self.shown_first / decided if decided else None


def position_bias(scores: Iterable[Mapping[str, float] | None], criteria: Sequence[str] = ()) -> list[PositionBias]:
    """The bias of annotations that were asked in both orders.

    It is read from the column `scores` (JSON) of llm_labels, for a single annotator, or of llm_votes for the members of
    a panel: there `BothOrdersTask.resolve` keeps how both orders voted. What a panel makes of its votes has shares of
    members there, and is left out, as is whatever else has no such scores.

    Args:
        scores: One a record, parsed.
        criteria: None for the whole.

    Returns:
        One a criterion, in their order.
    """
    kept = [given for given in scores if given]
    found = []
    for criterion in criteria or ("",):
        first, second = score_key(criterion, SHOWN_FIRST), score_key(criterion, SHOWN_SECOND)
        asked = [given for given in kept if first in given and second in given]
        answers = [score_key(criterion, answer) for answer in ("A", "B", "tie")]
        agreed = [any(given.get(answer) == 1 for answer in answers) for given in asked]
        found.append(
            PositionBias(
                criterion,
                records=len(asked),
                disagreeing=len(asked) - sum(agreed),
                shown_first=round(sum(2 * given[first] for given in asked)),
                shown_second=round(sum(2 * given[second] for given in asked)),
            )
        )
    return found
