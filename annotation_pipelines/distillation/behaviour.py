"""Behavioural checks: what a model must do whatever its figures are, tried on texts.

After CheckList (Ribeiro et al. 2020, "Beyond accuracy: behavioral testing of NLP models", arXiv 2005.04118): invariance
(what does not change the meaning does not change the label) and minimum functionality (declared texts get the labels
that they must have); and what any model in use must not do: crash, answer what is no label, change with its neighbours.

Each check has a tolerance of its own, which it states. `vital` ones stop a promotion in any case; the others where the
champion passes them.
"""

from __future__ import annotations

import math
import re
import unicodedata
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace

import numpy as np
import polars as pl
from numpy.typing import NDArray

from annotation_pipelines.content import Content
from annotation_pipelines.distillation.behaviour_bounds import (
    ALONE,
    BATCH,
    BLANKS,
    CALIBRATED,
    CASE,
    CONFIDENCE,
    CONFIDENCE_MOVES,
    ENOUGH_GOLD,
    EXPECTED,
    MOST_ECE,
    ODD,
    ONE_LABEL,
    ONE_LABEL_BEYOND,
    ONE_LABEL_SHARE,
    PUNCTUATION,
    RELOAD,
    TOLERATED,
    UNICODE,
    VALID,
    VITAL,
)
from annotation_pipelines.distillation.embedding import Progress, Uncached
from annotation_pipelines.distillation.encoder import Encoder
from annotation_pipelines.distillation.evaluation import calibration
from annotation_pipelines.distillation.prediction import ReadyModel
from annotation_pipelines.distillation.students.base import Predicted
from annotation_pipelines.errors import AnnotationPipelinesError
from annotation_pipelines.project import Expected
from annotation_pipelines.tasks.base import Invalid, Task
from annotation_pipelines.tasks.metrics.bootstrap import Metric

_ODD = (
    "",
    " ",
    "\n\n\n",
    "?",
    "a",
    "word " * 4_000,
    "🙂" * 300,
    "\u202egnirts\u202c\u200b\u0000",
    "漢字かな交じり文",
    "=" * 5_000,
)
_TAG = re.compile(r"(<[^<>]*>)")
_MARKED = "<e1>one</e1> and <e2>other</e2> "


@dataclass(frozen=True)
class Check:
    """How one check ended.

    Attributes:
        observed: What was seen, in words.
        records: Texts that it was tried on; 0 where there was nothing to try it on, which passes.
    """

    name: str
    passed: bool
    observed: str
    records: int

    @property
    def vital(self) -> bool:
        """Whether no model may be promoted that fails it."""
        return self.name in VITAL


class _Remembered(Uncached):
    """Vectors of texts that are asked for again and again, kept while the checks run."""

    def __init__(self, encoder: Encoder) -> None:
        super().__init__(encoder)
        self._known: dict[str, NDArray[np.float32]] = {}

    def vectors(self, frame: pl.DataFrame, progress: Progress | None = None) -> NDArray[np.float32]:
        missing = frame.filter(~pl.col("content").is_in(list(self._known))).unique("content", maintain_order=True)
        for text, vector in zip(missing["content"], super().vectors(missing, progress), strict=True):
            self._known[text] = vector
        if frame.is_empty():
            return super().vectors(frame)
        return np.stack([self._known[text] for text in frame["content"]])


