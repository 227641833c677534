"""What is believed of a label follows from how the teacher confuses labels."""

from __future__ import annotations

import numpy as np

from annotation_pipelines.distillation.robust.confusion import believed, confusion


def test_a_teacher_that_always_says_one_thing_is_not_believed() -> None:
    truth = np.array([0, 1, 2, 0, 1, 2, 0, 1, 2] * 4)
    always = np.zeros_like(truth)
    matrix = confusion(always, truth, always, 3)
    opinion = np.array([[0.2, 0.5, 0.3]])
    assert np.allclose(matrix.sum(axis=1), 1)
    assert believed(opinion, np.array([0]), matrix)[0].argmax() == 1
    honest = confusion(truth, truth, truth, 3)
    assert believed(opinion, np.array([0]), honest)[0].argmax() == 0


def test_without_an_audit_a_teacher_is_mostly_believed() -> None:
    nobody = np.array([], dtype=np.int64)
    matrix = confusion(nobody, nobody, np.array([0, 1, 1]), 2)
    assert (np.diag(matrix) > 0.75).all()
