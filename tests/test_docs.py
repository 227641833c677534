"""The documents: what they name exists, what they show works."""

from __future__ import annotations

import re
import shlex
from pathlib import Path
from typing import Any, NamedTuple

import click
import pytest
import yaml

from annotation_pipelines import reference
from annotation_pipelines.cli import cli
from annotation_pipelines.declaration_file import load_project
from annotation_pipelines.project import COMPONENT_TYPE, Declaration
from annotation_pipelines.quality.expectations import COLUMNS, expectations_for, generated
from annotation_pipelines.store.database import Store
from annotation_pipelines.store.vectors import VectorStore

ROOT = Path(__file__).parents[1]
PAGES = [ROOT / "README.md", ROOT / "CHANGELOG.md", *sorted((ROOT / "docs").glob("*.md"))]
MINIMAL = {
    "source": {"csv": "records.csv", "time": "day", "gold": "label"},
    "task": {"classification": {"labels": ["a", "b"]}},
}

# Whatever else is linked to must be added here, with care: a document that names a registry or a mirror sends people
# to one address when their machine may be set to another.
HOSTS = {"127.0.0.1", "localhost", "api.openai.com", "arxiv.org", "docs.dagster.io", "keepachangelog.com", "semver.org"}
TOP_LEVELS = "com|org|net|io|dev|ai|co|app|cloud|sh"

_FENCE = re.compile(r"^```(\w*)\n(.*?)^```$", re.MULTILINE | re.DOTALL)
_SPAN = re.compile(r"`([^`\n]+)`")
_INDENTED = re.compile(r"^    .*$", re.MULTILINE)
_LINK = re.compile(r"(!?)\[[^\]]*\]\(([^)\s]+)\)")
_HEADING = re.compile(r"^#{1,6} (.+)$", re.MULTILINE)


class Block(NamedTuple):
    """A fenced block of a page."""

    page: str
    language: str
    text: str


def read(page: Path) -> str:
    return page.read_text(encoding="utf-8")


def prose(page: Path) -> str:
    return _INDENTED.sub("", _FENCE.sub("", read(page)))


BLOCKS = [Block(page.name, *match) for page in PAGES for match in _FENCE.findall(read(page))]


def blocks(language: str) -> list[Any]:
    found = [block for block in BLOCKS if block.language == language]
    return [pytest.param(block.text, id=f"{block.page}-{number}") for number, block in enumerate(found)]


def code() -> list[tuple[str, str]]:
    """Every line of code: of fenced and indented blocks, and in backticks."""
    lines = [(block.page, line.strip()) for block in BLOCKS for line in block.text.splitlines()]
    for page in PAGES:
        unfenced = _FENCE.sub("", read(page))
        lines += [(page.name, line.strip()) for line in _INDENTED.findall(unfenced)]
        lines += [(page.name, span) for span in _SPAN.findall(prose(page))]
    return lines


def links(*, pictures: bool) -> list[Any]:
    return [
        pytest.param(page, target, id=f"{page.name}-{target}")
        for page in PAGES
        for mark, target in _LINK.findall(prose(page))
        if "://" not in target and bool(mark) == pictures
    ]


def write_project(folder: Path, text: str) -> Path:
    file = folder / "project" / "defs.yaml"
    file.parent.mkdir()
    file.write_text(text, encoding="utf-8")
    return file


@pytest.mark.parametrize(
    ("name", "text"),
    [("declaration.md", reference.declaration_reference), ("tables.md", reference.tables_reference)],
)
def test_the_references_are_what_the_code_prints(name: str, text: Any) -> None:
    assert read(ROOT / "docs" / name) == text(), "print them again: make docs"


@pytest.mark.parametrize("part", [Declaration, *dict(reference._parts(Declaration, ())).values()])
def test_every_key_of_the_declaration_has_a_meaning(part: Any) -> None:
    for name, field in part.model_fields.items():
        assert field.description or reference._docstring(reference._nested(field.annotation)), name


@pytest.mark.parametrize(("page", "target"), links(pictures=False))
def test_links_lead_somewhere(page: Path, target: str) -> None:
    path, _, fragment = target.partition("#")
    file = (page.parent / path).resolve() if path else page
    assert file.exists(), target
    assert file.is_relative_to(ROOT), target
    if fragment:
        assert fragment in {reference.anchor(heading) for heading in _HEADING.findall(prose(file))}, target


