"""Relations whose mentions are found by the annotator: type, head and tail, each with its place in the text."""

from __future__ import annotations

import json
from collections import defaultdict
from collections.abc import Mapping, Sequence
from statistics import fmean
from typing import Any

from annotation_pipelines.content import Content
from annotation_pipelines.tasks import spans
from annotation_pipelines.tasks.base import Annotation, Found, Invalid, Task, Vote, canonical_json
from annotation_pipelines.tasks.consensus import weighted_vote
from annotation_pipelines.tasks.json_answer import number, shown
from annotation_pipelines.tasks.marked_pair import text_of
from annotation_pipelines.tasks.metrics.bootstrap import Metric
from annotation_pipelines.tasks.metrics.relations import measure_found
from annotation_pipelines.tasks.settings import LabelMatcher, listed
from annotation_pipelines.tasks.spans import Mention, Span

ROLES = ("head", "tail")
_LEAST = 1e-9

Placed = dict[str, Any]
"""A relation in canonical form: type, head and tail; a mention has start, end, text, and type where they are typed."""


class FoundRelationsTask(Task):
    """Asks for every relation that a text states, and reads them back:

        {"relations": [{"type": ..., "head": ..., "head_occurrence": 1, "tail": ..., "tail_occurrence": 1}]}

    A canonical label is a JSON list of relations with offsets, sorted by the places of head and tail; each stands in it
    once. Undirected relations have the mention that comes first as their head.

    Args:
        types: Type to description.
        none: What some annotators answer for no relation: such an entry is left out.
        directed: Whether head and tail differ in role.
        entity_types: Types of the mentions; None where they have none.
        part: The part of the record that holds the text; None for the only one.
    """

    kind = "relations"
    parser_version = 1
    headline = "micro_f1"
    embedded = True
    reads_content = True
    # Some three relations of forty tokens each.
    answer_tokens = 120

    def __init__(
        self,
        *,
        types: Mapping[str, str],
        none: str | None,
        directed: bool,
        entity_types: Mapping[str, str] | None,
        part: str | None,
    ) -> None:
        self._types, self.none, self.directed, self.part = dict(types), none, directed, part
        self.entity_types = dict(entity_types) if entity_types is not None else None
        self._matcher = LabelMatcher([*self._types, *([] if none is None else [none])])
        self._entities = LabelMatcher(self.entity_types or ())

    @property
    def labels(self) -> Mapping[str, str]:
        """Relation type to description, in the order of the declaration."""
        return self._types

    def instructions(self) -> str:
        """What is asked, with every type and its description."""
        where = f"the part {self.part!r} of the record" if self.part is not None else "the record"
        roles = ("the head", "the tail") if self.directed else ("one mention", "the other")
        types = {
            name: text.replace("{head}", roles[0]).replace("{tail}", roles[1]) for name, text in self._types.items()
        }
        lines = [
            f"Find every relation of these types that {where} states between two mentions in it:",
            *listed(types),
        ]
        if self.directed:
            lines.append("A relation leads from its head to its tail, whichever of them comes first in the text.")
        else:
            lines.append("The relations have no direction: give each once.")
        if self.entity_types is not None:
            lines += ["Each mention has one of these types:", *listed(self.entity_types)]
        lines.append(f"For each mention: {spans.COUNTING[0].lower()}{spans.COUNTING[1:]}")
        lines.append("If no relation is stated, answer with an empty list.")
        return "\n".join(lines)

    def fields(self) -> dict[str, Any]:
        """The relations."""
        properties: dict[str, Any] = {
            "type": {"type": "string", "enum": list(self._types), "description": "the type, as it is written above"}
        }
        for role in ROLES:
            properties[role] = {"type": "string", "description": f"the text of the {role}, copied from the record"}
            properties[f"{role}_occurrence"] = {
                "type": "integer",
                "description": "which of its occurrences, from 1",
            }
            if self.entity_types is not None:
                properties[f"{role}_type"] = {
                    "type": "string",
                    "enum": list(self.entity_types),
                    "description": f"the type of the {role}",
                }
        one = {
            "type": "object",
            "properties": properties,
            "required": list(properties),
            "additionalProperties": False,
        }
        return {"relations": {"type": "array", "items": one, "description": "every relation; an empty list for none"}}

    def value(self, found: Found, content: Content) -> str:
        """The relations with their offsets; one that is not to be placed makes the whole answer invalid."""
        if "relations" not in found:
            raise Invalid(f"the answer has no relations: {shown(found)}")
        given = found["relations"]
        if not isinstance(given, list):
            raise Invalid(f"expected a list of relations, found {shown(given)}")
        return self._read(given, content, offsets=False)

    def canonical(self, given: str, content: Content) -> str:
        """The relations of a JSON list, or of an object as in an answer.

        Mentions stand in it with offsets ({"start": 0, "end": 4}, and a text, if any, that stands there), or as in an
        answer.
        """
        try:
            found = json.loads(given)
        except (ValueError, RecursionError):
            raise Invalid(f"expected a JSON list of relations, found {shown(given)}") from None
        if isinstance(found, dict) and set(found) == {"relations"}:
            found = found["relations"]
        if not isinstance(found, list):
            raise Invalid(f"expected a JSON list of relations, found {shown(given)}")
        return self._read(found, content, offsets=True)

    def written(self, label: str, content: Content) -> Found:
        """The relations as in an answer: surfaces and occurrences in the place of offsets."""
        text = self.text(content)
        if self.canonical(label, content) != label:
            raise Invalid(f"expected relations in canonical form, found {shown(label)}")
        answer = []
        places: dict[str, tuple[Span, ...]] = {}
        for relation in json.loads(label):
            entry = {"type": relation["type"]}
            for role in ROLES:
                mention = relation[role]
                surface = entry[role] = mention["text"]
                if surface not in places:
                    places[surface] = spans.places(text, surface)
                entry[f"{role}_occurrence"] = places[surface].index(Span(mention["start"], mention["end"])) + 1
                if self.entity_types is not None:
                    entry[f"{role}_type"] = mention["type"]
            answer.append(entry)
        return {"relations": answer}

    def measure(self, gold: Sequence[str], given: Sequence[str | None], *, seed: int = 0) -> list[Metric]:
        """Strict micro and macro F1, F1 where mentions overlap, exact records, and strict F1 of each type."""
        readable = [label if label is not None and self.relations(label) is not None else None for label in given]
        return measure_found(gold, readable, list(self._types), seed=seed)

    def named(self, label: str) -> list[str]:
        """The types, once for every relation."""
        return [relation["type"] for relation in self.relations(label) or ()]

    def shown(self, label: str) -> str:
        """The relations in words: Cause-Effect: storm -> damage; ..."""
        arrow = "->" if self.directed else "-"
        relations = self.relations(label)
        if relations is None:
            return label
        return "; ".join(f"{r['type']}: {r['head']['text']} {arrow} {r['tail']['text']}" for r in relations) or "(none)"

    def combine(self, votes: Sequence[Vote]) -> Annotation:
        """Every relation with at least half of the weight behind it, type and both mentions exactly.

        Returns:
            As confidence the mean, over the relations that anyone gave, of the share that agrees with what was decided
            about it; the first rationale for just these relations, or the first at all.
        """
        given = [vote for vote in votes if vote.annotation.label is not None]
        if not given:
            return weighted_vote(votes)
        total = sum(vote.weight for vote in votes)
        # Mentions agree by their places: their types are voted on apart.
        weight: defaultdict[str, float] = defaultdict(float)
        forms: defaultdict[str, defaultdict[str, float]] = defaultdict(lambda: defaultdict(float))
        for vote in given:
            for relation in self.relations(vote.annotation.label or "") or ():
                key = canonical_json([relation["type"], *(_place(relation[role]) for role in ROLES)])
                forms[key][canonical_json(relation)] += vote.weight
                weight[key] += vote.weight
        shares = {key: weight[key] / total for key in weight}
        kept = [key for key, share in shares.items() if share >= 0.5 - _LEAST]
        label = _sorted([json.loads(max(forms[key], key=lambda form: forms[key][form])) for key in kept])
        agreeing = [share if key in kept else 1 - share for key, share in shares.items()]
        reasons = sorted(
            ((vote.annotation.label != label, vote.annotation.rationale) for vote in given), key=lambda pair: pair[0]
        )
        return Annotation(
            "labelled",
            label,
            min(fmean(agreeing), 1.0) if agreeing else sum(vote.weight for vote in given) / total,
            rationale=next((text for _, text in reasons if text), None),
        )

    def relations(self, label: str) -> list[Placed] | None:
        """The relations of a canonical label; None for any other text, such as a label of an earlier declaration."""
        try:
            relations = json.loads(label)
            for relation in relations:
                if relation["type"] not in self._types or not all(
                    isinstance(relation[role][key], kind)
                    for role in ROLES
                    for key, kind in (("start", int), ("end", int), ("text", str))
                ):
                    return None
        except (ValueError, TypeError, KeyError, RecursionError):
            return None
        return relations if isinstance(relations, list) else None

    def check(self, parts: Sequence[str]) -> None:
        """Offsets go by one part of the record: the only one, or the one that is named."""
        if self.part is not None and self.part not in parts:
            raise Invalid(f"expected part to be one of {', '.join(parts)}, found {self.part!r}")
        if self.part is None and len(parts) > 1:
            raise Invalid(f"expected part to name the one that holds the text, out of {', '.join(parts)}, found none")

    def text(self, content: Content) -> str:
        """The text that offsets go by.

        Raises:
            Invalid: The content has no such part, or several where none is named.
        """
        if self.part is None and len(content.parts) > 1:
            raise Invalid("the record has several parts: expected one that holds the text, named with `part`")
        return text_of(content, self.part)

    def _read(self, given: list[Any], content: Content, *, offsets: bool) -> str:
        text = self.text(content)
        types: list[str] = []
        sought: list[Mention | Span] = []
        kinds: list[str | None] = []
        for index, entry in enumerate(given, 1):
            name = f"relation {index}"
            if not isinstance(entry, dict):
                raise Invalid(f"{name}: expected type, head and tail, found {shown(entry)}")
            if missing := [key for key in ("type", *ROLES) if key not in entry]:
                raise Invalid(f"{name} has no {' and no '.join(missing)}")
            type_ = self._matcher.match(entry["type"])
            if type_ is None:
                raise Invalid(f"{name}: the type {shown(entry['type'])} is not in the set")
            if type_ == self.none:
                continue
            types.append(type_)
            for role in ROLES:
                which = f"the {role} of {name}"
                sought.append(_sought(entry, role, which, text, offsets=offsets))
                kinds.append(self._kind(entry, role, which))
        # All at once: a surface that stands in many relations is looked for once.
        found = iter(spans.find_mentions(text, [mention for mention in sought if isinstance(mention, Mention)]))
        mentions: list[Placed] = []
        for place, kind in zip(sought, kinds, strict=True):
            span = next(found) if isinstance(place, Mention) else place
            mention: Placed = {"start": span.start, "end": span.end, "text": span.of(text)}
            mentions.append(mention if kind is None else {**mention, "type": kind})
        relations: list[Placed] = []
        for type_, head, tail in zip(types, mentions[::2], mentions[1::2], strict=True):
            if _place(head) == _place(tail):
                raise Invalid(f"{type_} leads from {shown(head['text'], 60)} to itself: expected two mentions")
            if not self.directed and _place(tail) < _place(head):
                head, tail = tail, head
            relations.append({"type": type_, "head": head, "tail": tail})
        return _sorted(relations)

    def _kind(self, entry: dict[str, Any], role: str, which: str) -> str | None:
        """The type of a mention; None where mentions have none."""
        if self.entity_types is None:
            return None
        said = _said("type", entry, role)
        kind = self._entities.match(said)
        if kind is None:
            raise Invalid(f"{which}: the type {shown(said)} is not in the set")
        return kind


