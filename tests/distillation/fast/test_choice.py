"""How texts are encoded: the fastest way on this machine that is no worse, as it was measured."""

from __future__ import annotations

import json
import shutil
import sys
from pathlib import Path

import numpy as np
import polars as pl
import pytest

from annotation_pipelines.distillation.embedding import TextEncoder
from annotation_pipelines.distillation.encoder import Encoder
from annotation_pipelines.distillation.fast import choice
from annotation_pipelines.distillation.fast.choice import BFLOAT16, FLOAT32, Comparison, Trial, Ways, choose
from annotation_pipelines.distillation.students.base import Predicted

N = 200


def pool(gold: int = 0) -> pl.DataFrame:
    return pl.DataFrame(
        {
            "content_hash": [f"h{row}" for row in range(N)],
            "content": [f"text {row}" for row in range(N)],
            "gold": pl.Series(["a"] * gold + [None] * (N - gold), dtype=pl.String),
        }
    )


def says(wrong: int, *, shift: float = 0.0):  # type: ignore[no-untyped-def]
    """A student that gives `wrong` other labels on the vectors of another way."""

    def predicted(rows: pl.DataFrame, by: TextEncoder | None) -> Predicted:
        other = 0 if by is None else wrong
        confidence = np.full(rows.height, 0.5 + (shift if by is not None else 0))
        return Predicted(["b"] * other + ["a"] * (rows.height - other), confidence, confidence[:, None])

    return predicted


@pytest.fixture
def measured(tmp_path: Path) -> Ways:
    """A machine on which bfloat16 was measured to be twice as fast."""
    ways = Ways(tmp_path, Encoder())
    ways._keep(Trial(ways.machine, {FLOAT32: 100.0, BFLOAT16: 200.0}, {"onnx": "it is not installed"}))
    return ways


def test_a_faster_way_that_says_the_same_is_taken(measured: Ways) -> None:
    chosen = choose(measured, "v1", pool, says(4), wanted=1)
    assert chosen.way == BFLOAT16
    assert chosen.by.id == measured.encoder.id + "-bfloat16"
    assert "2.0 times as fast" in chosen.why
    assert "the same label for 98.0% of 200 records" in chosen.why
    assert "it is not installed" in chosen.why


@pytest.mark.parametrize(
    ("gold", "wrong", "shift"),
    [
        pytest.param(0, 5, 0.0, id="other labels"),
        pytest.param(0, 0, 0.03, id="another confidence"),
        pytest.param(60, 1, 0.0, id="wrong on gold"),
    ],
)
def test_a_faster_way_that_is_worse_is_not(measured: Ways, gold: int, wrong: int, shift: float) -> None:
    chosen = choose(measured, "v1", lambda: pool(gold), says(wrong, shift=shift), wanted=10**6)
    assert (chosen.way, chosen.by) == (FLOAT32, measured.encoder)
    assert f"{BFLOAT16} is worse" in chosen.why


def test_each_model_is_compared_once(measured: Ways) -> None:
    def again() -> pl.DataFrame:
        raise AssertionError("it was compared before")

    assert choose(measured, "v1", pool, says(0), wanted=1).way == BFLOAT16
    assert choose(measured, "v1", again, says(0), wanted=1).way == BFLOAT16
    assert choose(measured, "v2", pool, says(50), wanted=1).way == FLOAT32
    trial = measured.trial()
    assert trial is not None
    assert {version: figures[BFLOAT16].no_worse for version, figures in trial.compared.items()} == {
        "v1": True,
        "v2": False,
    }


def test_what_was_measured_on_another_machine_does_not_count(measured: Ways) -> None:
    file = measured.folder / "trial.json"
    found = json.loads(file.read_text())
    file.write_text(json.dumps({**found, "machine": "another"}))
    assert measured.trial() is None
    file.write_text("half a fi")
    assert measured.trial() is None


def test_a_few_texts_are_not_worth_a_trial_and_few_records_are_not_enough_for_one(tmp_path: Path) -> None:
    ways = Ways(tmp_path, Encoder())
    assert "few texts" in choose(ways, "v1", pool, says(0), wanted=choice.WORTH - 1).why
    assert "fewer than 100 records" in choose(ways, "v1", lambda: pool().head(99), says(0), wanted=choice.WORTH).why
    assert not ways.folder.exists()


def test_a_way_is_worse_beyond_any_of_the_three_tolerances() -> None:
    assert Comparison(0.98, 0.02, 0.005, 500).no_worse
    assert Comparison(1.0, 0.0, None, 500).no_worse
    assert not Comparison(0.979, 0.0, None, 500).no_worse
    assert not Comparison(1.0, 0.021, None, 500).no_worse
    assert not Comparison(1.0, 0.0, 0.0051, 500).no_worse


def test_a_trial_measures_every_way_once(tmp_path: Path, encoder: Encoder, exported: Path) -> None:
    told: list[str] = []
    ways = Ways(tmp_path, encoder, told.append)
    shutil.copytree(exported, ways.folder)
    trial = ways.measure([f"the cat {row}" for row in range(8)])
    assert {FLOAT32, "onnx-float32", "onnx-int8", "onnx-int8-blocks"} <= set(trial.per_second)
    assert all(speed > 0 for speed in trial.per_second.values())
    assert ways.trial() == trial
    written = (ways.folder / "trial.json").stat().st_mtime_ns
    assert ways.measure(["another text"]) == trial
    assert (ways.folder / "trial.json").stat().st_mtime_ns == written
    assert ["measuring faster ways" in line for line in told] == [True]
    vectors = ways.by("onnx-float32").encode(["a cat and a dog"])
    np.testing.assert_allclose(vectors, ways.encoder.encode(["a cat and a dog"]), atol=1e-5)


def test_without_onnxruntime_the_way_stays_and_says_why(
    tmp_path: Path, encoder: Encoder, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(sys.modules, "onnxruntime", None)
    monkeypatch.setattr(choice, "_has_bfloat16", lambda _: False)
    ways = Ways(tmp_path, encoder)
    chosen = choose(ways, "v1", pool, says(0), wanted=choice.WORTH)
    assert chosen.way == FLOAT32
    assert "pip install 'annotation-pipelines[fast]'" in chosen.why
