"""What may be generated from a seed: new tasks, evolved tasks, dialogues, texts with wished-for labels.

Sources: self-instruct (Wang et al. 2023, arXiv 2212.10560), Evol-Instruct (Xu et al. 2023, arXiv 2304.12244),
attribute-controlled texts (Yu et al. 2023, AttrPrompt, arXiv 2306.15895).
"""

from __future__ import annotations

import hashlib
import json
from abc import ABC, abstractmethod
from collections.abc import Mapping, Sequence
from typing import Any, ClassVar

from annotation_pipelines.content import Content, ContentPart
from annotation_pipelines.tasks.base import Invalid, canonical_json
from annotation_pipelines.tasks.json_answer import shown
from annotation_pipelines.tasks.settings import LabelMatcher, listed

Entry = dict[str, Any]
"""One thing that was generated: the fields of its mode; or only `problem`, where it does not have them."""

Wanted = dict[str, Any]
"""What a seed asks for beyond itself, such as a label; the same seed always asks for the same."""

PROBLEM = "problem"
WANTED = "wanted"
"""The name of the part of a shown record that says what the seed asks for."""

OPERATIONS: dict[str, str] = {
    "constraints": "add one more constraint or requirement",
    "deepen": "ask about the same matter in more depth and breadth",
    "concretize": "replace general concepts by more specific ones",
    "reasoning": "rewrite it so that solving it takes several steps of reasoning",
    "complicate_input": "add an input that is harder to read, such as a table, code or a longer text",
    "breadth": "write a wholly new task of the same domain, rarer than the given one, as long and as difficult",
}
"""The operations of Evol-Instruct: five in depth, and one in breadth."""


class Mode(ABC):
    """One way to generate."""

    name: ClassVar[str]
    noun: ClassVar[str]
    """What one entry is called in a prompt, in the plural."""
    tokens: int = 200
    """About how many tokens one entry takes."""

    @abstractmethod
    def words(self) -> list[str]:
        """What is asked, as lines of a prompt."""

    @abstractmethod
    def schema(self) -> dict[str, Any]:
        """The strict JSON schema of one entry."""

    @abstractmethod
    def entry(self, given: Mapping[str, Any], wanted: Wanted) -> Entry:
        """The entry that a JSON object gives, without blanks around its texts.

        Raises:
            Invalid: A field is missing or is of another type.
        """

    @abstractmethod
    def content(self, entry: Entry) -> Content:
        """An entry as the content of a record."""

    @abstractmethod
    def vital(self, entry: Entry) -> list[str]:
        """The texts of an entry that must not be empty."""

    def wanted(self, content: Content) -> Wanted:
        """What a seed asks for, chosen by a hash of it; empty where the seed says all."""
        return {}

    def checked(self, wanted: object) -> Wanted | None:
        """A wish as it was read from a shown record; None where it is none of this mode's."""
        return None

    def written(self, entry: Entry) -> Entry:
        """The fields of an entry that an answer has."""
        return {name: entry[name] for name in self.schema()["properties"]}


class SelfInstruct(Mode):
    """New tasks in the manner of the seed."""

    name, noun = "self_instruct", "tasks"

    def words(self) -> list[str]:
        """The rules of self-instruct's prompt, in our words."""
        return [
            "Each record is a task: an instruction, perhaps with an input, and its output. Write new tasks that the "
            "record inspires.",
            "- Let them differ from the record and from one another: other verbs, other matters, other forms.",
            "- An instruction is one or two sentences that a language model can follow with text alone.",
            "- The input is what the instruction is about; leave it empty where the instruction needs none.",
            "- The output is the right and complete answer to instruction and input.",
        ]

    def schema(self) -> dict[str, Any]:
        """instruction, input, output."""
        return _object(
            {
                "instruction": _text("what is to be done"),
                "input": _text("what it is to be done with; empty where the instruction needs none"),
                "output": _text("the answer"),
            }
        )

    def entry(self, given: Mapping[str, Any], wanted: Wanted) -> Entry:
        """instruction, input (empty where it is missing), output."""
        return {
            "instruction": clean(given, "instruction"),
            "input": clean({"input": "", **given}, "input"),
            "output": clean(given, "output"),
        }

    def content(self, entry: Entry) -> Content:
        """The three as parts."""
        return Content.of_parts({name: entry[name] for name in ("instruction", "input", "output")})

    def vital(self, entry: Entry) -> list[str]:
        """Instruction and output."""
        return [entry["instruction"], entry["output"]]


