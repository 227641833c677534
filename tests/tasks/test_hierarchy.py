"""Labels that form a tree: how they are declared, shown, read and measured; flat labels stay as they were."""

from __future__ import annotations

import json
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from pydantic import ValidationError

from annotation_pipelines.content import Content
from annotation_pipelines.tasks.base import STATES, Annotation
from annotation_pipelines.tasks.classification import Classification, ClassificationTask

NESTED: dict[str, Any] = {
    "billing": {"refund": "wants money back", "charge": "asks about a charge"},
    "card": {"lost": "lost it", "delivery": {"late": "has not come", "refund": "money back for the post"}},
    "other": "anything else",
}
PATHS = {
    "billing/refund": "wants money back",
    "billing/charge": "asks about a charge",
    "card/lost": "lost it",
    "card/delivery/late": "has not come",
    "card/delivery/refund": "money back for the post",
    "other": "anything else",
}
TEXT = Content.of_text("Where is my card?")


def task(labels: Any = NESTED, **changes: Any) -> ClassificationTask:
    return ClassificationTask(Classification.model_validate({"labels": labels, **changes}))


def said(label: Any, **changes: Any) -> Annotation:
    return task(**changes).parse(json.dumps({"label": label}), TEXT)


def test_nested_labels_become_paths() -> None:
    declared = Classification.model_validate({"labels": NESTED})
    assert declared.labels == PATHS
    assert declared.hierarchy
    assert Classification.model_validate(declared.model_dump()) == declared
    assert Classification.model_validate({"labels": PATHS, "hierarchy": True}) == declared


def test_a_branch_may_list_its_labels() -> None:
    declared = Classification.model_validate({"labels": {"a": ["b", "c"], "d": "text"}})
    assert declared.labels == {"a/b": "a/b", "a/c": "a/c", "d": "text"}


@pytest.mark.parametrize(
    ("given", "problem"),
    [
        ({"labels": {"a": {"b": "x"}}}, "two labels or more, found 1"),
        ({"labels": {"a": {}, "b": "x"}}, "labels: a: expected labels"),
        ({"labels": {"a": {"b": None, "c": "x"}}}, "'a/b' has no description"),
        ({"labels": {"a": {True: "x", "c": "x"}}}, "labels: a: expected text, found True"),
        ({"labels": {"a": {"b": "x"}, "a/b": "y"}}, "two are called 'a/b'"),
        ({"labels": {"a": {" ": "x", "c": "y"}}}, "expected the name of a label"),
        ({"labels": {"a": {"b": "x", "c": "y"}}, "hierarchy": False}, "hierarchy: expected true with nested labels"),
        ({"labels": ["a", "b"], "hierarchy": True}, "expected labels that are paths"),
        ({"labels": ["a//b", "c"], "hierarchy": True}, "without blank steps, found 'a//b'"),
        ({"labels": ["a / b", "c"], "hierarchy": True}, "without blank steps"),
        ({"labels": ["a", "b"], "candidates": 2}, "expected fewer than the 2 labels"),
    ],
)
def test_what_is_no_tree_is_refused(given: dict[str, Any], problem: str) -> None:
    with pytest.raises(ValidationError, match=problem):
        Classification.model_validate(given)


def test_the_prompt_shows_the_tree_with_whole_paths() -> None:
    assert task().instructions() == (
        "Give the record exactly one of these labels. They form a tree; the answer is the whole path of a label, as it "
        "is written in quotes.\n"
        "- billing:\n"
        '  - "billing/refund": wants money back\n'
        '  - "billing/charge": asks about a charge\n'
        "- card:\n"
        '  - "card/lost": lost it\n'
        "  - delivery:\n"
        '    - "card/delivery/late": has not come\n'
        '    - "card/delivery/refund": money back for the post\n'
        '- "other": anything else'
    )
    assert task().fields()["label"]["enum"] == list(PATHS)


def test_flat_labels_are_asked_for_as_ever() -> None:
    flat = task({"a/b": "one", "c": "c"}, abstain=True)
    assert flat.instructions() == (
        'Give the record exactly one of these labels:\n- "a/b": one\n- "c"\n'
        'If no label can be told from the record, answer "abstain" instead of guessing.'
    )
    assert flat.fields() == {
        "label": {
            "type": "string",
            "enum": ["a/b", "c", "abstain"],
            "description": "one of the labels above, exactly as it is written there",
        }
    }
    assert flat.parse('{"label": "b"}', TEXT).problem == "the label 'b' is not in the set"
    assert [m.metric for m in flat.measure(["c"], ["c"])] == ["accuracy", "macro_f1", "kappa", "f1", "f1"]


