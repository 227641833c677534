"""The in-context library: the annotator's own prompt about any text."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from annotation_pipelines.annotators.counts import ANY_OCCASION
from annotation_pipelines.annotators.factory import make_panel
from annotation_pipelines.annotators.pending import Wanted
from annotation_pipelines.annotators.prompts import unfence
from annotation_pipelines.errors import DeclarationError
from annotation_pipelines.in_context import Library
from annotation_pipelines.sources.gold import gather_human_labels
from tests.annotators.label_scene import frame
from tests.mock_endpoint import MockEndpoint, answer
from tests.workspaces import LABELS, Fixture, declaration, ml_records, openai_annotator

DEMONSTRATIONS = {"pool": 20, "per_prompt": 3}
NEW = "A deep convolutional network that finds objects in images from a street camera."


def library(folder: Path, **changes: Any) -> Library:
    """A library over the gold of some real records."""
    fixture = Fixture(folder, ml_records(), declaration(demonstrations=DEMONSTRATIONS, **changes))
    gather_human_labels(fixture.store, fixture.project)
    return Library.open(fixture.workspace, "shop")


class TestMessages:
    def test_they_are_the_very_messages_that_the_annotator_sends(self, tmp_path: Path) -> None:
        with MockEndpoint(lambda call: answer("other")) as mock:
            fixture = Fixture(
                tmp_path,
                ml_records(7),
                declaration(
                    demonstrations=DEMONSTRATIONS,
                    privacy={"redact": ["email"]},
                    annotators=openai_annotator(mock.url),
                ),
            )
            gather_human_labels(fixture.store, fixture.project)
            wanted = Wanted.of_frame(frame(["about images", "a model that is served", "a graph <record> network"]))
            make_panel(fixture.project, fixture.store).label(fixture.store, wanted, "all", occasion=ANY_OCCASION)
            sent = {call.text: call.body["messages"] for call in mock.calls}
            calls = len(mock.calls)
            assert calls == 3
            assert len(next(iter(sent.values()))) == 8
            made = Library.open(fixture.workspace, "shop")
            for text, messages in sent.items():
                assert made.messages(text) == messages
            assert "[EMAIL_1]" in made.messages("write to me@example.com about it")[-1]["content"]
            assert len(mock.calls) == calls

    def test_the_embedded_annotator_lends_no_prompt_so_that_of_an_endpoint_is_made(self, tmp_path: Path) -> None:
        messages = library(tmp_path).messages(NEW)
        assert [message["role"] for message in messages] == ["system", *["user", "assistant"] * 3, "user"]
        assert all(description in messages[0]["content"] for description in LABELS.values())
        assert unfence(messages[-1]["content"]) == NEW
        assert all(json.loads(message["content"])["label"] in LABELS for message in messages[2:-1:2])

    @pytest.mark.parametrize("k", [0, 1, 7])
    @pytest.mark.parametrize("annotators", [None, openai_annotator("http://127.0.0.1:1/v1")])
    def test_another_number_of_demonstrations_can_be_asked_for(self, tmp_path: Path, k: int, annotators: Any) -> None:
        messages = library(tmp_path, annotators=annotators).messages(NEW, k)
        assert len(messages) == 2 + 2 * k

    def test_a_project_without_demonstrations_gives_the_prompt_alone(self, tmp_path: Path) -> None:
        fixture = Fixture(tmp_path, ml_records(7), declaration())
        made = Library(fixture.project, fixture.store)
        assert [message["role"] for message in made.messages(NEW)] == ["system", "user"]
        assert made.nearest(NEW, 3) == []


class TestNearest:
    def test_the_most_similar_comes_first_and_a_demonstration_is_not_its_own(self, tmp_path: Path) -> None:
        made = library(tmp_path)
        first, second, *_ = made.nearest(NEW, 5)
        assert len(made.nearest(NEW, 5)) == 5
        assert first.label == "computer-vision"
        assert made.nearest(first.content.text, 5)[0].record_id != first.record_id
        assert len(made.nearest(NEW)) == 3
        assert made.nearest(NEW, 1) == [first] != [second]

    def test_the_nearest_stands_last_in_the_prompt(self, tmp_path: Path) -> None:
        made = library(tmp_path)
        shown = [unfence(message["content"]) for message in made.messages(NEW, 2)[1:-1:2]]
        assert shown == [one.content.text for one in made.nearest(NEW, 2)[::-1]]


class TestParts:
    def test_a_record_of_several_parts_is_given_as_parts(self, tmp_path: Path) -> None:
        source = {
            "csv": "records.csv",
            "time": "created_on",
            "gold": "tag",
            "parts": {"title": "{title}", "description": "{description}"},
        }
        made = library(tmp_path, source=source)
        asked = made.messages({"description": "about images", "title": "A network"})[-1]["content"]
        assert asked.index("A network") < asked.index("about images")
        with pytest.raises(
            DeclarationError, match=r"a text for each part of a record \(title, description\), found one"
        ):
            made.messages("one text")
        with pytest.raises(DeclarationError, match=r"\(title, description\), found title"):
            made.messages({"title": "A network"})

    def test_an_annotator_that_is_not_there_is_refused(self, tmp_path: Path) -> None:
        with pytest.raises(DeclarationError, match=r"behind an endpoint \(openai:gpt-4o\), found 'embedded'"):
            Library(
                library(tmp_path, annotators=openai_annotator("http://127.0.0.1:1/v1")).project,
                library(tmp_path / "again").store,
                annotator="embedded",
            )
