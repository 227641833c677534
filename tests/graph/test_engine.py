"""The annotation engine under Dagster: budgets, panels, batches and secrets through real runs and real HTTP."""

from __future__ import annotations

import json
import logging
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import dagster as dg
import pytest

from annotation_pipelines.annotators.refresh import unlabelled
from annotation_pipelines.graph.local import RunFailed, dagster_instance, run_partitions
from annotation_pipelines.graph.project import project_definitions
from annotation_pipelines.graph.stage import money
from tests.annotators.label_scene import KEY
from tests.mock_batches import MockBatches
from tests.mock_endpoint import Act, Call, MockEndpoint, answer, completion, error
from tests.workspaces import LABELS, Fixture, declaration, ml_records, openai_annotator

pytestmark = pytest.mark.heavy

WEEKS = ["2020-03-16", "2020-03-23", "2020-03-30"]
PRICE = {"input": 10, "output": 10}


@pytest.fixture
def server() -> MockBatches:
    return MockBatches(lambda call: answer("mlops"))


@pytest.fixture
def mock(server: MockBatches, monkeypatch: pytest.MonkeyPatch) -> Iterator[MockEndpoint]:
    monkeypatch.setenv("OPENAI_API_KEY", KEY)
    with MockEndpoint(lambda call: answer("mlops"), routes=server.routes) as endpoint:
        yield endpoint


@pytest.fixture
def shop(tmp_path: Path, mock: MockEndpoint) -> Fixture:
    annotators = openai_annotator(mock.url, price=PRICE, concurrency=1)
    return Fixture(tmp_path, ml_records(), declaration(annotators=annotators, quality={"min_labelled": 0.0}))


def materialize(
    shop: Fixture, week: str, stages: tuple[str, ...] = ("llm_labels",), **tags: str
) -> dg.ExecuteInProcessResult:
    """Run stages of the backfill job on a week, as Dagster's launchers do."""
    project = shop.project
    job = project_definitions(project, shop.workspace).resolve_job_def("shop_backfill")
    keys = [dg.AssetKey(["shop", stage]) for stage in stages]
    with dg.DagsterInstance.ephemeral() as instance:
        return job.execute_in_process(
            instance=instance, partition_key=week, asset_selection=keys, tags=tags, raise_on_error=False
        )


UP_TO_LABELS = ("human_labels", "raw_records", "embeddings", "selected_records", "llm_labels")


def shown(result: dg.ExecuteInProcessResult, stage: str) -> dict[str, Any]:
    """The metadata of a stage."""
    (event,) = result.asset_materializations_for_node(f"shop__{stage}")
    return {name: value.value for name, value in event.metadata.items()}


def check(result: dg.ExecuteInProcessResult, name: str) -> dg.AssetCheckEvaluation:
    (found,) = [evaluation for evaluation in result.get_asset_check_evaluations() if evaluation.check_name == name]
    return found


def test_a_run_says_before_what_it_will_cost_and_after_what_the_budget_left_out(
    shop: Fixture, mock: MockEndpoint
) -> None:
    shop.declare(budget={"per_run_tokens": 1_600})
    first = materialize(shop, WEEKS[0], UP_TO_LABELS)
    assert first.success, "a spent budget is no failure"
    plan, labels, within = shown(first, "selected_records"), shown(first, "llm_labels"), check(first, "within_budget")
    records = plan["selected"]
    assert (plan["planned_calls"], "assumed" in plan["planned_from"]) == (records, True)
    assert plan["planned_tokens"] > 0 and plan["planned_cost"].startswith("$0.")
    assert 0 < labels["labelled"] < records
    assert (labels["over_budget"], labels["called"]) == (records - labels["labelled"], labels["labelled"])
    assert (within.passed, within.severity) == (False, dg.AssetCheckSeverity.WARN)
    assert within.metadata["not_asked"].value == labels["over_budget"]

    shop.declare(budget={})
    rest = materialize(shop, WEEKS[0], ("selected_records", "llm_labels"))
    plan, after = shown(rest, "selected_records"), shown(rest, "llm_labels")
    assert plan["planned_calls"] == labels["over_budget"] == after["called"]
    assert after["cost"] == money(0.0011 * after["called"])
    assert check(rest, "within_budget").passed
    assert len(mock.billed) == len(set(mock.billed)) == records, "nothing is bought twice"


