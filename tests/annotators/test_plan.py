"""The plan before a run: what it says is what the run then does, and nothing is sent."""

from __future__ import annotations

import json
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import polars as pl
import pytest

from annotation_pipelines.annotators.counts import Occasion
from annotation_pipelines.annotators.factory import make_panel
from annotation_pipelines.annotators.pending import Wanted
from annotation_pipelines.annotators.plan import Plan, plan_run
from annotation_pipelines.errors import AnnotatorError, DeclarationError
from annotation_pipelines.selection.select import select_records
from annotation_pipelines.sources.gold import gather_human_labels
from annotation_pipelines.sources.ingest import ingest
from annotation_pipelines.store.schema import HELD_OUT
from tests.annotators.label_scene import KEY
from tests.mock_batches import MockBatches
from tests.mock_endpoint import MockEndpoint, answer, error
from tests.workspaces import Fixture, declaration, ml_records, openai_annotator

KEYS = ["2020-03-16", "2020-03-23", "2020-03-30"]


@pytest.fixture
def server() -> MockBatches:
    return MockBatches(lambda call: answer("mlops"))


@pytest.fixture
def mock(server: MockBatches, monkeypatch: pytest.MonkeyPatch) -> Iterator[MockEndpoint]:
    monkeypatch.setenv("OPENAI_API_KEY", KEY)
    with MockEndpoint(lambda call: answer("mlops"), routes=server.routes) as endpoint:
        yield endpoint


@pytest.fixture
def weekly(tmp_path: Path, mock: MockEndpoint) -> Fixture:
    return Fixture(tmp_path, ml_records(), declaration(annotators=openai_annotator(mock.url)))


@pytest.fixture
def shop(weekly: Fixture) -> Fixture:
    """The same without partitions."""
    weekly.declare(partitions={"every": "none"})
    return weekly


def planned(shop: Fixture, *keys: str) -> Plan:
    return plan_run(shop.store, shop.project, list(keys) or None)


def run(shop: Fixture, keys: Sequence[str] = ("all",), *, held_out: bool = False) -> int:
    """What a run does up to the labels; how many requests were answered."""
    store, project = shop.store, shop.project
    occasion = Occasion("run", None, project.declaration.budget)
    gather_human_labels(store, project)
    called = 0
    for key in keys:
        ingest(store, project, key)
        select_records(store, project, key)
        called += make_panel(project, store).label(store, Wanted.of_partition(key), key, occasion=occasion).called
    if held_out:
        called += make_panel(project, store).label(store, Wanted.held_out(), HELD_OUT, occasion=occasion).called
    return called


def test_before_the_first_ingest_the_plan_is_what_the_run_then_does(shop: Fixture, mock: MockEndpoint) -> None:
    plan = planned(shop)
    (member,) = plan.members
    assert mock.calls == []
    assert member.records == plan.not_ingested == len(shop.records)
    assert plan.total.calls == run(shop) == len(mock.calls)
    plan = planned(shop)
    assert (plan.not_ingested, plan.members[0].records, plan.total.calls, plan.total.cost_usd) == (0, 0, 0, 0.0)
    assert plan.members[0].prompt is None


def test_of_a_changed_source_what_is_new_changed_and_gone_counts(shop: Fixture, mock: MockEndpoint) -> None:
    run(shop)
    first, second, third = shop.records["id"][0], shop.records["id"][1], shop.records["id"][2]
    text = pl.when(pl.col("id") == first).then(pl.lit("another title")).otherwise("title").alias("title")
    new = shop.records.filter(pl.col("id") == third).with_columns(id=pl.lit("new"), title=pl.lit("a new one"))
    shop.write_records(pl.concat([shop.records.filter(pl.col("id") != second).with_columns(text), new]))
    plan = planned(shop)
    assert (plan.not_ingested, plan.total.calls) == (2, 2)
    assert run(shop) == 2


def test_another_guideline_and_back_again(shop: Fixture) -> None:
    run(shop)
    old = shop.attributes["guideline"]
    shop.declare(guideline="Be bold.")
    assert planned(shop).total.calls == len(shop.records) == run(shop)
    shop.declare(guideline=old)
    (member,) = planned(shop).members
    assert (member.records, member.from_ledger, member.forecast.calls) == (len(shop.records), len(shop.records), 0)
    assert run(shop) == 0


def test_equal_texts_count_once(shop: Fixture) -> None:
    shop.write_records(shop.records.with_columns(title=pl.lit("same"), description=pl.lit("text")))
    (member,) = planned(shop).members
    assert (member.records, member.forecast.calls) == (len(shop.records), 1)
    assert run(shop) == 1


