"""What writing costs is foreseen, and what is written is not cut off."""

from __future__ import annotations

from pathlib import Path

import polars as pl

from annotation_pipelines.annotators.factory import make_panel
from annotation_pipelines.annotators.pending import Wanted
from annotation_pipelines.annotators.plan import plan_calls
from tests.mock_endpoint import MockEndpoint, completion
from tests.synthetic.scene import Scene
from tests.synthetic.test_check import SEEDS


def test_a_plan_knows_that_answers_are_long(tmp_path: Path) -> None:
    scene = Scene(tmp_path, self_instruct={}, per_record=5)
    scene.records(SEEDS)
    panel = make_panel(scene.project, scene.store)
    frame = scene.store.query("SELECT record_id, content_hash, content FROM records")
    plan = plan_calls(scene.store, panel, Wanted.of_frame(frame)).total
    assert plan.calls == 2 and plan.completion_tokens == 2 * (24 + 5 * 200)
    assert plan.cost_usd is not None and plan.cost_usd > plan.completion_tokens * 10 / 1e6


def test_a_request_leaves_room_for_all_that_is_asked_for(tmp_path: Path) -> None:
    with MockEndpoint(lambda call: completion('{"generated": []}')) as mock:
        for declared, most in ({}, 256 + 4 * 5 * 200), ({"max_tokens": 900}, 900):
            scene = Scene(tmp_path / str(most), mock.url, self_instruct={}, per_record=5)
            annotators = scene.project.declaration.annotators
            settings = annotators[0].openai
            assert settings
            annotators[0] = annotators[0].model_copy(update={"openai": settings.model_copy(update=declared)})
            panel = make_panel(scene.project, scene.store)
            content = pl.DataFrame({"record_id": ["a"], "content_hash": ["h"], "content": [f"seed {most}"]})
            panel.label(scene.store, Wanted.of_frame(content), "p")
            body = mock.calls[-1].body
            assert most in (body.get("max_completion_tokens"), body.get("max_tokens"))
