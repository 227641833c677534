"""What every format of an export offers."""

from __future__ import annotations

import json
import re
from abc import ABC, abstractmethod
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from importlib import import_module
from pathlib import Path
from typing import Any, ClassVar

from annotation_pipelines.exports.rows import Row
from annotation_pipelines.project import Project
from annotation_pipelines.project.exports import Export

Entry = dict[str, Any]
"""One JSON object of a file."""


@dataclass(frozen=True)
class Column:
    """A column, or a key, of what is written: its name, its type in words, what it means."""

    name: str
    type: str
    meaning: str


class LeftOut(Exception):
    """A row has no place in a format; the message says why, the same words for every such row."""


class Format(ABC):
    """One format: what a row becomes in it, and how the entries of a split are written.

    Args:
        project: Whose annotations they are.
        export: What is declared.

    Attributes:
        notes: What is to be said of the whole on the card: words to counts.
    """

    ending: ClassVar[str] = "jsonl"
    loadable: ClassVar[bool] = True
    """Whether `datasets.load_dataset` opens the folder."""

    def __init__(self, project: Project, export: Export) -> None:
        self.project, self.export, self.task = project, export, project.task
        self.notes: Counter[str] = Counter()

    @property
    @abstractmethod
    def columns(self) -> list[Column]:
        """The columns of what is written."""

    @abstractmethod
    def entries(self, row: Row) -> list[Entry]:
        """What is written for a row, one entry at least.

        Raises:
            LeftOut: It has no place here.
        """

    def file(self, split: str) -> str:
        """The file of a split, below the export's folder."""
        return f"data/{split}.{self.ending}"

    def write(self, folder: Path, split: str, entries: Iterator[Entry]) -> None:
        """Write the entries of a split, one by one. Default: JSON Lines."""
        with (folder / self.file(split)).open("w", encoding="utf-8", newline="\n") as out:
            for entry in entries:
                out.write(json_line(entry) + "\n")

    def finish(self, folder: Path, splits: Mapping[str, int]) -> None:  # noqa: B027
        """Write what stands beside the splits, such as a configuration. Default: nothing."""

    def usage(self, splits: Iterable[str]) -> str:
        """How the files are read: code for the card, in Markdown."""
        return '```python\nfrom datasets import load_dataset\n\ndataset = load_dataset("path/to/this/folder")\n```'


_FORMATS = {
    "chat": "chat:Chat",
    "preference": "preference:Preference",
    "reward": "reward:Reward",
    "rationales": "rationales:Rationales",
    "conll": "conll:Conll",
    "spacy": "spacy:Spacy",
    "parquet": "parquet:Parquet",
    "label_studio": "label_studio:LabelStudio",
}


def make_format(project: Project, export: Export) -> Format:
    """The format that an export declares."""
    module, _, name = _FORMATS[export.format].partition(":")
    found: Format = getattr(import_module(f"annotation_pipelines.exports.{module}"), name)(project, export)
    return found


_ESCAPED = re.compile("[\x85\u2028\u2029\ud800-\udfff]")


def json_line(entry: object) -> str:
    """A JSON object on one line. Characters stay as they are, but those that some readers take for the end of a line,
    and halves of surrogate pairs, which UTF-8 does not have.
    """
    text = json.dumps(entry, ensure_ascii=False, allow_nan=False)
    return _ESCAPED.sub(lambda found: f"\\u{ord(found[0]):04x}", text)