@pytest.mark.parametrize(
    "selection",
    [
        {"strategy": "margin", "per_partition": 3},
        {"strategy": "hybrid", "rounds": 2, "per_round": 2, "per_partition": 3},
        {"strategy": "typiclust", "rounds": 1, "per_round": 3},
    ],
)
def test_an_active_choice_is_planned_by_its_number_beside_what_is_held_out(
    weekly: Fixture, selection: dict[str, Any]
) -> None:
    weekly.declare(selection=selection, evaluation={"share": 0.5})
    asked = planned(weekly).members[0].records
    gather_human_labels(weekly.store, weekly.project)
    held_out = weekly.store.query("SELECT record_id FROM human_labels WHERE role = 'evaluation'")["record_id"]
    week = pl.col("created_on").str.to_datetime().dt.truncate("1w")
    candidates = weekly.records.filter(~pl.col("id").is_in(held_out.implode()))
    chosen = sum(min(3, n) for n in candidates.group_by(week).len()["len"])
    assert len(held_out) and asked == chosen + len(held_out)
    weekly.declare(evaluation={"share": 0.5, "teacher": False})
    assert planned(weekly).members[0].records == chosen


def test_what_the_selection_leaves_out_does_not_count(weekly: Fixture) -> None:
    weekly.declare(selection={"strategy": "random", "per_partition": 3})
    keys = KEYS[:2]
    assert planned(weekly, *keys).total.calls == 6 == run(weekly, keys)
    chosen = weekly.store.query("SELECT record_id FROM selected_records WHERE state = 'selected'")["record_id"]
    extra = weekly.records.head(1).with_columns(id=pl.lit("new"), title=pl.lit("a new one"))
    weekly.write_records(pl.concat([weekly.records.filter(pl.col("id") != chosen[0]), extra]))
    assert planned(weekly, *keys).total.calls == 1 == run(weekly, keys), "one place is free"
    weekly.declare(selection={"strategy": "all", "per_partition": 5})
    assert planned(weekly, *keys).total.calls == 4


def test_only_the_partitions_that_are_asked_for_count(weekly: Fixture) -> None:
    first = planned(weekly, KEYS[0]).total.calls
    assert planned(weekly).total.calls == first + planned(weekly, *KEYS[1:]).total.calls
    assert first == run(weekly, KEYS[:1])


def test_records_that_the_source_no_longer_has_count_where_they_are_kept(shop: Fixture) -> None:
    source = {**shop.attributes["source"], "on_delete": "keep"}
    shop.declare(source=source)
    run(shop)
    shop.write_records(shop.records.tail(5))
    shop.declare(guideline="Be bold.")
    assert planned(shop).total.calls == len(ml_records()) == run(shop)


def test_people_s_records_are_not_asked_about_and_held_out_ones_are(shop: Fixture, mock: MockEndpoint) -> None:
    held_out = ml_records(28).filter(~pl.col("id").is_in(shop.records["id"].implode()))
    held_out.write_csv(shop.folder / "held_out.csv")
    shop.declare(demonstrations={"pool": 5, "choose": "fixed"}, evaluation={"csv": "held_out.csv"})
    everything = len(shop.records) - 5 + len(held_out)
    assert planned(shop).total.calls == everything
    assert planned(shop, "all").total.calls == len(shop.records) - 5, "held-out ones belong to no partition"
    shop.declare(evaluation={"csv": "held_out.csv", "teacher": False})
    assert planned(shop).total.calls == len(shop.records) - 5
    shop.declare(evaluation={"csv": "held_out.csv"})
    assert run(shop, held_out=True) == everything
    assert planned(shop).total.calls == 0


def test_a_repair_that_was_cut_off_is_one_call(shop: Fixture, mock: MockEndpoint) -> None:
    shop.write_records(shop.records.head(1))
    mock.behave = lambda call: answer("nonsense") if len(call.body["messages"]) == 2 else error(401)
    with pytest.raises(AnnotatorError):
        run(shop)
    mock.behave = lambda call: answer("mlops")
    (member,) = planned(shop).members
    assert member.from_ledger == 0
    assert len(json.loads(member.prompt or "")["messages"]) == 4, "what is sent first is the repair"
    assert member.forecast.calls == 1 == run(shop)


