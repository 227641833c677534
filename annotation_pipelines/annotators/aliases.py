"""Codes in the place of label names: a record that names a label then names none of the answers."""

from __future__ import annotations

import dataclasses
import hashlib
import json
import re
from collections.abc import Iterable, Mapping

from annotation_pipelines.content import Content
from annotation_pipelines.errors import DeclarationError
from annotation_pipelines.tasks.base import Annotation, Found
from annotation_pipelines.tasks.classification import Classification, ClassificationTask

_LETTERS, _DIGITS = "ABCDEFGHJKLMNPQRSTUVWXYZ", "23456789"
_TRIES = 10_000


class AliasedTask(ClassificationTask):
    """A task whose annotator sees a code such as K7Q in the place of each label.

    Only codes are read as answers: a label's own name is none. Annotations, and the labels of demonstrations, carry
    the names, so that nothing outside of the prompt knows the codes. `abstain` keeps its name.

    Attributes:
        codes: Label to code. They depend on the labels and their descriptions alone.
        shown_as: Code to description, as the annotator sees them.

    Raises:
        DeclarationError: No code can be found that holds no label's name.
    """

    def __init__(self, task: ClassificationTask) -> None:
        self._task = task
        self.codes: Mapping[str, str] = _codes(task)
        self._names = {code: name for name, code in self.codes.items()}
        self._quoted = re.compile(rf"([`\"'])({_any(self.codes)})\1")
        self._coded_words = re.compile(rf"\b({_any(self._names)})\b")
        # A label without a description of its own is told by its name: there is nothing else to go by.
        self.shown_as: Mapping[str, str] = {
            code: self.in_codes(" ".join(task.labels[name].split()) or name) for name, code in self.codes.items()
        }
        super().__init__(Classification(labels=dict(self.shown_as), abstain=task.abstain))

    @property
    def labels(self) -> Mapping[str, str]:
        """Label to description, under their own names."""
        return self._task.labels

    def value(self, found: Found, content: Content) -> str:
        """The name of the label whose code an answer gives."""
        return self._names[super().value(found, content)]

    def scores(self, found: Found) -> dict[str, float] | None:
        """Label to score, under their own names."""
        scores = super().scores(found)
        return scores and {self._names.get(code, code): score for code, score in scores.items()}

    def written(self, label: str, content: Content) -> Found:
        """The label's code.

        Raises:
            Invalid: The label is not in the set.
        """
        named = self._task.written(label, content)["label"]
        return {"label": self.codes.get(named, named)}

    def parse(self, reply: str, content: Content) -> Annotation:
        """Read a raw reply in codes; the annotation carries the names, and so does its rationale. Never raises."""
        annotation = super().parse(reply, content)
        if not annotation.rationale:
            return annotation
        reasons = self._coded_words.sub(lambda match: self._names[match[1]], annotation.rationale)
        return dataclasses.replace(annotation, rationale=reasons)

    def in_codes(self, text: str) -> str:
        """A guideline or description with the code where it has a label's name in backticks or quotes.

        A name without them stays: it may be an ordinary word.
        """
        return self._quoted.sub(lambda match: f"{match[1]}{self.codes[match[2]]}{match[1]}", text)


def _any(words: Iterable[str]) -> str:
    return "|".join(re.escape(word) for word in sorted(words, key=len, reverse=True))


def _codes(task: ClassificationTask) -> dict[str, str]:
    """A code for every label: letter, digit, letter, so that it is no word; unlike any label's name."""
    names = list(task.labels)
    seed = json.dumps([list(pair) for pair in task.labels.items()]).encode()
    taken = {name.casefold() for name in names}
    length = 3
    while (24 * 8) ** (length // 2) * 24 < 20 * len(names):
        length += 2
    codes: dict[str, str] = {}
    tries = 0
    for name in names:
        while name not in codes:
            if (tries := tries + 1) > _TRIES + 20 * len(names):
                raise DeclarationError(
                    "expected label names that leave codes free, found that every code would hold one",
                    where="injection: aliases",
                    todo="Give the labels longer names, or set aliases: false",
                )
            code = _code(hashlib.blake2b(seed, digest_size=16, salt=tries.to_bytes(8, "big")).digest(), length)
            if code not in codes.values() and not any(known in code.casefold() for known in taken):
                codes[name] = code
    return codes


def _code(digest: bytes, length: int) -> str:
    alphabets = [(_LETTERS, _DIGITS)[index % 2] for index in range(length)]
    return "".join(alphabet[byte % len(alphabet)] for alphabet, byte in zip(alphabets, digest, strict=False))
