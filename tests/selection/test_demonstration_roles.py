"""However demonstrations are chosen: they come from the pool, never from what is held out; equal texts get the same."""

from __future__ import annotations

import json
from typing import Any, get_args

import numpy as np
import polars as pl
import pytest

from annotation_pipelines.annotators.base import Annotator
from annotation_pipelines.annotators.factory import make_panel
from annotation_pipelines.annotators.prompts import unfence
from annotation_pipelines.distillation.embedding import Embedder
from annotation_pipelines.in_context import Library
from annotation_pipelines.project import Demonstrations
from annotation_pipelines.sources.gold import gather_human_labels
from annotation_pipelines.sources.ingest import ingest
from annotation_pipelines.store.vectors import as_frame
from tests.workspaces import LABELS, Fixture, declaration, openai_annotator

WAYS = get_args(Demonstrations.model_fields["choose"].annotation)
ENDPOINT = openai_annotator("http://127.0.0.1:1/v1")
BY_LIKENESS = ("nearest", "diverse", "balanced")


def titles(n: int) -> pl.DataFrame:
    """Records with gold; each text stands in two of them."""
    return pl.DataFrame(
        {
            "id": [f"r{i}" for i in range(n)],
            "title": [f"Project number {i // 2}" for i in range(n)],
            "description": ["about models"] * n,
            "created_on": ["2020-03-17"] * n,
            "tag": [list(LABELS)[i // 2 % 4] for i in range(n)],
        }
    )


@pytest.fixture(scope="module")
def shop(tmp_path_factory: pytest.TempPathFactory) -> Fixture:
    """Gold in all roles, ingested, with a vector for each text."""
    made = Fixture(
        tmp_path_factory.mktemp("shop"),
        titles(80),
        declaration(
            partitions={"every": "none"},
            evaluation={"share": 0.4},
            demonstrations={"pool": 20, "per_prompt": 4},
            annotators=ENDPOINT,
        ),
    )
    gather_human_labels(made.store, made.project)
    ingest(made.store, made.project, "all")
    hashes = made.store.query("SELECT DISTINCT content_hash FROM records ORDER BY content_hash")["content_hash"]
    vectors = np.random.default_rng(0).normal(size=(len(hashes), 384)).astype(np.float32)
    vectors /= np.linalg.norm(vectors, axis=1, keepdims=True)
    Embedder.for_project(made.project, made.store).cache.write("all", as_frame(hashes, vectors))
    return made


def annotator(shop: Fixture, choose: str, **more: Any) -> Annotator:
    shop.declare(demonstrations={"pool": 20, "per_prompt": 4, "choose": choose, **more})
    (member,) = make_panel(shop.project, shop.store).members
    return member


def everything(shop: Fixture) -> pl.DataFrame:
    return shop.store.query("SELECT record_id, content_hash, content FROM records ORDER BY record_id")


def shown(asked: bytes) -> list[str]:
    """The texts of the demonstrations in a request, in their order."""
    messages = json.loads(b"[" + asked + b"]")
    return [unfence(message["content"]) for message in messages[1:-1:2]]


@pytest.mark.parametrize("choose", WAYS)
def test_no_prompt_shows_what_is_held_out(shop: Fixture, choose: str) -> None:
    roles = shop.store.query("SELECT record_id, role, content FROM human_labels")
    pool = set(roles.filter(pl.col("role") == "demonstration")["content"])
    held_out = roles.filter(pl.col("role") == "evaluation")
    only_held_out = set(held_out["content"]) - pool
    records = everything(shop)
    assert len(only_held_out) > 5 and set(held_out["record_id"]) < set(records["record_id"])
    for request, text in zip(annotator(shop, choose).requests(records), records["content"], strict=True):
        texts = shown(request.body.messages)
        assert len(texts) == 4 and set(texts) <= pool
        assert not set(texts) & only_held_out
        assert text not in texts, "nor the record itself, by whatever id its text stands in the pool"


@pytest.mark.parametrize("choose", WAYS)
def test_equal_texts_make_equal_requests_whatever_stands_beside_them(shop: Fixture, choose: str) -> None:
    records = everything(shop)
    asked = annotator(shop, choose).requests(records)
    keys: dict[str, set[str]] = {}
    for request, content_hash in zip(asked, records["content_hash"], strict=True):
        keys.setdefault(content_hash, set()).add(request.key)
    assert len(keys) == 40 and all(len(each) == 1 for each in keys.values())
    alone = records.filter(pl.col("record_id") == "r7")
    (request,) = annotator(shop, choose).requests(alone)
    assert {request.key} == keys[alone["content_hash"].item()]


def test_another_way_of_choosing_makes_labels_stale(shop: Fixture) -> None:
    prints = {choose: annotator(shop, choose).fingerprint for choose in WAYS}
    assert len(set(prints.values())) == len(WAYS) == 5
    for choose in WAYS:
        other_seed = annotator(shop, choose, seed=0 if choose in BY_LIKENESS else 3).fingerprint
        assert (other_seed == prints[choose]) == (choose in BY_LIKENESS)


@pytest.mark.parametrize("choose", WAYS)
def test_the_library_gives_the_prompt_of_the_declared_way(shop: Fixture, choose: str) -> None:
    record = everything(shop).filter(pl.col("record_id") == "r7")
    (request,) = annotator(shop, choose).requests(record)
    declared = json.loads(b"[" + request.body.messages + b"]")
    text = record["content"].item()
    assert Library(shop.project, shop.store).messages(text) == declared
    shop.declare(annotators=[{"embedded": {}}])
    try:
        without = Library(shop.project, shop.store).messages(text)
    finally:
        shop.declare(annotators=ENDPOINT)
    assert [message["content"] for message in without[1::2]] == [message["content"] for message in declared[1::2]]


def test_a_demonstration_that_is_held_out_from_now_on_is_gone_from_all_prompts(shop: Fixture) -> None:
    """The last test of this file: it leaves the shop with other roles."""
    before = shop.store.query("SELECT record_id FROM human_labels WHERE role = 'demonstration'")["record_id"]
    shop.declare(evaluation={"share": 0.8})
    gather_human_labels(shop.store, shop.project)
    roles = shop.store.query("SELECT record_id, role, content FROM human_labels")
    moved = roles.filter((pl.col("role") == "evaluation") & pl.col("record_id").is_in(before.implode()))
    pool = set(roles.filter(pl.col("role") == "demonstration")["content"])
    assert moved.height
    for choose in WAYS:
        for request in annotator(shop, choose).requests(everything(shop)):
            texts = set(shown(request.body.messages))
            assert texts <= pool and not texts & (set(moved["content"]) - pool), choose
