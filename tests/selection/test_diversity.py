"""Records that stand for the others: each algorithm against its plain definition, in any number of blocks."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from annotation_pipelines.selection import blocks, clustering, diversity
from annotation_pipelines.selection.clustering import kmeans
from annotation_pipelines.selection.diversity import k_center, nearest_to_centres, typiclust

PICKS = [nearest_to_centres, k_center, typiclust]
Picks = Callable[..., np.ndarray]


def unit(n: int, seed: int, d: int = 12) -> np.ndarray:
    values = np.random.default_rng(seed).normal(size=(n, d)).astype(np.float32)
    return values / np.linalg.norm(values, axis=1, keepdims=True)


def groups(sizes: list[int], *, seed: int = 0, spread: float = 0.05) -> tuple[np.ndarray, np.ndarray]:
    """Tight groups far from one another, mixed; the vectors and the group of each."""
    generator = np.random.default_rng(seed)
    of_row = generator.permutation(np.repeat(np.arange(len(sizes)), sizes))
    vectors = np.eye(16)[of_row] + spread * generator.normal(size=(len(of_row), 16)) / 4
    return (vectors / np.linalg.norm(vectors, axis=1, keepdims=True)).astype(np.float32), of_row


@pytest.mark.parametrize("pick", PICKS)
@given(n=st.integers(0, 40), count=st.integers(0, 45), known=st.integers(0, 10), copies=st.booleans())
@settings(max_examples=40, deadline=None)
def test_as_many_different_rows_are_given_as_there_can_be(
    pick: Picks, n: int, count: int, known: int, copies: bool
) -> None:
    vectors = unit(n, 0)
    if copies and n:
        vectors[:] = vectors[0]
    rows = pick(vectors, count, unit(known, 1))
    assert len(rows) == len(set(rows.tolist())) == min(n, count)
    assert ((rows >= 0) & (rows < n)).all()


@pytest.mark.parametrize("pick", PICKS)
def test_every_group_is_represented(pick: Picks) -> None:
    vectors, of_row = groups([40, 5, 20, 9, 30, 6])
    assert set(of_row[pick(vectors, 6)].tolist()) == set(range(6))


@pytest.mark.parametrize("pick", [k_center, typiclust])
def test_what_is_labelled_already_needs_no_second_one(pick: Picks) -> None:
    vectors, of_row = groups([40, 8, 20, 9, 30, 10])
    labelled = np.stack([vectors[of_row == group][0] for group in (0, 2, 4)])
    assert sorted(of_row[pick(vectors, 3, labelled)].tolist()) == [1, 3, 5]


@pytest.mark.parametrize("pick", PICKS)
def test_neither_blocks_nor_cores_change_the_choice(pick: Picks, monkeypatch: pytest.MonkeyPatch) -> None:
    vectors = unit(300, 3)
    monkeypatch.setattr(blocks, "ROWS", 64)
    with_cores = pick(vectors, 20, unit(5, 4))
    monkeypatch.setattr(blocks.os, "sched_getaffinity", lambda process: {0}, raising=False)
    np.testing.assert_array_equal(pick(vectors, 20, unit(5, 4)), with_cores)


def plain_k_center(vectors: np.ndarray, count: int, labelled: np.ndarray) -> list[int]:
    chosen = [] if len(labelled) else [0]
    while len(chosen) < count:
        centres = np.concatenate([labelled, vectors[chosen]])
        distance = np.square(vectors[:, None] - centres[None]).sum(axis=2).min(axis=1)
        distance[chosen] = -1
        chosen.append(int(distance.argmax()))
    return chosen


@pytest.mark.parametrize("active", [1, 5, 10_000])
@pytest.mark.parametrize("known", [0, 7])
def test_the_core_set_is_that_of_the_plain_algorithm(active: int, known: int, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(diversity, "_ACTIVE", active)
    monkeypatch.setattr(diversity, "_CENTRES", 3)
    vectors, labelled = unit(120, 0), unit(known, 1)
    assert k_center(vectors, 30, labelled).tolist() == plain_k_center(vectors, 30, labelled)


def test_the_core_set_ends_where_only_copies_are_left(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(diversity, "_ACTIVE", 4)
    vectors = np.repeat(unit(3, 0), 10, axis=0)
    rows = k_center(vectors, 20)
    assert sorted({row // 10 for row in rows[:3].tolist()}) == [0, 1, 2], "one of each first"
    assert len(set(rows.tolist())) == 20


def test_the_largest_groups_come_first() -> None:
    vectors, of_row = groups([10, 60, 30])
    assert of_row[nearest_to_centres(vectors, 3)].tolist() == [1, 2, 0]
    assert of_row[typiclust(vectors, 3)].tolist() == [1, 2, 0]


def test_of_a_group_the_most_typical_record_is_taken() -> None:
    vectors, of_row = groups([30, 30], spread=0.8)
    for row in typiclust(vectors, 2).tolist():
        group = vectors[of_row == of_row[row]]
        distance = np.sort(np.linalg.norm(group[:, None] - group[None], axis=2), axis=1)[:, 1:21].mean(axis=1)
        np.testing.assert_array_equal(vectors[row], group[distance.argmin()])


def test_more_records_than_clusters_come_turn_by_turn(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(diversity, "MOST_CLUSTERS", 3)
    vectors, of_row = groups([20, 20, 20])
    rows = of_row[typiclust(vectors, 7)]
    assert [len(set(rows[start : start + 3].tolist())) for start in (0, 3)] == [3, 3]


def test_clusters_are_about_as_tight_as_the_groups_that_there_are() -> None:
    vectors, of_row = groups([50] * 8, spread=1.0)
    truth = sum(np.square(vectors[of_row == g] - vectors[of_row == g].mean(axis=0)).sum() for g in range(8))
    for seed in range(3):
        assert kmeans(vectors, 8, seed=seed).distance.sum() < 1.2 * truth


def test_every_vector_is_in_the_cluster_of_its_nearest_centre() -> None:
    vectors = unit(200, 0)
    found = kmeans(vectors, 9)
    distance = np.square(vectors[:, None] - found.centres[None]).sum(axis=2)
    np.testing.assert_array_equal(found.of_row, distance.argmin(axis=1))
    np.testing.assert_allclose(found.distance, distance.min(axis=1), atol=1e-5)


def test_centres_learned_on_a_part_serve_all(monkeypatch: pytest.MonkeyPatch) -> None:
    vectors, of_row = groups([200, 100, 50])
    monkeypatch.setattr(clustering, "_AT_LEAST", 60)
    found = kmeans(vectors, 3)
    assert len({(a, b) for a, b in zip(found.of_row.tolist(), of_row.tolist(), strict=True)}) == 3


def test_weights_pull_centres() -> None:
    vectors = unit(60, 0)
    heavy = np.where(np.arange(60) == 7, 1e6, 1e-6)
    assert kmeans(vectors, 1, weights=heavy).centres[0] == pytest.approx(vectors[7], abs=1e-3)


@pytest.mark.parametrize(("vectors", "k"), [(unit(3, 0), 0), (unit(0, 0), 2)])
def test_no_clusters_of_nothing(vectors: np.ndarray, k: int) -> None:
    with pytest.raises(ValueError, match="cluster"):
        kmeans(vectors, k)