class Behaviour:
    """The checks of one project, for one model after another; vectors are shared among them.

    Args:
        texts: Contents, as they are stored: of records of the project.
        expected: Texts with the labels that they must get.
    """

    def __init__(self, task: Task, texts: Sequence[str], expected: Sequence[Expected] = ()) -> None:
        self.task, self.texts, self.expected = task, list(dict.fromkeys(texts)), list(expected)
        self._sources: dict[str, _Remembered] = {}

    def check(
        self,
        model: ReadyModel,
        again: ReadyModel,
        learned: Sequence[str],
        right: Sequence[bool] = (),
        confidence: NDArray[np.float64] | None = None,
        *,
        seed: int = 0,
    ) -> list[Check]:
        """Try a model.

        Args:
            again: The same model, read from disk once more.
            learned: The labels that it was trained on.
            right: Whether it is right on each of n gold records that it was not trained on.
            confidence: Shape (n,): how sure it is of each.
        """
        model = self._remembering(model)
        base = _predict(model, self.texts)
        checks = [self._invariant(model, base, name, turn) for name, turn in self._turns().items()]
        checks += [
            self._same_in_batches(model, base),
            self._same_after_reload(self._remembering(again), base),
            *self._odd(model, base),
            self._expected(model),
            _calibrated(right, confidence, seed),
            self._one_label(base, learned),
        ]
        return checks

    def _remembering(self, model: ReadyModel) -> ReadyModel:
        encoder = model.vectors.encoder
        return replace(model, vectors=self._sources.setdefault(encoder.id, _Remembered(encoder)))

    def _said(self, label: str) -> object:
        """What a label says, whatever the letters of the text: of spans their types, of others the label."""
        if self.task.reads_content and not self.task.exclusive:
            return tuple(sorted(self.task.named(label)))
        return label

    def _turns(self) -> dict[str, Callable[[str], str]]:
        turns: dict[str, Callable[[str], str]] = {BLANKS: _blanks, UNICODE: _unicode, PUNCTUATION: _point}
        # Names begin with capitals: a tagger may go by them.
        return turns if self.task.reads_content and not self.task.exclusive else {CASE: _case, **turns}

    def _invariant(self, model: ReadyModel, base: Predicted, name: str, turn: Callable[[str], str]) -> Check:
        turned = [_turned(text, turn) for text in self.texts]
        changed = [index for index, text in enumerate(turned) if text != self.texts[index]]
        if not changed:
            return Check(name, True, "no text to try it on", 0)
        labels = _predict(model, [turned[index] for index in changed]).labels
        moved = [
            index
            for index, label in zip(changed, labels, strict=True)
            if self._said(label) != self._said(base.labels[index])
        ]
        share = len(moved) / len(changed)
        example = f", as of {_short(self.texts[moved[0]])}" if moved else ""
        return Check(
            name,
            share <= TOLERATED[name],
            f"{len(moved)} of {len(changed)} labels change ({share:.0%}; up to {TOLERATED[name]:.0%} may){example}",
            len(changed),
        )

    def _same_in_batches(self, model: ReadyModel, base: Predicted) -> Check:
        # Without what is remembered: the encoder's batches are what may differ.
        bare = replace(model, vectors=Uncached(model.vectors.encoder))
        few = self.texts[:ALONE]
        alone = [_predict(bare, [text]) for text in few]
        labels = [one.labels[0] for one in alone]
        sure = [float(one.confidence[0]) for one in alone]
        turned = _predict(bare, self.texts[::-1])
        moved = sum(label != told for label, told in zip(labels, base.labels, strict=False))
        moved += sum(label != told for label, told in zip(turned.labels[::-1], base.labels, strict=True))
        gap = max(
            [
                *(abs(one - other) for one, other in zip(sure, base.confidence, strict=False)),
                *np.abs(np.asarray(turned.confidence)[::-1] - base.confidence),
            ],
            default=0.0,
        )
        return Check(
            BATCH,
            bool(moved <= TOLERATED[BATCH] * len(self.texts) and gap <= CONFIDENCE_MOVES),
            f"{moved} labels change; confidence moves by {gap:.4f} at most",
            len(self.texts),
        )

    def _same_after_reload(self, again: ReadyModel, base: Predicted) -> Check:
        told = _predict(again, self.texts)
        moved = sum(one != other for one, other in zip(told.labels, base.labels, strict=True))
        gap = float(np.abs(np.asarray(told.confidence) - base.confidence).max(initial=0.0))
        observed = f"{moved} labels change; confidence moves by {gap:.1e} at most"
        return Check(RELOAD, not moved and gap <= 1e-6, observed, len(self.texts))

    def _odd(self, model: ReadyModel, base: Predicted) -> list[Check]:
        """Whether odd texts are answered, and whether all answers are labels with a probability."""
        texts = [self._oddly(text) for text in _ODD] if self.texts else []
        odd = Check(ODD, True, f"all {len(texts)} are answered", len(texts))
        answered, said = list(self.texts), base
        try:
            told = _predict(model, texts)
            answered, said = [*answered, *texts], _together(base, told)
        except Exception as error:  # whatever a model raises is what the check is about
            raised = error.problem if isinstance(error, AnnotationPipelinesError) else str(error)
            odd = Check(ODD, False, f"{error.__class__.__name__}: {_short(raised)}", len(texts))
        problems = [
            (text, problem)
            for text, label in zip(answered, said.labels, strict=True)
            if (problem := self.task.problem(label, Content.read(text))) is not None
        ]
        first = f", as of {_short(problems[0][0])}: {problems[0][1]}" if problems else ""
        outside = [sure for sure in np.asarray(said.confidence).tolist() if not 0 <= sure <= 1 or math.isnan(sure)]
        n = len(answered)
        return [
            odd,
            Check(VALID, not problems, f"{len(problems)} of {n} answers are no labels{first}", n),
            Check(
                CONFIDENCE,
                not outside,
                f"{len(outside)} of {n} are not{f', as {outside[0]}' if outside else ''}",
                n,
            ),
        ]

    def _oddly(self, odd: str) -> str:
        """An odd content of the form that records of the project have."""
        content = Content.read(self.texts[0])
        text = _MARKED + odd if self.task.kind == "relations" else odd
        return content.with_texts(dict.fromkeys(content.names, text)).stored

    def _expected(self, model: ReadyModel) -> Check:
        if not self.expected:
            return Check(EXPECTED, True, "none is declared", 0)
        contents = [Content.read(each.content) for each in self.expected]
        told = _predict(model, [content.stored for content in contents]).labels
        wrong = []
        for content, each, label in zip(contents, self.expected, told, strict=True):
            try:
                must = self.task.canonical(each.label, content)
            except Invalid as problem:
                wrong.append(f"{each.label!r} is no label of the task: {problem}")
                continue
            if label != must:
                wrong.append(f"{_short(content.text)} gets {self.task.shown(label)}, not {self.task.shown(must)}")
        n = len(self.expected)
        return Check(EXPECTED, not wrong, f"{n - len(wrong)} of {n} do" + "".join(f"; {each}" for each in wrong[:3]), n)

    def _one_label(self, base: Predicted, learned: Sequence[str]) -> Check:
        said = Counter(self._said(label) for label in base.labels)
        if not said:
            return Check(ONE_LABEL, True, "no text to try it on", 0)
        top, count = said.most_common(1)[0]
        share = count / said.total()
        taught = sum(self._said(label) == top for label in learned) / max(len(learned), 1)
        most = max(ONE_LABEL_SHARE, taught + ONE_LABEL_BEYOND)
        name = str(top) if not isinstance(top, tuple) else ", ".join(top) or "nothing"
        return Check(
            ONE_LABEL,
            share <= most,
            f"{_short(name)} is given for {share:.0%} of texts, and was {taught:.0%} of training",
            said.total(),
        )


