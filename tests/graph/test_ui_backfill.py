"""The UI's backfill, asked for as the UI asks: through GraphQL, against a running `annotation-pipelines ui`."""

from __future__ import annotations

import json
import os
import signal
import socket
import subprocess
import sys
import time
import urllib.error
import urllib.request
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from tests.mock_endpoint import MockEndpoint, answer
from tests.workspaces import Fixture, declaration, know_vectors, ml_records, openai_annotator

COMMAND = Path(sys.executable).parent / "annotation-pipelines"
QUICK_DAEMON = Path(__file__).parent / "quick_daemon"
THREE = ["2020-03-17", "2020-03-18", "2020-03-19"]
DAY = THREE[-1]
STAGES = ["raw_records", "embeddings", "human_labels", "selected_records", "llm_labels", "validation_results"]
SELECTOR = {"repositoryLocationName": "annotation_pipelines", "repositoryName": "__repository__"}

pytestmark = pytest.mark.heavy


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


class Ui:
    """A running UI."""

    def __init__(self, port: int, pages: int, shop: Fixture) -> None:
        self.url, self.pages, self.shop = f"http://127.0.0.1:{port}", f"http://127.0.0.1:{pages}", shop

    def ask(self, query: str, **variables: Any) -> Any:
        """The data of a GraphQL query."""
        body = json.dumps({"query": query, "variables": variables}).encode()
        request = urllib.request.Request(f"{self.url}/graphql", body, {"Content-Type": "application/json"})
        with urllib.request.urlopen(request, timeout=30) as reply:
            document = json.load(reply)
        assert "errors" not in document, document["errors"]
        return document["data"]

    def wait(self, what: str, done: Callable[[], Any], seconds: float) -> Any:
        """What `done` gives once it gives something."""
        end = time.monotonic() + seconds
        while time.monotonic() < end:
            try:
                if found := done():
                    return found
            except (urllib.error.URLError, ConnectionError):
                pass
            time.sleep(0.5)
        raise AssertionError(f"{what} did not happen within {seconds:g} seconds")


@pytest.fixture(scope="module")
def ui(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Ui]:
    folder = tmp_path_factory.mktemp("workspace")
    port, pages = free_port(), free_port()
    with MockEndpoint(lambda call: answer("mlops")) as endpoint:
        partitions = {"every": "day", "start": "2020-03-16", "end": "2020-03-20"}
        shop = Fixture(
            folder, ml_records(4), declaration(annotators=openai_annotator(endpoint.url), partitions=partitions)
        )
        know_vectors(shop, but=DAY)
        environment = {k: v for k, v in os.environ.items() if k != "DAGSTER_HOME"}
        environment["PYTHONPATH"] = os.pathsep.join(filter(None, [str(QUICK_DAEMON), os.environ.get("PYTHONPATH")]))
        command = [COMMAND, "ui", "--port", str(port), "--pages-port", str(pages)]
        with (folder / "ui.log").open("w") as log:
            process = subprocess.Popen(command, cwd=folder, env=environment, stdout=log, stderr=log)
        running = Ui(port, pages, shop)
        try:
            running.wait("the UI", lambda: running.ask("{ version }"), 90)
            yield running
        finally:
            process.send_signal(signal.SIGINT)
            process.wait(60)


BACKFILL = """
mutation ($params: LaunchBackfillParams!) {
  launchPartitionBackfill(backfillParams: $params) {
    __typename
    ... on LaunchBackfillSuccess { backfillId }
    ... on PythonError { message }
  }
}"""
BACKFILL_STATUS = """
query ($id: String!) { partitionBackfillOrError(backfillId: $id) { ... on PartitionBackfill { status } } }"""
NODES = """
query ($keys: [AssetKeyInput!]!, $day: String!) {
  assetNodes(assetKeys: $keys) {
    id
    assetKey { path }
    staleStatus(partition: $day)
    staleCauses(partition: $day) { reason }
    partitionStats { numMaterialized numFailed numPartitions }
    latestMaterializationByPartition(partitions: [$day]) {
      metadataEntries { __typename label ... on MarkdownMetadataEntry { mdStr } ... on UrlMetadataEntry { url } }
    }
  }
}"""
CHECKS = """
query ($key: AssetKeyInput!) {
  assetNodeOrError(assetKey: $key) { ... on AssetNode {
    assetChecksOrError { ... on AssetChecks { checks { name executionForLatestMaterialization { status } } } } } }
}"""
LAUNCH = """
mutation ($params: ExecutionParams!) {
  launchRun(executionParams: $params) {
    __typename ... on LaunchRunSuccess { run { runId } } ... on PythonError { message }
  }
}"""
RUNS = """
query ($filter: RunsFilter!) { runsOrError(filter: $filter) { ... on Runs { results { runId jobName status } } } }"""


