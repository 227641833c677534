"""The stage synthetic_records through Dagster: a project that writes texts for a rare label, week by week."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import dagster as dg
import polars as pl
import pytest

from annotation_pipelines.annotators.factory import annotator_name, make_panel
from annotation_pipelines.annotators.fence import unfence_parts
from annotation_pipelines.annotators.pending import Wanted
from annotation_pipelines.errors import DeclarationError
from annotation_pipelines.graph.local import run_partitions
from annotation_pipelines.graph.project import PARTITIONED, partitioned_stages, project_definitions
from annotation_pipelines.project import Synthetic
from annotation_pipelines.selection.select import select_records
from annotation_pipelines.sources.ingest import ingest
from annotation_pipelines.synthetic.check import REASONS, check_generated
from tests.mock_endpoint import Act, Call, MockEndpoint, answer, completion
from tests.workspaces import LABELS, Fixture, declaration, ml_records, openai_annotator

WEEKS = ["2020-03-16", "2020-03-23"]
TONES = ["sober", "excited"]


def write(call: Call) -> Act:
    """Two texts after a seed; the second is about video where the seed's text is long, whatever was wanted."""
    parts = unfence_parts(call.text)
    assert parts is not None, "the seed is shown with what it asks for"
    wanted = json.loads(parts["wanted"])
    assert wanted["label"] == "mlops" and wanted["attributes"]["tone"] in TONES
    name = hashlib.md5(parts["text"].encode()).hexdigest()
    by = " by [EMAIL_1]" if "[EMAIL_1]" in parts["text"] else ""
    about = "video" if len(parts["text"]) % 2 else "monitoring"
    first = f"{name[:8]} serves models {name[8:16]} without downtime {name[16:24]}{by}"
    return completion(
        json.dumps({"generated": [{"text": first}, {"text": f"{name[::-1][:20]} is all about {about} {name[:12]}"}]})
    )


def behave(call: Call) -> Act:
    """Writes, judges everything good, and labels by one word."""
    system = call.body["messages"][0]["content"]
    if '"generated"' in system:
        return write(call)
    if '"rating"' in system:
        return completion('{"rating": 4, "confidence": 0.9}')
    assert "wanted" not in call.text
    return answer("computer-vision" if "video" in call.text else "mlops")


@pytest.fixture
def instance() -> Iterator[dg.DagsterInstance]:
    with dg.DagsterInstance.ephemeral() as ephemeral:
        yield ephemeral


@pytest.fixture
def endpoint() -> Iterator[MockEndpoint]:
    with MockEndpoint(behave) as mock:
        yield mock


def declared(url: str, **changes: Any) -> dict[str, Any]:
    """Made With ML by week: two further texts a record, all for the label mlops."""
    source = {"csv": "records.csv", "id": "id", "text": "{title}. {description}", "time": "created_on"}
    texts = {"labels": LABELS, "only": ["mlops"], "attributes": {"tone": TONES}}
    return declaration(
        source=source,
        task={"generation": {"texts": texts, "per_record": 2, "about": "titles of projects"}},
        annotators=openai_annotator(url, max_tokens=500, price={"input": 1, "output": 1}),
        **{"synthetic": {"judge": True, "round_trip": True}, **changes},
    )


def metadata(instance: dg.DagsterInstance, stage: str) -> dict[str, Any]:
    """What the UI shows of the latest materialization."""
    event = instance.get_latest_materialization_event(dg.AssetKey(["shop", stage]))
    assert event and event.asset_materialization
    return {name: entry.value for name, entry in event.asset_materialization.metadata.items()}


def test_the_stage_is_there_in_projects_that_generate_only(tmp_path: Path, endpoint: MockEndpoint) -> None:
    writing = Fixture(tmp_path / "a", ml_records(7), declared(endpoint.url))
    labelling = Fixture(tmp_path / "b", ml_records(7), declaration())
    assert partitioned_stages(writing.project) == (*PARTITIONED[:-1], "synthetic_records")
    assert partitioned_stages(labelling.project) == PARTITIONED
    keys = {
        shop.folder: {
            spec.key.path[-1]: spec
            for spec in project_definitions(shop.project, shop.workspace).resolve_all_asset_specs()
        }
        for shop in (writing, labelling)
    }
    spec = keys[writing.folder]["synthetic_records"]
    assert "a judge, a round trip" in (spec.description or "")
    assert "synthetic_records" not in keys[labelling.folder]
    assert "trusted_labels" not in keys[writing.folder], "what was generated is trusted once it is checked"
    assert {column.name for column in spec.metadata["dagster/column_schema"].columns} >= {"reason", "synthetic"}


