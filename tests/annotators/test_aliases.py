"""Aliases: codes in the place of label names."""

from __future__ import annotations

import json
import string

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from annotation_pipelines.annotators.aliases import AliasedTask
from annotation_pipelines.content import Content
from annotation_pipelines.errors import DeclarationError
from annotation_pipelines.project import Classification
from annotation_pipelines.tasks.classification import ClassificationTask

SOME = Content.of_text("Some text.")
LABELS = {"spam": "unwanted advertising", "ham": 'whatever is not "spam"', "odd": "odd"}


def aliased(labels: dict[str, str] = LABELS, *, abstain: bool = True) -> AliasedTask:
    return AliasedTask(ClassificationTask(Classification(labels=labels, abstain=abstain)))


TASK = aliased()
SPAM, HAM, ODD = (TASK.codes[name] for name in LABELS)


def test_the_annotator_sees_codes_and_descriptions_and_no_names() -> None:
    words = TASK.instructions() + json.dumps(TASK.schema(confidence=True, rationale=True))
    assert f'- "{SPAM}": unwanted advertising' in words
    assert "spam" not in words
    assert "ham" not in words
    assert TASK.schema(confidence=True)["properties"]["label"]["enum"] == [SPAM, HAM, ODD, "abstain"]


def test_a_label_without_a_description_is_told_by_its_name() -> None:
    assert f'- "{ODD}": odd' in TASK.instructions()
    assert set(aliased({"a": "", "b": " "}).shown_as.values()) == {"a", "b"}


def test_a_name_in_quotes_is_a_code_in_guideline_and_descriptions_and_an_ordinary_word_stays() -> None:
    assert TASK.shown_as[HAM] == f'whatever is not "{SPAM}"'
    guideline = "`spam` beats 'ham'. Tinned ham is odd; \"spammer\" is no label."
    assert TASK.in_codes(guideline) == f"`{SPAM}` beats '{HAM}'. Tinned ham is odd; \"spammer\" is no label."


def test_an_answer_in_codes_is_read_under_the_names() -> None:
    reply = json.dumps(
        {"rationale": f"It is {HAM}, not {SPAM}.", "label": HAM.lower(), "confidence": 0.7, "scores": {HAM: 1, SPAM: 0}}
    )
    annotation = TASK.parse(reply, SOME)
    assert (annotation.state, annotation.label, annotation.confidence) == ("labelled", "ham", 0.7)
    assert annotation.scores == {"ham": 1.0, "spam": 0.0}
    assert annotation.rationale == "It is ham, not spam."


@pytest.mark.parametrize("answer", ["spam", '"spam"', '{"label": "spam"}', '{"label": "SPAM "}', '{"label": 1}'])
def test_a_labels_own_name_is_no_answer(answer: str) -> None:
    annotation = TASK.parse(answer, SOME)
    assert (annotation.state, annotation.label) == ("invalid", None)


def test_abstain_keeps_its_name() -> None:
    assert TASK.parse('{"label": "abstain"}', SOME).state == "abstained"
    assert aliased(abstain=False).parse('{"label": "abstain"}', SOME).state == "invalid"
    assert TASK.answer("abstain", SOME, confidence=False) == {"label": "abstain"}


def test_a_demonstration_shows_the_code() -> None:
    assert TASK.answer("spam", SOME, confidence=True) == {"label": SPAM, "confidence": 1.0}
    with pytest.raises(ValueError, match="spam"):
        TASK.answer(SPAM, SOME, confidence=True)


def test_outside_of_the_prompt_the_task_is_the_same() -> None:
    task = ClassificationTask(Classification(labels=LABELS))
    assert AliasedTask(task).labels == task.labels
    assert AliasedTask(task).parser_version == task.parser_version


def test_codes_are_the_same_in_every_process_and_differ_with_the_task() -> None:
    assert aliased().codes == TASK.codes
    assert aliased({**LABELS, "odd": "strange"}).codes != TASK.codes


names = st.text(st.characters(exclude_categories=["Cs"]), min_size=1, max_size=6).filter(
    lambda name: name == name.strip() and name != "abstain"
)


@settings(max_examples=50)
@given(st.dictionaries(names, st.just("described"), min_size=2, max_size=40))
def test_every_label_has_a_code_of_its_own_that_holds_no_name(labels: dict[str, str]) -> None:
    codes = aliased(labels, abstain=False).codes
    assert len(set(codes.values())) == len(labels)
    assert all(name.casefold() not in code.casefold() for name in labels for code in codes.values())


def test_a_thousand_labels_have_codes() -> None:
    codes = aliased({f"intent {n}": str(n) for n in range(1_000)}, abstain=False).codes
    assert len(set(codes.values())) == 1_000


def test_labels_that_leave_no_code_are_refused_in_one_line() -> None:
    with pytest.raises(DeclarationError, match="aliases: false") as raised:
        aliased(dict.fromkeys(string.digits, "a digit"))
    assert "\n" not in str(raised.value)
