"""What models once answered, out of a file, by content.

Where a file holds a content several times, the first row answers for all: equal contents make equal requests, and are
asked only once. Where the project that asks is known, a recorded label is read as its task reads people's labels, and
written as its answers are: so any kind of task can be answered. Without, the label is the answer's `label`.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import polars as pl

from annotation_pipelines.annotators.aliases import AliasedTask
from annotation_pipelines.annotators.fence import unfence, unfence_parts
from annotation_pipelines.content import SOLE, Content
from annotation_pipelines.errors import SourceError
from annotation_pipelines.project import RecordColumns
from annotation_pipelines.sources.columns import Template, as_text, without_nul
from annotation_pipelines.tasks.base import Annotation, Found, Invalid, Task
from annotation_pipelines.tasks.classification import ClassificationTask

_READERS: dict[str, Callable[[Path], pl.DataFrame]] = {
    ".csv": lambda file: pl.read_csv(file, infer_schema_length=None),
    ".jsonl": lambda file: pl.read_ndjson(file, infer_schema_length=None),
    ".ndjson": lambda file: pl.read_ndjson(file, infer_schema_length=None),
    ".parquet": pl.read_parquet,
}
_TEXT_COLUMNS = ("text", "content", "sentence")
_PEOPLE = ("human", "gold", "true")


@dataclass(frozen=True)
class RecordedAnswer:
    """What a model once answered.

    Attributes:
        label: Canonical where the task is known and has such a label, else as it was recorded.
        fields: The answer's own fields, as its task writes them; without a task the label alone.
        rationale: Its reasons, where they were recorded.
    """

    label: str
    confidence: float | None
    fields: Found = field(default_factory=dict)
    rationale: str | None = None


class Recording:
    """The answers of a file, by content.

    Attributes:
        answers: The first answer to each content: a text, or the parts as they are stored.
        rows: How many rows had one.
        codes: Label to the code that goes for it, where the task is known and its labels may go by codes.
        labels: Those that were recorded.
    """

    def __init__(self, answers: dict[str, RecordedAnswer], rows: int, task: Task | None = None) -> None:
        self.answers, self.rows = answers, rows
        self.codes: Mapping[str, str] = AliasedTask(task).codes if isinstance(task, ClassificationTask) else {}
        self.labels = {answer.label for answer in answers.values()}
        # What each content looks like in the views of a task, such as a pair in the other order.
        self._shown = dict(answers)
        if task is not None:
            for content, answer in answers.items():
                for presented, seen in _views(Content.read(content), answer, task):
                    self._shown.setdefault(presented, seen)
        self._stripped = {_stripped(content): answer for content, answer in reversed(self._shown.items())}
        self._longest_first = sorted(answers, key=len, reverse=True)

    @classmethod
    def load(
        cls,
        file: Path | str,
        *,
        text_column: str | None = None,
        label_column: str | None = None,
        confidence_column: str | None = None,
        rationale_column: str | None = None,
        task: Task | None = None,
        source: RecordColumns | None = None,
    ) -> Recording:
        """Read a CSV, JSON Lines or Parquet file.

        The content is made as the project's source makes it, where the file has its columns; else the text is looked
        for in a column named text, content or sentence. The label is looked for in the one column named label or
        ending in _label that is not people's (human_label, gold_label, true_label), confidence and rationale in the
        columns with the label's prefix, where there are some.

        Args:
            task: What the requests will ask; None where every answer is a label by its name.
            source: How the project that asks makes contents.

        Raises:
            SourceError: The file cannot be read, or a column is not there or not to be told.
            DeclarationError: The task's labels leave no codes.
        """
        frame = without_nul(_frame(Path(file)))
        labels = [c for c in frame.columns if c == "label" or c.endswith("_label")]
        labels = [c for c in labels if not c.startswith(_PEOPLE)]
        label_column = _column(frame, file, "label", label_column, labels)
        beside = {
            what: _beside(frame, file, what, named, label_column)
            for what, named in (("confidence", confidence_column), ("rationale", rationale_column))
        }
        columns = {
            "label": as_text(label_column, frame.schema[label_column]),
            "confidence": (pl.lit(None) if beside["confidence"] is None else pl.col(beside["confidence"])).cast(
                pl.Float64
            ),
            "rationale": pl.lit(None, pl.String)
            if beside["rationale"] is None
            else as_text(beside["rationale"], frame.schema[beside["rationale"]]),
        }
        content = _contents(frame, file, text_column, source)
        try:
            kept = frame.select(content, **columns).drop_nulls(["content", "label"])
        except pl.exceptions.PolarsError:
            raise SourceError(
                f"expected numbers from 0 to 1 in the column {beside['confidence']}",
                where=file,
                todo="Name another column with --confidence",
            ) from None
        answers: dict[str, RecordedAnswer] = {}
        for text, label, confidence, rationale in kept.iter_rows():
            if text not in answers:
                answers[text] = _answer(Content.read(text), label, confidence, rationale, task)
        return cls(answers, len(kept), task)

    def answer_to(self, message: str) -> RecordedAnswer | None:
        """The answer to the record in a message: to what it fences, else to the longest recorded text in it."""
        text = unfence(message)
        if text is not None:
            parts = unfence_parts(text)
            found = self._shown.get(text) or self._stripped.get(text.strip())
            return found or (self._stripped.get(_stripped(Content.of_parts(parts).stored)) if parts else None)
        contained = next((text for text in self._longest_first if text and text in message), None)
        return None if contained is None else self.answers[contained]


def _answer(
    content: Content, label: str, confidence: float | None, rationale: str | None, task: Task | None
) -> RecordedAnswer:
    """A recorded label as the task writes it. What is no label of the task is answered as it was."""
    fields: Found = {"label": label}
    if task is not None:
        try:
            label = task.canonical(label, content)
            fields = task.written(label, content)
        except Invalid:
            fields = _object(label) or fields
    return RecordedAnswer(label, confidence, fields, (rationale or "").strip() or None)


def _views(content: Content, answer: RecordedAnswer, task: Task) -> list[tuple[str, RecordedAnswer]]:
    """How each view shows a content, and what answers there as the recorded answer does here."""
    found = []
    for view in range(task.views):
        try:
            shown = task.present(content, view)
            if shown == content:
                continue
            # A view and back again: a label there is said of the content by `seen`, and so is its reverse.
            there = task.seen(Annotation("labelled", answer.label), view).label
            back = None if there is None else task.seen(Annotation("labelled", there), view).label
            if there is not None and back == answer.label:
                fields = task.written(there, shown)
                found.append((_key(shown), RecordedAnswer(there, answer.confidence, fields, answer.rationale)))
        except (Invalid, KeyError, ValueError):
            continue
    return found


def _key(content: Content) -> str:
    return content.text if len(content.parts) == 1 else content.stored


def _stripped(content: str) -> str:
    """A content without blanks around its texts: prompts and sources may take them off."""
    read = Content.read(content)
    return _key(read.with_texts({part.name: part.text.strip() for part in read.parts}))


def _object(text: str) -> Found | None:
    try:
        found: Any = json.loads(text)
    except (ValueError, RecursionError):
        return None
    return found if isinstance(found, dict) and found else None


def _contents(frame: pl.DataFrame, file: object, text_column: str | None, source: RecordColumns | None) -> pl.Series:
    """The content of every row, as it is stored; null where there is none."""
    templates = {name: Template.parse(text) for name, text in source.templates.items()} if source else {}
    needed = {column for template in templates.values() for column in template.columns}
    if text_column is None and templates and needed <= set(frame.columns):
        filled = frame.select(**{name: t.render(frame.schema).str.strip_chars() for name, t in templates.items()})
        if filled.columns == [SOLE]:
            return filled[SOLE].replace("", None).alias("content")
        stored = [_key(Content.of_parts(row)) if any(row.values()) else None for row in filled.iter_rows(named=True)]
        return pl.Series("content", stored, pl.String)
    guessed = [column for column in _TEXT_COLUMNS if column in frame.columns][:1]
    text_column = _column(frame, file, "text", text_column, guessed)
    return frame.select(as_text(text_column, frame.schema[text_column]).alias("content")).to_series()


def _frame(file: Path) -> pl.DataFrame:
    reader = _READERS.get(file.suffix.lower())
    if reader is None:
        raise SourceError(
            f"expected a file that ends in {', '.join(_READERS)}, found {file.suffix or 'no ending'}",
            where=file,
            todo="Convert it to one of these",
        )
    try:
        return reader(file)
    except (OSError, pl.exceptions.PolarsError) as error:
        reason = "no such file" if isinstance(error, FileNotFoundError) else str(error).splitlines()[0]
        raise SourceError(
            f"the recorded answers cannot be read: {reason}", where=file, todo="Check the path and the file"
        ) from None


def _column(frame: pl.DataFrame, file: object, what: str, named: str | None, candidates: Sequence[str]) -> str:
    """The named column, else the only candidate."""
    if named in frame.columns or (named is None and len(candidates) == 1):
        return named or candidates[0]
    found = f"found the columns {', '.join(frame.columns)}"
    expected = f"the column {named!r}" if named else f"one column with the {what}"
    raise SourceError(f"expected {expected}, {found}", where=file, todo=f"Name it with --{what}")


def _beside(frame: pl.DataFrame, file: object, what: str, named: str | None, label_column: str) -> str | None:
    """The named column, else the one with the label's prefix, if there is one."""
    guess = label_column.removesuffix("label") + what
    return _column(frame, file, what, named, [guess]) if named or guess in frame.columns else None
