"""What rules find wrong with an entry: the first fault in a fixed order."""

from __future__ import annotations

import json
from datetime import UTC, datetime
from typing import Any

import pytest

from annotation_pipelines.content import Content
from annotation_pipelines.project.synthetic import Synthetic
from annotation_pipelines.synthetic.candidates import Candidate, candidates_of
from annotation_pipelines.synthetic.rules import RULES, Rules
from annotation_pipelines.tasks.generation import Generation, GenerationTask

SEED = Content.of_parts(
    {"instruction": "Suggest a name for a shop that sells old and rare books.", "input": "", "output": "Second Spring"}
)
GOOD = {"instruction": "Explain why leaves turn red.", "input": "", "output": "They lose their green."}


def task(**declared: Any) -> GenerationTask:
    return Generation(**(declared or {"self_instruct": {}})).make()


def candidate(entry: dict[str, Any], made: GenerationTask | None = None, seed: Content = SEED) -> Candidate:
    made = made or task()
    label = made.parse(json.dumps({"generated": [entry, GOOD]}), seed).label
    if label is None:
        label = made.canonical(json.dumps([entry]), seed)
    found: Candidate = candidates_of(made, "r1", seed, made.entries(label), "mock", datetime.now(UTC))[0]
    return found


def reason(
    entry: dict[str, Any], made: GenerationTask | None = None, seed: Content = SEED, **checks: Any
) -> str | None:
    made = made or task()
    fault = Rules(made, Synthetic(**checks)).fault(candidate(entry, made, seed))
    return fault.reason if fault else None


def test_a_good_entry_breaks_no_rule() -> None:
    assert reason(GOOD) is None


@pytest.mark.parametrize(
    ("changes", "expected"),
    [
        ({"output": None}, "schema"),
        ({"output": " \n"}, "empty"),
        ({"instruction": ""}, "empty"),
        ({"output": "As an AI language model, I have no favourite colour."}, "refusal"),
        ({"output": "I’m an AI and so I do not eat."}, "refusal"),
        ({"output": "I'm sorry, but I can't assist with that request."}, "refusal"),
        ({"output": "I cannot fulfill this request."}, "refusal"),
        ({"output": "Sure, here is the answer: red."}, "boilerplate"),
        ({"instruction": "#Rewritten Prompt#: Explain red leaves."}, "boilerplate"),
        ({"input": "<record>some text</record>"}, "boilerplate"),
        ({"output": "Dear [Your Name], leaves are red."}, "placeholder"),
        ({"output": "Write to [EMAIL_1] for more."}, "placeholder"),
        ({"output": "Dear {{ customer }}, leaves are red."}, "placeholder"),
        ({"output": "Lorem ipsum dolor sit amet"}, "placeholder"),
        ({"instruction": "suggest a name for a shop that sells  old and rare BOOKS."}, "echo"),
        ({"instruction": "Suggest a name for a shop that sells old, rare books."}, "echo"),
        ({"instruction": f"Read this: {SEED['instruction']} Then do it in French, with ten further words."}, "echo"),
    ],
)
def test_each_fault_has_its_reason(changes: dict[str, Any], expected: str) -> None:
    assert reason({**GOOD, **changes}) == expected


@pytest.mark.parametrize(
    "entry",
    [
        {"instruction": "Fill the [MASK] in the sentence.", "input": "A [MASK] barks.", "output": "dog"},
        {"instruction": "Complain to a shop.", "input": "", "output": "I can't help but say that I am sorry I came."},
        {"instruction": "Write as a customer.", "input": "", "output": "I cannot create an account on your page."},
        {"instruction": "What is the sum of the list [1, 2]?", "input": "", "output": "3"},
        {"instruction": "Translate to Spanish.", "input": "Here is a cat.", "output": "Aquí hay un gato."},
        {"instruction": "Shorten the given task list.", "input": "Buy milk, buy oats", "output": "Buy milk and oats"},
    ],
)
def test_what_only_looks_like_a_fault_is_none(entry: dict[str, Any]) -> None:
    assert reason(entry) is None


def test_an_evolved_task_must_not_speak_of_the_old_one() -> None:
    entry = {**GOOD, "instruction": "Do as the given prompt says, and explain why leaves turn red in autumn."}
    assert reason(entry, task(evolve={})) == "boilerplate"
    assert reason(entry) is None


def test_lengths_count_all_fields_together() -> None:
    length = sum(map(len, GOOD.values()))
    at = task(self_instruct={}, min_characters=length, max_characters=length)
    assert reason(GOOD, at) is None
    assert reason({**GOOD, "output": GOOD["output"] + "!"}, at) == "too_long"
    assert reason({**GOOD, "output": GOOD["output"][:-1]}, at) == "too_short"


def test_dialogues_have_as_many_turns_as_are_allowed_and_all_roles_speak() -> None:
    made = task(dialogue={"roles": ["customer", "agent"], "turns": 3})
    turns = [{"role": role, "content": f"{role} says {n}"} for n, role in enumerate(["customer", "agent"] * 2)]
    assert reason({"turns": turns[:2]}, made) is None
    assert reason({"turns": turns}, made) == "turns"
    assert reason({"turns": turns[:1]}, made) == "turns"
    assert reason({"turns": [turns[0], turns[2]]}, made) == "turns"
    assert reason({"turns": [turns[0], {**turns[1], "content": ""}]}, made) == "empty"


def test_a_text_that_repeats_its_seed_is_an_echo() -> None:
    made = task(texts={"labels": ["a", "b"]})
    seed = Content.of_text("Where is my parcel? I ordered it three weeks ago.")
    assert reason({"text": "where is my parcel?  I ordered it three weeks ago!"}, made, seed) == "echo"
    assert reason({"text": f"He wrote: {seed.text} That was all he wrote to us that day."}, made, seed) == "echo"
    assert reason({"text": "My invoice is wrong."}, made, seed) is None


def test_what_the_user_forbids_is_dropped_by_name() -> None:
    assert reason(GOOD, forbid=["(?i)GREEN"]) == "forbidden"
    assert reason(GOOD, forbid=["GREEN"]) is None
    fault = Rules(task(), Synthetic(forbid=["^They"])).fault(candidate(GOOD))
    assert fault and fault.problem == "'^They' matches 'They'"


def test_the_first_reason_in_the_order_of_the_rules_counts() -> None:
    both = {**GOOD, "instruction": SEED["instruction"], "output": "As an AI, I refuse [NAME]."}
    assert reason(both, forbid=["AI"]) == "refusal"
    assert RULES.index("refusal") < RULES.index("placeholder") < RULES.index("echo") < RULES.index("forbidden")


def test_what_is_no_regular_expression_is_refused_in_the_declaration() -> None:
    with pytest.raises(ValueError, match="no regular expression"):
        Synthetic(forbid=["("])
