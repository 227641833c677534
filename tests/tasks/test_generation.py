"""What generation asks for with each seed, and what it makes of a reply."""

from __future__ import annotations

import json
from collections import Counter
from typing import Any

import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st
from pydantic import ValidationError

from annotation_pipelines.content import Content
from annotation_pipelines.tasks.base import Annotation, Invalid, Vote
from annotation_pipelines.tasks.generation import Generation, GenerationTask
from annotation_pipelines.tasks.generation_modes import OPERATIONS
from annotation_pipelines.tasks.registry import Task, make_task

SEED = Content.of_parts({"instruction": "Name a fruit.", "input": "", "output": "Apple"})
TEXT = Content.of_text("Where is my parcel?")
LABELS = {"billing": "invoices and refunds", "delivery": "parcels", "other": "the rest"}
ATTRIBUTES = {"length": ["one sentence", "a paragraph"], "tone": ["calm", "angry", "ironic"]}

PAIR = {"instruction": "Name a tree.", "input": "", "output": "An oak."}
TALK = {"turns": [{"role": "customer", "content": "Hello?"}, {"role": "agent", "content": "Good morning."}]}


def task(per_record: int = 2, **modes: Any) -> GenerationTask:
    return Generation(per_record=per_record, **(modes or {"self_instruct": {}})).make()


def texts(**more: Any) -> GenerationTask:
    return task(texts={"labels": LABELS, "attributes": ATTRIBUTES, **more})


def dialogues() -> GenerationTask:
    return task(dialogue={"roles": ["customer", "agent"], "turns": 4})


EVERY_MODE = [
    pytest.param(task(), SEED, PAIR, id="self_instruct"),
    pytest.param(task(evolve={}), SEED, PAIR, id="evolve"),
    pytest.param(dialogues(), TEXT, TALK, id="dialogue"),
    pytest.param(texts(), TEXT, {"text": "Another letter."}, id="texts"),
]


def said(*entries: object) -> str:
    return json.dumps({"generated": list(entries)})


@pytest.mark.parametrize(
    ("declared", "message"),
    [
        ({}, "exactly one of self_instruct, evolve, dialogue, texts, found none"),
        ({"self_instruct": {}, "evolve": {}}, "found self_instruct and evolve"),
        ({"evolve": {"operations": ["harder"]}}, "expected operations out of constraints, .* found harder"),
        ({"texts": {"labels": ["a", "b"], "only": ["c"]}}, "expected labels out of a, b, found c"),
        ({"texts": {"labels": ["a", "b"], "attributes": {"tone": "angry"}}}, "attribute 'tone': expected a list"),
        ({"texts": {"labels": ["a", "b"], "attributes": {"tone": ["calm", "calm"]}}}, "listed twice"),
        ({"texts": {"labels": ["a", "b"], "attributes": {"polite": [True]}}}, "expected text, found True"),
        ({"self_instruct": {}, "min_characters": 10, "max_characters": 5}, r"max_characters \(5\)"),
        ({"dialogue": {"roles": ["one"], "turns": 4}}, "two labels or more"),
    ],
)
def test_impossible_declarations_are_refused(declared: dict[str, Any], message: str) -> None:
    with pytest.raises(ValidationError, match=message):
        Generation(**declared)


def test_operations_are_known_ones_or_described() -> None:
    known = Generation(evolve={"operations": ["deepen", "breadth"]})
    assert known.evolve and known.evolve.operations == {name: OPERATIONS[name] for name in ("deepen", "breadth")}
    own = Generation(evolve={"operations": {"translate": "put it into French"}})
    assert own.evolve and own.evolve.operations == {"translate": "put it into French"}


def test_the_registry_makes_it() -> None:
    made = make_task(Task(generation=Generation(self_instruct={})))
    assert made.kind == "generation" and not made.embedded and not made.student


@pytest.mark.parametrize(("made", "content", "entry"), EVERY_MODE)
def test_every_level_of_the_schema_is_strict(made: GenerationTask, content: Content, entry: dict[str, Any]) -> None:
    def strict(schema: dict[str, Any]) -> None:
        if schema["type"] == "object":
            assert schema["additionalProperties"] is False
            assert schema["required"] == list(schema["properties"])
            for inner in schema["properties"].values():
                strict(inner)
        elif schema["type"] == "array":
            assert not {"minItems", "maxItems"} & schema.keys()
            strict(schema["items"])

    schema = made.schema(confidence=True)
    strict(schema)
    assert schema["required"] == ["generated"], "nobody is asked how likely it is that a new text is right"
    assert made.schema(confidence=False, rationale=True)["required"] == ["rationale", "generated"]