class Evolve(SelfInstruct):
    """The seed's task, made harder or other by one operation.

    Args:
        operations: Name to what is to be done.
        seed: Another one gives seeds other operations.
    """

    name = "evolve"

    def __init__(self, operations: Mapping[str, str], seed: int) -> None:
        self._operations, self._seed = dict(operations), seed

    def words(self) -> list[str]:
        """The rules of Evol-Instruct's prompts, in our words."""
        return [
            "Each record is a task: an instruction, perhaps with an input, and its output. Rewrite it into a new task "
            f"by the operation that its part <{WANTED}> names:",
            *(f"- {json.dumps(name, ensure_ascii=False)}: {what}" for name, what in self._operations.items()),
            "Rules:",
            "- The new task must be reasonable, must be understood without the old one, and must be one that a "
            "language model can do with text alone.",
            "- In depth, add some ten to twenty words, not more. Do not speak of the old task or of rewriting.",
            "- The output is the right and complete answer to the new instruction and input.",
        ]

    def wanted(self, content: Content) -> Wanted:
        """One operation."""
        return {"operation": drawn(list(self._operations), self._seed, "operation", content)}

    def checked(self, wanted: object) -> Wanted | None:
        """One of the operations."""
        if isinstance(wanted, dict) and wanted.keys() == {"operation"} and wanted["operation"] in [*self._operations]:
            return wanted
        return None

    def entry(self, given: Mapping[str, Any], wanted: Wanted) -> Entry:
        """instruction, input, output and the operation."""
        return {**super().entry(given, wanted), **wanted}


class Dialogues(Mode):
    """Dialogues about what the seed is about.

    Args:
        roles: Who speaks, each with a description.
        turns: The most turns of a dialogue.
    """

    name, noun = "dialogue", "dialogues"

    def __init__(self, roles: Mapping[str, str], turns: int) -> None:
        self._roles, self.turns = dict(roles), turns
        self.tokens = 50 * turns
        self._matcher = LabelMatcher(self._roles)

    @property
    def roles(self) -> list[str]:
        """Who speaks."""
        return list(self._roles)

    def words(self) -> list[str]:
        """Who speaks, and for how long."""
        return [
            f"Write new dialogues, each of 2 to {self.turns} turns, about the matter of the record. They differ from "
            "one another in what is asked, in tone and in how they end. These take part, and each of them speaks:",
            *listed(self._roles),
        ]

    def schema(self) -> dict[str, Any]:
        """turns, each with role and content."""
        turn = _object(
            {
                "role": {"type": "string", "enum": self.roles, "description": "who speaks"},
                "content": _text("what is said"),
            }
        )
        return _object({"turns": {"type": "array", "items": turn, "description": "the turns, in order"}})

    def entry(self, given: Mapping[str, Any], wanted: Wanted) -> Entry:
        """The turns."""
        turns = given.get("turns")
        if not isinstance(turns, list) or not turns:
            raise Invalid(f"turns: expected a list of turns, found {shown(turns)}")
        found = []
        for turn in turns:
            if not isinstance(turn, dict):
                raise Invalid(f"a turn: expected role and content, found {shown(turn)}")
            role = self._matcher.match(turn.get("role"))
            if role is None:
                found_role = shown(turn.get("role"), 40)
                raise Invalid(f"a turn's role: expected one of {', '.join(self._roles)}, found {found_role}")
            found.append({"role": role, "content": clean(turn, "content")})
        return {"turns": found}

    def content(self, entry: Entry) -> Content:
        """One text: a paragraph a turn, headed by its role."""
        return Content.of_text("\n\n".join(f"{turn['role']}: {turn['content']}" for turn in entry["turns"]))

    def vital(self, entry: Entry) -> list[str]:
        """What every turn says."""
        return [turn["content"] for turn in entry["turns"]]


