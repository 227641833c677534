"""A record that is shown in several views: one conversation, a call for each, gone on with from the ledger."""

from __future__ import annotations

import json
import subprocess
import sys
import threading
from collections import Counter
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import polars as pl
import pytest

from annotation_pipelines.annotators.counts import AnnotationCounts, Occasion
from annotation_pipelines.annotators.factory import make_panel
from annotation_pipelines.annotators.fence import unfence_parts
from annotation_pipelines.annotators.pending import Wanted
from annotation_pipelines.annotators.plan import plan_run
from annotation_pipelines.errors import DeclarationError
from annotation_pipelines.quality.position_bias import position_biases
from annotation_pipelines.selection.select import select_records
from annotation_pipelines.sources.gold import gather_human_labels
from annotation_pipelines.sources.ingest import ingest
from annotation_pipelines.tasks.metrics.preference import position_bias
from annotation_pipelines.workspace import Workspace
from tests.annotators.label_scene import KEY
from tests.mock_batches import MockBatches
from tests.mock_endpoint import Act, Call, MockEndpoint, completion, error, hang
from tests.workspaces import Fixture, openai_annotator

PAIRS = pl.DataFrame(
    {
        "id": ["good_first", "good_second", "equal", "empty", "both_empty"],
        "question": ["q1", "q2", "q3", "q4", "q5"],
        "one": ["good", "bad", "the same", "", ""],
        "two": ["bad", "good", "the same", "good", ""],
    }
)

Judge = Callable[[str, str], str]


def fair(a: str, b: str) -> str:
    """Prefers what is good, wherever it stands."""
    return "tie" if a == b else "A" if a == "good" else "B"


def for_the_first(a: str, b: str) -> str:
    """Prefers what stands first, whatever it is."""
    return "A"


def judging(judge: Judge, confidence: float = 0.8) -> Callable[[Call], Act]:
    """An endpoint's behaviour: what a judge says of the two responses as they are shown."""

    def behave(call: Call) -> Act:
        parts = unfence_parts(call.text)
        assert parts is not None and list(parts) == ["question", "response_a", "response_b"]
        said = judge(parts["response_a"], parts["response_b"])
        return completion(json.dumps({"preference": said, "confidence": confidence}))

    return behave


@pytest.fixture
def mock(monkeypatch: pytest.MonkeyPatch) -> Iterator[MockEndpoint]:
    monkeypatch.setenv("OPENAI_API_KEY", KEY)
    with MockEndpoint(judging(fair)) as endpoint:
        yield endpoint


@pytest.fixture
def pairs(tmp_path: Path, mock: MockEndpoint) -> Fixture:
    return Fixture(
        tmp_path,
        PAIRS,
        {
            "source": {
                "csv": "records.csv",
                "id": "id",
                "parts": {"question": "{question}", "response_a": "{one}", "response_b": "{two}"},
            },
            "task": {"preference": {}},
            "annotators": openai_annotator(mock.url),
        },
    )


def run(pairs: Fixture) -> AnnotationCounts:
    """What a run does up to the labels."""
    store, project = pairs.store, pairs.project
    gather_human_labels(store, project)
    ingest(store, project, "all")
    select_records(store, project, "all")
    occasion = Occasion("run", None, project.declaration.budget)
    return make_panel(project, store).label(store, Wanted.of_partition("all"), "all", occasion=occasion)


def labels(pairs: Fixture) -> dict[str, tuple[Any, ...]]:
    """State, label and confidence by id."""
    rows = pairs.store.query("SELECT record_id, state, label, confidence FROM llm_labels").rows()
    return {record_id: tuple(rest) for record_id, *rest in rows}


def scores(pairs: Fixture) -> list[dict[str, float]]:
    """How both orders voted on each record."""
    return [json.loads(found) for found in pairs.store.query("SELECT scores FROM llm_labels")["scores"]]


def shown(mock: MockEndpoint) -> Counter[tuple[str, str]]:
    """How often each pair of responses was shown, in this order."""
    found = [unfence_parts(call.text) or {} for call in mock.calls]
    return Counter((parts["response_a"], parts["response_b"]) for parts in found)


def test_every_record_is_asked_about_in_both_orders(pairs: Fixture, mock: MockEndpoint) -> None:
    counts = run(pairs)
    assert counts.called == len(mock.calls) == 2 * len(PAIRS)
    asked = shown(mock)
    assert asked[("good", "bad")] == asked[("bad", "good")] == 2
    assert asked[("the same", "the same")] == asked[("", "")] == 2
    assert asked[("", "good")] == asked[("good", "")] == 1
    assert labels(pairs) == {
        "good_first": ("labelled", "A", 0.8),
        "good_second": ("labelled", "B", 0.8),
        "equal": ("labelled", "tie", 0.8),
        "empty": ("labelled", "B", 0.8),
        "both_empty": ("labelled", "tie", 0.8),
    }
    (bias,) = position_bias(scores(pairs))
    assert (bias.records, bias.position_consistency, bias.first_shown_wins) == (5, 1, 0.5)


