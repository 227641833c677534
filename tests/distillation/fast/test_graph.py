"""An exported encoder: the same vectors, whatever the length and number of texts, and no torch to make them."""

from __future__ import annotations

import shutil
import subprocess
import sys
import textwrap
from pathlib import Path

import numpy as np
import pytest

from annotation_pipelines.distillation.encoder import Encoder
from annotation_pipelines.distillation.fast.graph import Graph

TEXTS = ["", "a cat", "storm and rain and flood", "fire " * 200, "Übersetzung — 翻訳", "a broken \ud800 half", "dog"]


def test_a_float32_graph_gives_the_vectors_of_torch(encoder: Encoder, exported: Path) -> None:
    told: list[tuple[int, int]] = []
    vectors = Graph(exported, encoder.id, "float32").encode(TEXTS * 30, lambda *counts: told.append(counts))
    np.testing.assert_allclose(vectors, np.tile(encoder.encode(TEXTS), (30, 1)), atol=1e-5)
    assert told[-1] == (210, 210)
    assert Graph(exported, encoder.id, "float32").encode([]).shape == (0, encoder.dimension)


def test_8_bit_graphs_give_vectors_close_to_them_under_ids_of_their_own(encoder: Encoder, exported: Path) -> None:
    plain = encoder.encode(TEXTS)
    ids = {encoder.id, Graph(exported, encoder.id, "float32").id}
    for weights, least in (("int8", 0.98), ("int8-blocks", 0.995)):
        graph = Graph(exported, encoder.id, weights)
        vectors = graph.encode(TEXTS)
        np.testing.assert_allclose(np.linalg.norm(vectors, axis=1), 1, atol=1e-5)
        assert (vectors * plain).sum(axis=1).min() > least
        ids.add(graph.id)
    assert len(ids) == 4


def test_in_blocks_a_text_has_the_same_vector_whatever_stands_beside_it(encoder: Encoder, exported: Path) -> None:
    graph = Graph(exported, encoder.id, "int8-blocks")
    alone = np.concatenate([graph.encode([text]) for text in TEXTS])
    np.testing.assert_allclose(graph.encode(TEXTS * 20)[: len(TEXTS)], alone, atol=1e-4)


def test_it_runs_without_torch(encoder: Encoder, exported: Path) -> None:
    code = f"""
    import sys
    from pathlib import Path
    from annotation_pipelines.distillation.fast.graph import Graph
    Graph(Path({str(exported)!r}), {encoder.id!r}, "int8").encode(["a cat"])
    print(sorted({{"torch", "transformers", "sentence_transformers"}} & set(sys.modules)))
    """
    done = subprocess.run([sys.executable, "-c", textwrap.dedent(code)], capture_output=True, text=True, timeout=120)
    assert (done.stdout.strip(), done.stderr) == ("[]", "")


def test_the_graph_of_another_encoder_and_a_damaged_one_are_not_taken(
    encoder: Encoder, exported: Path, tmp_path: Path
) -> None:
    with pytest.raises(ValueError, match="another encoder"):
        Graph(exported, "another", "int8")
    shutil.copytree(exported, tmp_path / "graph")
    (tmp_path / "graph" / "encoder-int8.onnx").write_bytes(b"cut off")
    with pytest.raises(ValueError, match=r"encoder-int8\.onnx"):
        Graph(tmp_path / "graph", encoder.id, "int8")