def _calibrated(right: Sequence[bool], confidence: NDArray[np.float64] | None, seed: int) -> Check:
    found: list[Metric] = [] if confidence is None else calibration.measure(right, confidence, seed=seed)
    if len(right) < ENOUGH_GOLD or not found:
        return Check(CALIBRATED, True, f"too few gold records to tell: {len(right)}", len(right))
    error = found[0]
    lower = error.lower or 0.0
    return Check(
        CALIBRATED,
        lower <= MOST_ECE,
        f"expected calibration error {error.value:.3f} (95% interval {lower:.3f} to {error.upper:.3f})",
        len(right),
    )


def _predict(model: ReadyModel, texts: Sequence[str]) -> Predicted:
    rows = {"content_hash": [""] * len(texts), "content": list(texts)}
    frame = pl.DataFrame(rows, schema={"content_hash": pl.String, "content": pl.String})
    return model.predict(frame)


def _together(one: Predicted, other: Predicted) -> Predicted:
    """Labels and confidences of both; probabilities are not needed any more."""
    return Predicted([*one.labels, *other.labels], np.concatenate([one.confidence, other.confidence]), [])


def _turned(content: str, turn: Callable[[str], str]) -> str:
    """A content with each of its texts turned; tags in them, such as marks of mentions, stay as they are."""
    read = Content.read(content)
    texts: Mapping[str, str] = {part.name: turn(part.text) for part in read.parts}
    return read.with_texts(texts).stored


def _case(text: str) -> str:
    def turn(piece: str) -> str:
        return piece if _TAG.fullmatch(piece) else piece.lower()

    lower = "".join(turn(piece) for piece in _TAG.split(text))
    return lower if lower != text else "".join(p if _TAG.fullmatch(p) else p.upper() for p in _TAG.split(text))


def _blanks(text: str) -> str:
    return f"  {text} \n"


def _unicode(text: str) -> str:
    apart = unicodedata.normalize("NFD", text)
    return apart if apart != text else unicodedata.normalize("NFC", text)


def _point(text: str) -> str:
    if text.endswith("."):
        return text.rstrip(".") or text
    return f"{text}." if text and text[-1].isalnum() else text


def _short(text: str, most: int = 60) -> str:
    plain = " ".join(text.split())
    return repr(plain if len(plain) <= most else plain[:most] + "…")