def _said(key: str, entry: dict[str, Any], role: str) -> object:
    """What a relation says of a mention, within it or beside it."""
    inner = entry[role]
    return inner[key] if isinstance(inner, dict) and key in inner else entry.get(f"{role}_{key}")


def _sought(entry: dict[str, Any], role: str, which: str, text: str, *, offsets: bool) -> Mention | Span:
    """Where a mention stands, by its offsets, or what is to be looked for; its first occurrence where none is said.

    Raises:
        Invalid: It says neither.
    """
    given = entry[role]
    if offsets and isinstance(given, dict) and "start" in given:
        return _span(given, which, text)
    surface = given.get("text") if isinstance(given, dict) else given
    if not isinstance(surface, str):
        raise Invalid(f"{which}: expected its text, found {shown(given)}")
    occurrence = _said("occurrence", entry, role)
    figure = 1.0 if occurrence is None else number(occurrence)
    if figure is None or not figure.is_integer():
        raise Invalid(f"{which}: expected the number of an occurrence, found {shown(occurrence)}")
    return Mention(surface, int(figure), which)


def _span(given: dict[str, Any], which: str, text: str) -> Span:
    """Where offsets say that a mention stands.

    Raises:
        Invalid: They are no offsets, or another text stands there.
    """
    start, end = given["start"], given.get("end")
    if type(start) is not int or type(end) is not int:
        raise Invalid(f"{which}: expected start and end in code points, found {shown(start)} and {shown(end)}")
    span = Span(start, end)
    try:
        spans.check(text, span)
    except Invalid as problem:
        raise Invalid(f"{which}: {problem}") from None
    if "text" in given and given["text"] != span.of(text):
        raise Invalid(f"{which}: expected its text {shown(given['text'])} at {start} to {end}, found another there")
    return span


def _place(mention: Placed) -> tuple[int, int]:
    return mention["start"], mention["end"]


def _sorted(relations: Sequence[Placed]) -> str:
    """The canonical list: each relation once, in the order of heads, then tails, then types.

    Raises:
        Invalid: The same relation stands there with other types of its mentions.
    """
    kept: dict[tuple[Any, ...], Placed] = {}
    for relation in relations:
        key = (*_place(relation["head"]), *_place(relation["tail"]), relation["type"])
        if kept.setdefault(key, relation) != relation:
            raise Invalid("a relation is listed twice, with different types of its mentions")
    return canonical_json([kept[key] for key in sorted(kept)])
