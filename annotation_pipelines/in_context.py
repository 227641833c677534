"""Demonstrations as an in-context library: the annotator's own prompt about any text.

    from annotation_pipelines.in_context import Library
    from annotation_pipelines.workspace import Workspace

    library = Library.open(Workspace.find(), "my_project")
    library.nearest("a new text", 3)        # the three gold records that are most like it, the nearest first
    library.messages("a new text")          # what the annotator would be sent about it, as chat messages

The messages are the very ones that the annotator would get: the system prompt, the demonstrations chosen for the text,
and the text, fenced, with personal data taken out where the declaration says so. Nothing is sent and no text is stored.
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from functools import cached_property

import polars as pl

from annotation_pipelines.annotators.factory import load_demonstrations, make_panel, system_template
from annotation_pipelines.annotators.prompts import Message, Prompts
from annotation_pipelines.content import SOLE, Content
from annotation_pipelines.errors import DeclarationError
from annotation_pipelines.project import Injection, Project
from annotation_pipelines.sources.records import content_hashes
from annotation_pipelines.store.database import Store
from annotation_pipelines.workspace import Workspace

_NEW = "\0a text that is no record"


@dataclass(frozen=True)
class Demonstration:
    """A record that people labelled.

    Attributes:
        content: Its parts.
        label: The label, in its canonical form.
    """

    record_id: str
    content: Content
    label: str


class Library:
    """The demonstrations of a project, and its annotator's prompt.

    Args:
        store: Where the project's human_labels are; they are read once.
        annotator: Whose prompt, by name; default: the first declared one behind an endpoint. A project that has only
            the embedded annotator, which reads no prompt, gives the prompt of one behind an endpoint.

    Raises:
        DeclarationError: There is no such annotator.
    """

    def __init__(self, project: Project, store: Store, *, annotator: str | None = None) -> None:
        self.project, self.store = project, store
        remote = [declared.called for declared in project.declaration.annotators if declared.openai]
        if annotator is not None and annotator not in remote:
            there = ", ".join(remote) or "there is none"
            raise DeclarationError(
                f"expected an annotator behind an endpoint ({there}), found {annotator!r}",
                where=project.name,
            )
        self._annotator = annotator or next(iter(remote), None)

    @classmethod
    def open(cls, workspace: Workspace, name: str, *, annotator: str | None = None) -> Library:
        """The library of a project in a workspace.

        Raises:
            WorkspaceError: There is no such project.
            DeclarationError: Its declaration is wrong, or has no such annotator.
        """
        project = workspace.project(name)
        return cls(project, Store(workspace.home(project)), annotator=annotator)

    def nearest(self, text: str | Mapping[str, str], k: int | None = None) -> list[Demonstration]:
        """The demonstrations that are most like a text, the nearest first; itself never among them.

        Args:
            text: A text, or the texts of the record's parts by name.
            k: How many; default: as many as go into a prompt.

        Raises:
            DeclarationError: The parts are not the declared ones, or the encoder cannot be loaded.
            StoreError: The store cannot be read.
        """
        from annotation_pipelines.distillation.embedding import Embedder
        from annotation_pipelines.selection.demonstrations import nearest_to_records

        pool = self._demonstrations
        if pool.is_empty():
            return []
        embedder = Embedder.for_project(self.project, self.store)
        rows = nearest_to_records(embedder, self._record(text), pool, self._per_prompt if k is None else k)[0]
        return self._found(rows)

    def messages(self, text: str | Mapping[str, str], k: int | None = None) -> list[Message]:
        """What the annotator is sent about a text: {"role", "content"} messages, demonstrations included.

        Args:
            text: A text, or the texts of the record's parts by name.
            k: How many demonstrations; default: as declared.

        Raises:
            DeclarationError: The parts are not the declared ones, or the prompt or the encoder cannot be loaded.
            AnnotatorError: A demonstration has a label that is not the task's.
            StoreError: The store cannot be read.
        """
        record = self._record(text)
        if self._annotator is None:
            return self._plain(record, k)
        panel = make_panel(self._with(k), self.store)
        member = next(member for member in panel.members if member.name == self._annotator)
        asked = member.requests(record)[0].body.messages
        messages: list[Message] = json.loads(b"[" + asked + b"]")
        return messages

    def _plain(self, record: pl.DataFrame, k: int | None) -> list[Message]:
        """The prompt of an annotator behind an endpoint that is asked for the answer alone."""
        prompts = Prompts(
            self.project.task,
            self.project.guideline,
            template=system_template(self.project),
            confidence=False,
            rationale=False,
            injection=Injection(),
        )
        content = record["content"].item()
        shown = self._declared(record, k)
        return [
            prompts.system,
            *(message for one in shown[::-1] for message in prompts.demonstration(one.content.stored, one.label)),
            prompts.record(content, list(self.project.task.labels)),
        ]

    def _declared(self, record: pl.DataFrame, k: int | None) -> list[Demonstration]:
        """The demonstrations that the declaration chooses for a record, the one next to it first."""
        from annotation_pipelines.distillation.embedding import Embedder
        from annotation_pipelines.selection.demonstrations import chooser

        settings, pool = self._with(k).declaration.demonstrations, self._demonstrations
        if settings is None or pool.is_empty():
            return []
        choose = chooser(settings, self.project.task, Embedder.for_project(self.project, self.store), pool)
        return [] if choose is None else self._found(choose(record)[0])

    def _found(self, rows: Iterable[int]) -> list[Demonstration]:
        """The demonstrations in these rows, the last one first."""
        return [
            Demonstration(found["record_id"], Content.read(found["content"]), found["label"])
            for found in (self._demonstrations.row(int(row), named=True) for row in rows if row >= 0)
        ][::-1]

    def _with(self, k: int | None) -> Project:
        """The project with another number of demonstrations in a prompt."""
        declaration = self.project.declaration
        if k is None or declaration.demonstrations is None:
            return self.project
        settings = declaration.demonstrations.model_copy(update={"per_prompt": k})
        changed = declaration.model_copy(update={"demonstrations": settings})
        return Project(self.project.name, self.project.folder, changed)

    @property
    def _per_prompt(self) -> int:
        settings = self.project.declaration.demonstrations
        return settings.per_prompt if settings else 0

    @cached_property
    def _demonstrations(self) -> pl.DataFrame:
        return load_demonstrations(self.store)

    def _record(self, text: str | Mapping[str, str]) -> pl.DataFrame:
        """A text as a record of its own: record_id, content_hash, content."""
        names = list(self.project.declaration.source.templates)
        given = {SOLE: text} if isinstance(text, str) and names == [SOLE] else text
        if not isinstance(given, Mapping) or set(given) != set(names):
            found = "one text" if isinstance(given, str) else ", ".join(given)
            raise DeclarationError(
                f"expected a text for each part of a record ({', '.join(names)}), found {found or 'nothing'}",
                where=self.project.name,
            )
        content = Content.of_parts({name: given[name].strip() for name in names})
        contents = pl.Series("content", [content.stored], dtype=pl.String)
        return pl.DataFrame({"record_id": [_NEW], "content_hash": content_hashes(contents), "content": contents})
