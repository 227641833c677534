"""What an endpoint was found to do is remembered for a day."""

from __future__ import annotations

import json
import time
from pathlib import Path

import pytest

from annotation_pipelines.annotators.limits.capabilities import REMEMBERED_SECONDS, Capabilities
from annotation_pipelines.errors import StoreError


def test_what_was_found_is_known_to_the_next_process(tmp_path: Path) -> None:
    Capabilities("http://e/v1", "m", tmp_path).remember(response_format="tools", n=False)
    Capabilities("http://e/v1", "m", tmp_path).remember(logprobs=True)
    found = Capabilities("http://e/v1", "m", tmp_path).get()
    assert found == {"response_format": "tools", "n": False, "logprobs": True}


def test_another_endpoint_or_model_is_another_matter(tmp_path: Path) -> None:
    Capabilities("http://e/v1", "m", tmp_path).remember(n=False)
    assert Capabilities("http://e/v1", "other", tmp_path).get() == {}
    assert Capabilities("http://other/v1", "m", tmp_path).get() == {}


def test_after_a_day_it_is_forgotten(tmp_path: Path) -> None:
    known = Capabilities("http://e/v1", "m", tmp_path)
    known.remember(n=False, logprobs=False)
    (path,) = tmp_path.rglob("*.json")
    document = json.loads(path.read_text())
    document["n"][1] = time.time() - REMEMBERED_SECONDS - 1
    path.write_text(json.dumps(document))
    assert known.get() == {"logprobs": False}


@pytest.mark.parametrize("content", ["{", "[]", '{"n": 1}', '{"n": [false]}', '{"n": [false, "today"]}', '{"n": null}'])
def test_what_cannot_be_read_is_not_known(tmp_path: Path, content: str) -> None:
    known = Capabilities("http://e/v1", "m", tmp_path)
    known.remember(n=False)
    (path,) = tmp_path.rglob("*.json")
    path.write_text(content)
    assert known.get() == {}


def test_an_unwritable_folder_is_one_clear_error(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(StoreError, match="cannot be used"):
        Capabilities("http://e/v1", "m", tmp_path / "file").get()
