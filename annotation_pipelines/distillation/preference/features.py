"""What is known of a response to a prompt: features of which a linear score is made.

- the response's vector: how people like it to sound;
- the product of the vectors of prompt and response, place by place, and their cosine: how it fits the prompt;
- the share of its words that it says again, and the share that it copies from the prompt: weak models do both;
- whether it is empty;
- its length, the log of its characters.

Of the prompt by itself nothing can be learned: both responses share it. People often prefer the longer response, and a
reward model that knows the length will pay for length; `distillation: length: false` leaves it out. The vector tells
some of it all the same.

A response that is longer than the encoder's window is read in pieces; its vector is their mean.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence

import numpy as np
from numpy.typing import NDArray

from annotation_pipelines.content import Content, ContentPart
from annotation_pipelines.distillation.encoder import Encoder
from annotation_pipelines.distillation.tagging.words import units
from annotation_pipelines.tasks.preference import PreferenceTask

_PIECE = 800
"""Characters; with most scripts fewer than 256 tokens."""
_VECTORS, _FIGURES = 10.0, 20.0
"""Scales: the penalty should bear on the many places of vectors, hardly on the five figures beside them."""

Array = NDArray[np.float64]
Vectors = NDArray[np.float32]


def pair_texts(task: PreferenceTask, stored: str) -> tuple[str, str, str]:
    """The prompt, A and B of a stored content: the prompt is all other parts; parts that are missing are empty."""
    content = Content.read(stored)
    compared = (task.first, task.second)
    others = tuple(part for part in content.parts if part.name not in compared and part.text)
    first, second = (content[name] if name in content.names else "" for name in compared)
    return _as_text(others), first, second


def response_features(
    encoder: Encoder, prompts: Sequence[str], responses: Sequence[str], *, length: bool = True
) -> Array:
    """The features of n responses to their prompts, shape (n, 2 dimension + 5); those of the length 0 where left out.

    Raises:
        DeclarationError: The encoder cannot be loaded.
    """
    distinct = list(dict.fromkeys([*prompts, *responses]))
    vectors = mean_vectors(encoder, distinct)
    place = {text: index for index, text in enumerate(distinct)}
    prompt, response = (vectors[[place[text] for text in texts]].astype(np.float64) for texts in (prompts, responses))
    product = prompt * response
    letters = np.array([len(text.strip()) for text in responses], dtype=np.float64)
    return np.column_stack(
        [
            response * _VECTORS / np.sqrt(2),
            # The products of two unit vectors are small: brought to about the length of a vector.
            product * _VECTORS * np.sqrt(vectors.shape[1]) / np.sqrt(2),
            product.sum(axis=1) * _FIGURES,
            np.array([_shares(*pair) for pair in zip(prompts, responses, strict=True)]).reshape(-1, 2) * _FIGURES,
            (letters == 0) * _FIGURES,
            np.log1p(letters) * _FIGURES * length,
        ]
    )


def mean_vectors(encoder: Encoder, texts: Sequence[str]) -> Vectors:
    """The vector of each text, of a long one the mean of its pieces': shape (n, dimension), rows of length 1."""
    pieces = [list(_pieces(text)) for text in texts]
    found = encoder.encode([piece for cut in pieces for piece in cut])
    owners = np.repeat(np.arange(len(texts)), [len(cut) for cut in pieces])
    sums = np.zeros((len(texts), found.shape[1]), dtype=np.float32)
    np.add.at(sums, owners, found)
    lengths = np.linalg.norm(sums, axis=1, keepdims=True)
    means: Vectors = np.divide(sums, lengths, out=np.zeros_like(sums), where=lengths > 0)
    return means


def _shares(prompt: str, response: str) -> tuple[float, float]:
    """The share of a response's words that it has said before, and the share that the prompt has."""
    words = [span.of(response).lower() for span in units(response)]
    if not words:
        return 0.0, 0.0
    asked = {span.of(prompt).lower() for span in units(prompt)}
    return 1 - len(set(words)) / len(words), sum(word in asked for word in words) / len(words)


def _pieces(text: str) -> Iterator[str]:
    """A text cut at white space, or within a word that is longer; one piece at least."""
    start = 0
    while len(text) - start > _PIECE:
        end = max(text.rfind(mark, start + 1, start + _PIECE) for mark in (" ", "\n"))
        end = start + _PIECE if end <= start else end
        yield text[start:end]
        start = end
    yield text[start:]


def _as_text(parts: tuple[ContentPart, ...]) -> str:
    return "\n".join(part.text for part in parts)
