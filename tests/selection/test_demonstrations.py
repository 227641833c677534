"""The nearest demonstrations: nearest last, never the record itself."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import polars as pl
import pytest

from annotation_pipelines.distillation.embedding import Embedder
from annotation_pipelines.distillation.encoder import Encoder
from annotation_pipelines.selection import demonstrations
from annotation_pipelines.selection.demonstrations import nearest_demonstrations, nearest_to_records, same_record
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
