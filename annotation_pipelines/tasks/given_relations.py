"""The relation of two mentions that the text marks: one label of a closed set, such as Cause-Effect(e1,e2) or Other."""

from __future__ import annotations

import re
import unicodedata
from collections.abc import Mapping, Sequence

from annotation_pipelines.content import Content
from annotation_pipelines.tasks.base import Found, Invalid
from annotation_pipelines.tasks.classification import Classification, ClassificationTask
from annotation_pipelines.tasks.json_answer import shown
from annotation_pipelines.tasks.marked_pair import MENTIONS, MarkedPair, text_of
from annotation_pipelines.tasks.metrics.bootstrap import Metric
from annotation_pipelines.tasks.metrics.relations import measure_given
from annotation_pipelines.tasks.settings import LabelMatcher, listed

_DIRECTIONS = (("e1", "e2"), ("e2", "e1"))
_DIRECTED = re.compile(r"(?P<type>[^\n]*?)[(\[](?P<head>[^()\[\]]+)(?:,|;|->|→)(?P<tail>[^()\[\]]+)[)\]]")
_NO_WORD = re.compile(r"[\W_]+")
_LONGEST = 300


class GivenRelationsTask(ClassificationTask):
    """Asks for the relation of a marked pair, and reads it back: {"label": "Cause-Effect(e1,e2)", "confidence": ...}.

    Type and direction are one label of one closed set. As two fields they could contradict each other (a direction
    without a relation, a relation without one), and "head" or "e1->e2" would have to be told for every type; so each
    of the two directions has a line of the prompt that says in words what e1 and e2 are.

    Args:
        types: Type to description; {head} and {tail} in it stand for e1 and e2.
        none: The label of a pair that stands in none of these relations; None where every pair stands in one.
        none_description: Its description; '' for the usual one.
        directed: Whether a label says which mention is the head.
        part: The part of the record that holds the marks; None for all of it.

    Attributes:
        type_of: Label to its type; None for the null class.
    """

    kind = "relations"
    students = ("linear", "fine_tuned")
    parser_version = 1
    headline = "micro_f1"
    reads_content = True
    noun = "relation"

    def __init__(
        self, *, types: Mapping[str, str], none: str | None, none_description: str, directed: bool, part: str | None
    ) -> None:
        self.types, self.none, self.directed, self.part = list(types), none, directed, part
        self.type_of: dict[str, str | None] = {}
        described: dict[str, str] = {}
        for name, text in types.items():
            for head, tail in _DIRECTIONS if directed else (("one mention", "the other"),):
                label = f"{name}({head},{tail})" if directed else name
                described[label] = _worded(text, name, head, tail, directed=directed)
                self.type_of[label] = name
        if none is not None:
            plain = none_description.strip() in ("", none)
            described[none] = "none of the relations above holds between e1 and e2" if plain else none_description
            self.type_of[none] = None
        super().__init__(Classification(labels=described))
        self._names = LabelMatcher([*self.types, *([] if none is None else [none])])
        self._loose = {loose(name): name for name in self._names.labels}

    def instructions(self) -> str:
        """What is asked, with every label and its description."""
        where = f"The part {self.part!r} of the record" if self.part is not None else "The record"
        lines = [
            f"{where} marks two mentions: e1 between <e1> and </e1>, e2 between <e2> and </e2>. Say which relation it "
            "states between these two. Give exactly one of these labels:",
            *listed(self.labels),
        ]
        if self.directed:
            lines.append(
                "(e1,e2) and (e2,e1) say which mention has which role, as described above; not which one comes first."
            )
        return "\n".join(lines)

    def value(self, found: Found, content: Content) -> str:
        """The label: as it is written, else told from its type and direction, however they are spelled.

        The direction may name the mentions by their words, as in Cause-Effect(storm,damage), or stand in a field of
        its own, beside the type.
        """
        pair = self.pair(content)
        if "label" in found:
            return self._told(found["label"], pair)
        if "type" not in found:
            raise Invalid(f"the answer has no label: {shown(found)}")
        type_, direction = found["type"], found.get("direction")
        if not isinstance(type_, str) or not isinstance(direction, str | None):
            raise Invalid(f"the type {shown(type_)} with the direction {shown(direction)} is not in the set")
        direction = (direction or "").strip("()[] ")
        return self._told(f"{type_}({direction})" if direction.casefold() not in ("", "none") else type_, pair)

    def bare(self, reply: str, content: Content) -> Found | None:
        """A reply that is a label and nothing else is taken too."""
        text = reply.strip().strip("\"'`").strip()
        try:
            return {"label": self._told(text, self.pair(content))}
        except Invalid:
            return None

    def canonical(self, given: str, content: Content) -> str:
        """The label that people gave, its blanks, case and punctuation aside."""
        return self._told(given, self.pair(content))

    def measure(self, gold: Sequence[str], given: Sequence[str | None], *, seed: int = 0) -> list[Metric]:
        """micro F1, official macro F1, accuracy, and F1 of each type: the null class is no relation."""
        return measure_given(gold, given, self.type_of, seed=seed)

    def check(self, parts: Sequence[str]) -> None:
        """The part that holds the marks must be one of the record's."""
        if self.part is not None and self.part not in parts:
            raise Invalid(f"expected part to be one of {', '.join(parts)}, found {self.part!r}")

    def pair(self, content: Content) -> MarkedPair:
        """The pair that a content marks.

        Raises:
            Invalid: It marks none, or not as it should.
        """
        return MarkedPair.read(text_of(content, self.part))

    def _told(self, given: object, pair: MarkedPair) -> str:
        label = self._matcher.match(given)
        if label is not None:
            return label
        if not isinstance(given, str) or len(given) > _LONGEST:
            raise Invalid(f"the label {shown(given)} is not in the set")
        split = _DIRECTED.fullmatch(given.strip()) if self.directed else None
        name = self._type(split["type"] if split else given)
        if name is None:
            raise Invalid(f"the label {shown(given)} is not in the set")
        if not self.directed or name == self.none:
            return name
        both = f"{name}(e1,e2) or {name}(e2,e1)"
        if split is None:
            raise Invalid(f"the label {shown(given)} says no direction: expected {both}")
        head, tail = _mention(split["head"], pair), _mention(split["tail"], pair)
        if head is None or tail is None or head == tail:
            raise Invalid(f"the direction of {shown(given)} cannot be told: expected {both}")
        return f"{name}({head},{tail})"

    def _type(self, text: str) -> str | None:
        return self._names.match(text) or self._loose.get(loose(text))