def node(ui: Ui, stage: str) -> dict[str, Any]:
    (found,) = ui.ask(NODES, keys=[{"path": ["shop", stage]}], day=DAY)["assetNodes"]
    return dict(found)


def test_a_backfill_of_three_partitions_runs_through_and_tells_its_story(ui: Ui) -> None:
    params = {
        "assetSelection": [{"path": ["shop", stage]} for stage in [*STAGES, "trusted_labels"]],
        "partitionNames": THREE,
    }
    launched = ui.ask(BACKFILL, params=params)["launchPartitionBackfill"]
    assert launched["__typename"] == "LaunchBackfillSuccess", launched

    def ended() -> str | None:
        status = str(ui.ask(BACKFILL_STATUS, id=launched["backfillId"])["partitionBackfillOrError"]["status"])
        return status if status.startswith(("COMPLETED", "FAILED", "CANCELED")) else None

    assert ui.wait("the backfill", ended, 300) == "COMPLETED_SUCCESS"
    labels = node(ui, "llm_labels")
    assert labels["partitionStats"]["numMaterialized"] == 3
    entries = {e["label"]: e for e in labels["latestMaterializationByPartition"][0]["metadataEntries"]}
    assert entries["label_distribution"]["mdStr"].startswith("![label distribution](data:image/png;base64,")
    assert entries["sample"]["__typename"] == "TableMetadataEntry"
    assert {"new", "changed", "stale", "reused", "called", "cost"} <= set(entries)

    checks = ui.ask(CHECKS, key={"path": ["shop", "validation_results"]})["assetNodeOrError"]["assetChecksOrError"][
        "checks"
    ]
    assert len(checks) >= 10
    assert {
        c["name"] for c in checks if (c["executionForLatestMaterialization"] or {}).get("status") == "FAILED"
    } == set()

    docs = {
        e["label"]: e for e in node(ui, "validation_results")["latestMaterializationByPartition"][0]["metadataEntries"]
    }
    with urllib.request.urlopen(docs["data_docs"]["url"], timeout=10) as page:
        assert DAY in page.read().decode()


def test_a_refresh_labels_what_is_left_then_retrains_and_reports(ui: Ui) -> None:
    selector = {**SELECTOR, "pipelineName": "shop_refresh"}
    launched = ui.ask(LAUNCH, params={"selector": selector, "mode": "default"})["launchRun"]
    assert launched["__typename"] == "LaunchRunSuccess", launched

    def retrained() -> str | None:
        runs = ui.ask(RUNS, filter={"pipelineName": "shop_retrain"})["runsOrError"]["results"]
        return next((str(run["status"]) for run in runs if run["status"] in ("SUCCESS", "FAILURE")), None)

    assert ui.wait("the retraining", retrained, 300) == "SUCCESS"
    labelled = ui.shop.store.query("SELECT count(*) AS n FROM llm_labels WHERE state = 'labelled'")["n"].item()
    assert labelled == len(ui.shop.records)
    with urllib.request.urlopen(f"{ui.pages}/shop/reports/quality_report.html", timeout=10) as page:
        assert "mlops" in page.read().decode()


def test_a_new_sentence_in_the_guideline_shows_as_stale(ui: Ui) -> None:
    assert node(ui, "llm_labels")["staleStatus"] == "FRESH"
    ui.shop.declare(guideline="Choose the one tag a reader would look under. When in doubt, prefer other.")
    reload = 'mutation { reloadRepositoryLocation(repositoryLocationName: "annotation_pipelines") { __typename } }'
    ui.ask(reload)
    stale = ui.wait("staleness", lambda: (n := node(ui, "llm_labels"))["staleStatus"] == "STALE" and n, 60)
    assert "code version" in stale["staleCauses"][0]["reason"]
    assert node(ui, "raw_records")["staleStatus"] == "FRESH"
