"""Pairs: every text has a partner of its class, and the loss is that of all pairs."""

from __future__ import annotations

import numpy as np
from hypothesis import given
from hypothesis import strategies as st

from annotation_pipelines.distillation.fine_tuning.contrastive import couples, pair_loss


@given(st.lists(st.integers(0, 5), min_size=1, max_size=80), st.integers(2, 12), st.integers(0, 99))
def test_every_text_comes_once_with_another_of_its_class(given_classes: list[int], size: int, seed: int) -> None:
    classes = np.array(given_classes)
    counts = np.bincount(classes)
    seen: list[int] = []
    for batch in couples(classes, size, np.random.default_rng(seed)):
        half = len(batch) // 2
        texts, partners = batch[:half], batch[half:]
        seen += texts.tolist()
        assert len(batch) <= size
        assert (classes[texts] == classes[partners]).all()
        for text, partner in zip(texts, partners, strict=True):
            assert (text != partner) == (counts[classes[text]] > 1)
    assert sorted(seen) == list(range(len(classes)))


def test_the_loss_is_the_mean_over_pairs_of_each_kind_half_each() -> None:
    import torch

    generator = np.random.default_rng(0)
    features, classes = generator.normal(size=(7, 5)), np.array([0, 0, 1, 1, 1, 2, 0])
    weights = generator.random(7)
    unit = features / np.linalg.norm(features, axis=1, keepdims=True)
    terms: dict[bool, list[tuple[float, float]]] = {True: [], False: []}
    for i in range(7):
        for j in range(i):
            same = bool(classes[i] == classes[j])
            terms[same].append((weights[i] * weights[j], float((unit[i] @ unit[j] - same) ** 2)))
    expected = sum(np.average([loss for _, loss in kind], weights=[w for w, _ in kind]) for kind in terms.values()) / 2
    found = pair_loss(*(torch.tensor(array, dtype=torch.float32) for array in (features, np.eye(3)[classes], weights)))
    np.testing.assert_allclose(float(found), expected, rtol=1e-5)


def test_a_batch_of_one_class_has_a_loss_too() -> None:
    import torch

    loss = pair_loss(torch.ones(2, 3), torch.tensor([[1.0, 0.0]] * 2), torch.ones(2))
    np.testing.assert_allclose(float(loss), 0, atol=1e-6)
