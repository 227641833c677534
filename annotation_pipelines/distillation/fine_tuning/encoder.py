"""An encoder that is to be trained: its weights, its tokenizer, how it makes one vector of a text, and where it runs.

Any encoder serves that sentence-transformers loads, which includes those of transformers alone. What comes after the
transformer and its pooling (dense layers, prompts) is left out: the student's own head takes its place.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

from annotation_pipelines.distillation.encoder import _load, _lock, _quiet, _well_formed
from annotation_pipelines.errors import DeclarationError

Pooling = Literal["mean", "cls", "max", "lasttoken"]
POOLINGS: tuple[Pooling, ...] = ("mean", "cls", "max", "lasttoken")

_WEIGHTS_FILE = "model.safetensors"
_TODO = "Name an encoder of sentence-transformers or transformers that has a transformer and a fast tokenizer"


@dataclass
class TrainableEncoder:
    """A transformer with its tokenizer.

    Attributes:
        model: A `PreTrainedModel` whose output has last_hidden_state.
        tokenizer: A fast tokenizer.
        pooling: How one vector is made of a text's tokens.
        window: The most tokens that it reads of a text, special tokens included.
    """

    model: Any
    tokenizer: Any
    pooling: Pooling
    window: int

    @classmethod
    def named(cls, name: str) -> TrainableEncoder:
        """An encoder by name or path, as `Encoder` takes them; a copy of its own, in float32.

        Raises:
            DeclarationError: It cannot be loaded, has no transformer (static vectors), or no fast tokenizer.
        """
        with _lock:
            loaded = _load(name, "cpu")
        first = loaded[0]
        model, tokenizer = getattr(first, "auto_model", None), getattr(loaded, "tokenizer", None)
        if model is None or not hasattr(model, "config"):
            raise _unsuitable(name, f"it begins with {type(first).__name__}, which is no transformer")
        if not getattr(tokenizer, "is_fast", False):
            raise _unsuitable(name, f"its tokenizer, {type(tokenizer).__name__}, is not a fast one")
        modes = [getattr(module, "pooling_mode", None) for module in loaded]
        pooling: Pooling = next((mode for mode in POOLINGS if mode in modes), "mean")
        return cls(model.float(), tokenizer, pooling, int(loaded.max_seq_length or 512))

    @classmethod
    def read(cls, folder: Path, facts: Mapping[str, Any]) -> TrainableEncoder:
        """What `save` wrote; nothing is fetched, no code but that of transformers is run.

        Raises:
            ValueError, KeyError, OSError: It is not what `save` wrote.
        """
        import transformers

        kind: Any = getattr(transformers, str(facts["class"]), None)
        known = isinstance(kind, type) and issubclass(kind, transformers.PreTrainedModel)
        if not known:
            raise ValueError(f"transformers has no model {facts['class']}")
        if facts["pooling"] not in POOLINGS:
            raise ValueError(f"there is no pooling {facts['pooling']}")
        if not (folder / _WEIGHTS_FILE).is_file():
            raise OSError(f"{_WEIGHTS_FILE} is missing")
        with _quiet():
            model = kind.from_pretrained(folder, local_files_only=True, use_safetensors=True)
            tokenizer = transformers.AutoTokenizer.from_pretrained(folder, local_files_only=True, use_fast=True)
        return cls(model.float(), tokenizer, facts["pooling"], int(facts["window"]))

    def save(self, folder: Path) -> dict[str, Any]:
        """Write config.json, model.safetensors and the tokenizer's JSON files; what else `read` needs, JSON-like."""
        with _quiet():
            self.model.save_pretrained(folder, max_shard_size="100GB")
            self.tokenizer.save_pretrained(folder)
        return {"class": type(self.model).__name__, "pooling": self.pooling, "window": self.window}

    @property
    def width(self) -> int:
        """The length of a token's vector."""
        return int(self.model.config.hidden_size)

    def tokenize(self, texts: Sequence[str], limit: int | None, *, offsets: bool = False) -> Any:
        """The tokens of texts, special ones included: input_ids and, if asked for, offset_mapping.

        Args:
            limit: The most tokens of a text; None for all of them.
        """
        with _lock, _quiet():
            return self.tokenizer(
                [_well_formed(text) for text in texts],
                truncation=limit is not None,
                max_length=limit,
                padding=False,
                return_attention_mask=False,
                return_token_type_ids=False,
                return_offsets_mapping=offsets,
            )


def device_of(declared: str, *, training: bool) -> str:
    """Where to run: cpu or cuda. A model that was trained on a GPU predicts without one, too.

    Raises:
        DeclarationError: A GPU is asked for to train on, and there is none.
    """
    import torch

    if declared == "cpu":
        return "cpu"
    if torch.cuda.is_available():
        return "cuda"
    if declared == "cuda" and training:
        raise DeclarationError(
            "expected a GPU, found none that torch can use",
            where="distillation: device",
            todo="Write auto or cpu, or install torch with CUDA on a machine with an NVIDIA GPU",
        )
    return "cpu"


def autocast(declared: str, device: str) -> AbstractContextManager[object]:
    """The context of forward passes: bfloat16 where it is declared, or where a GPU has it; float32 otherwise."""
    import torch

    half = declared == "bfloat16" or (declared == "auto" and device == "cuda" and torch.cuda.is_bf16_supported())
    if not half:
        return nullcontext()
    context: AbstractContextManager[object] = torch.autocast(device, dtype=torch.bfloat16)
    return context


def _unsuitable(name: str, reason: str) -> DeclarationError:
    return DeclarationError(
        f"the encoder {name!r} cannot be fine-tuned: {reason}", where="distillation: encoder", todo=_TODO
    )
