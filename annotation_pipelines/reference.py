"""docs/declaration.md and docs/tables.md, printed from what the code itself reads: the declaration and the tables.

`python -m annotation_pipelines.reference docs` writes both into a folder; a test holds the files against this module.
"""

from __future__ import annotations

import sys
import types
from collections.abc import Iterator
from datetime import date
from functools import cache
from pathlib import Path
from typing import Annotated, Any, Literal, Union, get_args, get_origin

import yaml
from annotated_types import Ge, Gt, Le, Lt, MaxLen
from pydantic.fields import FieldInfo

from annotation_pipelines.project import Declaration, Part
from annotation_pipelines.store.schema import TABLES, Column

_WRITTEN = (
    "<!-- Printed by `make docs`: edit the declaration in project.py or the tables in store/schema.py instead. -->"
)

COMPLETE_EXAMPLE = """\
type: annotation_pipelines.AnnotationProject

attributes:
  description: Customer messages, sorted by what they ask for
  owners: ["support@example.com"]
  source:
    csv: "messages/*.csv"
    id: message_id
    text: "{subject}. {body}"
    time: received
    gold: label
  partitions: {every: day, start: 2026-01-05, timezone: Europe/Berlin}
  task:
    classification:
      labels:
        billing: invoices, charges, payments and refunds
        delivery: parcels, couriers, late or lost orders
        "no": the message asks for nothing      # in quotes: YAML reads a bare no as false
      abstain: true
  guideline: guideline.md
  annotators:
    - openai: {model: gpt-4o-mini, price: {input: 0.15, output: 0.6}}
  demonstrations: {pool: 60, per_prompt: 4}
  budget: {per_run_usd: 5, per_day_usd: 20}
  human_labels: corrections.csv
  selection: {strategy: least_confidence, per_partition: 200}
  quality:
    min_labelled: 0.95
    min_confidence: 0.5
    expectations:
      - expect_column_value_lengths_to_be_between: {column: text, max_value: 4000}
        blocking: true
  evaluation: {share: 0.2}
  distillation: {min_labels: 100}
  schedule: {cron: "0 2 * * *", enabled: true}
"""

EXAMPLES: dict[str, str] = {
    "source": """\
source:
  csv: ["archive/*.csv", "s3://bucket/new/*.csv"]
  id: message_id
  text: "{subject}. {body}"
  time: received
  time_format: "%d/%m/%Y %H:%M"
  gold: label
  attributes: [channel, country]
  on_delete: keep
""",
    "source: sql": """\
source:
  sql:
    query: SELECT id, body AS text, received FROM messages WHERE received >= :start AND received < :end
    connection_env: MESSAGES_URL
  time: received
""",
    "source: duckdb": """\
source:
  duckdb:
    query: SELECT id, body AS text, received FROM messages WHERE received >= $start AND received < $end
    database: messages.duckdb
  time: received
""",
    "partitions": """\
partitions: {every: week, start: 2026-01-05, timezone: Europe/Berlin, include_current: true}
""",
    "task: classification": """\
task:
  classification:
    labels: [billing, delivery, other]      # descriptions are better: the annotator reads them
""",
    "task: generation": """\
task:
  generation:
    texts:
      labels: {billing: invoices and refunds, delivery: parcels and couriers, outage: the service is down}
      only: [outage]                        # the rare one
      attributes: {length: [one sentence, a paragraph], tone: [calm, angry, resigned]}
    per_record: 3
    about: Messages of customers of an internet provider.
annotators: [{openai: {model: gpt-4o-mini, temperature: 0.9, max_tokens: 2000}}]
""",
    "task: generation: evolve": """\
task:
  generation:
    evolve: {operations: {translate: put the task into another language, deepen: ask for more depth}}
annotators: [{openai: {model: gpt-4o-mini, max_tokens: 2000}}]
""",
    "task: generation: dialogue": """\
task:
  generation:
    dialogue: {roles: {customer: has a problem with a parcel, agent: solves it politely}, turns: 8}
annotators: [{openai: {model: gpt-4o-mini, max_tokens: 2000}}]
""",
    "synthetic": """\
task:
  generation:
    texts: {labels: {outage: the service is down, other: anything else}}
annotators: [{openai: {model: gpt-4o-mini, temperature: 0.9}, name: writer}]
synthetic:
  annotators: [{openai: {model: gpt-4o}, name: referee}]
  judge: {rubric: "Would a customer write so?", min_score: 4}
  round_trip: true
  forbid: ['(?i)dear customer']
""",
    "annotators": """\
annotators: [{embedded: {}}]                # the default; `annotators: [embedded]` says the same
""",
    "annotators: embedded": """\
annotators: [{embedded: {neighbours: 9, demonstration_weight: 0.7}}]
""",
    "annotators: openai": """\
annotators:
  - openai:
      model: Qwen/Qwen3-8B
      base_url: http://127.0.0.1:8000/v1    # any server that speaks chat completions
      concurrency: 64
      extra_body: {top_p: 0.9}
""",
    "annotators: openai: limits": """\
annotators:
  - openai: {model: gpt-4o-mini, limits: {requests_per_minute: 500, tokens_per_minute: 200000}}
""",
    "annotators: openai: batch": """\
annotators:
  - openai: {model: gpt-4o-mini, mode: auto, batch: {late_after_hours: 12}}
""",
    "annotators: openai: price": """\
annotators:
  - openai: {model: our-model, price: {input: 0.4, cached_input: 0.1, output: 1.2, batch: 0.5}}
""",
    "panel": """\
annotators:
  - openai: {model: gpt-4o-mini}
  - openai: {model: gpt-4o}
panel: {combine: cascade, min_confidence: 0.9}
""",
    "injection": """\
injection: {canary: true, aliases: true}
""",
    "privacy": """\
privacy: {redact: [email, phone, iban], phone_regions: [DE, FR]}
""",
    "budget": """\
budget: {per_run_usd: 5, per_day_usd: 20, per_day_tokens: 50000000}
""",
    "demonstrations": """\
demonstrations: {pool: 100, per_prompt: 5, choose: nearest}
""",
    "selection": """\
selection: {strategy: random, per_partition: 50, seed: 1}
""",
    "quality": """\
quality:
  blocking: false
  max_label_shift: 0.2
  expectations:
    - expect_column_values_to_be_in_set: {column: attributes.country, value_set: [DE, FR], mostly: 0.9}
""",
    "evaluation": """\
evaluation: {csv: held_out.csv, teacher: false}
""",
    "distillation": """\
distillation: {encoder: sentence-transformers/all-mpnet-base-v2, min_labels: 200}
""",
    "exports": """\
exports:
  - parquet
  - format: chat
    name: tuning
    split: {train: 0.9, test: 0.1}
    min_confidence: 0.8
    licence: cc-by-4.0
""",
    "schedule": """\
schedule: {cron: "30 4 * * 1-5", timezone: Europe/Berlin, enabled: true}
""",
}
"""An example a section, by its heading."""

