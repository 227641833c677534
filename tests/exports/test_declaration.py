"""What a declaration may say of exports."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from pydantic import ValidationError

from annotation_pipelines.exports.formats import make_format
from annotation_pipelines.project.exports import SERVES, Export, Split
from annotation_pipelines.tasks.registry import KINDS
from tests.exports.scene import project

OPENAI = [{"openai": {"model": "m", "base_url": "http://x"}}]
ENTITIES = {"entities": {"types": {"person": "people"}}}


class TestExports:
    def test_a_format_alone_is_an_export_called_so(self, tmp_path: Path) -> None:
        (export,) = project(tmp_path, exports=["chat"]).declaration.exports
        assert (export.format, export.called, export.split) == ("chat", "chat", Split())

    def test_splits_that_are_not_named_get_nothing(self) -> None:
        assert Export.model_validate({"format": "chat", "split": {"train": 0.9, "test": 0.1}}).split.shares == (
            ("train", 0.9),
            ("test", 0.1),
        )

    @pytest.mark.parametrize(
        ("exports", "task", "said"),
        [
            (["conll"], None, "format: conll serves task: entities, found classification: use chat"),
            (["preference"], ENTITIES, "format: preference serves task: preference, critique, found entities"),
            (["rationales"], None, "needs an annotator that gives its reasons: set rationale: true"),
            (["preference"], {"critique": {"revise": False}}, "set critique: revise: true"),
            (["reward"], {"critique": {}}, "set critique: score"),
            (["chat", "chat"], None, "two are called chat: give each a name"),
            ([{"format": "chat", "split": {"train": 0.9}}], None, "add up to 1, found 0.9"),
            ([{"format": "chat", "split": {"train": True}}], None, "expected a number"),
            ([{"format": "chat", "tokens": "blanks"}], None, "tokens belongs to format: conll"),
            ([{"format": "chat", "language": "ja"}], None, "language belongs to format: spacy"),
            ([{"format": "chat", "name": "../up"}], None, "expected small letters"),
            ([{"format": "csv"}], None, "'chat', 'preference'"),
            ([{"format": "chat", "min_confidence": 2}], None, "less than or equal to 1"),
        ],
    )
    def test_what_cannot_be_is_refused(self, tmp_path: Path, exports: list[Any], task: Any, said: str) -> None:
        with pytest.raises(ValidationError) as refused:
            project(tmp_path, task, exports=exports, annotators=["embedded"] if task is None else OPENAI)
        assert said in str(refused.value)

    def test_every_kind_of_task_has_formats_and_every_format_can_be_made(self, tmp_path: Path) -> None:
        assert set(KINDS) <= {kind for kinds in SERVES.values() for kind in kinds}
        for name in SERVES:
            made = make_format(project(tmp_path), Export.model_validate({"format": name}))
            assert made.file("train").startswith("data/train")
