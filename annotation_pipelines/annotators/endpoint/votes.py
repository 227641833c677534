"""Several answers to one question made into one: self-consistency (Wang et al. 2023, arXiv 2203.11171)."""

from __future__ import annotations

import math
from collections.abc import Sequence

from annotation_pipelines.tasks.base import Annotation, Task, Vote


def majority(answers: Sequence[Annotation], task: Task) -> Annotation:
    """What the valid answers make together, every one with the same weight; where none is valid, the first.

    Args:
        answers: One at least, in the order given.
    """
    valid = [Vote(answer) for answer in answers if answer.state in ("labelled", "abstained")]
    return task.combine(valid) if valid else answers[0]


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