_SHORT = {("schedule",): "a cron line", ("task", "classification", "labels"): "a list of labels"}
_SHORT |= {
    ("task", "generation", "evolve", "operations"): "a list of known ones",
    ("task", "generation", "dialogue", "roles"): "a list of roles",
    ("task", "generation", "texts", "labels"): "a list of labels",
    ("synthetic", "judge"): "`true`",
    ("synthetic", "round_trip"): "`true`",
}
"""Keys whose value may be written shorter than its type says: validators turn it into the whole."""

_EMBEDDINGS = (
    Column(
        "partition_key",
        "VARCHAR",
        "the partition; `_shared` for held-out texts, demonstrations and descriptions of labels",
    ),
    Column("content_hash", "VARCHAR", "the text's hash, as in `records`"),
    Column("vector", "FLOAT[]", "the vector, of length 1; a fixed-size array whose size is the encoder's"),
)
_SCHEMA_MIGRATIONS = (
    Column("version", "INTEGER", "number of the migration, from 1"),
    Column("name", "VARCHAR", "its name"),
    Column("applied_at", "TIMESTAMPTZ", "when it was applied to this file"),
)


def declaration_reference() -> str:
    """Every key that a `defs.yaml` may have: type, default and meaning, a section a part, each with an example."""
    lines = [
        _WRITTEN,
        "# The declaration",
        "One project is one folder below `assets/` with a `defs.yaml` in it. Everything has a default but `source` and "
        "`task`. Unknown keys, wrong types and impossible values are refused, with the line, what was found and what "
        "is allowed; `dg check defs` shows the same. The text passes through no template engine, `prompt` aside: "
        "braces and `{{ }}` in a label or a guideline stay as they are. Paths are relative to the folder of "
        "`defs.yaml`. Keys and passwords are never written here: the declaration names the environment variable that "
        "holds them.",
        "A complete example; most projects need a third of it:",
        _fenced(COMPLETE_EXAMPLE),
        "`attributes` holds the keys below. Text that YAML would read as something else (`yes`, `no`, `on`, `off`, "
        "numbers, dates) must be in quotes where text is expected.",
        _keys(Declaration, ()),
    ]
    for path, part in _parts(Declaration, ()):
        heading = ": ".join(path)
        lines += [f"## {heading}", _docstring(part)]
        if part.model_fields:
            lines.append(_keys(part, path))
        if heading in EXAMPLES:
            lines.append(_fenced(EXAMPLES[heading]))
    return "\n\n".join(lines) + "\n"


