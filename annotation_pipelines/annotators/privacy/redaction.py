"""Take personal data out of a text before it leaves this machine, and put it back into what comes from elsewhere.

Each value is replaced by a placeholder, such as [EMAIL_1]: the same value by the same one within a text. What was taken
out is kept with the redacted text in memory and nowhere else; redacting the same text again gives the same mapping.
"""

from __future__ import annotations

import re
from bisect import bisect_right
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path

from annotation_pipelines.annotators.privacy.findings import Finding, Recognizer, united
from annotation_pipelines.annotators.privacy.recognizers import RECOGNIZERS_VERSION, find
from annotation_pipelines.content import Content
from annotation_pipelines.project import Privacy, digest

__all__ = ["RECOGNIZERS_VERSION", "Redacted", "Redactor"]


@dataclass(frozen=True, slots=True)
class _Replacement:
    """Where a value stood in the original, and where its placeholder stands in the redacted text."""

    start: int
    end: int
    redacted_start: int
    redacted_end: int


@dataclass(frozen=True, slots=True)
class Redacted:
    """A text without personal data. Its repr does not show what was taken out.

    Attributes:
        text: What may leave the machine.
        mapping: From placeholder to the value that stood in its place. It stays here: do not log or store it.
    """

    text: str
    mapping: Mapping[str, str] = field(default_factory=dict, repr=False)
    _replacements: tuple[_Replacement, ...] = field(default=(), repr=False)

    def to_original(self, start: int, end: int) -> tuple[int, int]:
        """Where in the original a span of the redacted text stands; part of a placeholder means the whole value.

        Raises:
            ValueError: The span is not within the redacted text.
        """
        _check(start, end, len(self.text))
        return self._original(start, first=True), self._original(end, first=False)

    def to_redacted(self, start: int, end: int) -> tuple[int, int]:
        """Where in the redacted text a span of the original stands; part of a value means the whole placeholder.

        Raises:
            ValueError: The span is not within the original.
        """
        last = self._replacements[-1] if self._replacements else None
        length = len(self.text) + (last.end - last.redacted_end if last else 0)
        _check(start, end, length)
        return self._redacted(start, first=True), self._redacted(end, first=False)

    def restore(self, text: str) -> str:
        """A text that speaks of the placeholders, such as a model's rationale, with the values in their place.

        A placeholder without its brackets counts too; one that this text does not have stays as it is.
        """
        if not self.mapping:
            return text
        return _MENTION.sub(lambda match: self.mapping.get(f"[{match[1] or match[2]}]", match[0]), text)

    def take_out(self, text: str) -> str:
        """Another text about the same record, such as people's answer, with placeholders for the same values."""
        for placeholder, value in sorted(self.mapping.items(), key=lambda pair: -len(pair[1])):
            text = text.replace(value, placeholder)
        return text

    def _original(self, offset: int, *, first: bool) -> int:
        index = bisect_right(self._replacements, offset, key=lambda r: r.redacted_start) - 1
        if index < 0:
            return offset
        near = self._replacements[index]
        if near.redacted_start < offset < near.redacted_end:
            return near.start if first else near.end
        return near.start if offset == near.redacted_start else offset - near.redacted_end + near.end

    def _redacted(self, offset: int, *, first: bool) -> int:
        index = bisect_right(self._replacements, offset, key=lambda r: r.start) - 1
        if index < 0:
            return offset
        near = self._replacements[index]
        if near.start < offset < near.end:
            return near.redacted_start if first else near.redacted_end
        return near.redacted_start if offset == near.start else offset - near.end + near.redacted_end


_MENTION = re.compile(r"\[([A-Z][A-Z0-9_]*_[0-9]+)\]|(?<!\w)([A-Z][A-Z0-9_]*_[0-9]+)(?!\w)")


_BORDER = "\n\x1e\n"
"""Between the parts of a record: no recognizer reads across it."""


