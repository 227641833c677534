"""Classification: one label for each record, out of a closed set."""

from __future__ import annotations

import json
import unicodedata
from collections.abc import Mapping
from typing import Any

from annotation_pipelines.project import ABSTAIN, Classification
from annotation_pipelines.tasks.base import Annotation
from annotation_pipelines.tasks.json_answer import NoAnswer, find_object, number, shown

PARSER_VERSION = 1


class ClassificationTask:
    """Asks for one label, and reads it back.

    The answer is {"label": ..., "confidence": ...}, the confidence only where it is asked for. Its range is said in
    words, not as minimum and maximum: several servers refuse these keywords in a strict schema.
    """

    def __init__(self, declaration: Classification) -> None:
        self._labels = dict(declaration.labels)
        self._abstain = declaration.abstain
        self._answers = [*self._labels, *([ABSTAIN] if self._abstain else [])]
        self._normalised: dict[str, str | None] = {}
        for answer in self._answers:
            key = _normalise(answer)
            # Two labels that differ in case alone are told apart by an exact match only.
            self._normalised[key] = None if key in self._normalised else answer

    @property
    def labels(self) -> Mapping[str, str]:
        """Label to description, in the order of the declaration; without abstain."""
        return self._labels

    @property
    def parser_version(self) -> int:
        """Raised when `parse` reads an old reply differently."""
        return PARSER_VERSION

    def instructions(self) -> str:
        """What is asked, with every label and its description."""
        lines = ["Give the record exactly one of these labels:"]
        for name, description in self._labels.items():
            words = " ".join(description.split())
            quoted = json.dumps(name, ensure_ascii=False)
            lines.append(f"- {quoted}" if words in ("", name) else f"- {quoted}: {words}")
        if self._abstain:
            lines.append(f'If no label can be told from the record, answer "{ABSTAIN}" instead of guessing.')
        return "\n".join(lines)

    def schema(self, *, confidence: bool, rationale: bool = False) -> dict[str, Any]:
        """The strict JSON schema of an answer: every field required, no others allowed; a rationale comes first."""
        fields: dict[str, Any] = {}
        if rationale:
            fields["rationale"] = {
                "type": "string",
                "description": "the reasons that lead to the label, step by step, in a few sentences",
            }
        fields["label"] = {
            "type": "string",
            "enum": list(self._answers),
            "description": "one of the labels above, exactly as it is written there",
        }
        if confidence:
            fields["confidence"] = {
                "type": "number",
                "description": "the probability that the label is right, from 0 to 1",
            }
        return {
            "type": "object",
            "properties": fields,
            "required": list(fields),
            "additionalProperties": False,
        }

    def answer(self, label: str, *, confidence: bool) -> dict[str, Any]:
        """The answer that a demonstration with this label shows; people's labels are shown as certain.

        Raises:
            ValueError: The label is not in the set.
        """
        if label not in self._answers:
            raise ValueError(f"expected one of {', '.join(self._answers)}, found {label!r}")
        return {"label": label, **({"confidence": 1.0} if confidence else {})}

    def parse(self, reply: str) -> Annotation:
        """Read a raw reply; never raises.

        The label is matched exactly first, then without regard to case, blanks and Unicode form. A reply that is a
        label and nothing else is taken too. A confidence that is no number from 0 to 1 ("0.9" and "90%" are) is
        dropped, as are scores that are not a map from labels to numbers: the label was given all the same.
        """
        try:
            found = find_object(reply)
        except NoAnswer as problem:
            bare = self._match(reply.strip().strip("\"'`").strip())
            return self._annotation(bare, None, None) if bare else Annotation("invalid", problem=str(problem))
        if "label" not in found:
            return Annotation("invalid", problem=f"the answer has no label: {shown(found)}")
        label = self._match(found["label"])
        if label is None:
            return Annotation("invalid", problem=f"the label {shown(found['label'])} is not in the set")
        confidence = number(found.get("confidence"))
        if confidence is not None and not 0 <= confidence <= 1:
            confidence = None
        reasons = found.get("rationale")
        rationale = reasons.strip() or None if isinstance(reasons, str) else None
        return self._annotation(label, confidence, self._scores(found.get("scores")), rationale)

    def _annotation(
        self, label: str, confidence: float | None, scores: dict[str, float] | None, rationale: str | None = None
    ) -> Annotation:
        if self._abstain and label == ABSTAIN:
            return Annotation("abstained", None, confidence, scores, "the annotator abstained", rationale)
        return Annotation("labelled", label, confidence, scores, rationale=rationale)

    def _match(self, value: object) -> str | None:
        if isinstance(value, int) and not isinstance(value, bool):
            value = str(value)
        if not isinstance(value, str):
            return None
        return value if value in self._answers else self._normalised.get(_normalise(value))

    def _scores(self, value: object) -> dict[str, float] | None:
        if not isinstance(value, dict) or not value:
            return None
        scores: dict[str, float] = {}
        for name, score in value.items():
            label, figure = self._match(name), number(score)
            if label is None or figure is None or label in scores:
                return None
            scores[label] = figure
        return scores


def _normalise(text: str) -> str:
    return " ".join(unicodedata.normalize("NFKC", text).casefold().split())
