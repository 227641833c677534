"""Generation: new records out of seeds. What is generated is a proposal: `synthetic` checks it before it is used."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from typing import Annotated, Any

from pydantic import BeforeValidator, Field, model_validator

from annotation_pipelines.content import Content
from annotation_pipelines.declaration_parts import NonEmpty, Part, Text, text_only
from annotation_pipelines.tasks.base import Annotation, Found, Invalid, Task, Vote, canonical_json
from annotation_pipelines.tasks.generation_modes import (
    OPERATIONS,
    PROBLEM,
    Dialogues,
    Entry,
    Evolve,
    Mode,
    SelfInstruct,
    Texts,
    Wanted,
    shown_wanted,
    with_wanted,
)
from annotation_pipelines.tasks.json_answer import NoAnswer, find_object, shown
from annotation_pipelines.tasks.metrics.bootstrap import Metric
from annotation_pipelines.tasks.settings import Labels, TaskSettings, names_and_descriptions

GENERATED = "generated"
_RUNAWAY = 4
"""An answer with more than so many times what was asked for is refused: it repeats itself."""


def _operations(given: object) -> object:
    """Operation to words, out of a list of known ones or of such pairs."""
    if isinstance(given, list):
        named = names_and_descriptions(given)
        if isinstance(named, dict) and (unknown := [name for name in named if name not in OPERATIONS]):
            raise ValueError(
                f"expected operations out of {', '.join(OPERATIONS)}, found {', '.join(map(str, unknown))}: describe "
                "others, as in {translate: rewrite it for another language}"
            )
        return {name: OPERATIONS[name] for name in named} if isinstance(named, dict) else named
    return None if given is None else names_and_descriptions(given)


def _values(attributes: object) -> object:
    if isinstance(attributes, dict):
        for name, values in attributes.items():
            text_only(name)
            if not isinstance(values, list) or not values:
                raise ValueError(f"attribute {name!r}: expected a list of values, found {values!r}")
            for value in values:
                text_only(value)
            if len(set(map(str, values))) != len(values):
                raise ValueError(f"attribute {name!r}: a value is listed twice")
    return attributes


class SelfInstructSettings(Part):
    """New tasks in the manner of each seed task, as in self-instruct (Wang et al. 2023)."""


class EvolveSettings(Part):
    """Each seed task made harder or other by one operation, as in Evol-Instruct (Xu et al. 2023)."""

    operations: Annotated[
        dict[Text, NonEmpty] | None,
        BeforeValidator(_operations, json_schema_input_type=dict[str, str] | list[str] | None),
    ] = Field(
        default=None,
        min_length=1,
        description="Operation to what is to be done, or a list of known ones: constraints, deepen, concretize, "
        "reasoning, complicate_input, breadth. Default: these six. A hash of the record chooses its operation.",
    )


class DialogueSettings(Part):
    """Dialogues about what each seed is about."""

    roles: Labels = Field(description="Who takes part: role to description, or a list of roles.")
    turns: int = Field(default=6, ge=2, le=100, description="The most turns of a dialogue; two at least.")


class TextsSettings(Part):
    """Texts that a reader would give a wished-for label, for labels that are rare (Yu et al. 2023, AttrPrompt)."""

    labels: Labels = Field(description="All labels that a text may have: label to description, or a list.")
    only: list[NonEmpty] | None = Field(
        default=None, min_length=1, description="The labels that are asked for: the rare ones. Default: all."
    )
    attributes: Annotated[dict[Text, list[Text]], BeforeValidator(_values)] = Field(
        default_factory=dict,
        description="Attribute to its values, such as {length: [one sentence, a paragraph], tone: [calm, angry]}. A "
        "hash of the record chooses its label and a value of each.",
    )

    @model_validator(mode="after")
    def _known(self) -> TextsSettings:
        if unknown := [label for label in self.only or [] if label not in self.labels]:
            raise ValueError(f"only: expected labels out of {', '.join(self.labels)}, found {', '.join(unknown)}")
        return self


class Generation(TaskSettings):
    """New records out of seeds: exactly one of self_instruct, evolve, dialogue, texts.

    What is generated is checked before it is used (see `synthetic`), and marked as synthetic for ever.
    """

    self_instruct: SelfInstructSettings | None = None
    evolve: EvolveSettings | None = None
    dialogue: DialogueSettings | None = None
    texts: TextsSettings | None = None
    per_record: int = Field(default=1, ge=1, le=50, description="How many are asked for with each seed.")
    about: Text = Field(default="", description="The domain, and what else the generated ones have in common.")
    min_characters: int = Field(default=1, ge=1, description="Shorter ones are dropped; all fields count together.")
    max_characters: int = Field(default=8_000, ge=1, description="Longer ones are dropped.")
    seed: int = Field(default=0, description="Another seed gives records other operations, labels and attributes.")

    @model_validator(mode="after")
    def _one_mode(self) -> Generation:
        found = [mode for mode in MODES if getattr(self, mode) is not None]
        if len(found) != 1:
            raise ValueError(f"expected exactly one of {', '.join(MODES)}, found {' and '.join(found) or 'none'}")
        if self.max_characters < self.min_characters:
            raise ValueError(
                f"max_characters ({self.max_characters}) must not be below min_characters ({self.min_characters})"
            )
        return self

    @property
    def mode(self) -> str:
        """Which mode is declared."""
        return next(mode for mode in MODES if getattr(self, mode) is not None)

    def make(self) -> GenerationTask:
        """The task."""
        return GenerationTask(self)


MODES = ("self_instruct", "evolve", "dialogue", "texts")


class GenerationTask(Task):
    """Asks for new records, and reads them back: {"generated": [{...}, ...]}.

    An entry that lacks a field stands in the value as {"problem": ...}, so that what is dropped later can be counted.
    An answer without a single whole entry is invalid, and is asked again. More entries than were asked for are kept:
    they are paid for, and each is checked by itself.
    """

    kind = "generation"
    parser_version = 1
    headline = "validity"
    embedded = False
    reads_content = True
    quotes = False  # what is personal in a seed has no place in what is written after it

    def __init__(self, settings: Generation) -> None:
        self.settings = settings
        self.mode: Mode = _mode(settings)
        self.answer_tokens = settings.per_record * min(self.mode.tokens, settings.max_characters // 2)

    @property
    def labels(self) -> Mapping[str, str]:
        """The labels that texts are generated for; none in other modes."""
        return self.mode.labels if isinstance(self.mode, Texts) else {}

    def instructions(self) -> str:
        """What is asked, how many, of what length."""
        settings = self.settings
        lines = self.mode.words()
        lines.append(f"Write exactly {settings.per_record}." if settings.per_record > 1 else "Write exactly one.")
        if settings.min_characters > 1:
            lines.append(f"Each has at least {settings.min_characters} characters, all its fields together.")
        lines.append(f"Each has at most {settings.max_characters} characters, all its fields together.")
        lines.append(
            "Leave no placeholders such as [NAME] to be filled in, and do not speak of yourself as a language model."
        )
        if settings.about.strip():
            lines.append(f"What they are about: {' '.join(settings.about.split())}")
        return "\n".join(lines)

    def fields(self) -> dict[str, Any]:
        """The list of what was generated."""
        return {
            GENERATED: {
                "type": "array",
                "items": self.mode.schema(),
                "description": f"the new {self.mode.noun}, {self.settings.per_record} of them",
            }
        }

    def schema(self, *, confidence: bool, rationale: bool = False) -> dict[str, Any]:
        """The strict JSON schema of an answer; nobody can be asked how likely it is that a new text is right."""
        return super().schema(confidence=False, rationale=rationale)

    def answer(self, label: str, content: Content, *, confidence: bool) -> Found:
        """The answer that a demonstration shows, without confidence."""
        return self.written(label, content)

    def present(self, content: Content, view: int) -> Content:
        """The seed with what it asks for, such as a label, as its last part."""
        return with_wanted(content, self.mode.wanted(content))

    def wanted(self, content: Content) -> Wanted:
        """What a seed asks for beyond itself, whether it is given as it stands or as it is shown."""
        there = shown_wanted(content, self.mode)
        return self.mode.wanted(content) if there is None else there

    def value(self, found: Found, content: Content) -> str:
        """The entries, in order; those that lack a field with what is wrong with them.

        Raises:
            Invalid: None is whole, or there are far more than were asked for.
        """
        given = found.get(GENERATED, [found] if found.keys() >= set(self.mode.schema()["required"]) else None)
        if not isinstance(given, list):
            raise Invalid(f"{GENERATED}: expected a list of {self.mode.noun}, found {shown(given)}")
        asked = self.settings.per_record
        if len(given) > _RUNAWAY * asked:
            raise Invalid(f"{GENERATED}: expected {asked} {self.mode.noun}, found {len(given)}")
        wanted = self.wanted(content)
        entries = [self._entry(each, wanted) for each in given]
        if not any(PROBLEM not in entry for entry in entries):
            problem = f": {entries[0][PROBLEM]}" if entries else ""
            raise Invalid(f"{GENERATED}: expected {asked} {self.mode.noun}, found none that is whole{problem}")
        return canonical_json({GENERATED: entries})

    def bare(self, reply: str, content: Content) -> Found | None:
        """A bare list of entries is taken too."""
        text = reply.strip()
        if not (text.startswith("[") and text.endswith("]")):
            return None
        try:
            return find_object(f'{{"{GENERATED}":{text}}}')
        except NoAnswer:
            return None

    def canonical(self, given: str, content: Content) -> str:
        """What people wrote: {"generated": [...]}, a list of entries, or one entry.

        Raises:
            Invalid: It is no JSON, or an entry lacks a field.
        """
        text = given.strip()
        try:
            found = find_object(f'{{"{GENERATED}":{text}}}' if text.startswith("[") else text)
        except NoAnswer as problem:
            raise Invalid(str(problem)) from None
        listed = found.get(GENERATED, [found])
        if not isinstance(listed, list) or not listed:
            raise Invalid(f"{GENERATED}: expected a list of {self.mode.noun}, found {shown(listed)}")
        return canonical_json({GENERATED: [self._stored(entry, content) for entry in listed]})

    def written(self, label: str, content: Content) -> Found:
        """The entries with the fields that an answer has.

        Raises:
            Invalid: It is no such label, or an entry in it is not whole.
        """
        entries = self.entries(self.canonical(label, content))
        if problem := next((entry[PROBLEM] for entry in entries if PROBLEM in entry), None):
            raise Invalid(f"an entry is not whole: {problem}")
        return {GENERATED: [self.mode.written(entry) for entry in entries]}

    def measure(self, gold: Sequence[str], given: Sequence[str | None], *, seed: int = 0) -> list[Metric]:
        """Nothing: there is no gold to hold new records against. The checks of `synthetic` measure them."""
        return []

    def named(self, label: str) -> list[str]:
        """The wished-for label, once for every text."""
        if not isinstance(self.mode, Texts):
            return []
        return [entry["label"] for entry in self.entries(label) if PROBLEM not in entry]

    def shown(self, label: str) -> str:
        """The entries as texts, one below the other."""
        return "\n\n".join(
            f"({entry[PROBLEM]})" if PROBLEM in entry else self.mode.content(entry).text
            for entry in self.entries(label)
        )

    def combine(self, votes: Sequence[Vote]) -> Annotation:
        """All that was generated, equal entries once, in the order of the votes; one vote at least."""
        given = [vote.annotation for vote in votes if vote.annotation.label is not None]
        if not given:
            return votes[0].annotation
        entries: list[Entry] = []
        seen: set[str] = set()
        for entry in (entry for annotation in given for entry in self.entries(annotation.label or "")):
            written = canonical_json(entry)
            if PROBLEM in entry or written not in seen:
                entries.append(entry)
            seen.add(written)
        rationale = next((annotation.rationale for annotation in given if annotation.rationale), None)
        return Annotation("labelled", canonical_json({GENERATED: entries}), rationale=rationale)

    def entries(self, label: str) -> list[Entry]:
        """The entries of a canonical label."""
        entries: list[Entry] = json.loads(label)[GENERATED]
        return entries

    def _entry(self, given: object, wanted: Wanted) -> Entry:
        if not isinstance(given, dict):
            return {PROBLEM: f"expected an object, found {_printable(given)}"}
        try:
            return self.mode.entry(given, wanted)
        except Invalid as problem:
            return {PROBLEM: str(problem)}

    def _stored(self, given: object, content: Content) -> Entry:
        """An entry of a label: as people write it, or as it is stored, with its wish or its problem."""
        if not isinstance(given, dict):
            raise Invalid(f"expected an object, found {_printable(given)}")
        if given.keys() == {PROBLEM} and isinstance(given[PROBLEM], str):
            return given
        drawn = self.wanted(content)
        own = {name: given[name] for name in drawn if name in given}
        wanted = self.mode.checked(own) if own else drawn
        if wanted is None:
            raise Invalid(f"expected a label or operation that is declared, with every attribute, found {shown(own)}")
        return self.mode.entry(given, wanted)


def _mode(settings: Generation) -> Mode:
    if settings.texts:
        texts = settings.texts
        return Texts(texts.labels, texts.only or list(texts.labels), texts.attributes, settings.seed)
    if settings.dialogue:
        return Dialogues(settings.dialogue.roles, settings.dialogue.turns)
    if settings.evolve:
        return Evolve(settings.evolve.operations or OPERATIONS, settings.seed)
    return SelfInstruct()


def _printable(value: object) -> str:
    return shown(value, 40)
