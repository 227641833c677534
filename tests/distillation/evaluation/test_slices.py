"""Slices: named parts of the gold, of a property only where it tells apart."""

from __future__ import annotations

import polars as pl

from annotation_pipelines.distillation.evaluation.slices import slices


def gold(n: int = 30, **columns: object) -> pl.DataFrame:
    return pl.DataFrame(
        {
            "content": ["a" * (i + 1) for i in range(n)],
            "label": ["x"] * n,
            "origin": ["source"] * n,
            "partition_key": [None] * n,
            **columns,
        },
        schema_overrides={"partition_key": pl.String},
    )


def test_lengths_are_cut_in_three() -> None:
    found = slices(gold())
    assert {name: int(mask.sum()) for name, mask in found.items()} == {
        "length: short": 10,
        "length: middle": 10,
        "length: long": 10,
    }
    assert found["length: long"][-10:].all()


def test_a_property_that_all_share_gives_no_slice_nor_does_a_handful_of_records() -> None:
    same = gold(content=["same"] * 30)
    assert slices(same) == {}
    few = gold(origin=["file"] * 4 + ["source"] * 26)
    assert [name for name in slices(few) if name.startswith("origin")] == ["origin: gold column of the source"]
    assert slices(gold(0)) == {}


def test_the_newest_partitions_stand_against_the_earlier_ones() -> None:
    keys = [f"2026-01-{1 + i // 5:02}" for i in range(25)] + [None] * 5
    found = slices(gold(partition_key=keys))
    newest, earlier = found["partition: newest"], found["partition: earlier"]
    assert [i for i in range(30) if newest[i]] == list(range(15, 25))
    assert [i for i in range(30) if earlier[i]] == list(range(15))


def test_what_the_teacher_said_makes_slices() -> None:
    given = ["x"] * 10 + ["y"] * 10 + [None] * 5 + [None] * 5
    asked = [True] * 25 + [False] * 5
    sure = [0.5] * 10 + [1.0] * 10 + [None] * 10
    found = slices(gold(given=given, asked=asked, teacher_confidence=sure))
    counts = {name: int(mask.sum()) for name, mask in found.items() if name.startswith("teacher")}
    assert counts == {
        "teacher: right": 10,
        "teacher: wrong": 10,
        "teacher: gave no label": 5,
        "teacher's confidence: 0.00 to 0.60": 10,
        "teacher's confidence: 0.95 to 1.00": 10,
    }
