"""What rules find wrong with an entry by itself, beside its seed.

The rules follow the filters of self-instruct (Wang et al. 2023, section 3.2) and the elimination of Evol-Instruct (Xu
et al. 2023, section 3.3): refusals, words of the prompt in the answer, nothing new against the seed.
"""

from __future__ import annotations

import re
from dataclasses import dataclass

from annotation_pipelines.project.synthetic import Synthetic
from annotation_pipelines.quality.near_duplicates import normalised, similarity
from annotation_pipelines.synthetic.candidates import Candidate
from annotation_pipelines.tasks.generation import GenerationTask
from annotation_pipelines.tasks.generation_modes import PROBLEM, Dialogues, Evolve
from annotation_pipelines.tasks.json_answer import shown

RULES = (
    "schema",
    "empty",
    "turns",
    "too_short",
    "too_long",
    "refusal",
    "boilerplate",
    "placeholder",
    "echo",
    "forbidden",
)
"""The reasons that rules give, in the order in which they are looked for."""

_QUOTED = 40
"""A seed at least so long must not stand in an entry as a whole."""

_NOT = r"(?:can(?:not|['\u2019]t| not)|am (?:unable|not able) to|will not|won['\u2019]t)"
_REFUSAL = re.compile(
    "|".join(
        (
            r"\bas an? (?:ai|artificial intelligence|(?:large )?language model)\b",
            r"\bi(?: am|['\u2019]m) (?:just |only )?an? (?:ai|(?:large )?language model)\b",
            rf"\bi {_NOT} (?:assist|help)(?: you)? with (?:that|this|your|such)\b",
            rf"\bi {_NOT} (?:fulfill?|comply with|complete|answer) (?:that|this|your|the|such)"
            r"(?: an?| kind of)? (?:request|prompt|instruction|question|task)",
            rf"\bi {_NOT} (?:generate|write|produce|create|provide) (?:that|this|such|any (?:text|content|example))\b",
            r"\bi (?:do not|don['\u2019]t) have (?:personal (?:opinions|feelings|experiences)|access to real-?time)",
            r"\bmy (?:training data|knowledge cut-?off)\b",
        )
    ),
    re.IGNORECASE,
)
_BOILERPLATE = re.compile(
    "|".join(
        (
            r"###?\s*(?:rewritten|created|given|new) (?:prompt|instruction|task)",
            r"\b(?:rewritten|evolved) (?:prompt|instruction|task)\b",
            r"^\s*(?:sure|certainly|of course)[,!]? (?:here|i)\b",
            r"\bhere (?:is|are) (?:an?|the|your|some|\d+) (?:new|rewritten|generated|synthetic)\b",
            r"</?(?:record|wanted)(?:-\d+)?>",
        )
    ),
    re.IGNORECASE | re.MULTILINE,
)
_OLD_TASK = re.compile(r"\b(?:given|original|old) prompt\b", re.IGNORECASE)
_PLACEHOLDER = re.compile(
    "|".join(
        (
            r"\[\s*(?i:insert|your|add|enter|specify|fill in)\b[^\]\n]{0,40}\]",
            # All in capitals, as [NAME] or [EMAIL_1]; but not what tasks about language models are made of.
            r"\[(?!(?:MASK|BLANK|SEP|CLS|PAD|UNK)\b)[A-Z]{2,}(?:[ _][A-Z0-9]+)*\]",
            r"\[(?:[A-Z][a-z]+ )?(?:Name|Date|Address|Company|Product|Number)\]",
            r"<\s*(?i:insert|your|enter|specify)\b[^>\n]{0,40}>",
            r"\{\{[^{}\n]{0,60}\}\}",
            r"(?i:\blorem ipsum\b)",
            r"\bXXX+\b|\bxxxx+\b",
        )
    )
)


@dataclass(frozen=True)
class Fault:
    """Why a candidate is dropped: the reason by name, and in words."""

    reason: str
    problem: str


class Rules:
    """The rules of one project."""

    def __init__(self, task: GenerationTask, settings: Synthetic) -> None:
        self._task, self._threshold = task, settings.near_duplicate
        self._forbidden = [re.compile(pattern) for pattern in settings.forbid]

    def fault(self, candidate: Candidate) -> Fault | None:
        """The first rule that a candidate breaks, in the order of RULES; None where it breaks none."""
        entry = candidate.entry
        if candidate.content is None:
            return Fault("schema", str(entry[PROBLEM]))
        if any(not text.strip() for text in self._task.mode.vital(entry)):
            return Fault("empty", "a field is empty")
        return self._of_form(candidate) or self._of_words(candidate)

    def _of_form(self, candidate: Candidate) -> Fault | None:
        settings, mode = self._task.settings, self._task.mode
        if isinstance(mode, Dialogues):
            turns = candidate.entry["turns"]
            if not 2 <= len(turns) <= mode.turns:
                return Fault("turns", f"expected 2 to {mode.turns} turns, found {len(turns)}")
            if silent := [role for role in mode.roles if role not in {turn["role"] for turn in turns}]:
                return Fault("turns", f"{silent[0]} does not speak")
        length = sum(len(text) for text in _texts(candidate))
        if length < settings.min_characters:
            return Fault("too_short", f"expected {settings.min_characters} characters or more, found {length}")
        if length > settings.max_characters:
            return Fault("too_long", f"expected {settings.max_characters} characters at most, found {length}")
        return None

    def _of_words(self, candidate: Candidate) -> Fault | None:
        texts = _texts(candidate)
        if found := _first(texts, _REFUSAL):
            return Fault("refusal", f"the model speaks of itself or declines: {shown(found, 60)}")
        evolved = isinstance(self._task.mode, Evolve)
        if found := _first(texts, _BOILERPLATE) or (_first(texts, _OLD_TASK) if evolved else None):
            return Fault("boilerplate", f"words about the task instead of the text: {shown(found, 60)}")
        if found := _first(texts, _PLACEHOLDER):
            return Fault("placeholder", f"a placeholder is not filled in: {shown(found, 60)}")
        if problem := _echo(candidate, self._threshold):
            return Fault("echo", problem)
        for pattern in self._forbidden:
            if found := _first(texts, pattern):
                return Fault("forbidden", f"{pattern.pattern!r} matches {shown(found, 60)}")
        return None


def _texts(candidate: Candidate) -> list[str]:
    """The texts of a whole entry: what it says, without names of roles."""
    turns = candidate.entry.get("turns")
    if turns is not None:
        return [turn["content"] for turn in turns]
    assert candidate.content
    return [part.text for part in candidate.content.parts]


def _echo(candidate: Candidate, threshold: float) -> str | None:
    """How a candidate repeats its seed, in words."""
    main = normalised(candidate.main)
    whole = "\n".join(part.text for part in candidate.seed.parts)
    for text in (whole, *(part.text for part in candidate.seed.parts)):
        said = normalised(text)
        if not said:
            continue
        if said == main:
            return "it is the seed again"
        if len(said) >= _QUOTED and said in main:
            return "it holds the seed as a whole"
        if (same := similarity(said, main)) >= threshold:
            return f"it is nearly the seed (similarity {same:.2f})"
    return None


def _first(texts: list[str], pattern: re.Pattern[str]) -> str | None:
    """What a pattern finds first; an empty match is one, too."""
    for text in texts:
        if found := pattern.search(text):
            return found.group() or "nothing"
    return None
