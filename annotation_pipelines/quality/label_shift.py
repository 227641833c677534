"""How far the labels of a partition are from those of earlier ones, beyond what chance explains."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

MIN_LABELS = 20
"""With fewer labels, here or earlier, distributions are not compared."""

_DRAWS = 2000
_QUANTILE = 0.95


@dataclass(frozen=True)
class LabelShift:
    """A partition's label distribution against that of earlier ones.

    Attributes:
        here: Labels of the partition.
        earlier: Labels of earlier partitions.
        distance: Total variation distance, 0 to 1; None where there are too few labels.
        noise: The distance that chance alone stays below in 95 of 100 cases; None likewise.
    """

    here: int
    earlier: int
    distance: float | None = None
    noise: float | None = None

    @property
    def compared(self) -> bool:
        """Whether there were labels enough."""
        return self.distance is not None

    @property
    def beyond_chance(self) -> float:
        """The distance less what chance explains; 0 where nothing was compared."""
        return max(0.0, self.distance - self.noise) if self.distance is not None and self.noise is not None else 0.0

    def in_words(self) -> str:
        """What was observed, in a sentence."""
        if self.distance is None or self.noise is None:
            why = "no earlier partition has labels" if not self.earlier else f"fewer than {MIN_LABELS} labels"
            return f"not compared: {why} ({self.here} here, {self.earlier} earlier)"
        return (
            f"distance {self.distance:.3f} between {self.here} labels here and {self.earlier} earlier ones; chance "
            f"explains {self.noise:.3f}, beyond it {self.beyond_chance:.3f}"
        )


def label_shift(here: Mapping[str, int], earlier: Mapping[str, int]) -> LabelShift:
    """Compare two label counts.

    The noise is the 95% quantile of the distance between two samples of these sizes from the pooled distribution,
    by simulation with a fixed seed: the same counts always give the same answer.
    """
    total_here, total_earlier = sum(here.values()), sum(earlier.values())
    if total_here < MIN_LABELS or total_earlier < MIN_LABELS:
        return LabelShift(total_here, total_earlier)
    import numpy as np

    names = sorted({*here, *earlier})
    counts = np.array([[side.get(name, 0) for name in names] for side in (here, earlier)], dtype=np.int64)
    shares = counts / counts.sum(axis=1, keepdims=True)
    pooled = counts.sum(axis=0) / counts.sum()
    rng = np.random.default_rng(0)
    first = rng.multinomial(total_here, pooled, size=_DRAWS) / total_here
    second = rng.multinomial(total_earlier, pooled, size=_DRAWS) / total_earlier
    return LabelShift(
        total_here,
        total_earlier,
        distance=float(np.abs(shares[0] - shares[1]).sum() / 2),
        noise=float(np.quantile(np.abs(first - second).sum(axis=1) / 2, _QUANTILE)),
    )