def test_a_backfill_shares_its_budget_over_its_runs(shop: Fixture, mock: MockEndpoint) -> None:
    shop.declare(budget={"per_backfill_tokens": 1_600})
    for week in WEEKS[:2]:
        materialize(shop, week, UP_TO_LABELS[:-1])
    first = shown(materialize(shop, WEEKS[0], **{"dagster/backfill": "b1"}), "llm_labels")
    second = shown(materialize(shop, WEEKS[1], **{"dagster/backfill": "b1"}), "llm_labels")
    other = shown(materialize(shop, WEEKS[1], **{"dagster/backfill": "b2"}), "llm_labels")
    assert first["labelled"] and first["over_budget"]
    assert "labelled" not in second and second["called"] == 0
    assert other["labelled"]
    spent = shop.store.query(
        "SELECT backfill_id, sum(prompt_tokens + completion_tokens)::BIGINT AS n FROM llm_calls GROUP BY ALL"
    )
    assert {name: n <= 1_600 for name, n in spent.iter_rows()} == {"b1": True, "b2": True}


def test_money_without_a_price_fails_in_one_line_before_anything_is_sent(shop: Fixture, mock: MockEndpoint) -> None:
    shop.declare(annotators=openai_annotator(mock.url), budget={"per_day_usd": 5})
    with dg.DagsterInstance.ephemeral() as instance, pytest.raises(RunFailed, match="price of the model") as caught:
        run_partitions(shop.project, shop.workspace, instance, [WEEKS[0]])
    assert "\n" not in str(caught.value) and "per_day_usd" in str(caught.value)
    assert mock.calls == []


def test_a_jury_with_a_prompt_of_the_user_s_and_demonstrations_publishes_its_labels(
    shop: Fixture, mock: MockEndpoint, tmp_path: Path
) -> None:
    """The declaration as a whole: template file, nearest demonstrations, redaction, weights."""
    (shop.folder / "prompt.jinja").write_text(
        "{{ instructions }}\n{{ guideline | upper }}\n{{ records }}\nAnswer as JSON:\n"
        "{% for field in answer %}{{ field.name }}: {{ field.description }}\n{% endfor %}"
    )
    with MockEndpoint(lambda call: answer("other", 0.6)) as second:
        one = openai_annotator(mock.url)[0] | {"name": "one"}
        two = openai_annotator(second.url)[0] | {"name": "two"}
        shop.declare(
            annotators=[one, two, {"embedded": {}}],
            panel={"weights": {"one": 3}},
            prompt="prompt.jinja",
            demonstrations={"pool": 6, "per_prompt": 3},
        )
        with dg.DagsterInstance.ephemeral() as instance:
            assert run_partitions(shop.project, shop.workspace, instance, WEEKS[:1]).done == WEEKS[:1]
    rows = shop.store.query("SELECT annotator, label, confidence FROM llm_labels")
    assert set(rows["annotator"]) == {"jury"} and set(rows["label"]) == {"mlops"}
    assert rows["confidence"].min() == pytest.approx(3 / 5)
    votes = shop.store.query("SELECT annotator, count(*)::BIGINT AS n FROM llm_votes GROUP BY ALL")
    assert dict(votes.iter_rows()) == dict.fromkeys(["one", "two", "embedded"], len(rows))
    trusted = shop.store.query("SELECT count(*) AS n FROM trusted_labels WHERE origin = 'silver'")["n"].item()
    assert trusted + shop.facts("selected_records", WEEKS[0])["gold"] >= len(rows) > 0

    pool = set(shop.store.query("SELECT content FROM human_labels WHERE role = 'demonstration'")["content"])
    for call in mock.calls:
        system, *messages, record = [message["content"] for message in call.body["messages"]]
        assert "CHOOSE THE ONE TAG" in system, "the user's template"
        demonstrations = [message.splitlines()[1] for message in messages[::2]]
        assert len(demonstrations) == 3 and call.text not in demonstrations
        assert all(any(content.startswith(line) for content in pool) for line in demonstrations)
        assert record.splitlines()[1] == call.text.splitlines()[0]


