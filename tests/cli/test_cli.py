"""The command line: what a person types, and what they are told when it is wrong.

A process of its own starts where that is what is proven: a new workspace, an exit code, one line of standard error.
What a command prints is asked in this process, which has paid for its imports.
"""

from __future__ import annotations

import json
import re
import socket
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from urllib.request import Request, urlopen

import polars as pl
import pytest
from click.testing import CliRunner, Result

from annotation_pipelines.annotators.base import Turn
from annotation_pipelines.annotators.factory import make_panel
from annotation_pipelines.cli import cli
from annotation_pipelines.errors import AnnotationPipelinesError
from annotation_pipelines.store.database import Store
from annotation_pipelines.tasks.base import Annotation
from tests.batch_scene import ANNOTATOR, Scene
from tests.mock_batches import MockBatches
from tests.mock_endpoint import MockEndpoint
from tests.workspaces import Fixture, declaration, ml_records, openai_annotator

COMMAND = Path(sys.executable).parent / "annotation-pipelines"


def ap(folder: Path, *arguments: str, stdin: str | None = None) -> subprocess.CompletedProcess[str]:
    return subprocess.run([COMMAND, *arguments], cwd=folder, input=stdin, capture_output=True, text=True)


class Here:
    """The command line in this process, in a folder; standard output and standard error are apart."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch) -> None:
        self._monkeypatch = monkeypatch

    def __call__(self, folder: Path, *arguments: str, stdin: str | None = None) -> Result:
        self._monkeypatch.chdir(folder)
        self._monkeypatch.setenv("DAGSTER_HOME", str(folder / ".dagster"))
        return CliRunner().invoke(cli, arguments, input=stdin)


@pytest.fixture
def here(monkeypatch: pytest.MonkeyPatch) -> Here:
    return Here(monkeypatch)


@pytest.fixture(scope="module")
def first_workspace(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A new workspace, made and run as the README says."""
    folder = tmp_path_factory.mktemp("new") / "workspace"
    made = ap(folder.parent, "init", str(folder))
    assert made.returncode == 0, made.stderr
    done = ap(folder, "run", "first_project")
    assert done.returncode == 0, done.stdout + done.stderr
    assert "Traceback" not in done.stderr
    return folder


@pytest.mark.heavy
class TestANewWorkspace:
    def test_runs_from_records_to_a_report(self, first_workspace: Path) -> None:
        shown = ap(first_workspace, "status", "first_project").stdout
        assert re.search(r"records +21\n", shown)
        assert "15 by the annotator, 12 by people" in shown
        assert (first_workspace / "storage" / "first_project" / "reports" / "quality_report.html").exists()

    def test_says_where_it_stands_and_costs_nothing_to_run_again(self, first_workspace: Path, here: Here) -> None:
        store = Store(first_workspace / "storage" / "first_project")
        before = store.query("SELECT count(*) AS n FROM llm_calls")["n"].item()
        again = here(first_workspace, "run", "first_project", "--no-train", "--partition", "2026-01-12")
        assert again.exit_code == 0, again.output
        assert store.query("SELECT count(*) AS n FROM llm_calls")["n"].item() == before

    def test_predicts_texts_from_standard_input(self, first_workspace: Path, here: Here) -> None:
        done = here(first_workspace, "predict", "first_project", stdin="my parcel never came\n\nI was charged twice\n")
        rows = [json.loads(line) for line in done.stdout.splitlines()]
        assert [row["label"] for row in rows] == ["delivery", "billing"], done.stderr
        assert all(0 < row["confidence"] <= 1 for row in rows)

    @pytest.mark.parametrize("ending", ["csv", "jsonl", "parquet"])
    def test_exports_the_trusted_labels_with_their_texts(self, first_workspace: Path, here: Here, ending: str) -> None:
        file = first_workspace / f"labels.{ending}"
        done = here(first_workspace, "export", "first_project", str(file))
        assert done.exit_code == 0, done.output
        read = {"csv": pl.read_csv, "jsonl": pl.read_ndjson, "parquet": pl.read_parquet}[ending]
        frame = read(file)
        assert len(frame) == 21
        assert frame["content"].null_count() == 0
        assert set(frame["origin"]) == {"gold", "silver"}

    def test_is_not_overwritten_by_another_init(self, first_workspace: Path) -> None:
        done = ap(first_workspace.parent, "init", str(first_workspace))
        assert done.returncode == 2
        assert "there is a workspace here already" in done.stderr


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["run", "nothing"], "there is no project 'nothing'; there are: shop"),
        (
            ["run", "shop", "--partition", "2019-01-01"],
            "no partition 2019-01-01; partitions are every week: 2020-03-16 to 2020-03-30",
        ),
        (["export", "shop", "labels.xlsx"], "expected a file ending in .csv, .jsonl, .parquet"),
        (["predict", "shop"], "there is no champion"),
        (["replay", "nowhere.csv"], "nowhere.csv"),
        (["fly"], "No such command 'fly'"),
    ],
)
def test_a_mistake_is_one_line_and_exit_code_2(tmp_path: Path, arguments: list[str], message: str) -> None:
    Fixture(tmp_path, ml_records(7), declaration())
    done = ap(tmp_path, *arguments, stdin="text\n")
    assert done.returncode == 2
    assert message in done.stderr
    assert "Traceback" not in done.stderr
    assert len([line for line in done.stderr.splitlines() if line.startswith("error: ")]) <= 1


