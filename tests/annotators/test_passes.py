"""Passes of an annotator behind an endpoint: what is bought, what is found again, how every record ends."""

from __future__ import annotations

import json
import logging
import random
from collections import Counter
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import polars as pl
import pytest

from annotation_pipelines.annotators import passes, pending
from annotation_pipelines.annotators.privacy.redaction import Redactor
from annotation_pipelines.content import Content
from annotation_pipelines.errors import AnnotatorError, StoreError
from annotation_pipelines.project import Classification, Privacy
from annotation_pipelines.selection.demonstrations import fixed_for_records, random_for_records
from annotation_pipelines.tasks.base import Annotation
from annotation_pipelines.tasks.classification import ClassificationTask
from tests.annotators.label_scene import KEY, LABELS, ONE_REPLY, Scene, frame, numbered
from tests.mock_endpoint import Act, Call, MockEndpoint, answer, completion, error, raw, response


@pytest.fixture(autouse=True)
def _key(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("OPENAI_API_KEY", KEY)


@pytest.fixture
def mock() -> Iterator[MockEndpoint]:
    with MockEndpoint() as endpoint:
        yield endpoint


@pytest.fixture
def scene(tmp_path: Path, mock: MockEndpoint) -> Scene:
    return Scene(tmp_path / "shop", mock.url)


def test_a_text_that_comes_again_late_in_a_slow_chunk_is_bought_once(
    scene: Scene, mock: MockEndpoint, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Labels are written meanwhile, and what was kept in memory is forgotten."""
    monkeypatch.setattr(passes, "WRITE_EVERY_SECONDS", 0.0)
    mock.latency = 0.06
    texts = ["same", *numbered(6), "same"]
    counts = scene.label(texts, scene.annotator(concurrency=1))
    assert Counter(mock.billed) == Counter(set(texts))
    assert (counts.called, counts.states["labelled"]) == (7, 8)


# -- live -----------------------------------------------------------------------------------------------------------


def test_every_record_gets_a_row_with_how_it_ended_and_what_was_bought_for_it(scene: Scene, mock: MockEndpoint) -> None:
    acts = {
        "says so": answer("agrees", 0.7),
        "no label": answer("shrugs"),
        "declined": completion(None, refusal="I cannot help with that."),
        "broken": error(400, "cannot be answered"),
    }
    mock.behave = lambda call: acts[call.text]
    counts = scene.label({text: text for text in acts}, scene.annotator(repairs=0), backfill_id="b")
    assert scene.rows("record_id, state, label, confidence, reused, partition_key, annotator, run_id") == [
        ("broken", "failed", None, None, False, "p", "openai:mock", "run"),
        ("declined", "refused", None, None, False, "p", "openai:mock", "run"),
        ("no label", "invalid", None, None, False, "p", "openai:mock", "run"),
        ("says so", "labelled", "agrees", 0.7, False, "p", "openai:mock", "run"),
    ]
    problems = dict(scene.rows("record_id, problem"))
    assert "shrugs" in problems["no label"] and "cannot be answered" in problems["broken"]
    assert problems["declined"] == "I cannot help with that." and problems["says so"] is None
    assert scene.rows("record_id, status, purpose, run_id, backfill_id", "llm_calls") == [
        ("broken", "error", "ask", "run", "b"),
        ("declined", "refused", "ask", "run", "b"),
        ("no label", "ok", "ask", "run", "b"),
        ("says so", "ok", "ask", "run", "b"),
    ]
    assert (counts.selected, counts.new, counts.called, counts.repairs, counts.reused) == (4, 4, 4, 0, 0)
    assert counts.states == Counter(labelled=1, invalid=1, refused=1, failed=1)
    assert (counts.prompt_tokens, counts.completion_tokens) == (300, 30)
    assert counts.cost_usd == pytest.approx(3 * ONE_REPLY) == scene.spent()


def test_an_unchanged_record_makes_no_call_and_keeps_its_row(scene: Scene, mock: MockEndpoint) -> None:
    scene.label(numbered(5))
    rows = scene.rows("*")
    counts = scene.label(numbered(5), run_id="later")
    assert len(mock.calls) == 5
    assert (counts.unchanged, counts.reused, counts.called, counts.cost_usd) == (5, 5, 0, 0.0)
    assert scene.rows("*") == rows
    assert counts.states["labelled"] == 5


def test_no_records_make_no_call(scene: Scene, mock: MockEndpoint) -> None:
    counts = scene.label([])
    assert (counts.selected, counts.called, mock.calls) == (0, 0, [])


def test_only_what_is_new_or_changed_is_asked_about_and_what_left_loses_its_label(
    scene: Scene, mock: MockEndpoint
) -> None:
    scene.label({"a": "one", "b": "two", "c": "three"})
    counts = scene.label({"a": "one", "b": "two, again", "d": "four"})
    assert sorted(mock.billed) == ["four", "one", "three", "two", "two, again"]
    assert (counts.new, counts.changed, counts.stale, counts.retried, counts.unchanged) == (1, 1, 0, 0, 1)
    assert [key for (key,) in scene.rows("record_id")] == ["a", "b", "d"]
    assert scene.label({"b": "two", "c": "three"}).called == 0, "paid for before, found in the ledger"


def test_another_guideline_makes_all_labels_stale_and_going_back_costs_nothing(
    scene: Scene, mock: MockEndpoint
) -> None:
    scene.label(numbered(3))
    counts = scene.label(numbered(3), scene.annotator(guideline="Be bold."))
    assert (counts.stale, counts.called) == (3, 3)
    counts = scene.label(numbered(3))
    assert (counts.stale, counts.called, counts.from_ledger, counts.reused) == (3, 0, 3, 3)
    assert set(scene.rows("reused")) == {(True,)}
    assert len(mock.calls) == 6


def test_a_new_parser_reads_the_kept_replies_again_and_buys_nothing(scene: Scene, mock: MockEndpoint) -> None:
    class Contrary(ClassificationTask):
        """Reads an answer as its opposite."""

        parser_version = ClassificationTask.parser_version + 1

        def parse(self, reply: str, content: Content) -> Annotation:
            other = {"agrees": "denies", "denies": "agrees"}
            annotation = super().parse(reply, content)
            return Annotation("labelled", other[annotation.label or ""], 1.0)

    scene.label(numbered(3))
    counts = scene.label(numbered(3), scene.annotator(task=Contrary(Classification(labels=LABELS))))
    assert (len(mock.calls), counts.stale, counts.from_ledger, counts.called) == (3, 3, 3, 0)
    assert set(scene.rows("label, confidence")) == {("denies", 1.0)}


def test_what_failed_is_asked_again_and_nothing_else(scene: Scene, mock: MockEndpoint) -> None:
    good = mock.behave
    mock.behave = lambda call: error(400, "no") if call.text == "text 1" else good(call)
    assert scene.label(numbered(3)).states == Counter(labelled=2, failed=1)
    mock.behave = good
    counts = scene.label(numbered(3))
    assert (counts.retried, counts.called, counts.states["labelled"]) == (1, 1, 3)
    assert [call.text for call in mock.calls[3:]] == ["text 1"]
    assert scene.rows("status", "llm_calls", "record_id = 'r001'") == [("error",), ("ok",)]


def test_a_mistake_of_the_endpoint_costs_tokens_that_are_counted(scene: Scene, mock: MockEndpoint) -> None:
    """A repair is a call of its own, with the answer to the first one before it."""
    mock.behave = lambda call: answer("shrugs" if call.attempt == 0 else "denies")
    counts = scene.label(numbered(2))
    assert (counts.called, counts.repairs, counts.states["labelled"]) == (4, 2, 2)
    assert counts.cost_usd == pytest.approx(4 * ONE_REPLY)
    first = set(scene.rows("request_key", "llm_calls", "purpose = 'ask'"))
    assert set(scene.rows("request_key")) == first, "a label leads to the first request"


# -- equal texts ----------------------------------------------------------------------------------------------------


def test_equal_texts_are_bought_once_also_across_chunks(
    scene: Scene, mock: MockEndpoint, monkeypatch: pytest.MonkeyPatch
) -> None:
    for module in (passes, pending):
        monkeypatch.setattr(module, "CHUNK", 2048)  # the least that DuckDB cuts a file by
    texts = [f"text {n % 30}" for n in range(4_500)]
    counts = scene.label(texts)
    assert sorted(mock.billed) == sorted(set(texts))
    assert (counts.called, counts.from_ledger, counts.states["labelled"]) == (30, 4_470, 4_500)
    assert sum(not reused for (reused,) in scene.rows("reused")) == 30


def test_equal_texts_share_repairs_too(scene: Scene, mock: MockEndpoint) -> None:
    mock.latency = 0.02
    mock.behave = lambda call: answer("shrugs" if call.attempt == 0 else "denies")
    counts = scene.label(["same"] * 5 + ["other"])
    assert Counter(mock.billed) == {"same": 2, "other": 2}
    assert (counts.repairs, counts.states["labelled"]) == (2, 6)
    assert set(scene.rows("label")) == {("denies",)}


def test_equal_texts_share_a_failure(scene: Scene, mock: MockEndpoint) -> None:
    mock.behave = lambda call: error(400, "no") if call.text == "same" else answer("agrees")
    counts = scene.label(["other", *["same"] * 5])
    assert Counter(call.text for call in mock.calls) == {"same": 1, "other": 1}
    assert counts.states == Counter(labelled=1, failed=5)


def test_texts_that_differ_in_personal_data_alone_share_an_answer_and_not_the_data(
    scene: Scene, mock: MockEndpoint
) -> None:
    redactor = Redactor(Privacy(redact=["email"]), Path())
    said = {"rationale": "[EMAIL_1] says so", "label": "agrees", "confidence": 1}
    mock.behave = lambda call: completion(json.dumps(said))
    texts = {name: f"write to {name}@example.com" for name in ("ann", "bob")}
    counts = scene.label(texts, scene.annotator(redactor=redactor, rationale=True))
    assert (counts.called, len(mock.calls)) == (1, 1)
    assert dict(scene.rows("record_id, rationale")) == {n: f"{n}@example.com says so" for n in texts}
    assert "@example.com" not in json.dumps(mock.calls[0].body)


def test_equal_texts_end_alike_and_cost_one_conversation_whatever_happens_to_them(
    scene: Scene, mock: MockEndpoint, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(passes, "WRITE_EVERY_SECONDS", 0.0)
    draw = random.Random(0)
    acts = {
        "good": [answer("agrees")],
        "mended": [answer("shrugs"), answer("denies")],
        "invalid": [answer("shrugs"), answer("shrugs")],
        "refused": [completion(None, refusal="no")],
        "failed": [error(400, "no")],
    }
    texts = [f"{draw.choice(list(acts))} {draw.randrange(12)}" for _ in range(400)]
    mock.behave = lambda call: acts[call.text.split()[0]][min(call.attempt, 1) % len(acts[call.text.split()[0]])]
    mock.latency = 0.01
    counts = scene.label(texts)
    calls = Counter(call.text for call in mock.calls)
    assert calls == {text: len(acts[text.split()[0]]) for text in texts}
    ends = {"good": "labelled", "mended": "labelled"}
    assert scene.states() == {f"r{n:03}": ends.get(kind := text.split()[0], kind) for n, text in enumerate(texts)}
    assert (counts.called, sum(counts.states.values())) == (calls.total(), 400)


# -- runs that end early ----------------------------------------------------------------------------------------------


def test_labels_are_written_though_the_annotator_gives_up_in_the_middle(scene: Scene, mock: MockEndpoint) -> None:
    mock.behave = lambda call: error(401) if call.number >= 5 else answer("agrees")
    with pytest.raises(AnnotatorError, match="refused the key"):
        scene.label(numbered(20), scene.annotator(concurrency=1))
    assert Counter(scene.states().values()) == {"labelled": 5}
    mock.behave = lambda call: answer("agrees")
    counts = scene.label(numbered(20), run_id="later")
    assert (counts.unchanged, counts.new, counts.called) == (5, 15, 15)
    assert Counter(mock.billed) == Counter(numbered(20))


def test_a_repair_that_was_cut_off_is_made_by_the_next_run_without_the_question(
    scene: Scene, mock: MockEndpoint
) -> None:
    def stop_at_repair(call: Call) -> Act:
        if len(call.body["messages"]) > 2:
            return error(401)
        return answer("shrugs" if call.text == "text 0" else "agrees")

    mock.behave = stop_at_repair
    with pytest.raises(AnnotatorError):
        scene.label(["text 0"])
    assert scene.states() == {}
    mock.behave = lambda call: answer("denies")
    counts = scene.label(["text 0"], run_id="later")
    assert (counts.new, counts.called, counts.repairs) == (1, 1, 1)
    assert [len(call.body["messages"]) for call in mock.calls] == [2, 4, 4]
    assert scene.rows("label, reused") == [("denies", False)]
    assert scene.label(["text 0"], scene.annotator(guideline=" "), run_id="again").called == 0


def test_samples_that_were_cut_off_are_gone_on_with(scene: Scene, mock: MockEndpoint) -> None:
    mock.behave = lambda call: answer("agrees", None) if call.number < 2 else error(401)
    several = {"samples": 4, "temperature": 0.7}
    with pytest.raises(AnnotatorError):
        scene.label(["a"], scene.annotator(**several))
    mock.behave = lambda call: answer("denies", None)
    counts = scene.label(["a"], scene.annotator(**several))
    assert (counts.called, len(mock.billed)) == (2, 4)
    assert scene.rows("label, confidence") == [("agrees", 0.5)]


def test_a_disk_that_takes_no_reply_stops_the_run(scene: Scene, mock: MockEndpoint) -> None:
    journal = scene.store.home / "journal"
    journal.parent.mkdir(parents=True)
    journal.write_text("not a folder")
    with pytest.raises(StoreError, match="journal"):
        scene.label(numbered(3))
    assert mock.calls == []


# -- what leaves this machine, and what never reaches a file ----------------------------------------------------------


def test_the_responses_api_goes_through_the_whole_pass(scene: Scene, mock: MockEndpoint) -> None:
    def behave(call: Call) -> Act:
        if call.text == "text 1" and call.attempt == 0:
            return response("nonsense")
        return response(json.dumps({"label": "denies", "confidence": 0.6}))

    mock.behave = behave
    counts = scene.label(numbered(3), scene.annotator(api="responses"))
    assert {call.path for call in mock.calls} == {"/v1/responses"}
    assert (counts.called, counts.repairs, counts.states) == (4, 1, Counter(labelled=3))
    assert counts.cost_usd == pytest.approx(4 * ONE_REPLY)
    assert scene.rows("label, confidence") == [("denies", 0.6)] * 3
    with scene.store.transaction() as con:
        con.execute("DELETE FROM llm_labels")
    counts = scene.label(numbered(3), scene.annotator(api="responses"))
    assert (counts.called, counts.from_ledger, counts.states) == (0, 3, Counter(labelled=3))


def test_a_key_that_the_endpoint_repeats_is_in_no_file_no_log_and_no_error(
    scene: Scene, mock: MockEndpoint, tmp_path: Path, _machine_state: Path, caplog: pytest.LogCaptureFixture
) -> None:
    echo = {"rationale": f"your key is {KEY}", "label": "agrees", "confidence": 1}
    acts = {
        "answer": completion(json.dumps(echo)),
        "invalid": completion(KEY),
        "refusal": completion(None, refusal=f"not with {KEY}"),
        "record": error(400, f"{KEY} cannot be used", headers={"x-request-id": KEY}),
        "page": raw(f"<html>{KEY}</html>"),
        "busy": error(503, f"{KEY} is busy"),
    }
    mock.behave = lambda call: acts[call.text]
    with caplog.at_level(logging.DEBUG):
        scene.label({text: text for text in acts}, scene.annotator(rationale=True))
        mock.behave = lambda call: error(401, f"Incorrect API key provided: {KEY}")
        with pytest.raises(AnnotatorError) as caught:
            scene.label({"later": "later"})
    assert KEY not in str(caught.value) and KEY not in caplog.text
    assert scene.states()["answer"] == "labelled"
    assert KEY not in repr(scene.store.query("SELECT * FROM llm_calls").rows())
    files = [file for folder in (tmp_path, _machine_state) for file in folder.rglob("*") if file.is_file()]
    assert len(files) >= 3
    assert [file for file in files if KEY.encode() in file.read_bytes()] == []


@pytest.mark.parametrize("choose", [fixed_for_records, random_for_records])
def test_a_record_is_never_its_own_demonstration(scene: Scene, mock: MockEndpoint, choose: Any) -> None:
    pool = frame(numbered(6)).with_columns(label=pl.lit("denies"))
    asked = scene.annotator(demonstrations=pool, choose=lambda records: choose(records, pool, 3))
    scene.label({"r000": "text 0, changed", "other": "text 1", "new": "text 9"}, asked)
    shown = {
        call.text: [message["content"].splitlines()[1] for message in call.body["messages"][1:-1:2]]
        for call in mock.calls
    }
    assert {text: len(set(others)) for text, others in shown.items()} == dict.fromkeys(shown, 3)
    assert "text 0" not in shown["text 0, changed"], "by its id"
    assert "text 1" not in shown["text 1"], "by its text"