@pytest.mark.parametrize(
    ("given", "label"),
    [
        ("billing/refund", "billing/refund"),
        ("Billing / Refund", "billing/refund"),
        ("lost", "card/lost"),
        (" LATE ", "card/delivery/late"),
        ("other", "other"),
        ("card/delivery/refund", "card/delivery/refund"),
    ],
)
def test_a_whole_path_or_a_name_that_occurs_once_is_read(given: str, label: str) -> None:
    assert said(given).label == label
    assert task().parse(given, TEXT).label == label


@pytest.mark.parametrize(
    ("given", "problem"),
    [
        ("refund", "the label 'refund' may be 'billing/refund' or 'card/delivery/refund': expected the whole path"),
        ("billing", "'billing' is a branch, expected the whole path of a label below it"),
        ("card/delivery", "'card/delivery' is a branch, expected the whole path of a label below it"),
        ("delivery", "'delivery' is a branch, expected the whole path of a label below it"),
        ("delivery/late", "the label 'delivery/late' is not in the set"),
        ("", "the label '' is not in the set"),
        (3, "the label 3 is not in the set"),
        (["billing", "refund"], "the label ['billing', 'refund'] is not in the set"),
    ],
)
def test_what_cannot_be_told_is_explained(given: Any, problem: str) -> None:
    found = said(given)
    assert (found.state, found.label) == ("invalid", None)
    assert (found.problem or "").startswith(problem)


def test_a_branch_may_be_a_label_of_its_own() -> None:
    labels = {"billing": "about bills", "billing/refund": "wants money back"}
    tree = task(labels, hierarchy=True)
    assert tree.parse('{"label": "billing"}', TEXT).label == "billing"
    assert '- "billing": about bills\n  - "billing/refund": wants money back' in tree.instructions()


def test_gold_is_a_whole_path() -> None:
    assert task().canonical("card/lost", TEXT) == "card/lost"
    assert task().problem("lost", TEXT)


@settings(max_examples=100, deadline=None)
@given(
    label=st.recursive(
        st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=20) | st.sampled_from([*PATHS]),
        lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=3), inner, max_size=2),
        max_leaves=6,
    ),
    reply=st.text(max_size=40),
)
def test_any_reply_ends_in_a_path_or_a_reason(label: Any, reply: str) -> None:
    for found in (said(label), said(label, abstain=True), task().parse(reply, TEXT)):
        assert found.state in STATES
        assert (found.label in PATHS) == (found.state == "labelled")
        assert found.label is not None or found.problem


def test_accuracy_is_measured_at_each_level_and_ancestors_count() -> None:
    gold = ["billing/refund", "billing/refund", "card/delivery/late", "card/lost", "other"]
    given = ["billing/refund", "billing/charge", "card/delivery/refund", None, "card/lost"]
    metrics = {m.metric: m for m in task().measure(gold, given) if m.label == ""}
    assert metrics["accuracy_level_1"].value == pytest.approx(3 / 5)
    assert metrics["accuracy_level_2"].value == pytest.approx(2 / 5)
    assert metrics["accuracy_level_3"].value == metrics["accuracy"].value == pytest.approx(1 / 5)
    # Shared nodes 2 + 1 + 2 + 0 + 0, of 2 + 2 + 3 + 2 + 1 in gold and 2 + 2 + 3 + 0 + 2 given.
    assert metrics["hierarchical_f1"].value == pytest.approx(2 * 5 / (10 + 9))
    interval = metrics["hierarchical_f1"]
    assert interval.lower is not None
    assert interval.upper is not None
    assert interval.lower < interval.upper


def test_hierarchical_f1_is_micro_f1_over_the_sets_of_ancestors() -> None:
    import random

    from sklearn.metrics import f1_score
    from sklearn.preprocessing import MultiLabelBinarizer

    from annotation_pipelines.tasks.metrics.hierarchy import ancestors

    draw = random.Random(3)
    gold = [draw.choice(list(PATHS)) for _ in range(400)]
    given = [label if draw.random() < 0.5 else draw.choice(list(PATHS)) for label in gold]
    table = MultiLabelBinarizer().fit([ancestors(path) for path in PATHS])
    expected = f1_score(
        table.transform([ancestors(label) for label in gold]),
        table.transform([ancestors(label) for label in given]),
        average="micro",
    )
    found = next(m for m in task().measure(gold, given) if m.metric == "hierarchical_f1")
    assert found.value == pytest.approx(expected, abs=1e-12)
