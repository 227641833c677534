"""Codes in the place of label names: a record that names a label then names none of the answers."""

from __future__ import annotations

import dataclasses
import hashlib
import json
import re
from collections.abc import Iterable, Mapping
from typing import Any

from annotation_pipelines.errors import DeclarationError
from annotation_pipelines.project import ABSTAIN, Classification
from annotation_pipelines.tasks.base import Annotation, Task
from annotation_pipelines.tasks.classification import ClassificationTask

_LETTERS, _DIGITS = "ABCDEFGHJKLMNPQRSTUVWXYZ", "23456789"
_TRIES = 10_000


class AliasedTask:
    """A task whose annotator sees a code such as K7Q in the place of each label.

    Only codes are read as answers: a label's own name is none. Annotations, and the labels of demonstrations, carry
    the names, so that nothing outside of the prompt knows the codes. `abstain` keeps its name.

    Attributes:
        codes: Label to code. They depend on the labels and their descriptions alone.
        shown: Code to description, as the annotator sees them.

    Raises:
        DeclarationError: No code can be found that holds no label's name.
    """

    def __init__(self, task: Task) -> None:
        self._task = task
        self.codes: Mapping[str, str] = _codes(task)
        self._names = {code: name for name, code in self.codes.items()}
        self._quoted = re.compile(rf"([`\"'])({_any(self.codes)})\1")
        self._coded_words = re.compile(rf"\b({_any(self._names)})\b")
        # A label without a description of its own is told by its name: there is nothing else to go by.
        self.shown: Mapping[str, str] = {
            code: self.in_codes(" ".join(task.labels[name].split()) or name) for name, code in self.codes.items()
        }
        abstain = ABSTAIN in task.schema(confidence=False)["properties"]["label"]["enum"]
        self._coded = ClassificationTask(Classification(labels=dict(self.shown), abstain=abstain))

    @property
    def labels(self) -> Mapping[str, str]:
        """Label to description, under their own names."""
        return self._task.labels

    @property
    def parser_version(self) -> int:
        """The parser's of the task itself."""
        return self._task.parser_version

    def instructions(self) -> str:
        """What is asked, with every code and what it stands for."""
        return self._coded.instructions()

    def schema(self, *, confidence: bool, rationale: bool = False) -> dict[str, Any]:
        """The strict JSON schema of an answer, in codes."""
        return self._coded.schema(confidence=confidence, rationale=rationale)

    def answer(self, label: str, *, confidence: bool) -> dict[str, Any]:
        """The answer that a demonstration with this label shows, in its code.

        Raises:
            ValueError: The label is not in the set.
        """
        answer = self._task.answer(label, confidence=confidence)
        return {**answer, "label": self.codes.get(label, label)}

    def parse(self, reply: str) -> Annotation:
        """Read a raw reply in codes; the annotation carries the names, and so does its rationale. Never raises."""
        annotation = self._coded.parse(reply)
        scores, reasons = annotation.scores, annotation.rationale
        return dataclasses.replace(
            annotation,
            label=None if annotation.label is None else self._names[annotation.label],
            scores=scores and {self._names.get(code, code): score for code, score in scores.items()},
            rationale=reasons and self._coded_words.sub(lambda match: self._names[match[1]], reasons),
        )

    def in_codes(self, text: str) -> str:
        """A guideline or description with the code where it has a label's name in backticks or quotes.

        A name without them stays: it may be an ordinary word.
        """
        return self._quoted.sub(lambda match: f"{match[1]}{self.codes[match[2]]}{match[1]}", text)


def _any(words: Iterable[str]) -> str:
    return "|".join(re.escape(word) for word in sorted(words, key=len, reverse=True))


def _codes(task: Task) -> dict[str, str]:
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
