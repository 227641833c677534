"""Where personal data stands in a text, and what becomes of findings that overlap."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import dataclass


@dataclass(frozen=True, slots=True, order=True)
class Finding:
    """One piece of personal data.

    Attributes:
        start: Where it begins: an index of code points into the text.
        end: Where it ends, exclusive.
        kind: What it is, such as email.
    """

    start: int
    end: int
    kind: str


Recognizer = Callable[[str], Iterable[Finding]]
"""Gives the personal data of one kind or several in a text; findings may overlap and come in any order."""


def united(findings: Iterable[Finding]) -> list[Finding]:
    """Findings in order, no two of which overlap.

    What overlaps becomes one finding over all of it, so that nothing of the shorter one is left standing. The longest
    gives the kind; of equally long ones the first given.
    """
    merged: list[Finding] = []
    longest = 0  # of the findings in the last one
    for finding in sorted(findings, key=lambda finding: finding.start):  # stable: the first given stays first
        length = finding.end - finding.start
        if not merged or finding.start >= merged[-1].end:
            merged.append(finding)
            longest = length
            continue
        last = merged[-1]
        kind = finding.kind if length > longest else last.kind
        merged[-1] = Finding(last.start, max(last.end, finding.end), kind)
        longest = max(longest, length)
    return merged