def test_a_backfill_writes_checks_and_asks_nothing_twice(
    tmp_path: Path, instance: dg.DagsterInstance, endpoint: MockEndpoint
) -> None:
    shop = Fixture(tmp_path, ml_records(14), declared(endpoint.url))
    summary = run_partitions(shop.project, shop.workspace, instance, WEEKS)
    assert summary.done == WEEKS and not summary.blocked
    counts = {week: shop.facts("synthetic_records", week) for week in WEEKS}
    for facts in counts.values():
        assert facts["generated"] == 2 * facts["seeds"] == facts["kept"] + facts["dropped"] > 0
        assert facts["dropped"] == facts["dropped_round_trip"], "the mock writes about video now and then"
    assert sum(facts["dropped_round_trip"] for facts in counts.values()) > 0
    rows = shop.store.query(
        "SELECT DISTINCT label, round_trip_label, synthetic FROM synthetic_records WHERE state = 'kept'"
    )
    assert rows.rows() == [("mlops", "mlops", True)]

    shown = metadata(instance, "synthetic_records")
    last = counts[WEEKS[-1]]
    assert (shown["generated"], shown["kept"], shown["dropped"]) == (last["generated"], last["kept"], last["dropped"])
    assert shown["dropped_by_reason"] == {**dict.fromkeys(REASONS, 0), "round_trip": last["dropped_round_trip"]}
    assert shown["kept_by_label"] == {"mlops": last["kept"]}
    assert shown["diversity"]["texts"] == last["kept"] and 0 < shown["diversity"]["embedding_spread"] < 2
    assert len(shown["sample"].records) == min(8, last["kept"])
    assert shown["cost"] != "unknown"

    calls = len(endpoint.calls)
    before = shop.store.query("SELECT * FROM synthetic_records ORDER BY synthetic_id").rows()
    run_partitions(shop.project, shop.workspace, instance, WEEKS)
    assert len(endpoint.calls) == calls
    assert shop.store.query("SELECT * FROM synthetic_records ORDER BY synthetic_id").rows() == before


def test_what_was_wanted_survives_the_redaction_of_the_seed(tmp_path: Path, endpoint: MockEndpoint) -> None:
    records = ml_records(7)
    records = records.with_columns(title="title" + pl.lit(" by jane.doe@example.org"))
    shop = Fixture(tmp_path, records, declared(endpoint.url, privacy={"redact": ["email"]}))
    ingest(shop.store, shop.project, WEEKS[0])
    select_records(shop.store, shop.project, WEEKS[0])
    panel = make_panel(shop.project, shop.store)
    counts = panel.label(shop.store, Wanted.of_partition(WEEKS[0]), WEEKS[0])
    assert counts.states["labelled"] == counts.selected > 0
    assert all("jane.doe" not in json.dumps(call.body) and "[EMAIL_1]" in call.text for call in endpoint.calls)
    rows = shop.store.query("SELECT label FROM llm_labels WHERE annotator = ?", [annotator_name(shop.project)])
    entries = [entry for label in rows["label"] for entry in json.loads(label)["generated"]]
    shown = [json.loads((unfence_parts(call.text) or {})["wanted"]) for call in endpoint.calls]
    assert "jane.doe" not in json.dumps(entries), "what is personal in a seed does not come back"
    assert sum("[EMAIL_1]" in entry["text"] for entry in entries) == len(entries) / 2
    checked = check_generated(shop.store, shop.project, WEEKS[0], annotator_name(shop.project), Synthetic())
    assert checked.dropped["placeholder"] == len(entries) / 2
    assert {json.dumps(entry["attributes"]) for entry in entries} == {json.dumps(wish["attributes"]) for wish in shown}


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"annotators": ["embedded"]}, "the embedded annotator cannot serve task: generation"),
        ({"synthetic": {"judge": {"annotator": "nobody"}}}, "expected the name of one"),
        ({"synthetic": {"annotators": ["embedded"], "judge": True}}, "cannot read a rubric"),
        (
            {"task": {"generation": {"self_instruct": {}}}, "synthetic": {"round_trip": True}},
            "found mode self_instruct",
        ),
        ({"task": {"classification": {"labels": LABELS}}}, "serves task: generation only, found classification"),
    ],
)
def test_checks_that_cannot_be_made_are_refused_with_the_declaration(
    tmp_path: Path, endpoint: MockEndpoint, changes: dict[str, Any], message: str
) -> None:
    shop = Fixture(tmp_path, ml_records(7), {**declared(endpoint.url), **changes})
    with pytest.raises(DeclarationError, match=message):
        _ = shop.project
