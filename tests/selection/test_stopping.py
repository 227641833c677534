from __future__ import annotations

import pytest
from sklearn.metrics import cohen_kappa_score

from annotation_pipelines.project import Stopping
from annotation_pipelines.selection.stopping import agreement, flat


def test_agreement_is_cohens_kappa() -> None:
    first = ["sun", "moon", "moon", "star", "sun", "sun", "moon"]
    second = ["sun", "moon", "star", "star", "moon", "sun", "moon"]
    assert agreement(first, second) == pytest.approx(cohen_kappa_score(first, second), abs=1e-12)


def test_two_students_that_give_one_and_the_same_label_agree() -> None:
    assert agreement(["sun"] * 3, ["sun"] * 3) == 1.0


def test_labellings_of_different_records_are_refused() -> None:
    with pytest.raises(ValueError, match="same records"):
        agreement(["sun"], ["sun", "moon"])
    with pytest.raises(ValueError, match="same records"):
        agreement([], [])


@pytest.mark.parametrize(
    ("agreements", "expected"),
    [
        ([], False),
        ([None, 0.99, 1.0], False),
        ([None, 0.99, 1.0, 0.995], True),
        ([None, 1.0, 1.0, 0.98, 1.0, 1.0], False),
        ([1.0, 1.0, None], False),
    ],
)
def test_the_curve_is_flat_after_enough_rounds_in_a_row_that_agree(
    agreements: list[float | None], expected: bool
) -> None:
    assert flat(agreements, Stopping(agreement=0.99, patience=3)) is expected
