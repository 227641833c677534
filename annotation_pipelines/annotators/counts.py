"""On what occasion records are annotated, and what happened to them."""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass, field

from annotation_pipelines.annotators.base import Reply
from annotation_pipelines.project import Budget
from annotation_pipelines.tasks.base import STATES


@dataclass(frozen=True)
class Occasion:
    """On what occasion money is spent.

    Attributes:
        run_id: The Dagster run.
        backfill_id: The backfill that it belongs to.
        budget: What may be spent.
    """

    run_id: str | None = None
    backfill_id: str | None = None
    budget: Budget = field(default_factory=Budget)


ANY_OCCASION = Occasion()
"""No run of Dagster's, and no cap."""


@dataclass
class AnnotationCounts:
    """What happened to the records that were to have a label.

    Attributes:
        selected: Records to annotate: new + changed + stale + retried + unchanged.
        new: Never annotated before.
        changed: Annotated with another content.
        stale: Annotated under another declaration: task, guideline, annotator or demonstrations.
        retried: Annotated before without an answer.
        unchanged: Fresh: nothing to do.
        from_ledger: Not fresh, but answered before: the replies were read again.
        called: Requests sent to the annotator.
        repairs: Of these, repairs of invalid answers.
        states: How the selected records ended, by state.
        cost_usd: What the calls cost; None where a price is unknown.
        seconds: Time spent calling.
        recovered: Replies found in the journals of runs that were killed.
        damaged: Journal lines that could not be read.
    """

    selected: int = 0
    new: int = 0
    changed: int = 0
    stale: int = 0
    retried: int = 0
    unchanged: int = 0
    from_ledger: int = 0
    called: int = 0
    repairs: int = 0
    states: Counter[str] = field(default_factory=Counter)
    prompt_tokens: int = 0
    cached_tokens: int = 0
    completion_tokens: int = 0
    cost_usd: float | None = 0.0
    seconds: float = 0.0
    recovered: int = 0
    damaged: int = 0

    @property
    def reused(self) -> int:
        """Records labelled without a call: fresh ones, and those whose replies the ledger had."""
        return self.unchanged + self.from_ledger

    def facts(self) -> dict[str, float | int | None]:
        """Every count by name, states included."""
        numbers = {k: v for k, v in vars(self).items() if k != "states"}
        return {**numbers, "reused": self.reused, **{state: self.states[state] for state in STATES}}

    def add_call(self, reply: Reply) -> None:
        """Count a reply that was bought."""
        self.called += 1
        self.repairs += reply.request.purpose == "repair"
        self.prompt_tokens += reply.prompt_tokens or 0
        self.cached_tokens += reply.cached_tokens or 0
        self.completion_tokens += reply.completion_tokens or 0
        if reply.cost_usd is None:
            if reply.status != "error" and (reply.http_status or 200) < 400:
                self.cost_usd = None
        elif self.cost_usd is not None:
            self.cost_usd += reply.cost_usd