def test_outside_a_workspace_it_says_how_to_make_one(tmp_path: Path) -> None:
    done = ap(tmp_path, "status")
    assert done.returncode == 2
    assert "annotation-pipelines init" in done.stderr


def test_a_source_that_is_not_there_fails_the_run_in_one_line(tmp_path: Path) -> None:
    shop = Fixture(tmp_path, ml_records(7), declaration())
    (shop.folder / "records.csv").unlink()
    done = ap(tmp_path, "run", "shop")
    assert done.returncode == 2
    assert "records.csv" in done.stderr
    assert "Traceback" not in done.stderr


def test_status_names_a_broken_project_and_shows_the_others(tmp_path: Path) -> None:
    Fixture(tmp_path, ml_records(7), declaration())
    broken = tmp_path / "assets" / "broken"
    broken.mkdir()
    (broken / "defs.yaml").write_text("type: annotation_pipelines.AnnotationProject\nattributes: {colour: red}\n")
    done = ap(tmp_path, "status")
    assert done.returncode == 2
    assert "colour: unknown key" in done.stderr
    assert "shop\n  nothing run yet" in done.stdout


class TestAPlan:
    @pytest.fixture(scope="class")
    def mock(self) -> Iterator[MockEndpoint]:
        with MockEndpoint() as endpoint:
            yield endpoint

    @pytest.fixture(scope="class")
    def shop(self, tmp_path_factory: pytest.TempPathFactory, mock: MockEndpoint) -> Fixture:
        annotators = openai_annotator(mock.url, price={"input": 10, "output": 10})
        changes = {"annotators": annotators, "budget": {"per_day_usd": 5, "per_run_tokens": 100_000}}
        return Fixture(tmp_path_factory.mktemp("plan"), ml_records(), declaration(**changes))

    def test_tells_calls_tokens_and_dollars_and_sends_nothing(
        self, shop: Fixture, mock: MockEndpoint, here: Here
    ) -> None:
        done = here(shop.workspace.root, "plan", "shop")
        assert done.exit_code == 0, done.output
        rows = dict(re.findall(r"^  +(\S.*?)  +(\S.*)$", done.stdout, re.MULTILINE))
        count = len(shop.records)
        assert done.stdout.startswith("shop\n")
        assert rows["not ingested yet"] == f"{count} records of the source; counted in"
        assert rows["openai:gpt-4o"] == f"{count} records need a label"
        assert (rows["answered before"], rows["calls"]) == ("0: read again from the ledger", str(count))
        assert re.fullmatch(r"about [\d,]+ read, [\d,]+ written", rows["tokens"])
        assert re.fullmatch(r"about \$0\.\d{4}", rows["cost"])
        assert rows["estimated from"].startswith("assumed: ")
        assert rows["budget"] == "per_day_usd 5.0, per_run_tokens 100,000"
        assert mock.calls == []

    def test_shows_the_first_request_of_the_partitions_that_are_asked_for(
        self, shop: Fixture, mock: MockEndpoint, here: Here
    ) -> None:
        done = here(shop.workspace.root, "plan", "shop", "--partition", "2020-03-23", "--show-prompt")
        assert done.exit_code == 0, done.output
        table, _, prompt = done.stdout.partition("\nThe first request to openai:gpt-4o:\n")
        assert int(re.findall(r"  calls +(\d+)", table)[0]) < len(shop.records)
        body = json.loads(prompt)
        assert body["model"] == "gpt-4o" and body["messages"][-1]["content"].startswith("<record>")
        assert mock.calls == []

    def test_does_not_call_an_unknown_price_nothing(self, tmp_path: Path, mock: MockEndpoint, here: Here) -> None:
        one, two = openai_annotator(mock.url), openai_annotator(mock.url, model="gpt-4o-mini")
        shop = Fixture(tmp_path, ml_records(7), declaration(annotators=[*one, *two], panel={"combine": "cascade"}))
        done = here(tmp_path, "plan", "shop")
        assert done.exit_code == 0, done.output
        assert done.stdout.count("unknown: no price is known for the model") == 3
        count = len(shop.records)
        assert re.search(rf"openai:gpt-4o-mini +at most {count} records", done.stdout)
        assert re.search(rf"together +{2 * count} calls, unknown", done.stdout)
        assert re.search(r"budget +none declared", done.stdout)

    def test_names_a_mistake_of_the_declaration_in_one_line(self, tmp_path: Path, mock: MockEndpoint) -> None:
        Fixture(tmp_path, ml_records(7), declaration(annotators=openai_annotator(mock.url), prompt="{{ nothing }}"))
        done = ap(tmp_path, "plan", "shop")
        assert done.returncode == 2
        (line,) = done.stderr.strip().splitlines()
        assert line.startswith("error: prompt: line 1: expected one of the variables") and "'nothing'" in line