def test_an_annotator_that_follows_the_order_is_found_out(pairs: Fixture, mock: MockEndpoint) -> None:
    mock.behave = judging(for_the_first)
    run(pairs)
    assert set(labels(pairs).values()) == {("labelled", "tie", 0.4)}
    (bias,) = position_bias(scores(pairs))
    assert (bias.position_consistency, bias.first_shown_wins) == (0, 1)


def test_one_order_is_one_call(pairs: Fixture, mock: MockEndpoint) -> None:
    pairs.declare(task={"preference": {"both_orders": False}})
    assert run(pairs).called == len(mock.calls) == len(PAIRS)


def test_an_answer_that_was_kept_is_not_asked_for_again(pairs: Fixture, mock: MockEndpoint) -> None:
    """The endpoint breaks down after the first order of every record; the next run asks for the second alone."""
    judge = judging(fair)
    seen: set[str] = set()

    def once(call: Call) -> Act:
        question = (unfence_parts(call.text) or {})["question"]
        if question in seen:
            return error(500)
        seen.add(question)
        return judge(call)

    mock.behave = once
    pairs.declare(annotators=openai_annotator(mock.url, max_retries=0))
    run(pairs)
    assert {state for state, *_ in labels(pairs).values()} == {"failed"}
    mock.behave = judge
    before = len(mock.calls)
    assert plan_run(pairs.store, pairs.project).total.calls == len(PAIRS)
    counts = run(pairs)
    assert counts.called == len(mock.calls) - before == len(PAIRS)
    assert {state for state, *_ in labels(pairs).values()} == {"labelled"}
    assert labels(pairs)["good_second"] == ("labelled", "B", 0.8)
    assert run(pairs).called == 0


def test_a_run_that_was_killed_between_the_orders_goes_on_from_the_journal(pairs: Fixture, mock: MockEndpoint) -> None:
    """The endpoint never answers in the second order: the process dies while it waits there."""
    judge, waits = judging(fair), threading.Event()
    seen: set[str] = set()

    def stops(call: Call) -> Act:
        question = (unfence_parts(call.text) or {})["question"]
        if question not in seen:
            seen.add(question)
            return judge(call)
        waits.set()
        return hang()

    mock.behave = stops
    process = subprocess.Popen([sys.executable, "-m", "tests.annotators.test_views", str(pairs.workspace.root)])
    try:
        assert waits.wait(60)
    finally:
        process.kill()
        process.wait()
    assert pairs.store.query("SELECT count(*) FROM llm_labels").item() == 0
    kept, before = len(seen), len(mock.calls)
    mock.behave = judge
    counts = run(pairs)
    assert (counts.recovered, counts.called) == (kept, 2 * len(PAIRS) - kept)
    assert len(mock.calls) - before == counts.called
    assert labels(pairs)["empty"] == ("labelled", "B", 0.8)


def test_an_invalid_answer_is_repaired_in_the_view_it_was_given_in(pairs: Fixture, mock: MockEndpoint) -> None:
    """Only the swapped order of one record goes wrong at first: its repair is about that order, and nothing else is
    asked again.
    """
    judge = judging(fair)

    def stumbles(call: Call) -> Act:
        parts = unfence_parts(call.text) or {}
        wrong = parts["question"] == "q2" and parts["response_a"] == "good" and call.attempt == 0
        return completion('{"preference": "the better one"}') if wrong else judge(call)

    mock.behave = stumbles
    counts = run(pairs)
    assert (counts.called, counts.repairs) == (2 * len(PAIRS) + 1, 1)
    assert labels(pairs)["good_second"] == ("labelled", "B", 0.8)
    (repair,) = [call for call in mock.calls if "the better one" in json.dumps(call.body)]
    assert (unfence_parts(repair.text) or {})["response_a"] == "good"


def test_an_answer_that_stays_invalid_in_one_view_leaves_the_record_invalid(pairs: Fixture, mock: MockEndpoint) -> None:
    judge = judging(fair)

    def never(call: Call) -> Act:
        parts = unfence_parts(call.text) or {}
        wrong = parts["question"] == "q1" and parts["response_a"] == "bad"
        return completion('{"preference": "neither"}') if wrong else judge(call)

    mock.behave = never
    run(pairs)
    state, label, _ = labels(pairs)["good_first"]
    assert (state, label) == ("invalid", None)
    assert {state for name, (state, *_) in labels(pairs).items() if name != "good_first"} == {"labelled"}


