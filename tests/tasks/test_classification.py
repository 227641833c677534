"""What a classification asks for, and what it makes of a reply."""

from __future__ import annotations

import json

import pytest
from hypothesis import given
from hypothesis import strategies as st

from annotation_pipelines.content import Content
from annotation_pipelines.project import Classification, Task
from annotation_pipelines.tasks.base import STATES
from annotation_pipelines.tasks.classification import ClassificationTask
from annotation_pipelines.tasks.registry import make_task

SOME = Content.of_text("Some text.")
LABELS = {"agrees": "says so", "neutral": "takes no side", "computer vision": "images"}


def task(abstain: bool = False, labels: dict[str, str] | None = None) -> ClassificationTask:
    return ClassificationTask(Classification(labels=labels or LABELS, abstain=abstain))


def test_the_declaration_makes_the_task() -> None:
    made = make_task(Task(classification=Classification(labels=LABELS)))
    assert dict(made.labels) == LABELS


def test_the_schema_is_strict_and_holds_what_is_asked_for() -> None:
    schema = task().schema(confidence=True)
    assert schema["required"] == ["label", "confidence"] == list(schema["properties"])
    assert schema["additionalProperties"] is False
    assert schema["properties"]["label"]["enum"] == list(LABELS)
    assert not {"minimum", "maximum"} & schema["properties"]["confidence"].keys()
    assert task().schema(confidence=False)["required"] == ["label"]
    assert task(abstain=True).schema(confidence=False)["properties"]["label"]["enum"][-1] == "abstain"


def test_the_instructions_name_every_label_with_its_description() -> None:
    words = task(abstain=True).instructions()
    assert all(json.dumps(name) in words and description in words for name, description in LABELS.items())
    assert '"abstain"' in words
    assert '"abstain"' not in task().instructions()


@pytest.mark.parametrize("confidence", [True, False])
def test_a_demonstration_is_an_answer_that_parses(confidence: bool) -> None:
    shown = task().answer("neutral", SOME, confidence=confidence)
    assert list(shown) == task().schema(confidence=confidence)["required"]
    assert task().parse(json.dumps(shown), SOME).label == "neutral"
    with pytest.raises(ValueError, match="unknown"):
        task().answer("unknown", SOME, confidence=confidence)


@pytest.mark.parametrize(
    "reply",
    [
        '{"label": "agrees", "confidence": 0.9}',
        '  {"label": "agrees"}\n',
        '\ufeff{"label": "agrees"}',
        '```json\n{"label": "agrees", "confidence": 0.9}\n```',
        '```\n{"label": "agrees"}\n```',
        'I would say that it agrees: {"label": "agrees", "confidence": 0.9}. The reason is {plain}.',
        '{"label": "agrees"} {"label": "agrees"}',
        '[{"label": "agrees"}]',
        '{"label": " AGREES "}',
        '{"label": "ａｇｒｅｅｓ"}',
        '{"reason": "a } in a string, and a \\" too", "label": "agrees"}',
        "agrees",
        '"Agrees"',
    ],
)
def test_a_label_is_read_however_it_is_wrapped(reply: str) -> None:
    annotation = task().parse(reply, SOME)
    assert (annotation.state, annotation.label, annotation.problem) == ("labelled", "agrees", None)


def test_blanks_within_a_label_are_one() -> None:
    assert task().parse('{"label": "Computer \\n Vision"}', SOME).label == "computer vision"


@pytest.mark.parametrize(
    ("reply", "reason"),
    [
        ("", "empty"),
        ("   ", "empty"),
        ("no idea", "no JSON object"),
        ('{"label": "agrees", "conf', "cut off"),
        ('{"label": "agrees"', "cut off"),
        ('Here: {"scores": {"label": "agrees"}', "cut off"),
        ('{"label": "agrees", "label": "neutral"}', "'label' occurs twice"),
        ('{"label": "agrees"} or {"label": "neutral"}', "differ"),
        ('{"label": "denies"}', "'denies' is not in the set"),
        ('{"label": null}', "None is not in the set"),
        ('{"label": ["agrees"]}', "not in the set"),
        ('{"answer": "agrees"}', "no label"),
        ('{"label": "abstain"}', "'abstain' is not in the set"),
        ("{label: agrees}", "not valid JSON"),
        ("[" * 100_000, "no JSON object"),
        ('{"label":' * 100_000, "cut off"),
        ('{"a":' * 5_000 + "1" + "}" * 5_000, "too deeply"),
        ('{"label": "\\ud800"}', "'\\ud800' is not in the set"),
        ('{"label": ' + "9" * 5_000 + "}", "not valid JSON"),
    ],
)
def test_a_reply_without_one_valid_label_is_invalid_and_says_why(reply: str, reason: str) -> None:
    annotation = task().parse(reply, SOME)
    assert (annotation.state, annotation.label) == ("invalid", None)
    assert annotation.problem
    assert reason in annotation.problem
    assert len(annotation.problem) < 300
    annotation.problem.encode()  # it can be stored


