"""An exported encoder under onnxruntime: texts in, unit vectors out, without torch."""

from __future__ import annotations

import json
import os
import threading
from collections.abc import Sequence
from pathlib import Path
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray

from annotation_pipelines.distillation.encoder import Progress, Vectors, _well_formed
from annotation_pipelines.errors import MissingExtra

Weights = Literal["float32", "int8-blocks", "int8"]

FACTS_FILE, TOKENIZER_FILE = "graph.json", "tokenizer.json"
FORMAT = 1

_TOKENS = 256  # of one batch, padding included: what the caches of a core hold beside the weights
_MOST = 64  # texts of one batch
_TOKENIZED = 4_096  # texts that are tokenized at a time


def graph_file(weights: Weights) -> str:
    """The name of the file with the graph."""
    return f"encoder-{weights}.onnx"


class Graph:
    """An encoder that `export_encoder` wrote.

    Args:
        folder: Where it lies.
        encoder_id: The encoder's id.
        weights: float32; int8-blocks or int8: weights, and activations as they come, in 8 bits; see `export_encoder`.

    Raises:
        MissingExtra: onnxruntime is not installed.
        OSError, ValueError, KeyError: The folder has no such graph.
    """

    def __init__(self, folder: Path, encoder_id: str, weights: Weights) -> None:
        self.id, self.name = f"{encoder_id}-onnx-{weights}", f"onnx-{weights}"
        onnxruntime = load_onnxruntime()
        from tokenizers import Tokenizer

        facts = json.loads((folder / FACTS_FILE).read_text(encoding="utf-8"))
        if facts["format"] != FORMAT or facts["encoder_id"] != encoder_id:
            raise ValueError("it is the graph of another encoder, or was written by another version")
        self._inputs: list[str] = facts["inputs"]
        self._pad, self._window = int(facts["pad_id"]), int(facts["window"])
        self.dimension = int(facts["dimension"])
        self._tokenizer: Any = Tokenizer.from_file(str(folder / TOKENIZER_FILE))
        options = onnxruntime.SessionOptions()
        options.intra_op_num_threads = threads()
        # Threads that spin while they wait take the cores from other runs on this machine.
        options.add_session_config_entry("session.intra_op.allow_spinning", "0")
        options.log_severity_level = 3
        try:
            self._session: Any = onnxruntime.InferenceSession(
                str(folder / graph_file(weights)), options, providers=["CPUExecutionProvider"]
            )
        except Exception as error:  # onnxruntime has a dozen errors of its own for a file that is none
            raise ValueError(" ".join(str(error).split())[:200]) from None
        self._lock = threading.Lock()

    def encode(self, texts: Sequence[str], progress: Progress | None = None) -> Vectors:
        """The vectors of n texts, as `Encoder.encode` gives them: float32, shape (n, dimension), rows of length 1."""
        vectors = np.empty((len(texts), self.dimension), dtype=np.float32)
        # Texts of like length are tokenized together, so that memory is flat and batches hold little padding.
        order = np.argsort([-len(text) for text in texts], kind="stable")
        with self._lock:
            for start in range(0, len(texts), _TOKENIZED):
                block = order[start : start + _TOKENIZED]
                self._encode_block([_well_formed(texts[row]) for row in block], block, vectors)
                if progress is not None:
                    progress(start + len(block), len(texts))
        return vectors

    def _encode_block(self, texts: list[str], rows: NDArray[np.intp], vectors: Vectors) -> None:
        tokens = [encoding.ids for encoding in self._tokenizer.encode_batch_fast(texts)]
        order = sorted(range(len(tokens)), key=lambda row: -len(tokens[row]))
        start = 0
        while start < len(order):
            longest = max(1, len(tokens[order[start]]))
            batch = order[start : start + max(1, min(_MOST, _TOKENS // longest))]
            ids = np.full((len(batch), longest), self._pad, dtype=np.int64)
            mask = np.zeros_like(ids)
            for row, text in enumerate(batch):
                ids[row, : len(tokens[text])] = tokens[text]
                mask[row, : len(tokens[text])] = 1
            given = {"input_ids": ids, "attention_mask": mask, "token_type_ids": np.zeros_like(ids)}
            (found,) = self._session.run(None, {name: given[name] for name in self._inputs})
            vectors[rows[batch]] = found
            start += len(batch)


def load_onnxruntime() -> Any:
    """The module.

    Raises:
        MissingExtra: It is not installed.
    """
    try:
        import onnxruntime
    except ImportError:
        raise MissingExtra("onnxruntime", "fast", "prediction by ONNX") from None
    return onnxruntime


def threads() -> int:
    """How many threads compute: OMP_NUM_THREADS where it is set, as for torch, or one a core."""
    declared = os.environ.get("OMP_NUM_THREADS", "")
    return int(declared) if declared.isdigit() and int(declared) else len(os.sched_getaffinity(0))
