"""Entities as tokens with tags, and as spaCy's spans."""

from __future__ import annotations

import json
from itertools import pairwise
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from annotation_pipelines.exports.conll import EMPTY, OVERLAPPING, UNALIGNED, tokens_of
from annotation_pipelines.tasks.base import canonical_json
from annotation_pipelines.tasks.spans import TypedSpan
from annotation_pipelines.tasks.tokens import tagged_entities
from tests.exports.scene import entries, export, lines, project, record

ENTITIES = {"entities": {"types": ["person", "place"], "nested": True}}


def label(text: str, *spans: tuple[int, int, str]) -> str:
    return canonical_json([{"start": s, "end": e, "text": text[s:e], "type": t} for s, e, t in sorted(spans)])


def sentences(folder: Path) -> list[list[list[str]]]:
    """What a plain CoNLL reader makes of all files: sentences of [token, tag]."""
    found = []
    for file in sorted((folder / "data").glob("*.conll")):
        block: list[list[str]] = []
        for line in file.read_text(encoding="utf-8").split("\n"):
            if line:
                block.append(line.split("\t"))
            elif block:
                found.append(block)
                block = []
    return found


class TestConll:
    def test_tokens_and_tags_are_read_back_as_the_entities(self, tmp_path: Path) -> None:
        texts = [
            ("Emma Stone, of New York, smiled.", [(0, 10, "person"), (15, 23, "place")]),
            ("😀😀 Zoë\u0301's in Zürich!", [(3, 7, "person"), (13, 19, "place")]),
            ("山田太郎は東京に住んでいる。", [(0, 4, "person"), (5, 7, "place")]),
            ("no entity\there\u2028at all", []),
        ]
        records = [record(f"r{i}", text, label(text, *spans)) for i, (text, spans) in enumerate(texts)]
        exported = export(tmp_path, project(tmp_path, ENTITIES), records, format="conll")
        found = sentences(exported.folder)
        assert len(found) == 4
        assert all(len(pair) == 2 and pair[0] and not pair[0].isspace() for block in found for pair in block)
        surfaces = set()
        for block in found:
            at, spans = 0, []
            for token, _ in block:
                spans.append(TypedSpan(at, at + len(token), ""))
                at += len(token)
            text = "".join(token for token, _ in block)
            tags = [tag for _, tag in block]
            surfaces |= {(e.of(text), e.type) for e in tagged_entities(tags, spans)}
        assert surfaces == {
            ("EmmaStone", "person"),
            ("NewYork", "place"),
            ("Zoë\u0301", "person"),
            ("Zürich", "place"),
            ("山田太郎", "person"),
            ("東京", "place"),
        }
        assert lines(exported.folder / "unaligned.jsonl") == []

    def test_what_tags_cannot_say_is_counted_and_listed(self, tmp_path: Path) -> None:
        text = "Smith of Smithville"
        spans = label(text, (0, 5, "person"), (9, 14, "person"), (9, 19, "place"), (0, 19, "place"))
        exported = export(tmp_path, project(tmp_path, ENTITIES), [record("r1", text, spans)], format="conll")
        assert sentences(exported.folder) == [[["Smith", "B-place"], ["of", "I-place"], ["Smithville", "I-place"]]]
        listed = lines(exported.folder / "unaligned.jsonl")
        assert sorted((e["text"], e["why"]) for e in listed) == [
            ("Smith", UNALIGNED),
            ("Smith", OVERLAPPING),
            ("Smithville", OVERLAPPING),
        ]
        assert {e["record_id"] for e in listed} == {"r1"}
        assert exported.notes[UNALIGNED] == 1
        assert UNALIGNED in exported.card

    def test_tokens_between_blanks_keep_their_punctuation(self, tmp_path: Path) -> None:
        text = "Emma , smiled ."
        records = [
            record("r1", text, label(text, (0, 4, "person"))),
            record("r2", " \u200b", "[]"),
            record("r3", "\n", "[]"),
        ]
        exported = export(tmp_path, project(tmp_path, ENTITIES), records, format="conll", tokens="blanks")
        assert [token for token, _ in sentences(exported.folder)[0]] in (["Emma", ",", "smiled", "."], ["\u200b"])
        assert exported.left_out == {EMPTY: 1}

    @settings(max_examples=100, deadline=None)
    @given(st.text(max_size=40), st.sampled_from(["words", "blanks", "characters"]))
    def test_tokens_are_in_order_do_not_overlap_and_lose_only_white_space(self, text: str, manner: str) -> None:
        tokens = tokens_of(text, manner)
        assert all(one.end <= other.start for one, other in pairwise(tokens))
        for token in tokens:
            assert token.of(text).strip()
            assert not set(token.of(text)) & set("\t\n\r\x0b\x0c\x1c\x1d\x1e\x1f\x85\u2028\u2029")
        if manner == "words":
            kept = "".join(token.of(text) for token in tokens)
            assert "".join(kept.split()) == "".join(text.split())


class TestSpacy:
    def test_entities_for_ner_do_not_overlap_and_spans_hold_all(self, tmp_path: Path) -> None:
        text = "😀 Emma of New York City"
        spans = label(text, (2, 6, "person"), (10, 18, "place"), (10, 23, "place"))
        exported = export(tmp_path, project(tmp_path, ENTITIES), [record("r1", text, spans)], format="spacy")
        (entry,) = entries(exported)
        assert entry["text"] == text
        assert entry["entities"] == [[2, 6, "person"], [10, 23, "place"]]
        assert entry["spans"] == {"sc": [[2, 6, "person"], [10, 18, "place"], [10, 23, "place"]]}
        assert [text[start:end] for start, end, _ in entry["entities"]] == ["Emma", "New York City"]

    @pytest.mark.parametrize(
        ("task", "given", "cats"),
        [
            (None, "card", {"card": 1.0, "transfer": 0.0}),
            (
                {"multilabel": {"labels": ["joy", "fear", "anger"]}},
                '["joy","anger"]',
                {"joy": 1.0, "fear": 0.0, "anger": 1.0},
            ),
            ({"multilabel": {"labels": ["joy", "fear"]}}, "[]", {"joy": 0.0, "fear": 0.0}),
        ],
    )
    def test_labels_are_categories(self, tmp_path: Path, task: Any, given: str, cats: dict[str, float]) -> None:
        exported = export(tmp_path, project(tmp_path, task), [record("r1", "my card", given)], format="spacy")
        assert entries(exported) == [{"text": "my card", "cats": cats}]

    def test_spacy_reads_its_own_files(self, tmp_path: Path) -> None:
        spacy = pytest.importorskip("spacy")
        from spacy.tokens import DocBin

        text = "Emma Stone of New York"
        spans = label(text, (0, 10, "person"), (14, 22, "place"))
        exported = export(tmp_path, project(tmp_path, ENTITIES), [record("r1", text, spans)], format="spacy")
        (file,) = (exported.folder / "data").glob("*.spacy")
        (doc,) = DocBin().from_disk(file).get_docs(spacy.blank("xx").vocab)
        assert [(e.text, e.label_) for e in doc.ents] == [("Emma Stone", "person"), ("New York", "place")]

    def test_the_card_says_how_the_lines_become_examples(self, tmp_path: Path) -> None:
        exported = export(tmp_path, project(tmp_path, ENTITIES), [record("r1", "Emma", "[]")], format="spacy")
        assert "Example.from_dict" in exported.card
        assert json.loads((exported.folder / "schema.json").read_text(encoding="utf-8"))["task"] == "entities"
