"""The embedded annotator on relations: right more often with demonstrations, never by a record's own label."""

from __future__ import annotations

import json
from collections.abc import Sequence

import polars as pl
import pytest

from annotation_pipelines import project
from annotation_pipelines.annotators.base import Turn
from annotation_pipelines.annotators.embedded.annotator import EmbeddedAnnotator
from annotation_pipelines.content import Content
from annotation_pipelines.distillation.embedding import Embedder
from annotation_pipelines.distillation.encoder import Encoder
from annotation_pipelines.distillation.mention_pairs import MentionPair, pair_vectors
from annotation_pipelines.tasks.base import Annotation, Task
from annotation_pipelines.tasks.relations import Relations

GIVEN = Relations(types={"Cause-Effect": "{head} causes {tail}", "Content-Container": "{head} is inside {tail}"})
FOUND = Relations(types={"works for": "", "based in": ""}, pairs="found")

CAUSES = [
    ("The <e1>storm</e1> caused the <e2>damage</e2>.", "Cause-Effect(e1,e2)"),
    ("The <e1>virus</e1> caused a long <e2>illness</e2>.", "Cause-Effect(e1,e2)"),
    ("The <e1>flood</e1> was caused by heavy <e2>rain</e2>.", "Cause-Effect(e2,e1)"),
    ("A <e1>fire</e1> was caused by a broken <e2>cable</e2>.", "Cause-Effect(e2,e1)"),
    ("The <e1>letter</e1> was inside the <e2>drawer</e2>.", "Content-Container(e1,e2)"),
    ("There were <e1>coins</e1> inside the old <e2>box</e2>.", "Content-Container(e1,e2)"),
    ("The <e1>dog</e1> and the <e2>cat</e2> slept.", "Other"),
    ("She bought <e1>apples</e1> and <e2>pears</e2>.", "Other"),
]
ASKED = [
    ("The <e1>frost</e1> caused the <e2>cracks</e2>.", "Cause-Effect(e1,e2)"),
    ("The <e1>delay</e1> was caused by a <e2>strike</e2>.", "Cause-Effect(e2,e1)"),
    ("Some <e1>milk</e1> inside a <e2>bottle</e2>.", "Content-Container(e1,e2)"),
    ("I met <e1>Emma</e1> and <e2>Paul</e2>.", "Other"),
    # The same with e2 first: the roles stay where they are, the names change.
    ("The <e2>frost</e2> caused the <e1>cracks</e1>.", "Cause-Effect(e2,e1)"),
]


@pytest.fixture(scope="module")
def embedder(tmp_path_factory: pytest.TempPathFactory) -> Embedder:
    return Embedder(tmp_path_factory.mktemp("embedded") / "project", Encoder())


def frame(records: Sequence[tuple[str, str]], prefix: str = "d") -> pl.DataFrame:
    return pl.DataFrame(
        {
            "record_id": [f"{prefix}{index}" for index in range(len(records))],
            "content_hash": [f"hash of {content}" for content, _ in records],
            "content": [content for content, _ in records],
            "label": [label for _, label in records],
        }
    )


def answers(
    task: Task, shown: pl.DataFrame, asked: pl.DataFrame, embedder: Embedder, **settings: float
) -> list[Annotation]:
    annotator = EmbeddedAnnotator(project.EmbeddedAnnotator.model_validate(settings), task, "", shown, embedder)
    read = []
    for reply in annotator.annotate(annotator.requests(asked)):
        ended = annotator.proceed([Turn(reply.request, reply.status, reply.text)])
        assert isinstance(ended, Annotation)
        read.append(ended)
    return read


def test_the_nearest_pairs_vote_on_type_and_direction_wherever_e1_stands(embedder: Embedder) -> None:
    read = answers(GIVEN.make(), frame(CAUSES), frame(ASKED, "r"), embedder, neighbours=2)
    assert [annotation.label for annotation in read] == [label for _, label in ASKED]
    for annotation in read:
        assert annotation.scores and sum(annotation.scores.values()) == pytest.approx(1, abs=1e-4)
        assert annotation.confidence == max(annotation.scores.values())


def test_a_record_is_not_told_its_own_label(embedder: Embedder) -> None:
    odd = frame([*CAUSES[:6], ("The <e1>wind</e1> caused the <e2>noise</e2>.", "Other")])
    read = answers(GIVEN.make(), odd, odd[-1:], embedder, neighbours=1, demonstration_weight=1.0)
    assert read[0].label == "Cause-Effect(e1,e2)"


