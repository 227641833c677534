"""Tasks for Label Studio: what people gave as annotations, what a model gave as predictions for people to correct.

https://labelstud.io/guide/task_format and, for predictions, https://labelstud.io/guide/predictions. A file is a JSON
list, as its import takes it; labeling_config.xml is the interface that the results fit. Offsets are code points, as
Label Studio counts them (HumanSignal/label-studio#1008).
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path
from typing import Any
from xml.sax.saxutils import quoteattr

from annotation_pipelines.exports.formats import Column, Entry, Format, json_line
from annotation_pipelines.exports.rows import Row
from annotation_pipelines.tasks.given_relations import GivenRelationsTask
from annotation_pipelines.tasks.preference import FIRST, TIE, PreferenceTask
from annotation_pipelines.tasks.rating import RatingTask
from annotation_pipelines.tasks.spans import labelled_spans

MENTION = "mention"
"""The label of a mention whose type is not annotated."""

_MOST_STARS = 10

Result = dict[str, Any]


class LabelStudio(Format):
    """[{"data": {...}, "predictions": [...] or "annotations": [...], "meta": {...}}]"""

    ending = "json"
    loadable = False

    @property
    def columns(self) -> list[Column]:
        """data, annotations, predictions, meta."""
        return [
            Column("data", "object", "the parts of the record, each a text; of given relations without the marks"),
            Column("annotations", "list", "what people gave: one annotation with its results"),
            Column("predictions", "list", "what the annotator gave, with its confidence as score"),
            Column("meta", "object", "record_id, origin and label, in its canonical form"),
        ]

    def entries(self, row: Row) -> list[Entry]:
        """One task a row."""
        results = self._results(row)
        entry: Entry = {"data": self._data(row)}
        if row.origin == "gold":
            entry["annotations"] = [{"result": results, "ground_truth": True}]
        else:
            prediction: Result = {"model_version": row.annotator or row.origin, "result": results}
            if row.confidence is not None:
                prediction["score"] = row.confidence
            entry["predictions"] = [prediction]
        entry["meta"] = {"record_id": row.record_id, "origin": row.origin, "label": row.label}
        return [entry]

    def write(self, folder: Path, split: str, entries: Iterator[Entry]) -> None:
        """A JSON list, one task a line."""
        with (folder / self.file(split)).open("w", encoding="utf-8", newline="\n") as out:
            before = "[\n"
            for entry in entries:
                out.write(before + json_line(entry))
                before = ",\n"
            out.write("\n]\n" if before == ",\n" else "[]\n")

    def finish(self, folder: Path, splits: Mapping[str, int]) -> None:
        """The labelling interface."""
        lines = [*self._controls(), *(f"  <Text name={_q(name)} value={_q(f'${name}')}/>" for name in self._names)]
        (folder / "labeling_config.xml").write_text("\n".join(["<View>", *lines, "</View>", ""]), encoding="utf-8")

    def usage(self, splits: Iterable[str]) -> str:
        """How the files are imported."""
        return (
            "Make a project in Label Studio, paste `labeling_config.xml` under *Settings, Labeling Interface, Code*, "
            "and import the files of `data/`."
        )

    @property
    def _names(self) -> list[str]:
        return list(self.project.declaration.source.templates)

    @property
    def _to(self) -> str:
        """The text that results are about: the part that the task names, else the first."""
        part = getattr(self.task, "part", None)
        return part if isinstance(part, str) else self._names[0]

    def _data(self, row: Row) -> dict[str, str]:
        texts = {part.name: part.text for part in row.content.parts}
        if isinstance(self.task, GivenRelationsTask):
            texts[self._to] = self.task.pair(row.content).text
        return texts

    def _results(self, row: Row) -> list[Result]:
        task, label = self.task, row.label
        if isinstance(task, PreferenceTask):
            return self._preferred(task, label)
        if isinstance(task, GivenRelationsTask):
            return self._pair(task, row)
        if task.kind == "entities":
            text = row.content[self._to]
            return [
                self._region(f"e{place}", span.start, span.end, span.of(text), span.type)
                for place, span in enumerate(labelled_spans(label))
            ]
        if task.kind == "relations":
            return self._relations(json.loads(label))
        if isinstance(task, RatingTask):
            control = self._rating_control(task)
            if control == "choices":
                return [self._result("label", "choices", {"choices": [label]})]
            number = task.position(label)
            whole = int(number) if number.is_integer() else number
            return [self._result("label", control, {control: whole})]
        named = task.named(label)
        if not named:
            return []
        if self._is_tree:
            return [self._result("label", "taxonomy", {"taxonomy": [name.split("/") for name in named]})]
        return [self._result("label", "choices", {"choices": named})]

    def _preferred(self, task: PreferenceTask, label: str) -> list[Result]:
        if task.criteria:
            answers = task.by_criterion(label)
            return [self._result(name, "choices", {"choices": [answers[name]]}) for name in task.criteria]
        if label == TIE:
            return [self._result("tie", "choices", {"choices": [TIE]})]
        value = {"selected": "left" if label == FIRST else "right"}
        # The control is of two texts, a result names one: label_studio_sdk refuses both, and the control itself.
        return [self._result("preference", "pairwise", value, to=task.first)]

    def _pair(self, task: GivenRelationsTask, row: Row) -> list[Result]:
        pair = task.pair(row.content)
        mentions = [
            self._region(name, *place, pair.text[slice(*place)], name)
            for name, place in (("e1", pair.e1), ("e2", pair.e2))
        ]
        label = row.label
        name, backwards = label, False
        for ending, turned in (("(e1,e2)", False), ("(e2,e1)", True)):
            if task.directed and label.endswith(ending):
                name, backwards = label.removesuffix(ending), turned
        if label == task.none:
            return mentions
        return [
            *mentions,
            self._relation(mentions[backwards]["id"], mentions[not backwards]["id"], name, task.directed),
        ]

    def _relations(self, relations: list[dict[str, Any]]) -> list[Result]:
        regions: dict[tuple[int, int, str], Result] = {}
        links = []
        for relation in relations:
            ends = []
            for role in ("head", "tail"):
                mention = relation[role]
                kind = mention.get("type", MENTION)
                key = (mention["start"], mention["end"], kind)
                region = regions.setdefault(key, self._region(f"m{len(regions)}", *key[:2], mention["text"], kind))
                ends.append(region["id"])
            directed: bool = self.task.directed  # type: ignore[attr-defined]
            links.append(self._relation(ends[0], ends[1], relation["type"], directed))
        return [*regions.values(), *links]

    def _result(self, name: str, kind: str, value: Any, *, to: str | None = None) -> Result:
        return {"id": name, "from_name": name, "to_name": to or self._to, "type": kind, "value": value}

    def _region(self, id: str, start: int, end: int, text: str, kind: str) -> Result:
        value = {"start": start, "end": end, "text": text, "labels": [kind]}
        return {**self._result("label", "labels", value), "id": id}

    def _relation(self, head: str, tail: str, name: str, directed: bool) -> Result:
        direction = "right" if directed else "bi"
        return {"type": "relation", "from_id": head, "to_id": tail, "direction": direction, "labels": [name]}

    @property
    def _is_tree(self) -> bool:
        classification = self.project.declaration.task.classification
        return classification is not None and classification.hierarchy

    def _rating_control(self, task: RatingTask) -> str:
        """choices where the scale has names, stars where it is 1 to a few, else a number."""
        if task.labels and not all(_is_number(name) for name in task.labels):
            return "choices"
        low, high = task.ends
        return "rating" if (low, task.step) == (1.0, 1.0) and high <= _MOST_STARS else "number"

    def _controls(self) -> list[str]:
        """The tags by which people give what the results say."""
        task, to = self.task, _q(self._to)
        if isinstance(task, PreferenceTask):
            pair = _q(f"{task.first},{task.second}")
            if task.criteria:
                return [line for name in task.criteria for line in _choices(name, to, task.labels, header=name)]
            tie = _choices("tie", to, [TIE]) if TIE in task.labels else []
            return [f'  <Pairwise name="preference" toName={pair}/>', *tie]
        if task.kind in ("entities", "relations"):
            return [*self._span_controls(to)]
        if isinstance(task, RatingTask):
            control = self._rating_control(task)
            low, high = task.ends
            if control == "rating":
                return [f'  <Rating name="label" toName={to} maxRating="{high:g}"/>']
            if control == "number":
                step = f' step="{task.step:g}"' if task.step else ""
                return [f'  <Number name="label" toName={to} min="{low:g}" max="{high:g}"{step}/>']
            return _choices("label", to, task.labels)
        if self._is_tree:
            return [f'  <Taxonomy name="label" toName={to}>', *_tree(task.labels), "  </Taxonomy>"]
        return _choices("label", to, task.labels, choice="multiple" if task.kind == "multilabel" else "single")

    def _span_controls(self, to: str) -> Iterator[str]:
        task = self.task
        kinds: Iterable[str] = task.labels
        if task.kind == "relations":
            given = isinstance(task, GivenRelationsTask)
            types = task.types if isinstance(task, GivenRelationsTask) else list(task.labels)
            kinds = ("e1", "e2") if given else (getattr(task, "entity_types", None) or (MENTION,))
            yield "  <Relations>"
            yield from (f"    <Relation value={_q(name)}/>" for name in types)
            yield "  </Relations>"
        yield f'  <Labels name="label" toName={to}>'
        yield from (f"    <Label value={_q(name)}/>" for name in kinds)
        yield "  </Labels>"


def _choices(
    name: str, to: str, labels: Iterable[str], *, choice: str = "single", header: str | None = None
) -> list[str]:
    head = [f"  <Header value={_q(header)}/>"] if header else []
    listed = [f"    <Choice value={_q(label)}/>" for label in labels]
    return [*head, f'  <Choices name={_q(name)} toName={to} choice="{choice}">', *listed, "  </Choices>"]


def _tree(labels: Iterable[str]) -> Iterator[str]:
    """Labels a/b/c as choices within choices, in the order of the declaration."""
    tree: dict[str, Any] = {}
    for label in labels:
        node = tree
        for step in label.split("/"):
            node = node.setdefault(step, {})

    def lines(node: dict[str, Any], depth: int) -> Iterator[str]:
        for name, below in node.items():
            if below:
                yield f"{'  ' * depth}<Choice value={_q(name)}>"
                yield from lines(below, depth + 1)
                yield f"{'  ' * depth}</Choice>"
            else:
                yield f"{'  ' * depth}<Choice value={_q(name)}/>"

    yield from lines(tree, 2)


def _is_number(name: str) -> bool:
    try:
        float(name)
    except ValueError:
        return False
    return True


def _q(value: str) -> str:
    return quoteattr(value)
