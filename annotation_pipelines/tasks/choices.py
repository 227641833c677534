"""The labels that are shown with one record, where there are too many to show all of them in every prompt."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Protocol, runtime_checkable

CHOICES = "Labels to choose from"
"""How the list of a record is headed; the instructions name it."""


@runtime_checkable
class ChoosesAmong(Protocol):
    """A task that can show its annotator some of its labels with each record, instead of all in the system prompt.

    Attributes:
        candidates: How many; None for all, in the system prompt.
    """

    candidates: int | None

    def choices(self, labels: Iterable[str]) -> str:
        """What stands before a record, with these labels and their descriptions."""


def choices(lines: Iterable[str]) -> str:
    """The list before a record; each line begins with `- `, as `settings.listed` gives them."""
    return "\n".join([f"{CHOICES}:", *lines])