@pytest.mark.parametrize(("made", "content", "entry"), EVERY_MODE)
def test_an_answer_becomes_a_label_that_says_the_same_again(
    made: GenerationTask, content: Content, entry: dict[str, Any]
) -> None:
    annotation = made.parse(said(entry, entry), made.present(content, 0))
    assert annotation.state == "labelled" and annotation.label and annotation.confidence is None
    assert made.problem(annotation.label, content) is None
    assert made.written(annotation.label, content) == {"generated": [entry, entry]}
    answer = made.answer(annotation.label, content, confidence=True)
    assert list(answer) == made.schema(confidence=True)["required"]
    assert made.parse(json.dumps(answer), content).label == annotation.label
    assert made.measure([annotation.label], [annotation.label]) == []


@pytest.mark.parametrize(("made", "content", "entry"), EVERY_MODE)
def test_bare_lists_and_single_entries_are_taken_too(
    made: GenerationTask, content: Content, entry: dict[str, Any]
) -> None:
    whole = made.parse(said(entry), content).label
    assert whole is not None
    assert made.parse(json.dumps([entry]), content).label == whole
    assert made.parse(json.dumps(entry), content).label == whole
    assert made.canonical(json.dumps([entry]), content) == whole == made.canonical(json.dumps(entry), content)


def test_an_entry_that_lacks_a_field_is_kept_with_its_problem_beside_the_whole_ones() -> None:
    annotation = task().parse(said(PAIR, {"instruction": "Name a bird."}, "nothing", {**PAIR, "output": 4}), SEED)
    assert annotation.state == "labelled" and annotation.label
    entries = task().entries(annotation.label)
    assert entries[0] == PAIR
    assert [entry["problem"] for entry in entries[1:]] == [
        "output is missing",
        "expected an object, found 'nothing'",
        "output: expected text, found 4",
    ]
    assert task().problem(annotation.label, SEED) is None
    with pytest.raises(Invalid, match="not whole"):
        task().written(annotation.label, SEED)


@pytest.mark.parametrize(
    ("reply", "problem"),
    [
        (said(), "expected 2 tasks, found none that is whole"),
        (said({"instruction": "x"}), "found none that is whole: output is missing"),
        (said(*[PAIR] * 9), "expected 2 tasks, found 9"),
        ('{"generated": "a task"}', "expected a list of tasks"),
        ('{"answer": 1}', "expected a list of tasks, found None"),
        ("I would rather not", "no JSON object"),
    ],
)
def test_an_answer_without_a_whole_entry_is_invalid_and_says_why(reply: str, problem: str) -> None:
    annotation = task().parse(reply, SEED)
    assert annotation.state == "invalid" and annotation.problem and problem in annotation.problem


def test_a_blank_input_is_no_fault_and_a_blank_output_is_left_to_the_checks() -> None:
    annotation = task().parse(said({"instruction": " Name a tree.\r\n", "output": ""}), SEED)
    assert task().entries(annotation.label or "") == [{"instruction": "Name a tree.", "input": "", "output": ""}]


def test_roles_are_matched_and_unknown_ones_are_a_problem() -> None:
    loud = {"turns": [{"role": "AGENT", "content": "Yes."}, {"role": "customer", "content": "Ah."}]}
    strange = {"turns": [{"role": "narrator", "content": "Silence."}]}
    entries = dialogues().entries(dialogues().parse(said(loud, strange, {"turns": []}), TEXT).label or "")
    assert entries[0]["turns"][0] == {"role": "agent", "content": "Yes."}
    assert "expected one of customer, agent, found 'narrator'" in entries[1]["problem"]
    assert "expected a list of turns" in entries[2]["problem"]


def test_each_seed_asks_for_one_label_with_attributes_and_always_for_the_same() -> None:
    seeds = [Content.of_text(f"letter {n}") for n in range(600)]
    made = texts()
    wishes = [made.wanted(seed) for seed in seeds]
    assert wishes == [texts().wanted(seed) for seed in seeds]
    counts = Counter(wish["label"] for wish in wishes)
    assert set(counts) == set(LABELS) and min(counts.values()) > 150
    combined = Counter((wish["attributes"]["length"], wish["attributes"]["tone"]) for wish in wishes)
    assert len(combined) == 6 and min(combined.values()) > 60, "attributes are drawn independently"
    other = Generation(texts={"labels": LABELS}, seed=1).make()
    assert [other.wanted(seed)["label"] for seed in seeds] != [wish["label"] for wish in wishes]


