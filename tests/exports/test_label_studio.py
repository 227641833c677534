"""Label Studio: tasks that its import takes, and the interface that the results fit."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any
from xml.etree import ElementTree

import pytest

from annotation_pipelines.tasks.base import canonical_json
from tests.exports.scene import export, project, record

TEXT = '😀 The <e1>storm</e1> caused <e2>damage</e2> & "more"'
PREFERENCE = ("instruction", "response_a", "response_b")
FOUND = canonical_json(
    [
        {
            "head": {"start": 2, "end": 5, "text": "one"},
            "tail": {"start": 6, "end": 9, "text": "two"},
            "type": "causes",
        },
        {
            "head": {"start": 2, "end": 5, "text": "one"},
            "tail": {"start": 10, "end": 15, "text": "three"},
            "type": "causes",
        },
    ]
)


def made(folder: Path, task: Any, content: Any, label: str, **more: Any) -> tuple[dict[str, Any], ElementTree.Element]:
    """The only task of an export, and the interface."""
    parts = list(content) if isinstance(content, dict) else ()
    settings: dict[str, Any] = {"annotators": [{"openai": {"model": "m", "base_url": "http://x"}}]}
    exported = export(
        folder,
        project(folder, task, parts=parts, **settings),
        [record("r1", content, label, **more)],
        format="label_studio",
    )
    (file,) = (exported.folder / "data").iterdir()
    (found,) = json.loads(file.read_text(encoding="utf-8"))
    return found, ElementTree.parse(exported.folder / "labeling_config.xml").getroot()


def results(found: dict[str, Any]) -> list[dict[str, Any]]:
    """Its results, each checked against what any result of Label Studio has."""
    (one,) = found.get("annotations") or found["predictions"]
    for result in one["result"]:
        keys = {"type", "from_id", "to_id", "direction", "labels"}
        assert result.keys() == (
            keys if result["type"] == "relation" else {"id", "from_name", "to_name", "type", "value"}
        )
    given: list[dict[str, Any]] = one["result"]
    return given


class TestLabelStudio:
    def test_gold_is_an_annotation_and_silver_a_prediction_with_its_score(self, tmp_path: Path) -> None:
        task = {"classification": {"labels": ["card", "transfer"]}}
        silver, _ = made(tmp_path / "a", task, "my card", "card", confidence=0.7)
        gold, _ = made(tmp_path / "b", task, "my card", "card", origin="gold")
        assert silver["predictions"][0]["score"] == 0.7
        assert silver["predictions"][0]["model_version"] == "openai:m"
        assert gold["annotations"][0]["ground_truth"] is True
        assert "annotations" not in silver and "predictions" not in gold

    @pytest.mark.parametrize(
        ("task", "content", "label", "kind", "value", "tag"),
        [
            (
                {"classification": {"labels": ["card", 'a "b" <c>']}},
                "t",
                'a "b" <c>',
                "choices",
                {"choices": ['a "b" <c>']},
                "Choices",
            ),
            (
                {"multilabel": {"labels": ["joy", "fear"]}},
                "t",
                '["joy","fear"]',
                "choices",
                {"choices": ["joy", "fear"]},
                "Choices",
            ),
            (
                {"classification": {"labels": ["a/b", "a/c/d"], "hierarchy": True}},
                "t",
                "a/c/d",
                "taxonomy",
                {"taxonomy": [["a", "c", "d"]]},
                "Taxonomy",
            ),
            ({"rating": {"from": 1, "to": 5}}, "t", "4", "rating", {"rating": 4}, "Rating"),
            ({"rating": {"from": 0, "to": 100}}, "t", "62", "number", {"number": 62}, "Number"),
            (
                {"rating": {"scale": {"bad": "b", "good": "g"}}},
                "t",
                "good",
                "choices",
                {"choices": ["good"]},
                "Choices",
            ),
        ],
    )
    def test_a_value_fits_the_control(
        self, tmp_path: Path, task: Any, content: str, label: str, kind: str, value: Any, tag: str
    ) -> None:
        found, interface = made(tmp_path, task, content, label)
        (result,) = results(found)
        control = interface.find(f"{tag}[@name='{result['from_name']}']")
        assert control is not None
        assert control.get("toName") == result["to_name"] == "text"
        assert interface.find("Text[@name='text'][@value='$text']") is not None
        assert (result["type"], result["value"]) == (kind, value)
        if kind == "choices":
            assert set(value["choices"]) <= {choice.get("value") for choice in control}
        if kind == "taxonomy":
            assert control.find("Choice[@value='a']/Choice[@value='c']/Choice[@value='d']") is not None

    def test_no_label_is_no_result(self, tmp_path: Path) -> None:
        found, _ = made(tmp_path, {"multilabel": {"labels": ["joy", "fear"]}}, "t", "[]")
        assert results(found) == []

    def test_entities_are_regions_with_offsets_in_code_points(self, tmp_path: Path) -> None:
        label = canonical_json([{"start": 2, "end": 6, "text": "Emma", "type": "person"}])
        found, interface = made(tmp_path, {"entities": {"types": ["person", "place"]}}, "😀 Emma", label)
        (result,) = results(found)
        assert result["value"] == {"start": 2, "end": 6, "text": "Emma", "labels": ["person"]}
        assert [one.get("value") for one in interface.iterfind("Labels/Label")] == ["person", "place"]

    def test_a_given_pair_is_two_regions_of_the_text_without_marks_and_a_relation_from_its_head(
        self, tmp_path: Path
    ) -> None:
        task = {"relations": {"types": ["Cause-Effect"]}}
        found, interface = made(tmp_path, task, TEXT, "Cause-Effect(e2,e1)")
        e1, e2, relation = results(found)
        text = found["data"]["text"]
        assert text == '😀 The storm caused damage & "more"'
        assert [text[r["value"]["start"] : r["value"]["end"]] for r in (e1, e2)] == ["storm", "damage"]
        assert (relation["from_id"], relation["to_id"]) == (e2["id"], e1["id"])
        assert (relation["labels"], relation["direction"]) == (["Cause-Effect"], "right")
        assert [one.get("value") for one in interface.iterfind("Relations/Relation")] == ["Cause-Effect"]
        unrelated, _ = made(tmp_path / "other", task, TEXT, "Other")
        assert [result["type"] for result in results(unrelated)] == ["labels", "labels"]

    def test_found_relations_share_the_regions_of_a_mention(self, tmp_path: Path) -> None:
        task = {"relations": {"types": ["causes"], "pairs": "found"}}
        found, _ = made(tmp_path, task, "😀 one two three", FOUND)
        regions = [result for result in results(found) if result["type"] == "labels"]
        links = [result for result in results(found) if result["type"] == "relation"]
        assert [region["value"]["text"] for region in regions] == ["one", "two", "three"]
        ids = [region["id"] for region in regions]
        assert [(link["from_id"], link["to_id"]) for link in links] == [(ids[0], ids[1]), (ids[0], ids[2])]

    @pytest.mark.parametrize(
        ("label", "kind", "value"),
        [
            ("A", "pairwise", {"selected": "left"}),
            ("B", "pairwise", {"selected": "right"}),
            ("tie", "choices", {"choices": ["tie"]}),
        ],
    )
    def test_a_preference_is_pairwise(self, tmp_path: Path, label: str, kind: str, value: Any) -> None:
        content = {"instruction": "Why?", "response_a": "So.", "response_b": "No."}
        found, interface = made(tmp_path, {"preference": {}}, content, label)
        (result,) = results(found)
        assert (result["type"], result["value"]) == (kind, value)
        pair = interface.find("Pairwise")
        assert pair is not None and pair.get("toName") == "response_a,response_b"
        assert result["to_name"] in content
        assert {one.get("name") for one in interface.iterfind("Text")} == set(content)
        assert found["data"] == content

    def test_criteria_are_choices_of_their_own(self, tmp_path: Path) -> None:
        content = {"instruction": "Why?", "response_a": "So.", "response_b": "No."}
        task = {"preference": {"criteria": ["truth", "style"]}}
        found, interface = made(tmp_path, task, content, canonical_json({"truth": "A", "style": "tie"}))
        assert {(r["from_name"], r["value"]["choices"][0]) for r in results(found)} == {
            ("truth", "A"),
            ("style", "tie"),
        }
        assert {one.get("name") for one in interface.iterfind("Choices")} == {"truth", "style"}
