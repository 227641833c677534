"""Which demonstrations go with a record: the nearest last, random or fixed ones, never the record itself."""

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
    fixed_for_records,
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


def test_they_are_those_that_scikit_learn_finds() -> None:
    from sklearn.neighbors import NearestNeighbors

    queries, shown = unit(30, 0), unit(40, 1)
    expected = NearestNeighbors(n_neighbors=7, metric="cosine").fit(shown).kneighbors(queries, return_distance=False)
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
