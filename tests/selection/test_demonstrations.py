"""Which demonstrations go with a record: near, diverse, balanced, random or fixed ones, never the record itself."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import numpy as np
import polars as pl
import pytest
from hypothesis import given
from hypothesis import strategies as st

from annotation_pipelines.distillation.embedding import Embedder
from annotation_pipelines.distillation.encoder import Encoder
from annotation_pipelines.selection import demonstrations
from annotation_pipelines.selection.demonstrations import (
    balanced_demonstrations,
    diverse_demonstrations,
    fixed_for_records,
    kind_of,
    nearest_demonstrations,
    nearest_to_records,
    random_for_records,
    same_record,
)
from annotation_pipelines.store.vectors import as_frame


def unit(n: int, seed: int, d: int = 16) -> np.ndarray:
    values = np.random.default_rng(seed).normal(size=(n, d)).astype(np.float32)
    return values / np.linalg.norm(values, axis=1, keepdims=True)


def test_the_nearest_stands_last() -> None:
    queries, shown = unit(20, 0), unit(12, 1)
    nearest = nearest_demonstrations(queries, shown, 5)
    assert nearest.shape == (20, 5)
    similarity = np.take_along_axis(queries @ shown.T, nearest, axis=1)
    assert (np.diff(similarity, axis=1) >= 0).all()
    np.testing.assert_allclose(similarity[:, -1], (queries @ shown.T).max(axis=1))


def test_they_are_those_at_the_smallest_distance() -> None:
    queries, shown = unit(30, 0), unit(40, 1)
    distance = np.linalg.norm(queries[:, None] - shown[None], axis=2)
    expected = np.argsort(distance, axis=1)[:, :7]
    np.testing.assert_array_equal(nearest_demonstrations(queries, shown, 7), expected[:, ::-1])


def test_blocks_do_not_change_the_answer(monkeypatch: pytest.MonkeyPatch) -> None:
    queries, shown = unit(50, 0), unit(9, 1)
    whole = nearest_demonstrations(queries, shown, 3)
    monkeypatch.setattr(demonstrations, "_CELLS", 40)
    np.testing.assert_array_equal(nearest_demonstrations(queries, shown, 3), whole)


def test_an_excluded_one_never_comes_and_too_few_begin_with_minus_one() -> None:
    exclude = np.array([[True, False, False], [True, True, True]])
    nearest = nearest_demonstrations(unit(2, 0), unit(3, 1), 3, exclude)
    assert nearest[0, 0] == -1
    assert set(nearest[0, 1:].tolist()) == {1, 2}
    assert nearest[1].tolist() == [-1, -1, -1]


@pytest.mark.parametrize(
    ("n", "m", "k", "shape"), [(3, 0, 5, (3, 0)), (0, 4, 2, (0, 2)), (2, 3, 9, (2, 3)), (2, 3, 0, (2, 0))]
)
def test_shapes_at_the_edges(n: int, m: int, k: int, shape: tuple[int, int]) -> None:
    assert nearest_demonstrations(unit(n, 0), unit(m, 1), k).shape == shape


def test_an_exclusion_that_does_not_fit_is_refused() -> None:
    with pytest.raises(ValueError, match="exclude"):
        nearest_demonstrations(unit(2, 0), unit(3, 1), 1, np.zeros((3, 2), dtype=bool))


def test_a_record_is_known_by_id_and_by_content() -> None:
    rows = pl.DataFrame({"record_id": ["a", "b", "c"], "content_hash": ["1", "2", "3"]})
    shown = pl.DataFrame({"record_id": ["b", "x"], "content_hash": ["9", "3"]})
    assert same_record(rows, shown).tolist() == [[False, False], [True, False], [False, True]]


def test_a_record_is_not_shown_itself(tmp_path: Path) -> None:
    embedder = Embedder(tmp_path / "project", Encoder())
    rows = pl.DataFrame(
        {
            "record_id": [f"r{i}" for i in range(6)],
            "content_hash": [f"h{i}" for i in range(6)],
            "content": [f"text {i}" for i in range(6)],
        }
    )
    embedder.cache.write("p", as_frame(rows["content_hash"], unit(6, 0, 384)))
    nearest = nearest_to_records(embedder, rows, rows, 4)
    assert nearest.shape == (6, 4)
    assert all(row not in nearest[row] for row in range(6))


IDS = st.lists(st.sampled_from("abcdefghij"), unique=True, max_size=8)


def pool(ids: list[str], shift: int = 0) -> pl.DataFrame:
    """Records by id; their content hashes differ, but that two neighbours share one when shifted."""
    hashes = [str((ord(name) + shift) // 2) for name in ids]
    return pl.DataFrame(
        {"record_id": ids, "content_hash": hashes}, schema={"record_id": pl.String, "content_hash": pl.String}
    )


@pytest.mark.parametrize("choose", [fixed_for_records, random_for_records])
@given(IDS, IDS, st.integers(0, 6), st.integers(0, 3))
def test_drawn_demonstrations_are_different_and_never_the_record_itself(
    choose: Callable[..., np.ndarray], ids: list[str], shown_ids: list[str], k: int, seed: int
) -> None:
    rows, shown = pool(ids, 1), pool(shown_ids)
    chosen = choose(rows, shown, k, seed=seed)
    width = min(k, len(shown_ids))
    assert chosen.shape == (len(ids), width)
    same = same_record(rows, shown)
    for row, line in enumerate(chosen.tolist()):
        given_ones = [index for index in line if index >= 0]
        assert line == [-1] * (width - len(given_ones)) + given_ones, "where there are too few the row begins with -1"
        assert len(set(given_ones)) == len(given_ones)
        assert not any(same[row, index] for index in given_ones)
        assert len(given_ones) == min(width, int((~same[row]).sum())), "as many as are allowed"


def test_fixed_ones_are_the_same_for_all_but_for_a_record_that_is_one_of_them() -> None:
    shown = pool(list("acegi"))
    others = fixed_for_records(pool(["x", "z"]), shown, 3)
    assert others[0].tolist() == others[1].tolist()
    last = int(others[0][-1])
    (own,) = fixed_for_records(pool([shown["record_id"][last]]), shown, 3).tolist()
    assert own[1:] == others[0].tolist()[:2], "the next drawn comes in, and the others move up"
    assert own[0] not in others[0]


def test_random_ones_depend_on_the_text_and_not_on_its_neighbours() -> None:
    shown = pool([chr(ord("a") + 2 * n) for n in range(12)])
    many = pl.DataFrame({"record_id": [f"r{n}" for n in range(40)], "content_hash": [f"h{n % 20}" for n in range(40)]})
    chosen = random_for_records(many, shown, 4)
    np.testing.assert_array_equal(chosen[:20], chosen[20:], "equal texts make equal requests")
    np.testing.assert_array_equal(random_for_records(many.reverse(), shown, 4), chosen[::-1])
    assert len({tuple(line) for line in chosen.tolist()}) > 15


def test_another_seed_draws_others() -> None:
    shown, rows = pool([chr(ord("a") + 2 * n) for n in range(12)]), pool(["x"])
    for choose in (fixed_for_records, random_for_records):
        assert choose(rows, shown, 4, seed=1).tolist() != choose(rows, shown, 4, seed=2).tolist()
        assert choose(rows, shown, 4, seed=1).tolist() == choose(rows, shown, 4, seed=1).tolist()


def plain_relevance(query: np.ndarray, shown: np.ndarray, k: int, allowed: list[int]) -> list[int]:
    """Maximal marginal relevance as it is defined, one at a time."""
    chosen: list[int] = []
    while len(chosen) < k and len(chosen) < len(allowed):
        worth = {
            row: 0.7 * float(query @ shown[row]) - 0.3 * max((float(shown[row] @ shown[c]) for c in chosen), default=0)
            for row in allowed
            if row not in chosen
        }
        chosen.append(max(worth, key=lambda row: worth[row]))
    return sorted(chosen, key=lambda row: float(query @ shown[row]))


def test_diverse_ones_are_those_of_maximal_marginal_relevance(monkeypatch: pytest.MonkeyPatch) -> None:
    queries, shown = unit(12, 0), unit(30, 1)
    exclude = np.random.default_rng(2).random((12, 30)) < 0.2
    expected = [
        plain_relevance(query, shown, 6, np.flatnonzero(~exclude[row]).tolist()) for row, query in enumerate(queries)
    ]
    assert diverse_demonstrations(queries, shown, 6, exclude).tolist() == expected
    monkeypatch.setattr(demonstrations, "_CELLS", 100)
    assert diverse_demonstrations(queries, shown, 6, exclude).tolist() == expected


def test_diverse_ones_do_not_say_the_same() -> None:
    # Two copies of the nearest one, and something else that is about as near.
    query = np.array([[1.0, 0, 0]], dtype=np.float32)
    shown = np.array([[0.9, 0.436, 0], [0.9, 0.436, 0], [0.85, 0, 0.527], [0, 1, 0]], dtype=np.float32)
    assert nearest_demonstrations(query, shown, 2).tolist() == [[1, 0]]
    assert diverse_demonstrations(query, shown, 2).tolist() == [[2, 0]]


def test_balanced_ones_are_the_nearest_of_each_label_in_turn() -> None:
    query = np.array([[1.0, 0]], dtype=np.float32)
    cosines = np.array([0.9, 0.8, 0.7, 0.6, 0.5, 0.4], dtype=np.float32)
    shown = np.stack([cosines, np.sqrt(1 - cosines**2)], axis=1)
    kinds = ["a", "a", "a", "b", "c", "b"]
    assert balanced_demonstrations(query, shown, 3, kinds=kinds).tolist() == [[4, 3, 0]]
    assert balanced_demonstrations(query, shown, 5, kinds=kinds).tolist() == [[5, 4, 3, 1, 0]]
    exclude = np.array([[True, False, False, False, True, False]])
    assert balanced_demonstrations(query, shown, 5, exclude, kinds=kinds).tolist() == [[-1, 5, 3, 2, 1]]


@given(st.integers(0, 8), st.integers(1, 12), st.integers(1, 6), st.integers(1, 4))
def test_no_label_is_shown_twice_more_often_than_another_that_there_is(n: int, m: int, k: int, labels: int) -> None:
    queries, shown = unit(n, 0), unit(m, 1)
    kinds = [f"label {row % labels}" for row in range(m)]
    for line in balanced_demonstrations(queries, shown, k, kinds=kinds).tolist():
        counts = {kind: sum(kinds[row] == kind for row in line) for kind in set(kinds)}
        left = {kind: kinds.count(kind) - counts[kind] for kind in counts}
        assert all(counts[kind] >= max(counts.values()) - 1 for kind in counts if left[kind])


def some_labels(m: int) -> dict[str, list[str]]:
    return {"kinds": ["ab"[row % 2] for row in range(m)]}


@pytest.mark.parametrize("choose", [diverse_demonstrations, balanced_demonstrations])
@given(st.integers(0, 6), st.integers(0, 8), st.integers(0, 9), st.floats(0, 1))
def test_chosen_ones_are_allowed_different_and_the_nearest_last(
    choose: Callable[..., np.ndarray], n: int, m: int, k: int, share: float
) -> None:
    queries, shown = unit(n, 0), unit(m, 1)
    exclude = np.random.default_rng(2).random((n, m)) < share
    more = some_labels(m) if choose is balanced_demonstrations else {}
    chosen = choose(queries, shown, k, exclude, **more)
    width = min(k, m)
    assert chosen.shape == (n, width)
    for row, line in enumerate(chosen.tolist()):
        given_ones = [index for index in line if index >= 0]
        assert line == [-1] * (width - len(given_ones)) + given_ones
        assert len(set(given_ones)) == len(given_ones) == min(width, int((~exclude[row]).sum()))
        assert not any(exclude[row, index] for index in given_ones)
        assert (np.diff(np.round(queries[row] @ shown[given_ones].T, 6)) >= 0).all()


def test_what_a_demonstration_is_one_of() -> None:
    from annotation_pipelines.tasks.classification import Classification
    from annotation_pipelines.tasks.multilabel import Multilabel

    assert kind_of(Classification(labels=["a", "b"]).make(), "a") == "a"
    several = Multilabel(labels=["a", "b"]).make()
    assert [kind_of(several, label) for label in ('["a","b"]', '["b"]', "[]")] == ["a b", "b", ""]
