"""An encoder as an ONNX graph: tokens in, unit vectors out, in float32 and in 8 bits."""

from __future__ import annotations

import json
import logging
import os
import shutil
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from copy import deepcopy
from pathlib import Path
from typing import Any

import numpy as np

from annotation_pipelines.distillation.encoder import Encoder
from annotation_pipelines.distillation.fast.graph import FACTS_FILE, FORMAT, TOKENIZER_FILE, Graph, graph_file
from annotation_pipelines.errors import MissingExtra

_CLOSE = 1e-3  # the largest difference of a float32 graph's vectors from torch's
_INPUTS = ("input_ids", "attention_mask", "token_type_ids")
_MATRICES = ["MatMul", "Gemm"]
_LONGEST = 512
_BLOCK = 64


class CannotExport(Exception):
    """The encoder is of a kind that is not exported; the message says why, in words."""


def export_encoder(encoder: Encoder, folder: Path) -> None:
    """Write an encoder's graphs, its tokenizer and what else `Graph` needs into a folder.

    The graph is torch's own export of all modules of the encoder: transformer, pooling, normalisation. The float32
    graph's vectors are held against torch's first. Two others compute their matrix products in 8 bits:

    - int8: a scale for each output channel of the weights, and one for all activations of a product as they come
      (Krishnamoorthi 2018, arXiv 1806.08342, section 3). A text's vector depends a little on the texts beside it.
    - int8-blocks: a scale for each 64 weights or activations in a row. Closer to float32, and slower; a text's vector
      depends on the text alone.

    Raises:
        CannotExport: The encoder is not of a kind that can be exported, or the graph gives other vectors.
        MissingExtra: onnx, onnxscript or onnxruntime is not installed.
        OSError: The folder cannot be written.
    """
    for package in ("onnx", "onnxscript", "onnxruntime"):
        try:
            __import__(package)
        except ImportError:
            raise MissingExtra(package, "fast", "prediction by ONNX") from None
    model = encoder._model()
    tokenizer = _tokenizer(model)
    temporary = folder.with_name(f".{folder.name}.{os.getpid()}.tmp")
    try:
        temporary.mkdir(parents=True, exist_ok=True)
        window = int(min(model.max_seq_length or _LONGEST, 100_000))
        rust = deepcopy(tokenizer.backend_tokenizer)
        rust.enable_truncation(window)
        rust.no_padding()
        rust.save(str(temporary / TOKENIZER_FILE))
        inputs = [name for name in _INPUTS if name in tokenizer.model_input_names]
        facts = {
            "format": FORMAT,
            "encoder_id": encoder.id,
            "inputs": inputs,
            "pad_id": tokenizer.pad_token_id or 0,
            "window": window,
            "dimension": encoder.dimension,
        }
        (temporary / FACTS_FILE).write_text(json.dumps(facts), encoding="utf-8")
        whole = temporary / graph_file("float32")
        with _quiet():
            try:
                _export(model, tokenizer, inputs, window, whole)
                _hold_against_torch(encoder, temporary)
                _by_channel(whole, temporary / graph_file("int8"))
                _by_block(whole, temporary / graph_file("int8-blocks"))
            except (CannotExport, OSError):
                raise
            except Exception as error:  # whatever a model makes torch.export, onnxscript, onnx and onnxruntime raise
                raise CannotExport(" ".join(str(error).split())[:200] or error.__class__.__name__) from None
        shutil.rmtree(folder, ignore_errors=True)
        temporary.rename(folder)
    finally:
        shutil.rmtree(temporary, ignore_errors=True)


def _tokenizer(model: Any) -> Any:
    """The tokenizer of an encoder that can be exported."""
    tokenizer = getattr(model, "tokenizer", None)
    if model.device.type != "cpu":
        raise CannotExport("it runs on a GPU")
    if not getattr(tokenizer, "is_fast", False):
        raise CannotExport("its tokenizer has no Rust implementation")
    if getattr(tokenizer, "padding_side", "right") != "right":
        raise CannotExport("it pads at the left")
    if getattr(model, "default_prompt_name", None):
        raise CannotExport("it puts a prompt before each text")
    return tokenizer


def _export(model: Any, tokenizer: Any, inputs: list[str], window: int, path: Path) -> None:
    import torch

    class Whole(torch.nn.Module):  # type: ignore[misc]
        def __init__(self) -> None:
            super().__init__()
            self.model = model

        def forward(self, *tensors: Any) -> Any:
            found = self.model(dict(zip(inputs, tensors, strict=True)))["sentence_embedding"]
            return torch.nn.functional.normalize(found, dim=-1)

    tokens = tokenizer(["one text", "and another one, longer"], padding=True, return_tensors="pt")
    rows, columns = torch.export.Dim("rows", min=1, max=65_536), torch.export.Dim("columns", min=1, max=window)
    was = model.training
    try:
        program = torch.onnx.export(
            Whole().eval(),
            tuple(tokens[name] for name in inputs),
            dynamo=True,
            input_names=inputs,
            output_names=["vectors"],
            dynamic_shapes={"tensors": tuple({0: rows, 1: columns} for _ in inputs)},
            verbose=False,
        )
        program.save(str(path))
    finally:
        model.train(was)


def _hold_against_torch(encoder: Encoder, folder: Path) -> None:
    texts = ["", "one", "two words", "a text of a few words more, and of another length", "very long " * _LONGEST] * 3
    apart = np.abs(Graph(folder, encoder.id, "float32").encode(texts) - encoder.encode(texts)).max()
    if not apart < _CLOSE:
        raise CannotExport(f"the graph's vectors differ from torch's by {apart:.2g}")


def _by_channel(whole: Path, small: Path) -> None:
    from onnxruntime.quantization import QuantType, quantize_dynamic

    quantize_dynamic(whole, small, per_channel=True, weight_type=QuantType.QInt8, op_types_to_quantize=_MATRICES)


def _by_block(whole: Path, small: Path) -> None:
    import onnx
    from onnxruntime.quantization.matmul_nbits_quantizer import MatMulNBitsQuantizer

    in_8_bits = 4  # the operator's accuracy_level: products of 8-bit numbers, not of floats
    quantizer = MatMulNBitsQuantizer(
        onnx.load(whole), bits=8, block_size=_BLOCK, is_symmetric=True, accuracy_level=in_8_bits
    )
    quantizer.process()
    quantizer.model.save_model_to_file(str(small))


@contextmanager
def _quiet() -> Iterator[None]:
    """Without the remarks of the exporter and the quantiser about themselves."""
    loud = [logging.getLogger(name) for name in ("torch.onnx", "onnxscript", "onnx_ir")]
    levels = [logger.level for logger in loud]
    disabled = logging.root.manager.disable
    handlers, level = list(logging.root.handlers), logging.root.level  # importing the quantiser sets up logging
    for logger in loud:
        logger.setLevel(logging.ERROR)
    logging.disable(logging.WARNING)  # the quantiser warns by the root logger
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            yield
    finally:
        logging.disable(disabled)
        logging.root.handlers[:] = handlers
        logging.root.setLevel(level)
        for logger, before in zip(loud, levels, strict=True):
            logger.setLevel(before)