def test_without_demonstrations_descriptions_decide(embedder: Embedder) -> None:
    read = answers(GIVEN.make(), frame(CAUSES)[:0], frame(ASKED, "r"), embedder)
    assert all(annotation.state == "labelled" for annotation in read)
    assert (read[2].label or "").startswith("Content-Container")


def test_a_record_without_marks_is_invalid_and_holds_up_no_other(embedder: Embedder) -> None:
    records = frame([("no marks", ""), ASKED[0], ("", "")], "r")
    read = answers(GIVEN.make(), frame(CAUSES), records, embedder)
    assert [annotation.state for annotation in read] == ["invalid", "labelled", "invalid"]
    assert "does not mark its pair" in (read[0].problem or "")


def test_the_version_changes_with_what_is_asked(embedder: Embedder) -> None:
    def fingerprint(settings: Relations) -> str:
        return EmbeddedAnnotator(project.EmbeddedAnnotator(), settings.make(), "", None, embedder).fingerprint

    other = Relations(types={"Cause-Effect": "{tail} causes {head}", "Content-Container": "{head} is inside {tail}"})
    assert fingerprint(GIVEN) == fingerprint(GIVEN)
    asked = [GIVEN, other, FOUND]
    asked += [task.model_copy(update={"part": "body"}) for task in asked[::2]]
    asked += [FOUND.model_copy(update=change) for change in ({"directed": False}, {"entity_types": {"person": ""}})]
    assert len({fingerprint(settings) for settings in asked}) == len(asked)


def test_vectors_of_pairs_are_near_where_the_words_between_are_alike(embedder: Embedder) -> None:
    pairs = [
        MentionPair("storm", " caused the ", "damage"),
        MentionPair("virus", " caused a ", "illness"),
        MentionPair("letter", " was inside the ", "drawer"),
        MentionPair("letter", "", "drawer"),
    ]
    vectors = pair_vectors(pairs, embedder)
    near = vectors @ vectors.T
    assert near.diagonal() == pytest.approx([1] * 4, abs=1e-5)
    assert near[0, 1] > near[0, 2] + 0.2
    assert pair_vectors([], embedder).shape == (0, vectors.shape[1])


def found(*texts_and_relations: tuple[str, list[tuple[str, str, str]]]) -> list[tuple[str, str]]:
    made = FOUND.make()
    listed = []
    for text, relations in texts_and_relations:
        given = json.dumps([{"type": name, "head": head, "tail": tail} for name, head, tail in relations])
        listed.append((text, made.canonical(given, Content.of_text(text))))
    return listed


NEWS = found(
    ("Emma works for Acme.", [("works for", "Emma", "Acme")]),
    ("Paul now works for Globex.", [("works for", "Paul", "Globex")]),
    ("Acme has its seat in Berlin.", [("based in", "Acme", "Berlin")]),
    ("Globex has its seat in Tokyo.", [("based in", "Globex", "Tokyo")]),
    ("Nothing happened.", []),
)


def test_relations_are_found_among_the_mentions_that_demonstrations_have(embedder: Embedder) -> None:
    asked = found(
        ("Emma works for Globex.", [("works for", "Emma", "Globex")]),
        ("Since May Globex has its seat in Berlin.", [("based in", "Globex", "Berlin")]),
        ("Zoe works for Initech.", []),
        ("", []),
    )
    read = answers(FOUND.make(), frame(NEWS), frame(asked, "r"), embedder, neighbours=2)
    assert [annotation.label for annotation in read] == [label for _, label in asked]
    assert all(0 <= (annotation.confidence or 0) <= 1 for annotation in read)


def test_mentions_that_only_the_record_itself_told_are_not_known(embedder: Embedder) -> None:
    shown = frame([*NEWS, *found(("Zoe works for Initech.", [("works for", "Zoe", "Initech")]))])
    assert answers(FOUND.make(), shown, shown[-1:], embedder)[0].label == "[]"


def test_without_demonstrations_nothing_is_found(embedder: Embedder) -> None:
    read = answers(FOUND.make(), frame(NEWS)[:0], frame(NEWS, "r"), embedder)
    assert {annotation.label for annotation in read} == {"[]"}
    assert {annotation.confidence for annotation in read} == {0.0}