def test_a_batch_goes_through_two_runs(shop: Fixture, mock: MockEndpoint, server: MockBatches) -> None:
    shop.declare(annotators=openai_annotator(mock.url, mode="batch", price=PRICE))
    first = shown(materialize(shop, WEEKS[0], UP_TO_LABELS), "llm_labels")
    assert (first["labelled"], first["submitted"], len(server.batches)) == (1, first["new"] - 1, 1)
    panel, fingerprint = shop.store.query("SELECT DISTINCT annotator, fingerprint FROM llm_labels").row(0)
    assert _stale(shop, panel, fingerprint) == 0, "what waits for a batch is not taken up by a refresh"
    server.finish("batch_0")
    second = shown(materialize(shop, WEEKS[0]), "llm_labels")
    assert (second["labelled"], second["called"]) == (first["new"], 0)
    assert len(mock.calls) == 1


def test_what_seems_to_wait_for_a_batch_that_does_not_exist_is_taken_up_by_a_refresh(shop: Fixture) -> None:
    """A run that was killed before it had submitted what it said it would."""
    materialize(shop, WEEKS[0], UP_TO_LABELS)
    with shop.store.transaction() as con:
        con.execute("UPDATE llm_labels SET state = 'submitted', request_key = 'nowhere'")
    annotator, fingerprint, waiting = shop.store.query(
        "SELECT annotator, fingerprint, count(*) FROM llm_labels GROUP BY ALL"
    ).row(0)
    assert _stale(shop, annotator, fingerprint) == waiting


def _stale(shop: Fixture, annotator: str, fingerprint: str) -> int:
    return int(unlabelled(shop.store, annotator, fingerprint)["stale"].sum())


def test_a_key_that_the_endpoint_repeats_is_in_no_file_no_log_and_no_metadata(
    shop: Fixture,
    mock: MockEndpoint,
    tmp_path: Path,
    _machine_state: Path,
    monkeypatch: pytest.MonkeyPatch,
    capfd: pytest.CaptureFixture[str],
    caplog: pytest.LogCaptureFixture,
) -> None:
    labels = list(LABELS)

    def echo(call: Call) -> Act:
        acts = [
            completion(json.dumps({"rationale": f"I was given {KEY}", "label": labels[0], "confidence": 0.9})),
            completion(f"{KEY}"),
            error(400, f"{KEY} cannot be answered", headers={"x-key": KEY}),
            completion(None, refusal=f"{KEY} may not"),
        ]
        return acts[call.number % len(acts)]

    mock.behave = echo
    shop.declare(annotators=openai_annotator(mock.url, rationale=True))
    monkeypatch.setenv("DAGSTER_HOME", str(tmp_path / ".dagster"))
    with caplog.at_level(logging.DEBUG), dagster_instance(shop.workspace) as instance:
        run_partitions(shop.project, shop.workspace, instance, WEEKS[:1])
        mock.behave = lambda call: error(401, f"Incorrect API key provided: {KEY}")
        with pytest.raises(RunFailed) as caught:
            run_partitions(shop.project, shop.workspace, instance, WEEKS[1:2])
    out, err = capfd.readouterr()
    assert all(KEY not in text for text in (str(caught.value), out, err, caplog.text))
    files = [path for folder in (tmp_path, _machine_state) for path in folder.rglob("*") if path.is_file()]
    assert {".duckdb", ".db"} <= {path.suffix for path in files}, "the store and Dagster's own files"
    assert [path for path in files if KEY.encode() in path.read_bytes()] == []
    assert KEY not in repr(shop.store.query("SELECT * FROM llm_calls").rows())
