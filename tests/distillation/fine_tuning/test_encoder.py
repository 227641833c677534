"""Encoders that can be trained, and where they run."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from annotation_pipelines.distillation.fine_tuning.encoder import TrainableEncoder, autocast, device_of
from annotation_pipelines.errors import DeclarationError


def test_an_encoder_is_saved_as_data_and_read_back(tiny: TrainableEncoder, tmp_path: Path) -> None:
    import torch

    tiny.pooling, tiny.window = "cls", 32
    facts = tiny.save(tmp_path)
    assert {path.suffix for path in tmp_path.iterdir()} == {".json", ".safetensors"}
    again = TrainableEncoder.read(tmp_path, facts)
    assert (again.pooling, again.window) == ("cls", 32)
    ids = tiny.tokenize(["the storm xyz", "a \ud800 b"], 8)["input_ids"]
    assert again.tokenize(["the storm xyz", "a \ud800 b"], 8)["input_ids"] == ids
    with torch.inference_mode():
        given = {"input_ids": torch.tensor(ids[:1])}
        states = [encoder.model.eval()(**given).last_hidden_state.numpy() for encoder in (tiny, again)]
    np.testing.assert_array_equal(*states)


@pytest.mark.parametrize("facts", [{"class": "os"}, {"class": "NoSuchModel"}, {"pooling": "sum"}])
def test_facts_that_were_not_written_by_it_are_refused(
    tiny: TrainableEncoder, tmp_path: Path, facts: dict[str, str]
) -> None:
    written = tiny.save(tmp_path)
    with pytest.raises(ValueError, match=r"there is no|transformers has no"):
        TrainableEncoder.read(tmp_path, {**written, **facts})


def test_weights_that_are_gone_are_missed(tiny: TrainableEncoder, tmp_path: Path) -> None:
    facts = tiny.save(tmp_path)
    (tmp_path / "model.safetensors").unlink()
    with pytest.raises(OSError, match="missing"):
        TrainableEncoder.read(tmp_path, facts)


def test_what_cannot_be_loaded_is_one_clear_error(tmp_path: Path) -> None:
    with pytest.raises(DeclarationError, match="cannot be loaded"):
        TrainableEncoder.named(str(tmp_path))


def test_static_vectors_cannot_be_fine_tuned(tiny: TrainableEncoder, tmp_path: Path) -> None:
    from sentence_transformers import SentenceTransformer
    from sentence_transformers.sentence_transformer.modules import StaticEmbedding

    SentenceTransformer(modules=[StaticEmbedding(tiny.tokenizer, embedding_dim=8)]).save(str(tmp_path))
    with pytest.raises(DeclarationError, match="cannot be fine-tuned: it begins with StaticEmbedding"):
        TrainableEncoder.named(str(tmp_path))


@pytest.mark.parametrize(
    ("declared", "there", "expected"),
    [("auto", False, "cpu"), ("auto", True, "cuda"), ("cpu", True, "cpu"), ("cuda", True, "cuda")],
)
def test_the_device_is_the_declared_one(
    monkeypatch: pytest.MonkeyPatch, declared: str, there: bool, expected: str
) -> None:
    monkeypatch.setattr("torch.cuda.is_available", lambda: there)
    assert device_of(declared, training=True) == expected
    assert device_of(declared, training=False) == expected


def test_without_a_gpu_none_is_trained_on_but_predictions_go_on(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("torch.cuda.is_available", lambda: False)
    with pytest.raises(DeclarationError, match="distillation: device: expected a GPU, found none"):
        device_of("cuda", training=True)
    assert device_of("cuda", training=False) == "cpu"


@pytest.mark.filterwarnings("ignore:CUDA is not available")
@pytest.mark.parametrize(
    ("declared", "device", "has_it", "half"),
    [
        ("auto", "cpu", True, False),
        ("auto", "cuda", True, True),
        ("auto", "cuda", False, False),
        ("float32", "cuda", True, False),
        ("bfloat16", "cpu", False, True),
    ],
)
def test_half_precision_where_it_is_declared_or_a_gpu_has_it(
    monkeypatch: pytest.MonkeyPatch, declared: str, device: str, has_it: bool, half: bool
) -> None:
    import torch

    monkeypatch.setattr("torch.cuda.is_bf16_supported", lambda: has_it)
    context = autocast(declared, device)
    assert isinstance(context, torch.autocast) == half
    if half:
        assert (context.device, context.fast_dtype) == (device, torch.bfloat16)
