"""From answers to checked synthetic records: every entry ends in one row, and nothing is asked twice."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from annotation_pipelines.content import Content
from annotation_pipelines.errors import DeclarationError
from annotation_pipelines.project import Budget
from annotation_pipelines.synthetic.check import REASONS, kept_records
from annotation_pipelines.synthetic.report import diversity_of, kept_by_label
from tests.mock_endpoint import MockEndpoint, error
from tests.synthetic.scene import Scene, checker, is_judge, text_of

SEEDS = {
    "s1": Content.of_parts({"instruction": "Name three trees of the northern forest.", "input": "", "output": "Oak"}),
    "s2": Content.of_parts({"instruction": "Write a limerick about a grumpy lighthouse.", "input": "", "output": "-"}),
}
JUDGE: dict[str, Any] = {"judge": {"min_score": 3}}


def entry(instruction: str, output: str = "Done.") -> dict[str, Any]:
    return {"instruction": instruction, "input": "", "output": output}


def filled(folder: Path, url: str = "http://127.0.0.1:9/v1") -> Scene:
    scene = Scene(folder, url, self_instruct={}, per_record=3)
    scene.records(SEEDS)
    scene.generated(
        {
            "s1": [
                entry("Explain how bees find flowers."),
                entry("Explain how bees find flowers!"),
                entry("Count the vowels of a word.", "As an AI, I cannot count."),
                {"instruction": "no output"},
            ],
            "s2": [
                entry("List five uses of an old tyre."),
                entry("Name three trees of the northern forest."),
            ],
        }
    )
    return scene


def test_every_entry_ends_in_one_row_and_every_reason_is_counted(tmp_path: Path) -> None:
    scene = filled(tmp_path)
    counts = scene.check()
    assert (counts.seeds, counts.generated, counts.missing, counts.surplus) == (2, 6, 1, 1)
    assert counts.kept == 2 and counts.waiting == 0
    assert list(counts.dropped) == list(REASONS)
    assert {reason: n for reason, n in counts.dropped.items() if n} == {
        "schema": 1,
        "refusal": 1,
        "near_duplicate": 1,
        "pool_duplicate": 1,
    }
    rows = scene.rows("state, reason, near_duplicate_of, synthetic, content")
    assert len(rows) == 6 == counts.kept + counts.waiting + sum(counts.dropped.values())
    assert all(row[3] is True for row in rows)
    assert [row[2] for row in rows if row[1] == "pool_duplicate"] == ["s1"]
    kept = dict(scene.rows("synthetic_id, state"))
    twin = next(row[2] for row in rows if row[1] == "near_duplicate")
    assert kept[twin] == "kept"
    facts = counts.facts()
    assert facts["generated"] == facts["kept"] + facts["waiting"] + facts["dropped"]  # type: ignore[operator]


def test_a_seed_that_was_not_answered_gives_nothing(tmp_path: Path) -> None:
    scene = Scene(tmp_path)
    scene.records(SEEDS)
    scene.generated({"s1": [entry("Explain how bees find flowers.")]}, state="invalid")
    assert scene.check().generated == 0
    assert scene.rows("*") == []


def test_an_answer_about_an_older_content_gives_nothing(tmp_path: Path) -> None:
    scene = filled(tmp_path)
    scene.records({"s1": Content.of_text("changed")})
    assert {row[0] for row in (scene.check(), scene.rows("seed_record_id"))[1]} == {"s2"}


def test_checking_again_changes_nothing_and_asks_nothing(tmp_path: Path) -> None:
    with MockEndpoint(checker()) as mock:
        scene = filled(tmp_path, mock.url)
        first = scene.check(**JUDGE)
        assert first.kept == 2 and first.called == 2 == len(mock.calls)
        before = scene.rows("*")
        again = scene.check(**JUDGE)
        assert len(mock.calls) == 2 and again.called == 0 and again.cost_usd == 0
        assert scene.rows("*") == before, "not even the time of the check"
        assert again.dropped == first.dropped and again.kept == first.kept


def test_only_what_passed_the_rules_is_judged_and_the_judge_sees_the_rubric(tmp_path: Path) -> None:
    with MockEndpoint(checker(lambda text: 1 if "tyre" in text else 4)) as mock:
        scene = filled(tmp_path, mock.url)
        counts = scene.check(judge={"rubric": "Would a botanist laugh?", "min_score": 3.5})
        assert sorted(text_of(call).split("\n")[0] for call in mock.calls) == [
            "Explain how bees find flowers.",
            "List five uses of an old tyre.",
        ]
        system = mock.calls[0].body["messages"][0]["content"]
        assert "Would a botanist laugh?" in system and "from 1 to 5" in system
        assert counts.kept == 1 and counts.dropped["judge"] == 1
        assert dict(scene.rows("state, judge_score", where="judge_score IS NOT NULL")) == {"kept": 4.0, "dropped": 1.0}
        # The purchase is in the ledger, under the judge's name.
        assert {row[0] for row in scene.rows("annotator", "llm_calls")} == {"judge:writer"}
        assert counts.cost_usd == pytest.approx(2 * 110 * 10 / 1e6)


def test_another_threshold_asks_nothing_again_and_another_rubric_does(tmp_path: Path) -> None:
    with MockEndpoint(checker(lambda text: 3)) as mock:
        scene = filled(tmp_path, mock.url)
        assert scene.check(judge={"min_score": 3}).kept == 2
        assert scene.check(judge={"min_score": 4}).dropped["judge"] == 2
        assert len(mock.calls) == 2
        scene.check(judge={"min_score": 4, "rubric": "Is it short?"})
        assert len(mock.calls) == 4


def test_a_new_seed_is_judged_alone(tmp_path: Path) -> None:
    with MockEndpoint(checker()) as mock:
        scene = filled(tmp_path, mock.url)
        scene.check(**JUDGE)
        scene.records({"s3": Content.of_text("A third seed, about winter tyres and snow chains.")})
        scene.generated({"s3": [entry("Say when winter begins in the mountains.")]})
        counts = scene.check(**JUDGE)
        assert counts.kept == 3 and counts.called == 1
        assert [text_of(call).split("\n")[0] for call in mock.calls[2:]] == ["Say when winter begins in the mountains."]


def test_what_the_judge_cannot_say_drops_and_what_it_could_not_be_asked_waits(tmp_path: Path) -> None:
    with MockEndpoint(checker(lambda text: None if "tyre" in text else 5)) as mock:
        scene = filled(tmp_path, mock.url)
        counts = scene.check(**JUDGE)
        assert counts.dropped["not_judged"] == 1 and counts.kept == 1
    with MockEndpoint(checker()) as mock:
        scene = filled(tmp_path / "poor", mock.url)
        counts = scene.check(budget=Budget(per_run_usd=0), **JUDGE)
        assert counts.waiting == 2 and counts.kept == 0 and not mock.calls
        assert set(scene.rows("state, reason", where="state = 'waiting'")) == {("waiting", "judge")}
        assert scene.check(**JUDGE).kept == 2, "there is money again"


def test_a_failure_of_the_server_is_taken_up_by_the_next_run(tmp_path: Path) -> None:
    failing = True
    good = checker()
    with MockEndpoint(lambda call: error(500) if failing and "tyre" in call.text else good(call)) as mock:
        scene = filled(tmp_path, mock.url)
        assert scene.check(**JUDGE).waiting == 1
        failing = False
        assert scene.check(**JUDGE).kept == 2
        assert sum("bees" in call.text for call in mock.calls) == 1


def test_a_judge_that_is_no_more_declared_leaves_nothing_behind(tmp_path: Path) -> None:
    with MockEndpoint(checker(lambda text: 1)) as mock:
        scene = filled(tmp_path, mock.url)
        assert scene.check(**JUDGE).kept == 0
        assert scene.check().kept == 2
        assert scene.rows("*", "synthetic_annotations") == []
        assert scene.check(**JUDGE).kept == 0 and len(mock.calls) == 2, "the ledger still has the answers"


def test_another_annotator_may_judge_and_an_embedded_one_may_not(tmp_path: Path) -> None:
    with MockEndpoint(checker()) as mock:
        scene = filled(tmp_path)  # its own annotator answers nothing
        other = {"openai": {"model": "strict", "base_url": mock.url, "price": {"input": 1, "output": 1}}}
        assert scene.check(annotators=[other], judge=True).kept == 2
        assert {call.body["model"] for call in mock.calls} == {"strict"}
        assert {row[0] for row in scene.rows("annotator", "llm_calls")} == {"judge:openai:strict"}
    with pytest.raises(DeclarationError, match="embedded annotator 'embedded', which cannot read a rubric"):
        scene.check(annotators=["embedded"], judge=True)
    with pytest.raises(DeclarationError, match=r"expected the name of an annotator \(writer\), found 'nobody'"):
        scene.check(judge={"annotator": "nobody"})
    with pytest.raises(DeclarationError, match="the rubric cannot be read"):
        scene.check(judge={"rubric": "missing.md"})


def test_a_judge_that_also_generates_is_asked_once_at_temperature_zero(tmp_path: Path) -> None:
    with MockEndpoint(checker()) as mock:
        scene = Scene(tmp_path, mock.url)
        declared = scene.declaration.annotators[0].openai
        assert declared
        hot = declared.model_copy(update={"temperature": 1.0, "samples": 3, "mode": "batch"})
        scene.project.declaration.annotators[0] = scene.declaration.annotators[0].model_copy(update={"openai": hot})
        scene.records(SEEDS)
        scene.generated({"s1": [entry("Explain how bees find flowers.")]})
        assert scene.check(**JUDGE).kept == 1
        assert mock.calls[0].body["temperature"] == 0 and mock.calls[0].body.get("n", 1) == 1


# -- texts with labels -------------------------------------------------------------------------------------------------

LABELS = {"agrees": "says so", "denies": "says not"}


def texts(folder: Path, url: str = "http://127.0.0.1:9/v1", **more: Any) -> Scene:
    scene = Scene(folder, url, texts={"labels": LABELS, "only": ["denies"], **more}, per_record=2)
    scene.records({"t1": Content.of_text("It is warmer now, the thermometer says so.")})
    scene.generated({"t1": [{"text": "Nothing has changed since 1900."}, {"text": "The ice melts ever faster."}]})
    return scene


def test_a_text_that_is_labelled_otherwise_blind_is_dropped(tmp_path: Path) -> None:
    with MockEndpoint(checker(label=lambda text: "agrees" if "ice" in text else "denies")) as mock:
        scene = texts(tmp_path, mock.url, attributes={"tone": ["calm", "angry"]})
        counts = scene.check(round_trip=True)
        assert counts.kept == 1 and counts.dropped["round_trip"] == 1 and counts.labels == {"denies": 1}
        rows = scene.rows("content, label, round_trip_label, state, problem")
        assert rows == [
            ("Nothing has changed since 1900.", "denies", "denies", "kept", None),
            (
                "The ice melts ever faster.",
                "denies",
                "agrees",
                "dropped",
                "'denies' was wanted, and blind it was labelled 'agrees'",
            ),
        ]
        for call in mock.calls:
            asked = json.dumps(call.body["messages"][-1])
            assert "denies" not in asked and "wanted" not in asked and "calm" not in asked, "it is asked blind"
        assert kept_by_label(scene.store, "p").rows() == [("denies", 1, 2)]
        assert kept_records(scene.store)["label"].to_list() == ["denies"]


def test_the_judge_knows_what_was_wanted_and_comes_before_the_round_trip(tmp_path: Path) -> None:
    with MockEndpoint(checker(lambda text: 1 if "ice" in text else 5, label=lambda text: "denies")) as mock:
        scene = texts(tmp_path, mock.url, attributes={"tone": ["calm"]})
        counts = scene.check(judge=True, round_trip=True)
        judged = [call for call in mock.calls if is_judge(call)]
        blind = [call for call in mock.calls if not is_judge(call)]
        assert all('{"attributes":{"tone":"calm"},"label":"denies"}' in call.text for call in judged)
        assert [text_of(call) for call in blind] == ["Nothing has changed since 1900."]
        assert counts.kept == 1 and counts.dropped["judge"] == 1
        assert {row[0] for row in scene.rows("annotator", "synthetic_annotations")} == {"judge:writer", "blind:writer"}


def test_the_round_trip_may_be_made_on_this_machine(tmp_path: Path) -> None:
    scene = texts(tmp_path)
    counts = scene.check(annotators=["embedded"], round_trip=True)
    assert counts.kept + counts.dropped["round_trip"] == 2
    assert set(scene.rows("annotator, state", "synthetic_annotations")) == {("blind:embedded", "labelled")}


def test_other_modes_have_no_round_trip(tmp_path: Path) -> None:
    counts = filled(tmp_path).check(round_trip=True)
    assert counts.kept == 2 and counts.round_trip is None


# -- several partitions ------------------------------------------------------------------------------------------------


def test_what_another_partition_kept_is_not_kept_again_whatever_the_order(tmp_path: Path) -> None:
    scene = Scene(tmp_path)
    scene.records({"a": Content.of_text("a seed about spring")}, "p")
    scene.records({"b": Content.of_text("another one, on autumn")}, "q")
    scene.generated({"a": [entry("Explain how bees find flowers.")]}, "p")
    scene.generated({"b": [entry("Explain how bees find flowers!"), entry("Count to ten in Latin.")]}, "q")
    assert scene.check("q").kept == 2
    assert scene.check("p").dropped["near_duplicate"] == 1
    rows = scene.rows("*")
    assert scene.check("q").kept == 2 and scene.check("p").kept == 0
    assert scene.rows("*") == rows
    scene.generated({"b": [entry("Count to ten in Latin.")]}, "q")
    assert scene.check("q").kept == 1 and scene.check("p").kept == 1, "what it repeated is gone"


def test_a_deleted_seed_takes_its_synthetic_records_with_it(tmp_path: Path) -> None:
    scene = filled(tmp_path)
    scene.check()
    with scene.store.transaction() as con:
        con.execute("UPDATE records SET deleted_at = now() WHERE record_id = 's1'")
    assert scene.check().kept == 2, "and what repeated its text is no repetition any more"
    assert {row[0] for row in scene.rows("seed_record_id")} == {"s2"}


def test_equal_entries_of_one_seed_are_two_rows(tmp_path: Path) -> None:
    scene = Scene(tmp_path, self_instruct={}, per_record=2)
    scene.records(SEEDS)
    scene.generated({"s1": [entry("Explain how bees find flowers.")] * 2})
    counts = scene.check()
    assert (counts.kept, counts.dropped["near_duplicate"]) == (1, 1) and len(scene.rows("*")) == 2


def test_the_diversity_of_what_was_kept_is_reported_beside_the_pool(tmp_path: Path) -> None:
    scene = filled(tmp_path)
    scene.check()
    found = diversity_of(scene.store, "p")
    assert found.texts == 2 and found.embedding_spread is None
    assert found.novelty is not None and 0.9 < found.novelty <= 1
    stored = scene.store.query("SELECT facts FROM stage_runs WHERE stage = 'synthetic_diversity'")["facts"].item()
    assert json.loads(stored) == found.facts()


def test_what_another_run_kept_in_the_meantime_is_seen_when_the_rows_are_written(tmp_path: Path) -> None:
    score = checker()
    scenes: list[Scene] = []

    def meanwhile(call: Any) -> Any:
        """While partition p is judged, partition q is checked by another run."""
        if not scenes[0].rows("*"):
            assert scenes[0].check("q").kept == 1
        return score(call)

    with MockEndpoint(meanwhile) as mock:
        scene = Scene(tmp_path, mock.url)
        scenes.append(scene)
        scene.records({"a": Content.of_text("a seed about spring")}, "p")
        scene.records({"b": Content.of_text("another one, on autumn")}, "q")
        scene.generated({"a": [entry("Explain how bees find flowers.")]}, "p")
        scene.generated({"b": [entry("Explain how bees find flowers!")]}, "q")
        counts = scene.check("p", **JUDGE)
        assert counts.kept == 0 and counts.dropped["near_duplicate"] == 1
        assert {row[0] for row in scene.rows("partition_key", where="state = 'kept'")} == {"q"}


def test_what_a_seed_gave_moves_with_it_to_another_partition(tmp_path: Path) -> None:
    scene = Scene(tmp_path)
    scene.records({"a": Content.of_text("a seed about spring")}, "p")
    scene.generated({"a": [entry("Explain how bees find flowers.")]}, "p")
    assert scene.check("p").kept == 1
    scene.records({"a": Content.of_text("a seed about spring")}, "q")
    scene.generated({"a": [entry("Explain how bees find flowers.")]}, "q")
    assert scene.check("q").kept == 1, "it does not repeat itself"
    assert scene.check("p").generated == 0
    assert scene.rows("partition_key, state") == [("q", "kept")]
