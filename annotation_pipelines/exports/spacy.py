"""Spans and categories as spaCy 3 learns from them.

JSON Lines that any reader opens, each a text with the annotations that `spacy.training.Example.from_dict` takes; and
where spaCy is installed the same as .spacy files (DocBin), which `spacy train` takes.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from importlib.util import find_spec
from pathlib import Path
from typing import Any

from annotation_pipelines.errors import DeclarationError
from annotation_pipelines.exports.conll import tokens_of
from annotation_pipelines.exports.formats import Column, Entry, Format
from annotation_pipelines.exports.rows import Row
from annotation_pipelines.tasks.spans import TypedSpan, labelled_spans

SPANS_KEY = "sc"
"""The group of spans that spaCy's span categorizer reads by default."""

OVERLAPPING = "entities that overlap a longer one: they are in spans, not in entities"
UNALIGNED = "entities left out of the .spacy files: they begin or end within a token"

ANY = "xx"
"""What spaCy calls a language that it knows nothing of."""


class Spacy(Format):
    """{"text": ..., "entities": [[start, end, type]], "spans": {"sc": [...]}}, or {"text": ..., "cats": {...}}"""

    loadable = False

    def __init__(self, *args: Any) -> None:
        super().__init__(*args)
        self._nlp = _blank(self.export.language or ANY) if find_spec("spacy") else None

    @property
    def columns(self) -> list[Column]:
        """text, and entities and spans, or cats."""
        text = Column("text", "string", "the text")
        if self.task.kind != "entities":
            return [text, Column("cats", "object", "label to 1.0 where the text has it, 0.0 where it has not")]
        triples = "list of [start, end, type]"
        where = "offsets in code points, the end exclusive"
        return [
            text,
            Column("entities", triples, f"entities that do not overlap, for ner: of several the longest; {where}"),
            Column("spans", f"{{{SPANS_KEY}: {triples}}}", "all entities, for spancat"),
        ]

    def entries(self, row: Row) -> list[Entry]:
        """One text a row."""
        if self.task.kind != "entities":
            named = set(self.task.named(row.label))
            return [{"text": row.text, "cats": {label: float(label in named) for label in self.task.labels}}]
        spans = labelled_spans(row.label)
        apart = without_overlaps(spans)
        self.notes[OVERLAPPING] += len(spans) - len(apart)
        return [
            {
                "text": self.task.text(row.content),  # type: ignore[attr-defined]
                "entities": [[span.start, span.end, span.type] for span in apart],
                "spans": {SPANS_KEY: [[span.start, span.end, span.type] for span in spans]},
            }
        ]

    def write(self, folder: Path, split: str, entries: Iterator[Entry]) -> None:
        """JSON Lines, and a DocBin where spaCy is installed."""
        if self._nlp is None:
            super().write(folder, split, entries)
            return
        from spacy.tokens import DocBin

        docs = DocBin()

        def kept() -> Iterator[Entry]:
            for entry in entries:
                docs.add(self._doc(entry))
                yield entry

        super().write(folder, split, kept())
        docs.to_disk(folder / f"data/{split}.spacy")

    def finish(self, folder: Path, splits: Mapping[str, int]) -> None:
        """Say so where there are no .spacy files."""
        if self._nlp is None:
            self.notes["splits without a .spacy file: spaCy was not installed"] = len(splits)

    def usage(self, splits: Iterable[str]) -> str:
        """How the lines become examples."""
        keys = "cats" if self.task.kind != "entities" else "entities"
        return (
            "```python\nimport json\nimport spacy\nfrom spacy.training import Example\n\n"
            f'nlp = spacy.blank("{self.export.language or ANY}")\n'
            'with open("data/train.jsonl", encoding="utf-8") as lines:\n'
            "    rows = [json.loads(line) for line in lines]\n"
            f'examples = [Example.from_dict(nlp.make_doc(row["text"]), {{"{keys}": row["{keys}"]}}) for row in rows]\n'
            "```"
        )

    def _doc(self, entry: Entry) -> Any:
        doc = self._cut(entry["text"])
        if "cats" in entry:
            doc.cats = entry["cats"]
            return doc
        entities = [doc.char_span(*triple) for triple in entry["entities"]]
        spans = [doc.char_span(*triple) for triple in entry["spans"][SPANS_KEY]]
        self.notes[UNALIGNED] += sum(span is None for span in spans)
        doc.ents = [span for span in entities if span is not None]
        doc.spans[SPANS_KEY] = [span for span in spans if span is not None]
        return doc

    def _cut(self, text: str) -> Any:
        """A text in tokens: those of the declared language, else words."""
        if self.export.language:
            return self._nlp.make_doc(text)  # type: ignore[union-attr]
        from spacy.tokens import Doc
        from spacy.util import get_words_and_spaces

        words, spaces = get_words_and_spaces([token.of(text) for token in tokens_of(text, "words")], text)
        return Doc(self._nlp.vocab, words=words, spaces=spaces)  # type: ignore[union-attr]


def without_overlaps(spans: Iterable[TypedSpan]) -> list[TypedSpan]:
    """Of spans that overlap the longest, then the first; in the order of the text."""
    kept: list[TypedSpan] = []
    for span in sorted(spans, key=lambda span: (span.start - span.end, span)):
        if not any(span.overlaps(other) for other in kept):
            kept.append(span)
    return sorted(kept)


def _blank(language: str) -> Any:
    import spacy

    try:
        return spacy.blank(language)
    except Exception as error:  # spaCy names a missing language, or a package that its tokenizer needs
        raise DeclarationError(
            f"spaCy has no tokenizer for {language!r} here ({str(error).splitlines()[0][:200]})",
            where="exports: spacy: language",
            todo="Name another language, or install what its tokenizer needs",
        ) from None
