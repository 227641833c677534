"""Data Docs: one page a partition with its latest validation, as Great Expectations renders it, and an index.

    <store.home>/data_docs/index.html
                           pages/2020-02-17.html
                           results/2020-02-17.json    what the page is rendered from

A validation writes its result; `build_data_docs` renders the pages whose result is newer, so its cost does not grow
with the partitions. The frame around the rendered sections is ours: the one of Great Expectations loads styles and
scripts from six public servers, and a page about private records must not call anybody. A content security policy
keeps it so, and keeps what stands in a record from running as a script.
"""

from __future__ import annotations

import html
import json
import os
import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass
from functools import cache
from pathlib import Path
from tempfile import NamedTemporaryFile
from typing import Any
from urllib.parse import quote

from filelock import FileLock, Timeout

from annotation_pipelines.errors import StoreLocked
from annotation_pipelines.store.database import Store, wait_limit

FOLDER = "data_docs"

_INDEX = """
SELECT partition_key, count(*) AS expectations, count(*) FILTER (NOT success) AS failed,
    count(*) FILTER (NOT success AND blocking) AS blocking_failed, max(validated_at) AS validated_at
FROM validation_results GROUP BY partition_key ORDER BY partition_key DESC
"""


@dataclass(frozen=True)
class CheckLine:
    """One line of the summary that opens a page."""

    check_name: str
    description: str
    passed: bool
    blocking: bool
    observed: str
    examples: tuple[str, ...]

    @property
    def status(self) -> str:
        """The outcome in a word."""
        return "met" if self.passed else "failed" if self.blocking else "warning"


def data_docs_index(home: Path) -> Path:
    """Where the index of a project's Data Docs lies, built or not."""
    return home / FOLDER / "index.html"


def keep_result(home: Path, partition_key: str, document: Mapping[str, Any], lines: Sequence[CheckLine]) -> None:
    """Keep the latest validation of a partition, for `build_data_docs` to render."""
    kept = {
        "partition_key": partition_key,
        "lines": [asdict(line) for line in lines],
        "great_expectations": document,
    }
    _write(home / FOLDER / "results" / f"{_file_name(partition_key)}.json", json.dumps(kept))


def build_data_docs(store: Store) -> Path:
    """Render what is out of date; returns the path of index.html.

    Several processes may build at the same time: each waits for its turn, and no reader sees half a page.

    Raises:
        StoreLocked: Another process rendered for longer than the wait.
        StoreError: The store cannot be read.
    """
    folder = store.home / FOLDER
    folder.mkdir(parents=True, exist_ok=True)
    limit = wait_limit()
    try:
        with FileLock(folder / ".lock", timeout=limit):
            # The index is read inside the turn: whoever comes last writes what all have stored.
            partitions = store.query(_INDEX).to_dicts()
            for result in sorted((folder / "results").glob("*.json")):
                _render_if_older(result, folder / "pages" / f"{result.stem}.html", store.home.name)
            index = data_docs_index(store.home)
            _write(index, _index_page(partitions, folder, store.home.name))
            return index
    except Timeout:
        raise StoreLocked(
            f"another run renders Data Docs for longer than {limit:g} seconds",
            where=folder,
            todo="Let it end, or set ANNOTATION_PIPELINES_LOCK_WAIT to wait longer",
        ) from None


def _render_if_older(result: Path, page: Path, project_name: str) -> None:
    """Render a result, unless its page is of that very result: the page carries the result's time of change."""
    written = result.stat().st_mtime_ns
    if page.exists() and page.stat().st_mtime_ns == written:
        return
    kept = json.loads(result.read_text(encoding="utf-8"))
    lines = [CheckLine(**{**line, "examples": tuple(line["examples"])}) for line in kept["lines"]]
    body = [
        f'<p><a href="../index.html">{_text(project_name)}</a></p>',
        f"<h1>{_text(kept['partition_key'])}</h1>",
        _summary(lines),
        *_sections(kept["great_expectations"]),
    ]
    _write(page, _page(f"{project_name} {kept['partition_key']}", body))
    os.utime(page, ns=(written, written))


def _sections(document: dict[str, Any]) -> Iterable[str]:
    """The sections of a validation page, rendered by Great Expectations."""
    from annotation_pipelines.quality.suite import forbid_network

    forbid_network()
    from great_expectations.core.expectation_validation_result import expectationSuiteValidationResultSchema
    from great_expectations.render.renderer import ValidationResultsPageRenderer

    result = expectationSuiteValidationResultSchema.load(_escaped(document))
    rendered = ValidationResultsPageRenderer(run_info_at_end=True).render(result).to_json_dict()
    view = _view()
    for number, section in enumerate(rendered["sections"], start=1):
        markup = view.render({"section": section, "section_loop": {"index": number}})
        # The page of a suite, which we do not make: the sections hold all of it.
        yield re.sub(r'<a href="[^"]*expectations/[^"]*"[^>]*>(.*?)</a>', r"\1", markup, flags=re.DOTALL)


@cache
def _view() -> Any:
    """One view a process: each new one would compile its templates again."""
    from great_expectations.render.view.view import DefaultJinjaSectionView

    return DefaultJinjaSectionView()