def test_batches_are_listed_polled_and_cancelled(tmp_path: Path, here: Here) -> None:
    server = MockBatches()
    with MockEndpoint(routes=server.routes) as mock:
        annotators = [{**openai_annotator(mock.url, mode="batch")[0], "name": ANNOTATOR}]
        Fixture(tmp_path, ml_records(7), declaration(annotators=annotators))
        assert here(tmp_path, "batches", "shop").stdout == "no batch was submitted yet\n"
        submitting = Scene(tmp_path / "storage", server, mock.url)
        with submitting.api:
            submitting.submit(range(3))
            submitting.submit(range(3, 5))
        first, second = here(tmp_path, "batches", "shop").stdout.splitlines()
        assert re.fullmatch(r"batch_0  2026-11  openai:mock  in_progress  3 requests, submitted .* UTC", first)
        assert second.startswith("batch_1  2026-11  openai:mock  in_progress  2 requests")
        wrong = here(tmp_path, "batches", "shop", "--cancel", "batch_9")
        assert isinstance(wrong.exception, AnnotationPipelinesError)
        assert "no open batch batch_9; open are: batch_0, batch_1" in str(wrong.exception)
        cancelled = here(tmp_path, "batches", "shop", "--cancel", "batch_1").stdout
        assert "batch_1  2026-11  openai:mock  cancelling" in cancelled
        server.finish("batch_0")
        polled = here(tmp_path, "batches", "shop", "--poll").stdout
        assert "batch_0  2026-11  openai:mock  completed  3 of 3 answered" in polled


def test_a_project_with_codes_for_labels_is_answered_by_a_replay_that_knows_it(tmp_path: Path) -> None:
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    url = f"http://127.0.0.1:{port}/v1"
    injection = {"aliases": True, "canary": True}
    shop = Fixture(tmp_path, ml_records(7), declaration(annotators=openai_annotator(url), injection=injection))
    content = pl.concat_str("title", pl.lit(". "), "description").alias("content")
    records = shop.records.select(content, record_id="id", content_hash="id", label="tag")
    records.select("label", text="content").write_csv(tmp_path / "answers.csv")
    (annotator,) = make_panel(shop.project, shop.store).members
    command = [COMMAND, "replay", "answers.csv", "--port", str(port), "--project", "shop"]
    with subprocess.Popen(command, cwd=tmp_path, stdout=subprocess.PIPE, text=True) as replaying:
        try:
            assert replaying.stdout and url in replaying.stdout.readline()
            for request, label in zip(annotator.requests(records), records["label"], strict=True):
                body = annotator.batch_line(request)  # type: ignore[attr-defined]
                asked = Request(f"{url}/chat/completions", body, {"Content-Type": "application/json"})
                with urlopen(asked) as reply:
                    said = reply.read().decode()
                assert label not in said
                ended = annotator.proceed([Turn(request, "ok", said)])
                assert isinstance(ended, Annotation) and ended.label == label
        finally:
            replaying.terminate()


def test_a_replay_for_a_project_that_is_not_there_is_one_line(tmp_path: Path) -> None:
    Fixture(tmp_path, ml_records(7), declaration())
    done = ap(tmp_path, "replay", "answers.csv", "--project", "nothing")
    assert done.returncode == 2 and "there is no project 'nothing'; there are: shop" in done.stderr