class Redactor:
    """Takes out of texts what a declaration says.

    Args:
        privacy: The declaration.
        project_folder: The folder of defs.yaml: recognizers, and a model given by path, lie there.
    """

    def __init__(self, privacy: Privacy, project_folder: Path) -> None:
        self._privacy, self._folder = privacy, project_folder

    @property
    def active(self) -> bool:
        """Whether anything is to be taken out."""
        return bool(self._privacy.redact or self._privacy.recognizers)

    @property
    def fingerprint(self) -> str:
        """Hash of the declaration, the recognizers' version, the project's own recognizers and the model.

        Labels made under another one are stale.

        Raises:
            DeclarationError: The file of a recognizer is not there.
        """
        from annotation_pipelines.annotators.privacy.callables import source_file
        from annotation_pipelines.annotators.privacy.persons import model_version

        files = [source_file(reference, self._folder) for reference in self._privacy.recognizers]
        model = self._privacy.spacy_model
        return digest(
            [
                RECOGNIZERS_VERSION,
                self._privacy,
                [file.read_bytes().hex() for file in files],
                model_version(model, self._folder) if model else "",
            ]
        )

    def redact(self, text: str) -> Redacted:
        """The text with placeholders for personal data.

        All occurrences of a value that was found once are replaced. What is found only after others were replaced is
        replaced too, so that redacting the redacted text changes nothing more, as far as the built-in recognizers go.

        Raises:
            MissingExtra: spaCy is needed and not installed.
            DeclarationError: The model, a region or one of the project's recognizers does not work.
        """
        findings = self._find(text, self._further)
        if not findings:
            return Redacted(text)
        while True:
            redacted = _replace(text, findings)
            left = [*self._find(redacted.text, ()), *_left_standing(redacted)]
            missed = [Finding(*redacted.to_original(found.start, found.end), found.kind) for found in left]
            covered = _characters(findings)
            findings = united([*findings, *missed])
            if _characters(findings) == covered:
                return redacted

    def redact_content(self, stored: str) -> tuple[str, Redacted]:
        """A content as it is stored, with placeholders in all its parts, and what was taken out of them.

        A value has the same placeholder in all parts. Raises as `redact` does.
        """
        content = Content.read(stored)
        if content.stored == content.text:
            redacted = self.redact(stored)
            return redacted.text, redacted
        redacted = self.redact(_BORDER.join(part.text for part in content.parts))
        texts = redacted.text.split(_BORDER)
        return content.with_texts(dict(zip(content.names, texts, strict=True))).stored, redacted

    def _find(self, text: str, further: Sequence[Recognizer]) -> list[Finding]:
        return find(text, self._privacy.redact, phone_regions=self._privacy.phone_regions, further=further)

    @cached_property
    def _further(self) -> tuple[Recognizer, ...]:
        from annotation_pipelines.annotators.privacy.callables import callable_recognizer
        from annotation_pipelines.annotators.privacy.persons import person_recognizer

        found = [callable_recognizer(reference, self._folder) for reference in self._privacy.recognizers]
        if "person" in self._privacy.redact and self._privacy.spacy_model:
            found.append(person_recognizer(self._privacy.spacy_model, self._folder))
        return tuple(found)


def _left_standing(redacted: Redacted) -> list[Finding]:
    """Where values that were replaced stand once more, as words of their own."""
    return [
        Finding(match.start(), match.end(), placeholder[1:].rpartition("_")[0].lower())
        for placeholder, value in redacted.mapping.items()
        if value in redacted.text
        for match in re.finditer(rf"(?<!\w){re.escape(value)}(?!\w)", redacted.text)
    ]


def _characters(findings: Iterable[Finding]) -> int:
    return sum(finding.end - finding.start for finding in findings)


def _replace(text: str, findings: Sequence[Finding]) -> Redacted:
    """The text with the places found replaced: numbered a kind, by first appearance, past what the text itself says."""
    placeholders: dict[tuple[str, str], str] = {}
    last: dict[str, int] = {}
    pieces: list[str] = []
    replacements: list[_Replacement] = []
    length = position = 0
    for finding in findings:
        value = text[finding.start : finding.end]
        name = finding.kind.upper()
        if (name, value) not in placeholders:
            last[name] = _next_free(name, last.get(name, 0), text)
            placeholders[name, value] = f"[{name}_{last[name]}]"
        placeholder = placeholders[name, value]
        length += finding.start - position
        replacements.append(_Replacement(finding.start, finding.end, length, length + len(placeholder)))
        pieces += (text[position : finding.start], placeholder)
        length += len(placeholder)
        position = finding.end
    pieces.append(text[position:])
    mapping = {placeholder: value for (_, value), placeholder in placeholders.items()}
    return Redacted("".join(pieces), mapping, tuple(replacements))


def _next_free(name: str, number: int, text: str) -> int:
    number += 1
    while f"{name}_{number}" in text:
        number += 1
    return number


def _check(start: int, end: int, length: int) -> None:
    if not 0 <= start <= end <= length:
        raise ValueError(f"expected a span within {length} characters, found {start} to {end}")
