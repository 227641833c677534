"""The modes through a real request: what the model is shown, and what becomes of its answer."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from annotation_pipelines.annotators.factory import make_panel
from annotation_pipelines.annotators.fence import unfence_parts
from annotation_pipelines.annotators.pending import Wanted
from annotation_pipelines.content import Content
from annotation_pipelines.tasks.generation_modes import OPERATIONS
from tests.mock_endpoint import Act, Call, MockEndpoint, completion
from tests.synthetic.scene import Scene


def annotate(scene: Scene) -> dict[str, int]:
    """Let the declared annotator write after every record; how the records ended."""
    frame = scene.store.query("SELECT record_id, content_hash, content FROM records")
    counts = make_panel(scene.project, scene.store).label(scene.store, Wanted.of_frame(frame), "p")
    return {state: n for state, n in counts.states.items() if n}


def test_an_evolved_task_follows_the_operation_that_its_seed_asks_for(tmp_path: Path) -> None:
    def evolve(call: Call) -> Act:
        operation = json.loads((unfence_parts(call.text) or {})["wanted"])["operation"]
        task = {"instruction": f"Do {operation} number {call.number}.", "input": "", "output": f"It is {call.number}."}
        return completion(json.dumps({"generated": [task]}))

    with MockEndpoint(evolve) as mock:
        scene = Scene(tmp_path, mock.url, evolve={})
        scene.records(
            {
                f"s{n}": Content.of_parts(
                    {"instruction": f"Ask {n} wise owls about the sea.", "input": "", "output": "Yes"}
                )
                for n in range(40)
            }
        )
        assert annotate(scene) == {"labelled": 40}
        system = mock.calls[0].body["messages"][0]["content"]
        assert all(f'"{name}": {words}' in system for name, words in OPERATIONS.items())
        scene.check(near_duplicate=1)
        rows = scene.rows("value->>'operation', value->>'instruction'")
        assert {operation for operation, _ in rows} == set(OPERATIONS)
        assert all(instruction.startswith(f"Do {operation} ") for operation, instruction in rows)


def test_dialogues_are_kept_where_all_speak_and_no_one_talks_too_long(tmp_path: Path) -> None:
    def turns(*said: str) -> dict[str, Any]:
        roles = ("customer", "agent")
        return {"turns": [{"role": roles[n % 2], "content": text} for n, text in enumerate(said)]}

    answer = {
        "generated": [
            turns("Where is my parcel?", "It left our store on Monday."),
            turns("Hello?"),
            turns("One.", "Two.", "Three.", "Four.", "Five."),
            turns("Can you help me?", "As an AI language model I cannot see your order."),
        ]
    }
    with MockEndpoint(lambda call: completion(json.dumps(answer))) as mock:
        roles = {"customer": "waits for a parcel", "agent": "answers politely"}
        scene = Scene(tmp_path, mock.url, dialogue={"roles": roles, "turns": 4}, per_record=4)
        scene.records({"s": Content.of_text("A parcel that never came, in the week before the holidays.")})
        assert annotate(scene) == {"labelled": 1}
        assert '"customer": waits for a parcel' in mock.calls[0].body["messages"][0]["content"]
        assert mock.calls[0].text.strip() == "A parcel that never came, in the week before the holidays."
        counts = scene.check()
        assert counts.kept == 1 and {k: n for k, n in counts.dropped.items() if n} == {"turns": 2, "refusal": 1}
        [(content,)] = scene.rows("content", where="state = 'kept'")
        assert content == "customer: Where is my parcel?\n\nagent: It left our store on Monday."


def test_an_answer_without_a_whole_entry_is_repaired(tmp_path: Path) -> None:
    good = {"instruction": "Name the largest lake of Africa.", "input": "", "output": "Lake Victoria"}

    def behave(call: Call) -> Act:
        return completion(json.dumps({"generated": [good if call.attempt else {"instruction": "half"}]}))

    with MockEndpoint(behave) as mock:
        scene = Scene(tmp_path, mock.url)
        annotators = scene.project.declaration.annotators
        settings = annotators[0].openai
        assert settings
        annotators[0] = annotators[0].model_copy(update={"openai": settings.model_copy(update={"repairs": 1})})
        scene.records({"s": Content.of_text("Seas and lakes of the world, a quiz.")})
        assert annotate(scene) == {"labelled": 1}
        assert "output is missing" in json.dumps(mock.calls[1].body["messages"][-1])
        assert scene.check().kept == 1