def tables_reference() -> str:
    """Every table of a project's DuckDB file, and how to query them."""
    lines = [
        _WRITTEN,
        "# The tables",
        "A project keeps everything in one DuckDB file, `storage/PROJECT/PROJECT.duckdb` in the workspace. These are "
        "its tables; their columns are declared in one place, from which the database is made, writes are checked, "
        "the Dagster UI shows column schemas, and this page is printed.",
        "## Reading them",
        "With the DuckDB command line, which is a program of its own (version 2 or later):",
        _fenced("duckdb -readonly storage/ml_projects/ml_projects.duckdb\n", "console"),
        "From Python, as a polars frame:",
        _fenced(
            'import duckdb\n\nwith duckdb.connect("storage/ml_projects/ml_projects.duckdb", read_only=True) as con:\n'
            '    frame = con.sql("SELECT label, count(*) AS records FROM trusted_labels GROUP BY label").pl()\n',
            "python",
        ),
        "DuckDB lets one process write, and none while another one reads. Open the file read-only, and close it: a "
        "run that finds it open waits, says so in its log with the name of the program, and gives up after five "
        "minutes (see [operating](operating.md#locks)). To leave a file without holding it, write a table out: "
        "`annotation-pipelines export ml_projects labels.parquet`.",
        "What was labelled last night, by state:",
        _fenced(
            "SELECT partition_key, state, count(*) AS records\n"
            "FROM llm_labels WHERE labelled_at > now() - INTERVAL 1 DAY\n"
            "GROUP BY ALL ORDER BY ALL;\n",
            "sql",
        ),
        "What a model cost, and what could not be priced:",
        _fenced(
            "SELECT annotator, count(*) AS calls, sum(cost_usd) AS usd,\n"
            "       count(*) FILTER (status <> 'error' AND cost_usd IS NULL) AS without_price\n"
            "FROM llm_calls GROUP BY annotator;\n",
            "sql",
        ),
        "The surest mistakes of the annotator, on gold that it was not shown:",
        _fenced(
            "SELECT record_id, h.content, h.label AS gold, l.label, l.confidence\n"
            "FROM llm_labels l JOIN human_labels h USING (record_id, content_hash)\n"
            "WHERE h.role IN ('evaluation', 'monitor') AND l.label <> h.label\n"
            "ORDER BY l.confidence DESC LIMIT 20;\n",
            "sql",
        ),
        "The counts of every stage's latest run, as the UI shows them:",
        _fenced(
            "SELECT partition_key, facts->>'called' AS called, facts->>'reused' AS reused\n"
            "FROM stage_runs WHERE stage = 'llm_labels' ORDER BY partition_key;\n",
            "sql",
        ),
        "Times are in UTC; a session shows them in its own time zone (`SET TimeZone = 'UTC'`).",
    ]
    for table in TABLES.values():
        lines += [f"## {table.name}", f"{_sentence(table.meaning)}{_key_sentence(table.key)}", _columns(table.columns)]
    lines += [
        "## embeddings",
        "A view, over Parquet files in `storage/PROJECT/embeddings/`: one vector a text, by the encoder used last. It "
        "is there once the first partition was embedded. It names the files by absolute path; after the folder was "
        "moved it answers again when the next partition is embedded.",
        _columns(_EMBEDDINGS),
        "## schema_migrations",
        "Which migrations made the tables what they are. The highest version is the version of the schema; a package "
        "that knows fewer refuses the file.",
        _columns(_SCHEMA_MIGRATIONS),
    ]
    return "\n\n".join(lines) + "\n"


# -- the declaration ---------------------------------------------------------------------------------------------------


def _parts(
    part: type[Part], path: tuple[str, ...], seen: set[type[Part]] | None = None
) -> Iterator[tuple[tuple[str, ...], type[Part]]]:
    """Every nested part with its path, each before those inside it, and only where it comes first."""
    seen = set() if seen is None else seen
    for name, field in part.model_fields.items():
        nested = _nested(field.annotation)
        if nested and nested not in seen:
            seen.add(nested)
            key = field.alias or name
            yield (*path, key), nested
            yield from _parts(nested, (*path, key), seen)


@cache
def _homes() -> dict[type[Part], tuple[str, ...]]:
    """Where each part is described."""
    return {part: path for path, part in _parts(Declaration, ())}


def _nested(annotation: Any) -> type[Part] | None:
    """The part that a type holds, itself, in a list or as an option."""
    if isinstance(annotation, type) and issubclass(annotation, Part):
        return annotation
    return next((found for inner in get_args(annotation) if (found := _nested(inner))), None)


