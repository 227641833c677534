"""The card of an export: README.md, as Hugging Face reads it and as people do.

https://huggingface.co/docs/hub/datasets-cards
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence

import polars as pl
import yaml

from annotation_pipelines.exports.formats import Format
from annotation_pipelines.project import Project, digest
from annotation_pipelines.project.exports import SPLITS, Export
from annotation_pipelines.quality.near_duplicates import SHINGLE, THRESHOLD, normalised

_MOST_LABELS, _LONGEST_LABEL, _LONGEST_TASK = 50, 60, 4_000
_SIZES = ((1_000, "n<1K"), (10_000, "1K<n<10K"), (100_000, "10K<n<100K"), (1_000_000, "100K<n<1M"))


def dirt(placed: pl.DataFrame, index: pl.DataFrame) -> dict[str, int]:
    """What is dirty in what was written: words to how many records."""
    rows = index.select("record_id", "group", "label").join(placed.select("record_id", "text"), on="record_id")
    same = pl.Series("same", [normalised(text) for text in rows["text"]], dtype=pl.String)
    rows = rows.with_columns(same)
    repeated = rows.filter(pl.len().over("same") > 1)
    return {
        "records with an empty text": rows.filter(pl.col("same") == "").height,
        "records that repeat the text of an earlier one": rows.height - rows["same"].n_unique(),
        "records whose very text has another label elsewhere": repeated.filter(
            pl.col("label").n_unique().over("same") > 1
        ).height,
        "records in a group with others": rows.filter(pl.len().over("group") > 1).height,
    }


def readme(
    project: Project,
    export: Export,
    form: Format,
    index: pl.DataFrame,
    left_out: Counter[str],
    dirty: Mapping[str, int],
    *,
    quality: pl.DataFrame,
    fingerprints: Sequence[str],
    version: str,
) -> str:
    """The card. The same rows make the same text: there is no date in it.

    Args:
        version: A hash of the files.
    """
    parts = [
        _front_matter(project, export, form, index, version),
        _introduction(project, export, form),
        _counts(form, index),
        _labels(form, index),
        _splits(export, dirty, left_out, form),
        _quality(quality),
        _schema(form),
        f"## Reading it\n\n{form.usage(SPLITS)}",
        _origin(project, export, index, fingerprints, version),
    ]
    return "\n\n".join(part for part in parts if part) + "\n"


def _front_matter(project: Project, export: Export, form: Format, index: pl.DataFrame, version: str) -> str:
    said: dict[str, object] = {"pretty_name": f"{project.name}: {export.called}"}
    if export.licence:
        said["license"] = export.licence
    said["size_categories"] = [next((name for most, name in _SIZES if index.height < most), "n>1M")]
    said["tags"] = ["annotation-pipelines", form.task.kind, export.format]
    filled = index["split"].unique().to_list()
    if form.loadable and filled:
        files = [{"split": split, "path": form.file(split)} for split in SPLITS if split in filled]
        # `datasets` keeps what it read under a hash of this front matter and the folder's name alone: without the
        # version it would go on serving the rows of an earlier export.
        said["configs"] = [{"config_name": "default", "description": f"version {version}", "data_files": files}]
    return f"---\n{yaml.safe_dump(said, sort_keys=False, allow_unicode=True)}---"


def _introduction(project: Project, export: Export, form: Format) -> str:
    lines = [f"# {project.name}: {export.called}"]
    if project.declaration.description:
        lines.append(project.declaration.description.strip())
    asked = form.task.instructions()
    asked = asked if len(asked) <= _LONGEST_TASK else f"{asked[: _LONGEST_TASK - 1]}…"
    lines.append(f"Annotations of kind **{form.task.kind}**, as {export.format}. What was asked:")
    lines.append("\n".join(f"    {line}" for line in asked.split("\n")))
    lines.append(f"Licence: {export.licence or 'not declared'}.")
    return "\n\n".join(lines)


def _counts(form: Format, index: pl.DataFrame) -> str:
    rows = []
    for split in SPLITS:
        here = index.filter(pl.col("split") == split)
        origins = [here.filter(pl.col("origin") == origin).height for origin in ("gold", "silver", "synthetic")]
        rows.append([split, here.height, *origins, int(here["entries"].sum())])
    return "## Records\n\n" + _table(["split", "records", "gold", "silver", "synthetic", "entries"], rows)


def _labels(form: Format, index: pl.DataFrame) -> str:
    """How often each label, or type, is named in each split."""
    named = Counter(
        (name, split) for split, label in index.select("split", "label").iter_rows() for name in form.task.named(label)
    )
    if not named:
        return ""
    total = Counter(dict.fromkeys(form.task.labels, 0))
    for (name, _), number in named.items():
        total[name] += number
    order = {name: place for place, name in enumerate(form.task.labels)}
    names = sorted(total, key=lambda name: (-total[name], order.get(name, len(order)), name))
    rows = [[_cut(name), *(named[name, split] for split in SPLITS)] for name in names[:_MOST_LABELS]]
    more = f"\n\nand {len(names) - _MOST_LABELS} more." if len(names) > _MOST_LABELS else ""
    return "## Labels\n\n" + _table(["label", *SPLITS], rows) + more


def _splits(export: Export, dirty: Mapping[str, int], left_out: Counter[str], form: Format) -> str:
    shares = ", ".join(f"{name} {share:g}" for name, share in export.split.shares)
    lines = [
        "## Splits",
        f"Records whose texts say nearly the same (Jaccard similarity of character {SHINGLE}-grams of {THRESHOLD:g} or "
        "more) are a group, and a group is in one split. A hash of the group's first record decides in which "
        f"({shares}; seed {export.seed}). Gold that is held out for evaluation is test"
        + (", with its group" if export.split.test else " alone")
        + "; synthetic records are train or nothing.",
    ]
    noted = [*dirty.items(), *((note, number) for note, number in sorted(form.notes.items()) if number)]
    lines.append("What is in it:\n\n" + _table(["of what was written", "number"], [list(pair) for pair in noted]))
    if left_out:
        ordered = sorted(left_out.items(), key=lambda pair: (-pair[1], pair[0]))
        lines.append("Left out:\n\n" + _table(["why", "records"], [list(pair) for pair in ordered]))
    return "\n\n".join(lines)


def _quality(quality: pl.DataFrame) -> str:
    if quality.is_empty():
        return ""
    rows = [
        [metric, split, f"{value:.3f}", "" if lower is None else f"{lower:.3f} to {upper:.3f}", records]
        for metric, split, value, lower, upper, records in quality.iter_rows()
    ]
    table = _table(["metric", "gold", "value", "95% interval", "records"], rows)
    return f"## Quality of the silver labels\n\nThe annotator against people:\n\n{table}"


def _schema(form: Format) -> str:
    rows = [[f"`{c.name}`", c.type, c.meaning] for c in form.columns]
    return "## Columns\n\n" + _table(["name", "type", "meaning"], rows)


def _origin(project: Project, export: Export, index: pl.DataFrame, fingerprints: Sequence[str], version: str) -> str:
    annotators = index["annotator"].drop_nulls().unique().sort().to_list()
    lines = [
        "## How it was annotated",
        f"- Silver labels: {', '.join(annotators) or 'none'}",
        f"- Guideline: {digest(project.guideline)[:12] if project.guideline else 'none'} (hash of its text)",
        f"- Prompt, annotator and demonstrations: {', '.join(print_[:12] for print_ in fingerprints[:5]) or 'none'}"
        + (f" and {len(fingerprints) - 5} more" if len(fingerprints) > 5 else "")
        + " (fingerprints of the silver labels)",
        f"- Version of the files: {version}",
        f"- Least confidence: {export.min_confidence:g}",
        "- Texts are those of the source: personal data in them, if any, is in here, too",
    ]
    return f"{lines[0]}\n\n" + "\n".join(lines[1:])


def _table(header: Sequence[str], rows: Sequence[Sequence[object]]) -> str:
    lines = [header, ["---"] * len(header), *rows]
    return "\n".join("| " + " | ".join(_cell(value) for value in line) + " |" for line in lines)


def _cell(value: object) -> str:
    if isinstance(value, int):
        return f"{value:,}"
    return " ".join(str(value).split()).replace("|", "\\|")


def _cut(text: str) -> str:
    return text if len(text) <= _LONGEST_LABEL else f"{text[: _LONGEST_LABEL - 1]}…"
