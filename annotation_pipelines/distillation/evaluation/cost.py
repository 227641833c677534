"""What the labels cost, and what a point of the main metric cost.

All money that was ever paid for the annotator's replies counts, failed and repeated calls and held-out records
included: it was spent to have this student. What it bought is the distance between the student and what could be had
without the annotator: the student of gold alone, trained in the same way on the gold labels that it was trained on, or,
where gold alone trains none, always giving the most frequent training label.
"""

from __future__ import annotations

from dataclasses import dataclass

from annotation_pipelines.store.database import Store
from annotation_pipelines.tasks.metrics.bootstrap import Difference

GOLD_ALONE, CONSTANT = "gold alone", "constant"

_COST = """
SELECT sum(cost_usd) AS usd, count(*) FILTER (cost_usd IS NULL AND status <> 'error') AS unpriced FROM llm_calls
"""


@dataclass(frozen=True)
class Cost:
    """What was paid and what it bought.

    Attributes:
        usd: US dollars for all calls ever made; None where a price is unknown.
        baseline: What the student is held against: GOLD_ALONE or CONSTANT; None where nothing could be.
        gain: The student's main metric less the baseline's.
    """

    usd: float | None
    baseline: str | None = None
    gain: Difference | None = None

    @property
    def usd_per_point(self) -> float | None:
        """Dollars for a hundredth of the main metric; None where it is unknown or nothing was gained."""
        if self.usd is None or self.gain is None or self.gain.value <= 0:
            return None
        return self.usd / (100 * self.gain.value)

    def facts(self) -> dict[str, float | int | str | None]:
        """The figures by name."""
        return {
            "cost_usd": self.usd,
            "cost_baseline": self.baseline,
            "gain_over_baseline": self.gain.value if self.gain else None,
            "usd_per_point": self.usd_per_point,
        }


def spent(store: Store) -> float | None:
    """US dollars for all calls ever made; None where a price is unknown, 0.0 without calls."""
    usd, unpriced = store.query(_COST).row(0)
    return None if unpriced else float(usd or 0.0)
