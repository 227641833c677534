"""Promotion: a test and not a glance, checks that count, and the way back."""

from __future__ import annotations

from dataclasses import replace
from datetime import UTC, datetime

import pytest

from annotation_pipelines.distillation.behaviour import Check
from annotation_pipelines.distillation.behaviour_bounds import CASE, VALID
from annotation_pipelines.distillation.evaluate import evaluate
from annotation_pipelines.distillation.promotion import decide, promote, roll_back
from annotation_pipelines.distillation.registry import Model, ModelRegistry
from annotation_pipelines.distillation.training import train
from annotation_pipelines.errors import StoreCorrupted, StoreError
from annotation_pipelines.tasks.metrics.bootstrap import Difference
from tests.distillation.stars import Stars

NEW, OLD = (
    Model(
        version,
        "candidate",
        "linear",
        "e",
        1,
        1,
        None,
        f"models/{version}",
        datetime(2026, 1, 1, tzinfo=UTC),
        None,
        None,
    )
    for version in ("new", "old")
)


def gain(value: float, spread: float, records: int = 200) -> Difference:
    return Difference(value, value - 1.2 * spread, value + 1.2 * spread, records, value - spread)


@pytest.mark.parametrize(
    ("value", "spread", "verdict"),
    [
        (0.05, 0.02, "promoted"),
        (-0.01, 0.01, "promoted"),  # a little worse, and surely by less than the margin
        (0.0, 0.0, "promoted"),
        (0.0, 0.05, "waits"),  # no difference is seen, and too little gold to rule a loss out
        (-0.02, 0.03, "waits"),
        (-0.10, 0.02, "rejected"),
    ],
)
def test_a_candidate_is_promoted_only_when_a_loss_beyond_the_margin_is_ruled_out(
    value: float, spread: float, verdict: str
) -> None:
    decision = decide(NEW, OLD, gain(value, spread), margin=0.03, records=200)
    assert decision.verdict == verdict
    assert "against old on 200 records" in decision.words


def test_a_candidate_that_waits_is_told_how_much_gold_would_tell() -> None:
    decision = decide(NEW, OLD, gain(0.0, 0.06), margin=0.03, records=200)
    assert "it may be worse by 6.0 points, and 3.0 are allowed" in decision.words
    assert "about 800 gold records would tell" in decision.words
    assert "would tell" not in decide(NEW, OLD, gain(-0.03, 0.02), margin=0.02, records=200).words


def failing(name: str) -> Check:
    return Check(name, passed=False, observed="seen", records=9)


def test_a_check_that_the_champion_passes_stops_a_candidate() -> None:
    better = gain(0.05, 0.01)
    stopped = decide(NEW, OLD, better, margin=0.03, records=200, failed=[failing(CASE)])
    assert (stopped.verdict, stopped.why) == ("waits", f"check {CASE} fails (seen)")
    as_before = decide(NEW, OLD, better, margin=0.03, records=200, failed=[failing(CASE)], champion_failed=[CASE])
    assert as_before.verdict == "promoted" and f"it fails {CASE}" in as_before.why


def test_a_vital_check_stops_any_candidate() -> None:
    for champion in (OLD, None):
        decision = decide(NEW, champion, None, margin=0.03, records=0, failed=[failing(VALID)], champion_failed=[VALID])
        assert decision.verdict == "waits"
    first = decide(NEW, None, None, margin=0.03, records=200, failed=[failing(CASE)])
    assert first.verdict == "promoted" and CASE in first.why


def test_a_candidate_that_is_worse_is_rejected_whatever_its_checks() -> None:
    decision = decide(NEW, OLD, gain(-0.1, 0.01), margin=0.03, records=200, failed=[failing(VALID)])
    assert decision.verdict == "rejected"


# -- the way back ----------------------------------------------------------------------------------------------------


@pytest.fixture
def twice(stars: Stars) -> Stars:
    """A champion, and one before it."""
    for seed in (0, 1):
        rows, truth = stars.add(30, seed=seed)
        stars.trust(rows, truth)
        train(stars.store, stars.project, stars.embedder)
        evaluate(stars.store, stars.project, stars.embedder)
    return stars


