"""What becomes of a new model: the test it must pass, promotion by hand, and the way back."""

from __future__ import annotations

from collections.abc import Collection, Sequence
from dataclasses import dataclass
from typing import Literal

from annotation_pipelines.distillation.behaviour import Check
from annotation_pipelines.distillation.card import write_card
from annotation_pipelines.distillation.embedding import Embedder
from annotation_pipelines.distillation.prediction import load_model
from annotation_pipelines.distillation.registry import Model, ModelRegistry
from annotation_pipelines.project import Project
from annotation_pipelines.store.database import Store
from annotation_pipelines.tasks.metrics.bootstrap import Difference

Verdict = Literal["none", "promoted", "waits", "rejected"]


@dataclass(frozen=True)
class Decision:
    """What becomes of the candidate.

    Attributes:
        verdict: none (there is no candidate), promoted, waits (it stays the candidate), or rejected.
        why: In words.
        words: The whole sentence.
    """

    verdict: Verdict
    why: str
    words: str


def decide(
    candidate: Model | None,
    champion: Model | None,
    gain: Difference | None,
    *,
    margin: float,
    records: int,
    left_out: int = 0,
    unusable: str = "",
    failed: Sequence[Check] = (),
    champion_failed: Collection[str] = (),
) -> Decision:
    """What becomes of the candidate.

    It takes the champion's place when it is not worse on the gold that neither was trained on: when its main metric
    lies less than the margin below the champion's, beyond what chance explains (`Difference.not_worse`). It is rejected
    when it is worse beyond chance. In between it waits, for more gold or for another candidate. Where nothing can be
    compared, it is promoted, and the decision says so.

    A check that it fails stops it, unless the champion fails it too; a vital one stops any candidate.

    Args:
        gain: The candidate's main metric less the champion's; None where they cannot be compared.
        margin: How much worse it may be, as in promotion: margin.
        records: Gold records.
        left_out: Those of them that the candidate or the champion was trained on: they compare nothing.
        unusable: Why the champion could not be measured, if so.
        failed: The checks that the candidate fails.
        champion_failed: The names of those that the champion fails.
    """
    if candidate is None:
        words = "no new model; the champion stays" if champion else "there is no model to evaluate"
        return Decision("none", "", words)

    def say(verdict: Verdict, why: str) -> Decision:
        state = {"promoted": "is promoted", "waits": "is not promoted", "rejected": "is rejected"}[verdict]
        # "promoted without comparison: why" reads on from the verdict.
        between = " " if why.startswith("without") else ": "
        return Decision(verdict, why, f"{candidate.version} {state}{between}{why}")

    beside = ""
    if champion is not None and gain is not None:
        beside = f"{gain} against {champion.version} on {gain.records} records"
        if left_out:
            beside = f"{beside} ({left_out} more left out: one of the two was trained on them)"
    if beside and gain is not None and gain.worse:
        return say("rejected", beside)
    stopping = [check for check in failed if check.vital or (champion and check.name not in champion_failed)]
    if stopping:
        return say("waits", "; ".join(f"check {check.name} fails ({check.observed})" for check in stopping))
    noted = f"; it fails {', '.join(check.name for check in failed)}" if failed else ""
    if champion is None:
        note = "" if records > left_out else ", without gold to measure it on"
        return say("promoted", f"it is the first{note}{noted}")
    if unusable:
        return say("promoted", f"{unusable}{noted}")
    if gain is None:
        seen = f"it or {champion.version} was trained on every one of the {left_out} gold records"
        why = seen if left_out else "there is no gold to measure it on"
        return say("promoted", f"without comparison: {why}{noted}")
    if gain.not_worse(margin):
        return say("promoted", f"{beside}{noted}")
    least = f"it may be worse by {-100 * gain.least:.1f} points, and {100 * margin:.1f} are allowed"
    return say("waits", f"{beside}; {least}{_enough(gain, margin)}")


def _enough(gain: Difference, margin: float) -> str:
    """How much gold would tell, if the difference stayed what it is: the interval shrinks with the root of records."""
    if gain.value <= -margin:
        return ""
    factor = ((gain.value - gain.least) / (gain.value + margin)) ** 2
    return f"; about {max(round(gain.records * factor), gain.records + 1):,} gold records would tell"


def promote(store: Store, project: Project, embedder: Embedder, version: str, reason: str) -> Model:
    """Make a model the champion by hand, whatever the evaluation said; its files are read first.

    Raises:
        StoreError: There is no such model.
        StoreCorrupted: Its files are missing or damaged.
        TrainingError: Its encoder is not there any more.
    """
    registry = ModelRegistry(store)
    before = registry.champion()
    load_model(registry, registry.get(version), project.task, embedder)
    model = registry.promote(version, f"by hand: {reason}")
    for each in {version, before.version if before else version}:
        write_card(store, project, each)
    return model


def roll_back(
    store: Store, project: Project, embedder: Embedder, *, reason: str = "", to: str | None = None
) -> tuple[Model, Model]:
    """Go back to the champion before this one, or to an earlier one; its files are read first.

    Returns:
        The champion now, and the one that was rolled back.

    Raises:
        StoreError: There is no champion, or none before it.
        StoreCorrupted: The earlier champion's files are missing or damaged; the champion stays.
        TrainingError: Its encoder is not there any more; the champion stays.
    """
    registry = ModelRegistry(store)
    present, before = registry.champion(), registry.before(to)
    if before is not None:
        load_model(registry, before, project.task, embedder)
    after = registry.rollback(reason, to=to)
    # There was a champion: rollback raises without one.
    gone = registry.get(present.version) if present else after
    for model in (after, gone):
        write_card(store, project, model.version)
    return after, gone
