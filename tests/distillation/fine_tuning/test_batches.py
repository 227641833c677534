"""Batches: every row once, of like length, in another order each time."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from annotation_pipelines.distillation.fine_tuning.batches import by_length, padded, shuffled
from annotation_pipelines.distillation.fine_tuning.encoder import TrainableEncoder
from annotation_pipelines.distillation.fine_tuning.reading import tokens_of
from annotation_pipelines.tasks.classification import Classification

LABELS = Classification(labels=["sun", "moon"]).make()


@given(st.lists(st.integers(1, 99), min_size=1, max_size=200), st.integers(1, 9))
def test_every_row_is_in_one_batch(lengths: list[int], size: int) -> None:
    found = np.array(lengths)
    for batches in (shuffled(found, size, np.random.default_rng(0)), list(by_length(found, size))):
        assert sorted(np.concatenate(batches).tolist()) == list(range(len(lengths)))
        assert all(len(batch) <= size for batch in batches)


def test_batches_hold_texts_of_like_length_and_differ_from_epoch_to_epoch() -> None:
    lengths = np.random.default_rng(1).integers(1, 100, 512)
    generator = np.random.default_rng(0)
    first, second = (shuffled(lengths, 8, generator) for _ in range(2))
    spread = np.mean([np.ptp(lengths[batch]) for batch in first])
    assert spread < np.mean([np.ptp(lengths[start : start + 8]) for start in range(0, 512, 8)]) / 2
    assert [batch.tolist() for batch in first] != [batch.tolist() for batch in second]
    assert [lengths[batch].max() for batch in by_length(lengths, 8)] == sorted(
        (lengths[batch].max() for batch in by_length(lengths, 8)), reverse=True
    )


@pytest.mark.parametrize("pooling", ["mean", "cls", "max", "lasttoken"])
def test_padding_changes_nothing(tiny: TrainableEncoder, pooling: str) -> None:
    from annotation_pipelines.distillation.fine_tuning.network import Network

    tiny.pooling = pooling  # type: ignore[assignment]
    network = Network(tiny, 2, pairs=False, device="cpu", precision="float32")
    tokens = tokens_of(LABELS, ["the sun", "the moon and the star is in the rain and the fire"], tiny, 64)
    together = network.vectors(tokens, 2)
    alone = network.vectors(tokens, 1)
    np.testing.assert_allclose(together, alone, atol=1e-6)
    np.testing.assert_allclose(np.linalg.norm(alone, axis=1), 1, atol=1e-5)
    assert padded(tokens, np.array([0, 1]), tiny.tokenizer, "cpu").inputs["attention_mask"].sum() == sum(tokens.lengths)
