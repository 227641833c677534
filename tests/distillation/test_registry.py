"""The registry: one champion, whatever happens."""

from __future__ import annotations

import pytest

from annotation_pipelines.distillation.registry import ModelRegistry
from annotation_pipelines.errors import StoreError
from tests.distillation.stars import Stars


@pytest.fixture
def registry(stars: Stars) -> ModelRegistry:
    return ModelRegistry(stars.store)


def enter(registry: ModelRegistry, version: str) -> None:
    registry.register(version, student="linear", encoder="e", silver=2, gold=1)


def statuses(registry: ModelRegistry) -> dict[str, str]:
    return dict(registry.store.query("SELECT version, status FROM models").iter_rows())


def test_a_new_model_is_a_candidate_and_knows_the_champion_it_came_after(registry: ModelRegistry) -> None:
    enter(registry, "a")
    registry.promote("a")
    enter(registry, "b")
    candidate = registry.candidate()
    assert candidate is not None
    assert (candidate.version, candidate.parent, candidate.path) == ("b", "a", "models/b")


def test_promotion_retires_the_champion_before(registry: ModelRegistry) -> None:
    for version in ("a", "b"):
        enter(registry, version)
        assert registry.promote(version).promoted_at is not None
    assert statuses(registry) == {"a": "retired", "b": "champion"}


def test_promoting_the_champion_changes_nothing(registry: ModelRegistry) -> None:
    enter(registry, "a")
    first = registry.promote("a")
    assert registry.promote("a") == first


def test_a_later_candidate_overtakes_an_earlier_one(registry: ModelRegistry) -> None:
    enter(registry, "a")
    enter(registry, "b")
    assert statuses(registry) == {"a": "retired", "b": "candidate"}


def test_a_known_version_keeps_its_standing_but_a_retired_one_stands_again(registry: ModelRegistry) -> None:
    for version in ("a", "b", "c"):
        enter(registry, version)
        registry.promote(version)
    enter(registry, "c")
    assert statuses(registry)["c"] == "champion"
    enter(registry, "a")
    assert statuses(registry) == {"a": "candidate", "b": "retired", "c": "champion"}
    registry.reject("a")
    enter(registry, "a")
    assert statuses(registry)["a"] == "rejected"


def test_rollback_brings_back_the_champion_before_and_rejects_this_one(registry: ModelRegistry) -> None:
    for version in ("a", "b", "c"):
        enter(registry, version)
        registry.promote(version)
    assert registry.rollback().version == "b"
    assert statuses(registry) == {"a": "retired", "b": "champion", "c": "rejected"}
    assert registry.rollback().version == "a"
    with pytest.raises(StoreError, match="no earlier champion"):
        registry.rollback()


def test_a_candidate_that_never_was_champion_is_not_rolled_back_to(registry: ModelRegistry) -> None:
    enter(registry, "a")
    enter(registry, "b")
    registry.promote("b")
    with pytest.raises(StoreError, match="no earlier champion"):
        registry.rollback()


def test_every_decision_leaves_a_line_the_latest_last(registry: ModelRegistry) -> None:
    for version in ("a", "b", "c"):
        enter(registry, version)
    registry.hold("c", "too little gold")
    registry.hold("c", "too little gold")
    registry.promote("c", "it is the first")
    enter(registry, "d")
    registry.promote("d", "+1.0 points\nagainst c")
    registry.rollback("wrong about moons")
    decided = {
        version: [line.partition(" UTC: ")[2] for line in registry.get(version).history] for version in ("a", "c", "d")
    }
    assert decided == {
        "a": ["retired: before it was promoted came b"],
        "c": [
            "waits: too little gold",
            "promoted: it is the first",
            "retired: its place was taken by d",
            "promoted: rolled back from d: wrong about moons",
        ],
        "d": ["promoted: +1.0 points against c", "rejected: rolled back to c: wrong about moons"],
    }
    assert registry.get("d").decided_at is not None
    assert {model.version for model in registry.all()} == {"a", "b", "c", "d"}


def test_the_champion_cannot_be_rejected(registry: ModelRegistry) -> None:
    enter(registry, "a")
    registry.promote("a")
    with pytest.raises(StoreError, match="is the champion"):
        registry.reject("a")


def test_an_unknown_model_is_one_clear_error(registry: ModelRegistry) -> None:
    for ask in (registry.get, registry.promote, registry.reject):
        with pytest.raises(StoreError, match="no model 'x'"):
            ask("x")
    with pytest.raises(StoreError, match="no champion"):
        registry.rollback()
    assert registry.champion() is None
    assert registry.candidate() is None
