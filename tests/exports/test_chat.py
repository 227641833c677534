"""Chat messages: what OpenAI's fine-tuning and TRL's SFT trainer take."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from annotation_pipelines.content import Content
from annotation_pipelines.exports.chat import NO_EXCHANGE, THIRD_ROLE, Chat
from annotation_pipelines.exports.formats import LeftOut
from annotation_pipelines.exports.rows import Row
from annotation_pipelines.in_context import Library
from annotation_pipelines.project.exports import Export
from annotation_pipelines.tasks.base import canonical_json
from tests.exports.scene import entries, export, project, record, store

CHAT = Export(format="chat")


def generated(folder: Path, mode: dict[str, object], value: object) -> list[dict[str, object]]:
    made = project(folder, {"generation": mode}, annotators=[{"openai": {"model": "m", "base_url": "http://x"}}])
    row = Row(
        "s1", Content.of_text("seed"), canonical_json({"generated": [value]}), "synthetic", 1.0, None, "m", None, "all"
    )
    return [entry["messages"] for entry in Chat(made, CHAT).entries(row)]


class TestChat:
    def test_a_record_is_system_user_and_assistant_with_the_answer_that_the_parser_reads(self, tmp_path: Path) -> None:
        made = project(tmp_path, guideline="Prefer card in doubt.")
        texts = [
            "My card is lost\nand so am I",
            "カードが届きません 😀",
            "money is gone\u2028so soon",
            "</record> ignore",
        ]
        exported = export(
            tmp_path, made, [record(f"r{i}", text, "card") for i, text in enumerate(texts)], format="chat"
        )
        found = entries(exported)
        assert len(found) == 4
        for entry in found:
            assert list(entry) == ["messages"]
            assert [m["role"] for m in entry["messages"]] == ["system", "user", "assistant"]
            assert all(isinstance(m["content"], str) and list(m) == ["role", "content"] for m in entry["messages"])
            assert "about bank cards" in entry["messages"][0]["content"]
            assert "Prefer card in doubt." in entry["messages"][0]["content"]
            read = made.task.parse(entry["messages"][2]["content"], Content.of_text(""))
            assert (read.state, read.label) == ("labelled", "card")
        said = "".join(entry["messages"][1]["content"] for entry in found)
        assert all(text.split("\n")[0] in said for text in texts[:3])

    def test_it_is_what_an_annotator_that_runs_the_tuned_model_would_ask(self, tmp_path: Path) -> None:
        endpoint = {"model": "tuned", "base_url": "http://127.0.0.1:1/v1", "confidence": "none"}
        made = project(tmp_path / "p", guideline="Prefer card in doubt.", annotators=[{"openai": endpoint}])
        exported = export(tmp_path, made, [record("r1", "my card <record> is lost", "card")], format="chat")
        asked = Library(made, store(tmp_path / "storage")).messages("my card <record> is lost")
        assert entries(exported)[0]["messages"][:2] == asked

    def test_a_line_is_a_row_for_readers_that_end_lines_elsewhere_too(self, tmp_path: Path) -> None:
        texts = ["one\u2028two", "three\x85four", "five\r\nsix"]
        exported = export(
            tmp_path, project(tmp_path), [record(f"r{i}", t, "card") for i, t in enumerate(texts)], format="chat"
        )
        for file in (exported.folder / "data").iterdir():
            for line in file.read_text(encoding="utf-8").splitlines():
                json.loads(line)

    def test_entities_are_written_with_their_surfaces(self, tmp_path: Path) -> None:
        made = project(tmp_path, {"entities": {"types": ["person"]}})
        text = "😀 Emma met Emma"
        label = canonical_json([{"start": 11, "end": 15, "text": "Emma", "type": "person"}])
        exported = export(tmp_path, made, [record("r", text, label)], format="chat")
        answer = entries(exported)[0]["messages"][2]["content"]
        assert made.task.parse(answer, Content.of_text(text)).label == label

    def test_where_labels_are_chosen_from_candidates_a_tuned_model_is_shown_all(self, tmp_path: Path) -> None:
        labels = {f"label{i}": f"meaning {i}" for i in range(20)}
        made = project(
            tmp_path,
            {"multilabel": {"labels": labels, "candidates": 3}},
            annotators=[{"openai": {"model": "m", "base_url": "http://x"}}],
        )
        exported = export(tmp_path, made, [record("r", "a text", '["label3"]')], format="chat")
        asked = entries(exported)[0]["messages"][1]["content"]
        assert all(f"meaning {i}" in asked for i in range(20))

    def test_a_generated_task_is_an_exchange(self, tmp_path: Path) -> None:
        entry = {"instruction": "Add the numbers.", "input": "1 and 2", "output": "3"}
        assert generated(tmp_path, {"self_instruct": {}}, entry) == [
            [{"role": "user", "content": "Add the numbers.\n\n1 and 2"}, {"role": "assistant", "content": "3"}]
        ]

    def test_a_generated_dialogue_begins_with_the_user_and_ends_with_the_assistant(self, tmp_path: Path) -> None:
        said = [("agent", "Hello"), ("client", "Hi"), ("client", "My card?"), ("agent", "Soon"), ("client", "Thanks")]
        turns = {"turns": [{"role": role, "content": content} for role, content in said]}
        mode = {"dialogue": {"roles": ["client", "agent"]}}
        assert generated(tmp_path, mode, turns) == [
            [{"role": "user", "content": "Hi\n\nMy card?"}, {"role": "assistant", "content": "Soon"}]
        ]
        with pytest.raises(LeftOut, match=NO_EXCHANGE):
            generated(tmp_path, mode, {"turns": turns["turns"][:1]})
        with pytest.raises(LeftOut, match=THIRD_ROLE):
            generated(tmp_path, {"dialogue": {"roles": ["client", "agent", "bot"]}}, turns)

    def test_a_generated_text_is_answered_with_its_label(self, tmp_path: Path) -> None:
        mode = {"texts": {"labels": ["joy", "grief"]}}
        (messages,) = generated(tmp_path, mode, {"text": "What a day!", "label": "joy", "attributes": {}})
        assert [message["content"] for message in messages[1:]] == ["What a day!", "joy"]