def _keys(part: type[Part], path: tuple[str, ...]) -> str:
    rows = ["| key | type | default | meaning |", "|---|---|---|---|"]
    for name, field in part.model_fields.items():
        meaning = field.description or _docstring(_nested(field.annotation)).partition("\n")[0]
        key = field.alias or name
        cells = (f"`{key}`", _type_of(field, (*path, key)), _default(field), meaning)
        rows.append("| " + " | ".join(cell.replace("|", "\\|") for cell in cells) + " |")
    return "\n".join(rows)


def _type_of(field: FieldInfo, path: tuple[str, ...]) -> str:
    words = _words(field.annotation, list(field.metadata), path)
    return f"{words}, or {_SHORT[path]}" if path in _SHORT else words


def _words(annotation: Any, metadata: list[Any], path: tuple[str, ...]) -> str:
    """A type in a user's words."""
    origin, inner = get_origin(annotation), get_args(annotation)
    if origin is Annotated:
        return _words(inner[0], [*metadata, *inner[1:]], path)
    if origin in (Union, types.UnionType):
        words = [_words(option, metadata, path) for option in inner if option is not types.NoneType]
        return " or ".join(dict.fromkeys(words))
    if origin is Literal:
        return " or ".join(f"`{option}`" for option in inner)
    if origin is list:
        one = any(isinstance(bound, MaxLen) and bound.max_length == 1 for bound in metadata)
        return f"list of {'one ' if one else ''}{_words(inner[0], [], path)}"
    if origin is dict:
        return "mapping of " + " to ".join("anything" if i is Any else _words(i, [], path) for i in inner)
    if isinstance(annotation, type) and issubclass(annotation, Part):
        heading = ": ".join(_homes().get(annotation, path))
        return f"[{heading}](#{anchor(heading)})"
    return _plain_words(annotation, metadata)


def _plain_words(annotation: Any, metadata: list[Any]) -> str:
    if annotation is bool:
        return "`true` or `false`"
    if annotation is date:
        return "date"
    if annotation is int or annotation is float:
        return ("whole number" if annotation is int else "number") + _bounds(metadata)
    return "text"


def _bounds(metadata: list[Any]) -> str:
    low = next((bound for bound in metadata if isinstance(bound, Ge | Gt)), None)
    high = next((bound for bound in metadata if isinstance(bound, Le | Lt)), None)
    words = []
    if isinstance(low, Ge):
        words.append(f"{low.ge} or more")
    elif low:
        words.append(f"above {low.gt}")
    if isinstance(high, Le):
        words.append(f"{high.le} or less")
    elif high:
        words.append(f"below {high.lt}")
    if isinstance(low, Ge) and isinstance(high, Le):
        return f" from {low.ge} to {high.le}"
    return f", {' and '.join(words)}" if words else ""


def _default(field: FieldInfo) -> str:
    if field.is_required():
        return "required"
    value = field.get_default(call_default_factory=True, validated_data={})
    if value is None or value == "":
        return "none"
    if isinstance(value, Part):
        return "as below"
    if isinstance(value, list):
        value = [entry.model_dump(exclude_unset=True) if isinstance(entry, Part) else entry for entry in value]
    shown = yaml.safe_dump(value, default_flow_style=True, width=1000).removesuffix("\n").removesuffix("\n...")
    return f"`{shown}`"


def _docstring(part: type[Part] | None) -> str:
    lines = ((part.__doc__ if part else None) or "").strip().splitlines()
    return "\n".join(line.strip() for line in lines)


# -- both --------------------------------------------------------------------------------------------------------------


def anchor(heading: str) -> str:
    """The #anchor under which a heading is found on a page."""
    kept = "".join(c for c in heading.strip().lower() if c.isalnum() or c in " -_")
    return kept.replace(" ", "-")


def _columns(columns: tuple[Column, ...]) -> str:
    rows = ["| column | type | null | meaning |", "|---|---|---|---|"]
    for column in columns:
        null = "may be" if column.nullable else "never"
        rows.append(f"| `{column.name}` | {column.type} | {null} | {column.meaning.replace('|', chr(92) + '|')} |")
    return "\n".join(rows)


def _sentence(words: str) -> str:
    return words[0].upper() + words[1:] + "."


def _key_sentence(key: tuple[str, ...]) -> str:
    return f" Unique by {' and '.join(f'`{name}`' for name in key)}." if key else ""


def _fenced(text: str, language: str = "yaml") -> str:
    return f"```{language}\n{text}```"


def main(folder: Path) -> None:
    """Write both pages into a folder."""
    for name, text in (("declaration.md", declaration_reference()), ("tables.md", tables_reference())):
        (folder / name).write_text(text, encoding="utf-8")


if __name__ == "__main__":
    main(Path(sys.argv[1] if len(sys.argv) > 1 else "docs"))