def test_an_allowed_abstention_is_no_label() -> None:
    annotation = task(abstain=True).parse('{"label": "Abstain", "confidence": 0.2}', SOME)
    assert (annotation.state, annotation.label, annotation.confidence) == ("abstained", None, 0.2)


def test_labels_that_differ_in_case_alone_need_an_exact_match() -> None:
    cased = task(labels={"us": "we", "US": "the country"})
    assert cased.parse('{"label": "US"}', SOME).label == "US"
    assert cased.parse('{"label": "us"}', SOME).label == "us"
    assert cased.parse('{"label": "Us"}', SOME).state == "invalid"


def test_a_number_stands_for_the_label_that_is_written_so() -> None:
    assert task(labels={"1": "one star", "2": "two stars"}).parse('{"label": 2}', SOME).label == "2"


@pytest.mark.parametrize(
    ("written", "read"),
    [
        ("0.9", 0.9),
        ("1", 1.0),
        ('"0.9"', 0.9),
        ('"90%"', 0.9),
        ('" 90 % "', 0.9),
        ("0", 0.0),
        ("NaN", None),
        ("Infinity", None),
        ("1.01", None),
        ("-0.1", None),
        ("90", None),
        ("1e400", None),
        ("true", None),
        ("null", None),
        ('"high"', None),
        ('"nan"', None),
        ("[0.9]", None),
    ],
)
def test_a_confidence_that_is_none_is_dropped_and_the_label_stands(written: str, read: float | None) -> None:
    annotation = task().parse(f'{{"label": "agrees", "confidence": {written}}}', SOME)
    assert (annotation.state, annotation.label, annotation.confidence) == ("labelled", "agrees", read)


def test_scores_are_read_where_they_are_a_map_from_labels_to_numbers() -> None:
    scored = task().parse('{"label": "agrees", "scores": {"agrees": 0.7, "Neutral": 0.3}}', SOME)
    assert scored.scores == {"agrees": 0.7, "neutral": 0.3}
    for bad in ('{"agrees": "much"}', '{"nobody": 1}', '{"agrees": NaN}', "[1]", "{}", '{"agrees": 1, "Agrees": 0}'):
        annotation = task().parse(f'{{"label": "agrees", "scores": {bad}}}', SOME)
        assert (annotation.label, annotation.scores) == ("agrees", None)


json_values = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(),
    lambda inner: st.lists(inner) | st.dictionaries(st.sampled_from(["label", "confidence", "scores", "x"]), inner),
    max_leaves=8,
)


@given(st.text(st.characters(), max_size=200) | st.text('{}[]":,\\ labe0.1NaN', max_size=60))
def test_no_text_makes_the_parser_fail(reply: str) -> None:
    annotation = task(abstain=True).parse(reply, SOME)
    assert annotation.state in STATES
    assert (annotation.label is not None) == (annotation.state == "labelled")
    assert (annotation.problem is None) == (annotation.state == "labelled")


@given(json_values)
def test_no_json_makes_the_parser_fail(value: object) -> None:
    annotation = task().parse(json.dumps(value), SOME)
    assert annotation.label in {None, *LABELS}
    assert annotation.confidence is None or 0 <= annotation.confidence <= 1
    (annotation.problem or "").encode()


@given(st.sampled_from(list(LABELS)), st.floats(0, 1), st.text(st.characters(exclude_characters='{}"`')))
def test_every_answer_is_read_back_from_any_prose(label: str, confidence: float, prose: str) -> None:
    written = json.dumps({"label": label, "confidence": confidence})
    annotation = task().parse(f"{prose}{written}{prose}", SOME)
    assert (annotation.label, annotation.confidence) == (label, confidence)


@given(st.integers(1, 41))
def test_an_answer_that_is_cut_off_is_never_a_label(length: int) -> None:
    whole = '{"label": "agrees", "confidence": 0.9125}'
    assert len(whole) == 41
    annotation = task().parse(whole[:length], SOME)
    assert annotation.state == ("labelled" if length == 41 else "invalid")
