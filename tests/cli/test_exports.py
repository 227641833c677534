"""Data sets and prompts on the command line."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from click.testing import CliRunner, Result

from annotation_pipelines.cli import cli
from annotation_pipelines.errors import AnnotationPipelinesError
from annotation_pipelines.sources.gold import gather_human_labels
from tests.exports.scene import fill, record
from tests.workspaces import Fixture, declaration, ml_records


@pytest.fixture
def shop(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Fixture:
    fixture = Fixture(
        tmp_path,
        ml_records(7),
        declaration(
            demonstrations={"pool": 10, "per_prompt": 2},
            exports=[{"format": "chat", "name": "tuning", "min_confidence": 0.5}],
        ),
    )
    records = [record(f"r{i}", f"a text about number {i * 7919}", "mlops", confidence=i / 20) for i in range(20)]
    fill(fixture.store, records)
    monkeypatch.chdir(tmp_path)
    return fixture


def run(*arguments: str, stdin: str | None = None) -> Result:
    return CliRunner().invoke(cli, arguments, input=stdin)


class TestExport:
    def test_a_declared_export_goes_to_its_folder_and_says_what_was_left_out(self, shop: Fixture) -> None:
        done = run("export", "shop", "--format", "tuning")
        assert done.exit_code == 0, done.output
        folder = shop.workspace.home("shop") / "exports" / "tuning"
        lines = [line for file in (folder / "data").iterdir() for line in file.read_text(encoding="utf-8").splitlines()]
        assert len(lines) == 10
        assert str(folder) in done.output
        assert "left out, 10: confidence below min_confidence" in done.output

    def test_any_format_goes_to_any_folder(self, shop: Fixture, tmp_path: Path) -> None:
        done = run("export", "shop", "--format", "parquet", "--to", str(tmp_path / "out"))
        assert done.exit_code == 0, done.output
        assert done.output.startswith("train ")
        assert (tmp_path / "out" / "README.md").is_file()

    @pytest.mark.parametrize(
        ("arguments", "said"),
        [
            (["--format", "conll"], "format: conll serves task: entities, found classification"),
            (["--format", "csv"], "expected a declared export or a format (tuning, chat,"),
        ],
    )
    def test_what_cannot_be_written_is_said(self, shop: Fixture, arguments: list[str], said: str) -> None:
        done = run("export", "shop", *arguments)
        assert isinstance(done.exception, AnnotationPipelinesError)
        assert said in str(done.exception)

    @pytest.mark.parametrize(
        "arguments",
        [[], ["--to", "out"], ["labels.csv", "--format", "chat"], ["--format", "chat", "--table", "records"]],
    )
    def test_a_table_and_a_data_set_are_not_mixed(self, shop: Fixture, arguments: list[str]) -> None:
        done = run("export", "shop", *arguments)
        assert done.exit_code == 2
        assert "--format" in done.output

    def test_a_table_is_written_as_before(self, shop: Fixture, tmp_path: Path) -> None:
        done = run("export", "shop", "labels.csv")
        assert done.output == "20 rows of trusted_labels in labels.csv\n"
        assert (tmp_path / "labels.csv").read_text(encoding="utf-8").count("mlops") == 20


class TestPrompt:
    @pytest.mark.parametrize("by", ["argument", "stdin"])
    def test_prints_messages_with_demonstrations_as_json(self, shop: Fixture, by: str) -> None:
        gather_human_labels(shop.store, shop.project)
        text = "日本語 text about\nimages"
        done = run("prompt", "shop", text) if by == "argument" else run("prompt", "shop", stdin=text)
        messages = json.loads(done.output)
        assert [message["role"] for message in messages] == ["system", *["user", "assistant"] * 2, "user"]
        assert "日本語 text about\nimages" in messages[-1]["content"]
        assert "日本語" in done.output

    def test_the_number_of_demonstrations_can_be_given(self, shop: Fixture) -> None:
        gather_human_labels(shop.store, shop.project)
        assert len(json.loads(run("prompt", "shop", "a text", "-k", "4").output)) == 10