def test_what_a_batch_is_working_on_is_not_to_be_bought(shop: Fixture, server: MockBatches, mock: MockEndpoint) -> None:
    shop.declare(annotators=openai_annotator(mock.url, mode="batch"))
    run(shop)
    (member,) = planned(shop).members
    assert (member.in_batches, member.forecast.calls) == (len(shop.records) - 1, 0), "the first request went live"
    server.finish("batch_0")
    assert (run(shop), planned(shop).members[0].records) == (0, 0)


def test_a_jury_costs_what_its_members_cost(shop: Fixture, mock: MockEndpoint) -> None:
    one, two = openai_annotator(mock.url, price={"input": 1, "output": 1}), openai_annotator(mock.url, seed=2)
    shop.declare(annotators=[{**one[0], "name": "one"}, {**two[0], "name": "two"}, {"embedded": {}}])
    plan = planned(shop)
    assert [member.forecast.calls for member in plan.members] == [len(shop.records)] * 2 + [0]
    assert plan.members[0].forecast.cost_usd and plan.members[2].forecast.cost_usd == 0.0
    assert plan.total.cost_usd is None, "the price of one is unknown"
    assert (plan.total.calls, plan.at_most) == (2 * len(shop.records), False)


def test_a_cascade_costs_at_most_what_all_records_cost_and_afterwards_nothing(
    shop: Fixture, mock: MockEndpoint
) -> None:
    mock.behave = lambda call: answer("mlops", 0.9 if call.number % 3 else 0.1)
    one, two = openai_annotator(mock.url), openai_annotator(mock.url, model="gpt-4o-mini")
    shop.declare(annotators=[*one, *two], panel={"combine": "cascade"})
    plan = planned(shop)
    assert (plan.total.calls, plan.at_most) == (2 * len(shop.records), True)
    assert len(shop.records) < run(shop) < 2 * len(shop.records)
    assert [member.records for member in planned(shop).members] == [0, 0]
    shop.declare(panel={"combine": "cascade", "min_confidence": 0.95})
    plan = planned(shop)
    assert plan.members[0].forecast.calls == 0
    assert plan.total.calls == run(shop), "what was sure enough before is not any more"


def test_tokens_and_dollars_are_learned_from_replies(weekly: Fixture, mock: MockEndpoint) -> None:
    weekly.declare(annotators=openai_annotator(mock.url, price={"input": 10, "output": 10}))
    before = planned(weekly, KEYS[1]).total
    assert "assumed" in before.words and before.cost_usd == pytest.approx(before.tokens * 1e-5)
    run(weekly, [KEYS[0]])
    after = planned(weekly, KEYS[1]).total
    assert "assumed" not in after.words
    assert after.calls == run(weekly, [KEYS[1]])
    assert after.completion_tokens == 10 * after.calls
    assert after.prompt_tokens == pytest.approx(100 * after.calls, rel=0.1)
    assert after.cost_usd == pytest.approx(after.calls * 110 * 1e-5, rel=0.1)


def test_personal_data_are_not_in_the_prompt_that_is_shown(shop: Fixture, mock: MockEndpoint) -> None:
    mail = pl.when(pl.int_range(pl.len()) == 0).then(pl.lit("Write to mary@example.com")).otherwise("description")
    records = ml_records(7).sort("id").with_columns(description=mail)
    shop.write_records(records)
    shop.declare(privacy={"redact": ["email"]})
    (member,) = planned(shop).members
    assert member.prompt and "mary@example.com" not in member.prompt and "[EMAIL_1]" in member.prompt
    sent: dict[str, Any] = json.loads(member.prompt)
    assert mock.calls == []
    assert run(shop) == member.forecast.calls
    assert mock.calls[0].body == sent, "the prompt that is shown is the one that is sent"


def test_on_this_machine_nothing_is_sent_and_nothing_costs(shop: Fixture) -> None:
    shop.declare(annotators=[{"embedded": {}}])
    (member,) = planned(shop).members
    assert (member.records, member.forecast.calls, member.forecast.cost_usd) == (len(shop.records), 0, 0.0)
    assert member.prompt is None


def test_no_partition_exists_yet(shop: Fixture) -> None:
    shop.declare(partitions={"every": "week", "start": "2099-01-01"})
    assert (planned(shop).not_ingested, planned(shop).total.calls) == (0, 0)


def test_a_prompt_s_file_that_is_not_there_says_what_to_do(shop: Fixture) -> None:
    shop.declare(prompt="nowhere.jinja")
    with pytest.raises(DeclarationError, match=r"nowhere\.jinja: the prompt's template cannot be read.*beside defs"):
        planned(shop)