def versions(stars: Stars) -> list[str]:
    """The earliest first."""
    return [model.version for model in ModelRegistry(stars.store).all()[::-1]]


def test_a_rollback_brings_the_earlier_champion_back_and_says_why_everywhere(twice: Stars) -> None:
    first, second = versions(twice)
    now, gone = roll_back(twice.store, twice.project, twice.embedder, reason="it lost | the moon\nand more")
    assert (now.version, now.status, gone.version, gone.status) == (first, "champion", second, "rejected")
    assert gone.why == f"rejected: rolled back to {first}: it lost | the moon and more"
    assert [line.split("UTC: ")[1].split(":")[0] for line in now.history] == ["promoted", "retired", "promoted"]
    assert gone.decided_at is not None
    for model in (now, gone):
        card = (twice.store.home / model.path / "card.md").read_text()
        assert model.history[-1] in card and f"**{model.status}**" in card
    # What was rolled back is not offered again.
    assert train(twice.store, twice.project, twice.embedder).status == "rejected"
    assert evaluate(twice.store, twice.project, twice.embedder).champion == first


def test_a_champion_whose_files_are_lost_is_not_gone_back_to(twice: Stars) -> None:
    first, second = versions(twice)
    (twice.store.home / "models" / first / "model.safetensors").unlink()
    with pytest.raises(StoreCorrupted):
        roll_back(twice.store, twice.project, twice.embedder)
    champion = ModelRegistry(twice.store).champion()
    assert champion is not None and champion.version == second


def test_a_rollback_can_name_the_champion_to_go_back_to(twice: Stars) -> None:
    first, _ = versions(twice)
    with pytest.raises(StoreError, match="'nothing' was no earlier champion"):
        roll_back(twice.store, twice.project, twice.embedder, to="nothing")
    assert roll_back(twice.store, twice.project, twice.embedder, to=first)[0].version == first
    with pytest.raises(StoreError, match="no earlier champion to go back to"):
        roll_back(twice.store, twice.project, twice.embedder)


def test_a_person_can_promote_what_was_rejected(twice: Stars) -> None:
    _, second = versions(twice)
    roll_back(twice.store, twice.project, twice.embedder)
    model = promote(twice.store, twice.project, twice.embedder, second, "the gold was wrong")
    assert (model.status, model.why) == ("champion", "promoted: by hand: the gold was wrong")
    with pytest.raises(StoreError, match="no model 'x'"):
        promote(twice.store, twice.project, twice.embedder, "x", "why not")


def test_a_candidate_that_fails_a_vital_check_waits_and_is_tried_again(stars: Stars) -> None:
    """The expected label of a text: what the project says of a model is tried on it, and its word counts."""
    rows, truth = stars.add(30)
    stars.trust(rows, truth)
    train(stars.store, stars.project, stars.embedder)
    wanted = stars.project.declaration.promotion.model_validate(
        {"texts": 0, "expect": [{"text": "whatever it says", "label": label} for label in ("sun", "moon")]}
    )
    strict = replace_promotion(stars, wanted)
    held = evaluate(stars.store, strict, stars.embedder)
    assert held.champion is None
    candidate = ModelRegistry(stars.store).candidate()
    assert candidate is not None and candidate.why.startswith("waits: check expected_labels_are_given fails")
    evaluate(stars.store, strict, stars.embedder)
    again = ModelRegistry(stars.store).candidate()
    assert again is not None and len(again.history) == 1
    assert evaluate(stars.store, stars.project, stars.embedder).champion == candidate.version


def replace_promotion(stars: Stars, promotion: object):  # type: ignore[no-untyped-def]
    from annotation_pipelines.project import Project

    declaration = stars.project.declaration.model_copy(update={"promotion": promotion})
    return Project(stars.project.name, stars.project.folder, declaration)


def test_a_decision_reads_on_from_the_version() -> None:
    assert decide(None, OLD, None, margin=0.03, records=9).words == "no new model; the champion stays"
    assert decide(None, None, None, margin=0.03, records=9).words == "there is no model to evaluate"
    words = decide(NEW, replace(OLD, status="champion"), None, margin=0.03, records=0).words
    assert words == "new is promoted without comparison: there is no gold to measure it on"
