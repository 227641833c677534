"""Contrastive training on pairs, as SetFit (Tunstall et al. 2022, arXiv 2209.11055): texts of one class are drawn
together, those of different classes apart.

The loss is SetFit's: the squared difference between the cosine of two texts and 1 or 0, one class or not. SetFit reads
two texts for each pair. Here a batch is made of couples of one class, and all pairs in it count, those of one class and
those of different ones half each: a text is read once for all its pairs. With soft targets two texts are of one class
with the probability that the targets give.
"""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

Rows = NDArray[np.int64]


def couples(classes: Rows, size: int, generator: np.random.Generator) -> list[Rows]:
    """All rows once, in batches, each with a partner of its class: `size` rows a batch, the last one fewer.

    The partner of a row whose class has no other is the row itself, with another dropout.

    Args:
        classes: Shape (n,): the class of each row.
    """
    n = len(classes)
    order = generator.permutation(n)
    by_class = order[np.argsort(classes[order], kind="stable")]
    first = np.searchsorted(classes[by_class], classes)
    count = np.bincount(classes, minlength=int(classes.max()) + 1)[classes]
    place = np.empty(n, dtype=np.int64)
    place[by_class] = np.arange(n)
    # Some steps further in the circle of its class, and never all the way round.
    steps = 1 + (generator.random(n) * np.maximum(count - 1, 1)).astype(np.int64)
    partner = by_class[first + (place - first + np.where(count > 1, steps, 0)) % count]
    half = max(1, size // 2)
    drawn = generator.permutation(n)
    return [
        np.concatenate([drawn[start : start + half], partner[drawn[start : start + half]]])
        for start in range(0, n, half)
    ]


def pair_loss(features: Any, probabilities: Any, weights: Any) -> Any:
    """The loss of all pairs of m texts.

    Args:
        features: Shape (m, d), of any length.
        probabilities: Shape (m, k): what each text teaches.
        weights: Shape (m,): a pair weighs the product of both.
    """
    import torch

    unit = torch.nn.functional.normalize(features.float(), dim=1)
    cosines = unit @ unit.T
    same = probabilities @ probabilities.T
    mass = torch.outer(weights, weights)
    mass = mass * (1 - torch.eye(len(mass), device=mass.device))
    pulled, pushed = mass * same, mass * (1 - same)
    together = (pulled * (1 - cosines) ** 2).sum() / pulled.sum().clamp_min(1e-9)
    apart = (pushed * cosines**2).sum() / pushed.sum().clamp_min(1e-9)
    return (together + apart) / 2