def test_only_the_rare_labels_are_asked_for_though_all_are_named() -> None:
    made = texts(only=["other"])
    assert {made.wanted(Content.of_text(str(n)))["label"] for n in range(50)} == {"other"}
    assert '"billing": invoices and refunds' in made.instructions()
    assert list(made.labels) == list(LABELS)


def test_the_wish_is_shown_as_a_part_and_read_back_from_it() -> None:
    made = texts()
    seen = made.present(TEXT, 0)
    assert seen.names == ["text", "wanted"] and json.loads(seen["wanted"]) == made.wanted(TEXT)
    # What was shown decides, also where the text was changed on its way, as redaction does.
    redacted = seen.with_texts({"text": "Where is [PERSON_1]?"})
    label = made.parse(said({"text": "Another."}), redacted).label
    assert made.entries(label or "")[0]["label"] == made.wanted(TEXT)["label"]
    assert made.named(label or "") == [made.wanted(TEXT)["label"]]


def test_a_part_of_the_record_that_is_called_wanted_is_not_mistaken_for_the_wish() -> None:
    record = Content.of_parts({"text": "a", "wanted": '{"attributes":{},"label":"no label"}'})
    made = texts()
    seen = made.present(record, 0)
    assert seen.names == ["text", "wanted", "wanted_2"]
    assert made.wanted(seen) == made.wanted(record)
    assert made.wanted(record)["label"] in LABELS


def test_gold_texts_may_name_their_label() -> None:
    wish = {"label": "billing", "attributes": {"length": "a paragraph", "tone": "calm"}}
    given = json.dumps([{"text": "A bill.", **wish}])
    assert texts().entries(texts().canonical(given, TEXT)) == [{"text": "A bill.", **wish}]
    with pytest.raises(Invalid, match="declared"):
        texts().canonical(json.dumps([{"text": "A bill.", "label": "weather"}]), TEXT)


def test_several_annotators_make_the_union_of_what_is_distinct() -> None:
    made = task()
    other = {**PAIR, "output": "A beech."}
    votes = [
        Vote(made.parse(said(PAIR, {"output": 1}), SEED)),
        Vote(made.parse(said(other, PAIR, {"output": 1}), SEED)),
        Vote(Annotation("abstained", problem="no")),
    ]
    entries = made.entries(made.combine(votes).label or "")
    assert [entry.get("output") for entry in entries] == ["An oak.", None, "A beech.", None]
    assert made.combine(votes[2:]).state == "abstained"


def test_people_see_texts() -> None:
    label = dialogues().parse(said(TALK, {}), TEXT).label or ""
    shown = dialogues().shown(label)
    assert shown.startswith("customer: Hello?\n\nagent: Good morning.") and "expected a list of turns" in shown


json_values = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=20),
    lambda inner: (
        st.lists(inner, max_size=4)
        | st.dictionaries(
            st.sampled_from(["generated", "instruction", "input", "output", "text", "turns", "role", "content"])
            | st.text(max_size=5),
            inner,
            max_size=4,
        )
    ),
    max_leaves=20,
)


@settings(max_examples=100, deadline=None)
@given(
    value=json_values | st.lists(json_values).map(lambda found: {"generated": found}),
    which=st.sampled_from(EVERY_MODE),
)
@example(value={"generated": [{"instruction": "\ud800", "output": "\ud83d"}]}, which=EVERY_MODE[0])
@example(value={"generated": [{"text": "a\0b", "label": []}]}, which=EVERY_MODE[3])
def test_any_json_ends_in_a_storable_label_or_in_a_problem(value: object, which: Any) -> None:
    made, content, _ = which.values
    annotation = made.parse(json.dumps(value), content)
    if annotation.state == "labelled":
        assert made.problem(annotation.label, content) is None
        annotation.label.encode()
        made.shown(annotation.label)
        made.named(annotation.label)
    else:
        assert annotation.state == "invalid" and annotation.problem
        annotation.problem.encode()


@settings(max_examples=100, deadline=None)
@given(reply=st.text(), which=st.sampled_from(EVERY_MODE))
def test_any_text_ends_in_a_label_or_in_a_problem(reply: str, which: Any) -> None:
    made, content, _ = which.values
    assert made.parse(reply, content).state in ("labelled", "invalid")
    try:
        made.canonical(reply, content)
    except Invalid as problem:
        assert str(problem)


def test_an_answer_takes_more_tokens_the_more_is_written() -> None:
    assert task(per_record=4).answer_tokens == 4 * task(per_record=1).answer_tokens == 800
    assert dialogues().answer_tokens == 2 * 4 * 50
    assert Generation(self_instruct={}, max_characters=100).make().answer_tokens == 50