def test_several_answers_a_view_are_voted_on_before_the_orders_are_compared(pairs: Fixture, mock: MockEndpoint) -> None:
    def choices(call: Call) -> Act:
        parts = unfence_parts(call.text) or {}
        said = fair(parts["response_a"], parts["response_b"])
        given = [said] * 2 + ["tie"]
        return completion([json.dumps({"preference": each, "confidence": 0.9}) for each in given])

    mock.behave = choices
    pairs.declare(annotators=openai_annotator(mock.url, samples=3, temperature=0.7))
    run(pairs)
    assert len(mock.calls) == 2 * len(PAIRS)
    assert labels(pairs)["good_second"][:2] == ("labelled", "B")


def test_the_plan_counts_a_call_for_every_view_that_is_still_to_be_shown(pairs: Fixture, mock: MockEndpoint) -> None:
    assert plan_run(pairs.store, pairs.project).total.calls == 2 * len(PAIRS)
    run(pairs)
    assert plan_run(pairs.store, pairs.project).total.calls == 0
    another = pl.concat([PAIRS, PAIRS.with_columns(id="new_" + pl.col("id"), question="again " + pl.col("question"))])
    pairs.write_records(another)
    assert plan_run(pairs.store, pairs.project).total.calls == 2 * len(PAIRS) == run(pairs).called


def test_equal_pairs_share_their_answers(pairs: Fixture, mock: MockEndpoint) -> None:
    pairs.write_records(pl.concat([PAIRS, PAIRS.with_columns(id="again_" + pl.col("id"))]))
    run(pairs)
    assert len(mock.calls) == 2 * len(PAIRS)
    found = labels(pairs)
    assert len(found) == 2 * len(PAIRS)
    assert found["again_empty"] == found["empty"]


def test_the_second_order_goes_with_the_next_batch(pairs: Fixture) -> None:
    server = MockBatches(judging(fair), key=KEY)
    with MockEndpoint(judging(fair), routes=server.routes) as mock:
        pairs.declare(annotators=openai_annotator(mock.url, mode="batch"))
        for _ in range(3):
            run(pairs)
            for batch_id in server.open:
                server.finish(batch_id)
        run(pairs)
        batches = [len(server.requests(batch_id)) for batch_id in server.batches]
        assert len(batches) > 1
        assert sum(batches) + len(mock.calls) == 2 * len(PAIRS)
    assert {state for state, *_ in labels(pairs).values()} == {"labelled"}
    assert labels(pairs)["good_second"] == ("labelled", "B", 0.8)


def test_the_code_against_injection_is_asked_for_in_both_orders(pairs: Fixture, mock: MockEndpoint) -> None:
    judge = judging(fair)

    def with_code(call: Call) -> Act:
        message = call.body["messages"][-1]["content"]
        fields = json.loads(json.loads(judge(call).body)["choices"][0]["message"]["content"])
        return completion(json.dumps({"code": message.rpartition("Code: ")[2], **fields}))

    mock.behave = with_code
    pairs.declare(injection={"canary": True})
    assert run(pairs).repairs == 0
    assert labels(pairs)["good_second"] == ("labelled", "B", 0.8)
    codes = {call.body["messages"][-1]["content"].rpartition("Code: ")[2] for call in mock.calls}
    assert len(codes) > len(PAIRS)


def test_the_bias_of_each_member_of_a_panel_can_be_told(pairs: Fixture, mock: MockEndpoint) -> None:
    fairly, firstly = judging(fair), judging(for_the_first)
    mock.behave = lambda call: (firstly if call.body["model"] == "biased" else fairly)(call)
    members = [
        {"openai": {"model": model, "base_url": mock.url, "max_retries": 1}} for model in ("fair", "biased", "fair_too")
    ]
    pairs.declare(annotators=members)
    run(pairs)
    assert labels(pairs)["good_second"][:2] == ("labelled", "B")
    found = {row["annotator"]: row for row in position_biases(pairs.store, pairs.project.task).to_dicts()}
    assert found.keys() == {"openai:fair", "openai:biased", "openai:fair_too"}, "a panel itself has no order"
    assert (found["openai:fair"]["position_consistency"], found["openai:fair"]["first_shown_wins"]) == (1, 0.5)
    assert (found["openai:biased"]["position_consistency"], found["openai:biased"]["first_shown_wins"]) == (0, 1)
    assert {row["partition_key"] for row in found.values()} == {"all"}
    assert position_biases(pairs.store, pairs.project.task, "another").is_empty()


def test_an_annotator_on_this_machine_and_a_missing_part_are_refused(pairs: Fixture) -> None:
    pairs.declare(annotators=[{"embedded": {}}])
    with pytest.raises(DeclarationError, match="embedded annotator cannot serve task: preference"):
        _ = pairs.project
    pairs.declare(annotators=openai_annotator("http://127.0.0.1:1/v1"), task={"preference": {"second": "answer"}})
    with pytest.raises(DeclarationError, match="found no answer among the parts of the source"):
        _ = pairs.project


if __name__ == "__main__":
    opened = Fixture.__new__(Fixture)
    opened.workspace = Workspace(Path(sys.argv[1]))
    run(opened)