def _escaped(document: dict[str, Any]) -> dict[str, Any]:
    """The result with the markup in values and descriptions made harmless: the views escape only arguments."""
    escaped: dict[str, Any] = json.loads(json.dumps(document))
    for entry in escaped["results"]:
        configuration = entry["expectation_config"]
        if configuration.get("description"):
            configuration["description"] = html.escape(configuration["description"], quote=False)
        for key in ("partial_unexpected_list", "partial_unexpected_counts", "observed_value"):
            if key in (entry.get("result") or {}):
                entry["result"][key] = _escape_all(entry["result"][key])
        entry["exception_info"] = _escape_all(entry.get("exception_info"))
    return escaped


def _escape_all(value: Any) -> Any:
    if isinstance(value, str):
        return html.escape(value, quote=False)
    if isinstance(value, list):
        return [_escape_all(inner) for inner in value]
    if isinstance(value, dict):
        return {_escape_all(key): _escape_all(inner) for key, inner in value.items()}
    return value


def _summary(lines: Iterable[CheckLine]) -> str:
    rows = "".join(
        f'<tr><td class="{line.status}">{line.status}</td><td>{_text(line.check_name)}</td>'
        f"<td>{_text(line.description)}</td><td>{_text(line.observed)}</td>"
        f"<td>{_text(', '.join(line.examples))}</td></tr>"
        for line in lines
    )
    heads = "".join(f"<th>{head}</th>" for head in ("", "check", "expectation", "observed", "records"))
    return f'<table class="checks"><thead><tr>{heads}</tr></thead><tbody>{rows}</tbody></table>'


def _index_page(partitions: Iterable[Mapping[str, Any]], folder: Path, project_name: str) -> str:
    rows = []
    for row in partitions:
        key = row["partition_key"]
        page = Path("pages", f"{_file_name(key)}.html")
        name = f'<a href="{quote(page.as_posix())}">{_text(key)}</a>' if (folder / page).exists() else _text(key)
        status = "failed" if row["blocking_failed"] else "warning" if row["failed"] else "met"
        rows.append(
            f'<tr><td class="{status}">{status}</td><td>{name}</td>'
            f"<td>{row['expectations'] - row['failed']} of {row['expectations']} met</td>"
            f"<td>{row['validated_at']:%Y-%m-%d %H:%M} UTC</td></tr>"
        )
    heads = "".join(f"<th>{head}</th>" for head in ("", "partition", "expectations", "validated"))
    table = f"<table><thead><tr>{heads}</tr></thead><tbody>{''.join(rows)}</tbody></table>"
    return _page(f"{project_name}: Data Docs", [f"<h1>{_text(project_name)}: Data Docs</h1>", table])


def _page(title: str, body: Iterable[str]) -> str:
    return (
        '<!DOCTYPE html>\n<html lang="en"><head><meta charset="utf-8">'
        "<meta http-equiv=\"Content-Security-Policy\" content=\"default-src 'none'; style-src 'unsafe-inline'\">"
        '<meta name="viewport" content="width=device-width, initial-scale=1">'
        f"<title>{_text(title)}</title><style>{_STYLE}</style></head>\n<body>\n{''.join(body)}\n</body></html>\n"
    )


def _text(value: object) -> str:
    return html.escape(str(value))


def _file_name(partition_key: str) -> str:
    return re.sub(r"[^A-Za-z0-9._-]", "_", partition_key)


def _write(path: Path, text: str) -> None:
    """Write a file so that a reader sees the old one or the new one, never half of one."""
    path.parent.mkdir(parents=True, exist_ok=True)
    with NamedTemporaryFile("w", encoding="utf-8", dir=path.parent, prefix=".", suffix=".part", delete=False) as file:
        file.write(text)
    try:
        Path(file.name).chmod(0o644)
        Path(file.name).replace(path)
    except OSError:
        Path(file.name).unlink(missing_ok=True)
        raise


# Enough for the classes that Great Expectations puts on its sections.
_STYLE = """
:root { color-scheme: light dark; --line: #8884; --soft: #8881; }
body { font: 15px/1.45 system-ui, sans-serif; max-width: 1100px; margin: 2rem auto; padding: 0 1rem; }
h1 { font-size: 1.5rem; } h5, h6, .h6 { font-size: 1rem; font-weight: 600; margin: 0; }
.ge-section { margin-top: 1.5rem; }
.alert { background: var(--soft); border: 1px solid var(--line); border-radius: 4px; padding: .5rem .75rem; }
table { border-collapse: collapse; width: 100%; margin: .5rem 0; }
th, td { text-align: left; vertical-align: top; padding: .35rem .6rem; border-bottom: 1px solid var(--line); }
td { overflow-wrap: anywhere; } .checks td:nth-child(2) { min-width: 15em; }
td.met, td.failed, td.warning { white-space: nowrap; }
td.met, .text-success { color: #1a7f37; } td.failed, .text-danger { color: #d1242f; font-weight: 600; }
td.warning, .text-warning { color: #9a6700; font-weight: 600; }
.fa-check-circle::before { content: "\\2714"; } .fa-times::before { content: "\\2718"; }
.fa-exclamation-triangle::before { content: "\\26A0"; }
.badge { background: var(--soft); border: 1px solid var(--line); border-radius: 3px; padding: 0 .3em; }
.cooltip .top, [data-toggle=collapse] { display: none; }
"""
