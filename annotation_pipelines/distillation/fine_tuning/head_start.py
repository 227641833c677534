"""The head that a linear model would have on the encoder as it is.

For cross-entropy it is where fine-tuning begins (Kumar et al. 2022, arXiv 2202.10054): a head that begins anywhere else
drags the encoder about before it has learned what the encoder knows. After contrastive training it is the head.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from annotation_pipelines.distillation.fine_tuning.held_out import HeldOut, judged
from annotation_pipelines.distillation.softmax import fit_softmax, logits_of

STRENGTHS = (1.0, 3.0, 10.0, 30.0)
"""Candidates for the inverse strength of the penalty."""
STRENGTH = 10.0
"""The one that is taken where nothing is held out."""

Array = NDArray[np.float64]
Vectors = NDArray[np.float32]
Linear = tuple[Vectors, Vectors]


def linear_head(
    vectors: Vectors,
    probabilities: Array,
    weights: Array,
    held_out: tuple[Vectors, Array] | None,
) -> tuple[Linear, HeldOut | None]:
    """A linear model on unit vectors: coefficients and intercepts, and how good it is on held-out rows.

    The strength of the penalty is that with the least log-loss on them.

    Args:
        vectors: Shape (n, d).
        probabilities: Shape (n, k): what is taught.
        weights: Shape (n,).
        held_out: Vectors, shape (m, d), and what is believed of their classes, shape (m, k); None with too few rows.
    """
    if held_out is None:
        return fit_softmax(vectors, probabilities, weights, STRENGTH), None
    best: tuple[Linear, HeldOut] | None = None
    model: Linear | None = None
    for strength in STRENGTHS:
        model = fit_softmax(vectors, probabilities, weights, strength, start=model)
        found = judged(logits_of(held_out[0], model), held_out[1])
        if best is None or found.loss < best[1].loss:
            best = model, found
    assert best is not None
    return best
