"""Preference pairs, rewards and rationales."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import polars as pl

from annotation_pipelines.exports.preference import ALIKE, EMPTY, TIE
from annotation_pipelines.exports.rationales import NO_RATIONALE
from annotation_pipelines.tasks.base import canonical_json
from tests.exports.scene import entries, export, project, record

PARTS = ("instruction", "response_a", "response_b")
OPENAI = [{"openai": {"model": "m", "base_url": "http://x", "rationale": True}}]


def compared(record_id: str, a: str, b: str, label: str, asked: str | None = None, **more: Any) -> dict[str, Any]:
    parts = {"instruction": asked or f"Question {record_id}", "response_a": a, "response_b": b}
    return record(record_id, parts, label, **more)


class TestPreference:
    def test_the_better_response_is_chosen_and_what_has_no_better_one_is_counted(self, tmp_path: Path) -> None:
        made = project(tmp_path, {"preference": {}}, parts=PARTS, annotators=OPENAI)
        records = [
            compared("r1", "yes", "no", "A"),
            compared("r2", "yes", "no", "B"),
            compared("r3", "yes", "no", "tie"),
            compared("r4", "same ", "same", "A"),
            compared("r5", "", "no", "A"),
            compared("r6", "yes", "", "A"),
        ]
        exported = export(tmp_path, made, records, format="preference")
        pairs = {e["prompt"][0]["content"]: (e["chosen"], e["rejected"]) for e in entries(exported)}
        assert pairs == {
            f"Question {name}": ([{"role": "assistant", "content": one}], [{"role": "assistant", "content": other}])
            for name, one, other in (("r1", "yes", "no"), ("r2", "no", "yes"), ("r6", "yes", ""))
        }
        assert all(set(entry) == {"prompt", "chosen", "rejected"} for entry in entries(exported))
        assert exported.left_out == {TIE: 1, ALIKE: 1, EMPTY: 1}

    def test_by_several_criteria_the_response_is_chosen_that_wins_more_of_them(self, tmp_path: Path) -> None:
        task = {"preference": {"criteria": ["truth", "style", "length"]}}
        made = project(tmp_path, task, parts=PARTS, annotators=OPENAI)
        records = [
            compared("r1", "yes", "no", canonical_json({"truth": "B", "style": "tie", "length": "tie"})),
            compared("r2", "yes", "no", canonical_json({"truth": "B", "style": "A", "length": "tie"})),
        ]
        exported = export(tmp_path, made, records, format="preference")
        assert [entry["chosen"][0]["content"] for entry in entries(exported)] == ["no"]
        assert exported.left_out == {TIE: 1}

    def test_answers_to_one_question_are_in_one_split(self, tmp_path: Path) -> None:
        made = project(tmp_path, {"preference": {}}, parts=PARTS, annotators=OPENAI)
        records = [
            compared(
                f"r{i}",
                f"first answer {i * 7919}",
                f"second answer {i * 104_729}",
                "A",
                f"What is {i // 5 * 3571} like?",
            )
            for i in range(200)
        ]
        exported = export(tmp_path, made, records, format="preference")
        assert set(exported.rows) == {"train", "validation", "test"}
        assert not exported.leaks
        index = pl.read_parquet(exported.folder / "records.parquet").with_columns(
            question=pl.col("record_id").str.slice(1).cast(pl.Int64) // 5
        )
        assert index.group_by("question").agg(pl.col("split").n_unique())["split"].max() == 1


class TestReward:
    def test_a_preference_scores_both_responses(self, tmp_path: Path) -> None:
        made = project(tmp_path, {"preference": {}}, parts=PARTS, annotators=OPENAI)
        records = [compared("r1", "yes", "no", "A"), compared("r2", "yes", "no", "tie")]
        found = entries(export(tmp_path, made, records, format="reward"))
        assert {(e["prompt"], e["response"], e["score"]) for e in found} == {
            ("Question r1", "yes", 1.0),
            ("Question r1", "no", 0.0),
            ("Question r2", "yes", 0.5),
            ("Question r2", "no", 0.5),
        }

    def test_a_rating_scores_the_last_part(self, tmp_path: Path) -> None:
        task = {"rating": {"from": 1, "to": 5}}
        made = project(tmp_path, task, parts=("question", "answer"))
        records = [record("r1", {"question": "Why?", "answer": "So."}, "4")]
        assert entries(export(tmp_path, made, records, format="reward")) == [
            {"prompt": "Why?", "response": "So.", "score": 4.0}
        ]

    def test_a_rating_of_a_single_text_has_no_prompt_and_names_score_by_their_place(self, tmp_path: Path) -> None:
        made = project(tmp_path, {"rating": {"scale": {"bad": "b", "fair": "f", "good": "g"}}})
        exported = export(tmp_path, made, [record("r1", "a text", "good")], format="reward")
        assert entries(exported) == [{"prompt": "", "response": "a text", "score": 2.0}]
        assert "from 0 to 2: the place on the scale bad, fair, good, from 0" in exported.card


class TestCritique:
    TASK = {"critique": {"score": {"from": 1, "to": 10}}}  # noqa: RUF012

    def records(self) -> list[dict[str, Any]]:
        made = {"critique": "too short", "revision": "So it is.", "score": 3}
        same = {"critique": "nothing", "revision": "Fine.", "score": 9}
        return [
            record("r1", {"question": "Why?", "answer": "So."}, canonical_json(made)),
            record("r2", {"question": "How?", "answer": "Fine."}, canonical_json(same)),
        ]

    def test_the_revision_is_chosen_over_the_response_and_no_change_is_no_pair(self, tmp_path: Path) -> None:
        made = project(tmp_path, self.TASK, parts=("question", "answer"), annotators=OPENAI)
        exported = export(tmp_path, made, self.records(), format="preference")
        assert entries(exported) == [
            {
                "prompt": [{"role": "user", "content": "Why?"}],
                "chosen": [{"role": "assistant", "content": "So it is."}],
                "rejected": [{"role": "assistant", "content": "So."}],
            }
        ]
        assert exported.left_out == {ALIKE: 1}

    def test_the_score_is_that_of_the_response_as_it_stands(self, tmp_path: Path) -> None:
        task = {"critique": {**self.TASK["critique"], "of": ["answer"]}}
        made = project(tmp_path, task, parts=("answer", "question"), annotators=OPENAI)
        found = entries(export(tmp_path, made, self.records(), format="reward"))
        assert {(e["prompt"], e["response"], e["score"]) for e in found} == {
            ("Why?", "So.", 3.0),
            ("How?", "Fine.", 9.0),
        }


class TestRationales:
    def test_only_labels_with_reasons_of_their_own_are_written(self, tmp_path: Path) -> None:
        made = project(tmp_path, annotators=OPENAI)
        records = [
            record("r1", "my card", "card", rationale="it says card"),
            record("r2", "my money", "transfer"),
            record("r3", "my purse", "card", origin="gold", given="transfer", rationale="it says money"),
            record("r4", "my plastic", "card", origin="gold", given="card", rationale="plastic is a card"),
        ]
        exported = export(tmp_path, made, records, format="rationales")
        assert sorted((e["input"], e["label"], e["rationale"]) for e in entries(exported)) == [
            ("my card", "card", "it says card"),
            ("my plastic", "card", "plastic is a card"),
        ]
        assert exported.left_out == {NO_RATIONALE: 2}
