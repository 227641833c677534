"""Labels that form a tree: paths such as `billing/refund`, declared as they are or as nested mappings."""

from __future__ import annotations

import json
from collections.abc import Iterable, Iterator, Mapping

from annotation_pipelines.declaration_parts import text_only
from annotation_pipelines.tasks.json_answer import shown
from annotation_pipelines.tasks.metrics.hierarchy import SEPARATOR, ancestors
from annotation_pipelines.tasks.settings import LabelMatcher


def is_nested(labels: object) -> bool:
    """Whether a declaration gives labels as mappings within mappings."""
    return isinstance(labels, dict) and any(isinstance(below, dict | list) for below in labels.values())


def flattened(labels: Mapping[object, object]) -> dict[str, object]:
    """Path to description, out of nested mappings; a list stands for labels without descriptions.

    Raises:
        ValueError: A name is no text or is blank, a branch is empty, or two paths are the same. The message begins
            with `labels: `.
    """
    paths: dict[str, object] = {}
    for path, description in _leaves(labels, ()):
        if path in paths:
            raise ValueError(f"labels: two are called {path!r}")
        paths[path] = description
    return paths


def check_paths(labels: Iterable[str]) -> None:
    """Refuse labels that are no paths.

    Raises:
        ValueError: A step is blank or has blanks around it, or no label has a step below another.
    """
    steps = [label.split(SEPARATOR) for label in labels]
    for path in steps:
        if any(not step or step != step.strip() for step in path):
            raise ValueError(
                f"labels: expected a path such as a{SEPARATOR}b without blank steps, found {SEPARATOR.join(path)!r}"
            )
    if all(len(path) == 1 for path in steps):
        raise ValueError(f"hierarchy: expected labels that are paths such as a{SEPARATOR}b, found none")


class LabelTree:
    """A tree of labels: how it is shown, and which label a value means.

    Args:
        labels: Path to description. A branch may be a label of its own.
    """

    def __init__(self, labels: Mapping[str, str]) -> None:
        self._labels = dict(labels)
        self._paths = LabelMatcher(self._labels)
        nodes = dict.fromkeys(node for label in self._labels for node in ancestors(label))
        self._below: dict[str, list[str]] = {}
        self._called: dict[str, list[str]] = {}
        for node in nodes:
            branch, _, name = node.rpartition(SEPARATOR)
            self._below.setdefault(branch, []).append(node)
            self._called.setdefault(name, []).append(node)
        self._names = LabelMatcher(self._called)

    def listed(self, labels: Iterable[str] | None = None) -> list[str]:
        """The tree as lines of a prompt, the labels with their whole paths in quotes.

        Args:
            labels: Those to show, with the branches to them; default: all.
        """
        kept = set(self._labels if labels is None else labels)
        nodes = {node for label in kept for node in ancestors(label)}
        return list(self._lines("", kept, nodes))

    def _lines(self, branch: str, kept: set[str], nodes: set[str]) -> Iterator[str]:
        for node in self._below.get(branch, ()):
            if node not in nodes:
                continue
            blanks = "  " * node.count(SEPARATOR)
            if node in kept:
                words = " ".join(self._labels[node].split())
                quoted = json.dumps(node, ensure_ascii=False)
                yield f"{blanks}- {quoted}" if words in ("", node) else f"{blanks}- {quoted}: {words}"
            else:
                yield f"{blanks}- {' '.join(node.rpartition(SEPARATOR)[2].split())}:"
            yield from self._lines(node, kept, nodes)

    def match(self, value: object) -> str | None:
        """The label of a whole path, or of a name that occurs once in the tree; None where it cannot be told."""
        if isinstance(value, str):
            value = SEPARATOR.join(step.strip() for step in value.split(SEPARATOR))
        label = self._paths.match(value)
        if label is not None:
            return label
        nodes = self._meant(value)
        return nodes[0] if len(nodes) == 1 and nodes[0] in self._labels else None

    def problem(self, value: object) -> str:
        """Why `match` gives no label for a value, in words."""
        nodes = self._meant(value)
        if len(nodes) > 1:
            several = " or ".join(repr(node) for node in nodes[:4])
            return f"the label {shown(value)} may be {several}: expected the whole path"
        branch = nodes[0] if nodes else value
        if isinstance(branch, str) and branch in self._below and branch:
            return f"{shown(value)} is a branch, expected the whole path of a label below it"
        return f"the label {shown(value)} is not in the set"

    def _meant(self, value: object) -> list[str]:
        name = self._names.match(value)
        return [] if name is None else self._called[name]


def _leaves(labels: object, branch: tuple[str, ...]) -> Iterator[tuple[str, object]]:
    where = ": ".join(("labels", *branch))
    if isinstance(labels, list):
        labels = {name: name for name in labels}
    if not isinstance(labels, dict) or not labels:
        raise ValueError(f"{where}: expected labels with descriptions, or a list of labels, found {labels!r}")
    for name, below in labels.items():
        try:
            text_only(name)
        except ValueError as problem:
            raise ValueError(f"{where}: {problem}") from None
        if not isinstance(name, str) or not name.strip():
            raise ValueError(f"{where}: expected the name of a label, found {name!r}")
        if isinstance(below, dict | list):
            yield from _leaves(below, (*branch, name))
        else:
            path = SEPARATOR.join((*branch, name))
            yield path, path if below == name else below