class Texts(Mode):
    """Texts that would rightly get a given label, with given attributes.

    Args:
        labels: Label to description: all that a text may have.
        only: The labels that are asked for.
        attributes: Name to values.
        seed: Another one gives seeds other labels and attributes.
    """

    name, noun = "texts", "texts"

    def __init__(
        self, labels: Mapping[str, str], only: Sequence[str], attributes: Mapping[str, Sequence[str]], seed: int
    ) -> None:
        self.labels, self._seed = dict(labels), seed
        self._only, self._attributes = list(only), {name: list(values) for name, values in attributes.items()}

    def words(self) -> list[str]:
        """The labels, and how label and attributes are said."""
        return [
            "Write new texts of the same kind as the record. They differ from the record and from one another in "
            f"matter, wording and form. The part <{WANTED}> of the record says which label a reader must give each of "
            "them, and which attributes each has. The label's name need not occur in the text. The labels:",
            *listed(self.labels),
        ]

    def schema(self) -> dict[str, Any]:
        """text."""
        return _object({"text": _text("the text, without its label and attributes")})

    def wanted(self, content: Content) -> Wanted:
        """A label, and a value of each attribute, drawn one by one."""
        attributes = {
            name: drawn(values, self._seed, f"attribute {name}", content) for name, values in self._attributes.items()
        }
        return {"attributes": attributes, "label": drawn(self._only, self._seed, "label", content)}

    def checked(self, wanted: object) -> Wanted | None:
        """One of the labels, with a value of every attribute."""
        if not isinstance(wanted, dict) or wanted.keys() != {"attributes", "label"}:
            return None
        label, attributes = wanted["label"], wanted["attributes"]
        if not isinstance(label, str) or label not in self.labels or not isinstance(attributes, dict):
            return None
        if attributes.keys() != self._attributes.keys():
            return None
        return wanted if all(attributes[name] in values for name, values in self._attributes.items()) else None

    def entry(self, given: Mapping[str, Any], wanted: Wanted) -> Entry:
        """The text, with the label and the attributes that were asked for."""
        return {"text": clean(given, "text"), **wanted}

    def content(self, entry: Entry) -> Content:
        """The text."""
        return Content.of_text(entry["text"])

    def vital(self, entry: Entry) -> list[str]:
        """The text."""
        return [entry["text"]]


def drawn(options: Sequence[str], seed: int, what: str, content: Content) -> str:
    """One of several options, by a hash of the content: the same for the same content, uniform over contents."""
    key = f"{seed}\0{what}\0{content.stored}".encode("utf-8", "surrogatepass")
    return options[int.from_bytes(hashlib.blake2b(key, digest_size=8).digest()) % len(options)]


def clean(given: Mapping[str, Any], name: str) -> str:
    """A text field without blanks around it, in characters that can be stored.

    Raises:
        Invalid: It is missing, or no text.
    """
    if name not in given:
        raise Invalid(f"{name} is missing")
    text = given[name]
    if not isinstance(text, str):
        raise Invalid(f"{name}: expected text, found {shown(text, 40)}")
    try:
        text.encode()
    except UnicodeEncodeError:
        text = text.encode("utf-16", "surrogatepass").decode("utf-16", "replace")
    return text.replace("\r\n", "\n").replace("\0", "\ufffd").strip()


def with_wanted(content: Content, wanted: Wanted) -> Content:
    """A seed as it is shown: with what it asks for as its last part."""
    if not wanted:
        return content
    return Content((*content.parts, ContentPart(_free_name(content), canonical_json(wanted))))


def shown_wanted(content: Content, mode: Mode) -> Wanted | None:
    """What a shown seed asks for; None where it was not shown so."""
    last = content.parts[-1]
    if len(content.parts) < 2 or not last.name.startswith(WANTED):
        return None
    try:
        return mode.checked(json.loads(last.text))
    except (ValueError, TypeError, RecursionError):
        return None


def _free_name(content: Content) -> str:
    name, number = WANTED, 1
    while name in content.names:
        number += 1
        name = f"{WANTED}_{number}"
    return name


def _text(description: str) -> dict[str, Any]:
    return {"type": "string", "description": description}


def _object(properties: dict[str, Any]) -> dict[str, Any]:
    return {
        "type": "object",
        "properties": properties,
        "required": list(properties),
        "additionalProperties": False,
    }