def has_direction(label: str) -> bool:
    """Whether a label ends in a direction, as in Cause-Effect(e1,e2)."""
    return _DIRECTED.fullmatch(label) is not None


def loose(text: str) -> str:
    """Letters and digits alone, without case: Cause-Effect, cause_effect and "Cause Effect" are one."""
    return _NO_WORD.sub("", unicodedata.normalize("NFKC", text).casefold()) or text


def _mention(said: str, pair: MarkedPair) -> str | None:
    """Which mention is meant, by its name or by its words; None where that cannot be told."""
    word = _folded(said)
    if word in MENTIONS:
        return word
    meant = [name for name, words in zip(MENTIONS, pair.mentions, strict=True) if _folded(words) == word]
    return meant[0] if len(meant) == 1 else None


def _worded(description: str, name: str, head: str, tail: str, *, directed: bool) -> str:
    """The description of a label, said of its two mentions."""
    if "{head}" in description or "{tail}" in description:
        return description.replace("{head}", head).replace("{tail}", tail)
    words = _NO_WORD.sub(" ", name).strip() or name if description.strip() in ("", name) else description.rstrip(". ")
    return f"{words}; {head} has the first role, {tail} the second" if directed else words


def _folded(text: str) -> str:
    return " ".join(unicodedata.normalize("NFKC", text).casefold().split())
