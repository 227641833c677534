"""Several answers to one question made into one: self-consistency (Wang et al. 2023, arXiv 2203.11171)."""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Sequence
from statistics import fmean

from annotation_pipelines.tasks.base import Annotation


def majority(answers: Sequence[Annotation], *, votes_as_confidence: bool) -> Annotation:
    """The answer that most of the valid ones give; where two tie, the one with the higher mean confidence, then the
    first given.

    Args:
        answers: One at least, in the order given.
        votes_as_confidence: Whether the share of votes is the confidence; otherwise the mean confidence of those that
            voted for the label.

    Returns:
        The annotation, with the share of votes of each label as scores and the first rationale for the label. Where no
        answer is valid, the first.
    """
    valid = [answer for answer in answers if answer.state in ("labelled", "abstained")]
    if not valid:
        return answers[0]
    counts = Counter(answer.label for answer in valid)
    order = {label: -index for index, label in enumerate(counts)}

    def rank(label: str | None) -> tuple[int, float, int]:
        return counts[label], _mean_confidence(valid, label) or 0.0, order[label]

    best = max(counts, key=rank)
    chosen = next(answer for answer in valid if answer.label == best)
    return Annotation(
        state=chosen.state,
        label=best,
        confidence=counts[best] / len(valid) if votes_as_confidence else _mean_confidence(valid, best),
        scores={label: count / len(valid) for label, count in counts.items() if label is not None},
        problem=chosen.problem,
        rationale=next((a.rationale for a in valid if a.label == best and a.rationale), None),
    )


def token_probability(tokens: Sequence[tuple[str, float]], content: str, value: str) -> float | None:
    """The probability of a string value in an answer: the product over the tokens that it touches.

    Args:
        tokens: Each token of the content with its log-probability, in order.
        value: The value, as it is written in the content; its last occurrence counts, since a rationale before the
            label may name it.

    Returns:
        None where the tokens are not those of the content, or the value is not in it.
    """
    start = content.rfind(value)
    if start < 0 or not value or "".join(token for token, _ in tokens) != content:
        return None
    end, position, total = start + len(value), 0, 0.0
    for token, logprob in tokens:
        if position < end and position + len(token) > start:
            total += logprob
        position += len(token)
    return math.exp(min(total, 0.0))


def _mean_confidence(answers: Sequence[Annotation], label: str | None) -> float | None:
    given = [a.confidence for a in answers if a.label == label and a.confidence is not None]
    return fmean(given) if given else None