@pytest.mark.parametrize(("page", "target"), links(pictures=True))
def test_pictures_are_there(page: Path, target: str) -> None:
    assert (page.parent / target).is_file(), target


@pytest.mark.parametrize("text", blocks("yaml"))
def test_yaml_is_a_declaration_or_a_part_of_one(tmp_path: Path, text: str) -> None:
    document = yaml.safe_load(text)
    if f"type: {COMPONENT_TYPE}" not in text:
        if not set(document) <= set(Declaration.model_fields):
            pytest.skip("not of a declaration")
        text = yaml.safe_dump({"type": COMPONENT_TYPE, "attributes": {**MINIMAL, **document}})
    project = load_project(write_project(tmp_path, text))
    assert expectations_for(project.declaration, "project")


@pytest.mark.parametrize("text", blocks("sql"))
def test_queries_run_on_the_tables(tmp_path: Path, text: str) -> None:
    store = Store(tmp_path / "project")
    with store.transaction() as con:
        VectorStore(store.home, "encoder").publish(con)
    for statement in filter(None, map(str.strip, text.split(";"))):
        store.query(statement)


@pytest.mark.parametrize("text", blocks("python"))
def test_python_runs(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, text: str) -> None:
    Store(tmp_path / "storage" / "ml_projects").query("SELECT 1")
    monkeypatch.chdir(tmp_path)
    exec(compile(text, "document", "exec"), {})


def test_commands_and_their_options_exist() -> None:
    found = 0
    for page, line in code():
        for arguments in re.findall(r"(?:^|[ /&])annotation-pipelines((?: +[^|&;#`]+)?)", line):
            words = shlex.split(arguments)
            if not words or words[0].startswith("-"):
                continue
            found += 1
            command = cli.commands.get(words[0])
            assert command, f"{page}: {line}"
            known = {option for p in command.params if isinstance(p, click.Option) for option in p.opts}
            options = {word.partition("=")[0] for word in words if word.startswith("--")}
            assert options <= known, f"{page}: {line}"
    assert found > 5


def test_every_command_is_documented() -> None:
    named = " ".join(line for _, line in code())
    for command in cli.commands:
        assert f"annotation-pipelines {command}" in named, command


def test_every_check_and_every_column_for_expectations_is_documented() -> None:
    text = read(ROOT / "docs" / "quality.md")
    checks = [expectation.check_name for expectation in generated(Declaration.model_validate(MINIMAL))]
    for name in (*checks, *COLUMNS):
        assert f"`{name}`" in text, name


def test_make_targets_exist() -> None:
    targets = set(re.findall(r"^([a-z]+):", read(ROOT / "Makefile"), re.MULTILINE))
    named = {(page, name) for page, line in code() for name in re.findall(r"^(?:\$ )?make ([a-z]+)", line)}
    assert ("README.md", "demo") in named
    assert {name for _, name in named} <= targets, named


def test_files_of_the_project_that_are_named_exist() -> None:
    for page, line in code():
        for path in re.findall(r"\b((?:annotation_pipelines|assets|benchmarks|tests|docs)/[\w./-]*\w)", line):
            if not re.search(r"/(?:NAME|PROJECT|first_project|messages)\b", path):
                assert (ROOT / path).exists(), f"{page}: {path}"


def test_environment_variables_exist_and_are_documented() -> None:
    package = "".join(read(file) for file in (ROOT / "annotation_pipelines").rglob("*.py"))
    known = set(re.findall(r"ANNOTATION_PIPELINES_[A-Z_]+", package))
    for page in PAGES:
        assert set(re.findall(r"ANNOTATION_PIPELINES_[A-Z_]+", read(page))) <= known, page.name
    documented = read(ROOT / "docs" / "operating.md")
    assert {name for name in known if name not in documented} == set()


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)
def test_no_registry_and_no_mirror_is_named(page: Path) -> None:
    text = read(page)
    hosts = set(re.findall(r"https?://([^/\s:)\"'>`]+)", text))
    hosts |= set(re.findall(rf"\b((?:[a-z0-9-]+\.)+(?:{TOP_LEVELS}))\b(?![\w(])", text))
    assert {host for host in hosts if not host.endswith(("example.com", "example.org"))} <= HOSTS


def test_no_path_of_one_machine_is_named() -> None:
    for page in PAGES:
        assert not re.search(r"(?<![\w.])/(?:work|home|root|Users)/", read(page)), page.name
