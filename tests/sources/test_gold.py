"""Gold: each record that people labelled serves in one role."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import polars as pl
import pytest
from hypothesis import given
from hypothesis import strategies as st

from annotation_pipelines.declaration_file import load_project
from annotation_pipelines.errors import SourceError
from annotation_pipelines.project import Demonstrations, Project
from annotation_pipelines.sources.gold import (
    HumanLabelCounts,
    assign_roles,
    draw_pool,
    gather_human_labels,
    unit_hash,
)
from annotation_pipelines.sources.person_labels import SCHEMA
from annotation_pipelines.store.database import Store
from tests.sources.shop import Row, project, store, unpartitioned, write

ASSETS = Path(__file__).parents[2] / "assets"


def gold(*ids: str, text: str = "text") -> list[Row]:
    return [(id, f"{text} {id}", None, "good") for id in ids]


def ids(count: int, prefix: str = "r") -> list[str]:
    return [f"{prefix}{i}" for i in range(count)]


def gather(folder: Path, declared: Project | None = None, **attributes: Any) -> HumanLabelCounts:
    return gather_human_labels(store(folder), declared or unpartitioned(folder, **attributes))


def roles(folder: Path) -> dict[str, set[str]]:
    rows = store(folder).query("SELECT role, list(record_id) FROM human_labels GROUP BY role").rows()
    return {role: set(ids) for role, ids in rows}


def label_file(folder: Path, *lines: str) -> None:
    (folder / "labels.csv").write_text("\n".join(["id,label,annotator,labelled_at", *lines]) + "\n", encoding="utf-8")


def test_gold_of_the_source_measures_unless_told_otherwise(tmp_path: Path) -> None:
    write(tmp_path, *gold("1", "2"), ("3", "c", None, None), ("4", "d", None, "ugly"))
    assert gather(tmp_path).roles == {"demonstration": 0, "training": 0, "evaluation": 0, "monitor": 2}
    row = store(tmp_path).query("SELECT * FROM human_labels WHERE record_id = '1'").row(0, named=True)
    assert (row["content"], row["label"], row["role"], row["origin"], row["person"]) == (
        "text 1",
        "good",
        "monitor",
        "source",
        None,
    )


def test_gold_of_every_partition_counts_whether_it_exists_or_not(tmp_path: Path) -> None:
    write(tmp_path, ("1", "a", "2020-03-02", "good"), ("2", "b", "2031-01-01", "good"), ("3", "c", "1999-01-01", "bad"))
    assert gather(tmp_path, project(tmp_path)).roles["monitor"] == 3


def test_a_share_is_held_out_by_id_for_ever(tmp_path: Path) -> None:
    share: dict[str, Any] = {"evaluation": {"share": 0.3}}
    write(tmp_path, *gold(*ids(200)))
    counts = gather(tmp_path, **share)
    held_out = roles(tmp_path)["evaluation"]
    assert 40 <= counts.roles["evaluation"] == len(held_out) <= 80
    write(tmp_path, *gold(*ids(50, "new"), *ids(150), text="other"))
    gather(tmp_path, **share)
    assert roles(tmp_path)["evaluation"].intersection(ids(150)) == held_out.intersection(ids(150))
    gather(tmp_path, evaluation={"share": 0.5})
    assert roles(tmp_path)["evaluation"] >= held_out.intersection(ids(150)), "a larger share holds out more, not others"


def test_who_is_held_out_never_changes_between_releases() -> None:
    assert [round(unit_hash("evaluation", id), 6) for id in ("1", "2", "ü")] == [0.914883, 0.228224, 0.199681]


@given(st.text())
def test_the_hash_is_a_share(record_id: str) -> None:
    assert 0 <= unit_hash("evaluation", record_id) <= 1


def test_a_pool_of_demonstrations_stands_as_long_as_it_has_gold(tmp_path: Path) -> None:
    pool: dict[str, Any] = {"demonstrations": {"pool": 10}}
    write(tmp_path, *gold(*ids(100)))
    assert gather(tmp_path, **pool).roles == {"demonstration": 10, "training": 0, "evaluation": 0, "monitor": 90}
    first = roles(tmp_path)["demonstration"]
    write(tmp_path, *gold(*ids(100), *ids(500, "new")))
    gather(tmp_path, **pool)
    assert roles(tmp_path)["demonstration"] == first, "new gold does not push members out"
    gone = sorted(first)[0]
    write(tmp_path, *gold(*(set(ids(100)) - {gone}), *ids(500, "new")))
    gather(tmp_path, **pool)
    assert len(roles(tmp_path)["demonstration"] - first) == 1, "the pool is topped up"
    assert first - roles(tmp_path)["demonstration"] == {gone}


def test_a_smaller_pool_keeps_some_and_a_larger_one_all_of_its_members(tmp_path: Path) -> None:
    write(tmp_path, *gold(*ids(100)))
    pools = []
    for size in (10, 4, 20):
        gather(tmp_path, demonstrations={"pool": size})
        pools.append(roles(tmp_path)["demonstration"])
    assert [len(pool) for pool in pools] == [10, 4, 20]
    assert pools[0] > pools[1] < pools[2]


def test_another_seed_draws_another_pool_and_the_first_seed_the_first_again(tmp_path: Path) -> None:
    write(tmp_path, *gold(*ids(100)))
    pools = []
    for seed in (0, 1, 0):
        gather(tmp_path, demonstrations={"pool": 10, "seed": seed})
        pools.append(roles(tmp_path)["demonstration"])
    assert len(pools[0] & pools[1]) < 5
    assert pools[0] == pools[2]


def test_a_pool_may_stay_short(tmp_path: Path) -> None:
    write(tmp_path, *gold("1", "2"))
    assert gather(tmp_path, demonstrations={"pool": 10}).roles["demonstration"] == 2


def test_what_is_held_out_is_never_shown_to_the_annotator(tmp_path: Path) -> None:
    write(tmp_path, *gold(*ids(100)))
    gather(tmp_path, demonstrations={"pool": 100})
    counts = gather(tmp_path, demonstrations={"pool": 100}, evaluation={"share": 0.2})
    assert counts.roles["demonstration"] + counts.roles["evaluation"] == 100
    assert not roles(tmp_path)["demonstration"] & roles(tmp_path)["evaluation"]


class TestHeldOutFiles:
    def test_their_gold_is_for_evaluation(self, tmp_path: Path) -> None:
        write(tmp_path, *gold("1"))
        write(tmp_path, *gold("8"), ("9", "b", None, None), ("10", "", None, "good"), name="held_out.csv")
        counts = gather(tmp_path, evaluation={"csv": "held_out.csv"})
        assert roles(tmp_path) == {"monitor": {"1"}, "evaluation": {"8"}}
        assert counts.held_out_rejected == 2
        assert store(tmp_path).query("SELECT origin FROM human_labels WHERE record_id = '8'").item() == "held_out"

    def test_they_need_no_time(self, tmp_path: Path) -> None:
        write(tmp_path, ("1", "a", "2020-03-02", "good"))
        pl.DataFrame({"id": ["8"], "text": ["x"], "tag": ["bad"]}).write_ndjson(tmp_path / "held_out.jsonl")
        assert gather(tmp_path, project(tmp_path, evaluation={"jsonl": "held_out.jsonl"})).roles["evaluation"] == 1

    def test_they_win_over_the_source(self, tmp_path: Path) -> None:
        write(tmp_path, *gold("1", "2"))
        write(tmp_path, ("1", "held out", None, "bad"), name="held_out.csv")
        counts = gather(tmp_path, evaluation={"csv": "held_out.csv"}, demonstrations={"pool": 5})
        assert roles(tmp_path) == {"demonstration": {"2"}, "evaluation": {"1"}}
        assert counts.held_out_in_source == 1
        assert store(tmp_path).query("SELECT content, label FROM human_labels WHERE record_id = '1'").rows() == [
            ("held out", "bad")
        ]

    def test_texts_that_the_source_has_too_are_counted(self, tmp_path: Path) -> None:
        write(tmp_path, ("1", "The  same\ntext", None, None), ("2", "another", None, None))
        write(tmp_path, ("8", " the same TEXT", None, "good"), ("2", "another", None, "bad"), name="held_out.csv")
        counts = gather(tmp_path, evaluation={"csv": "held_out.csv"})
        assert (counts.held_out_duplicates, counts.roles["evaluation"]) == (1, 2)

    def test_a_missing_column_is_named_with_the_file(self, tmp_path: Path) -> None:
        write(tmp_path, *gold("1"))
        write(tmp_path, ("8", "a", None, "good"), name="held_out.csv", columns=("id", "text", "at", "label"))
        with pytest.raises(SourceError, match=r"held_out.csv: expected a column 'tag'"):
            gather(tmp_path, evaluation={"csv": "held_out.csv"})


class TestLabelsGivenLater:
    def test_they_train_and_override_the_source(self, tmp_path: Path) -> None:
        write(tmp_path, *gold("1", "2"), ("3", "c", None, None))
        label_file(tmp_path, "1,bad,Ann,2020-03-05T10:00:00Z", "3,bad,,", "404,good,,")
        counts = gather(tmp_path, human_labels="labels.csv")
        assert roles(tmp_path) == {"training": {"1", "3"}, "monitor": {"2"}}
        assert counts.unknown_ids == 1
        rows = store(tmp_path).query(
            "SELECT label, origin, person, strftime(labelled_at, '%d %H') FROM human_labels ORDER BY record_id"
        )
        assert rows.rows() == [
            ("bad", "file", "Ann", "05 10"),
            ("good", "source", None, None),
            ("bad", "file", None, None),
        ]

    def test_the_latest_label_of_a_record_counts(self, tmp_path: Path) -> None:
        write(tmp_path, *gold("1", "2"))
        label_file(tmp_path, "1,bad,Ann,2020-03-06", "1,good,Ben,2020-03-05", "2,good,,", "2,bad,,")
        assert gather(tmp_path, human_labels="labels.csv").superseded == 2
        assert store(tmp_path).query("SELECT label FROM human_labels").rows() == [("bad",), ("bad",)]

    def test_they_only_correct_what_is_held_out_or_shown(self, tmp_path: Path) -> None:
        write(tmp_path, *gold(*ids(50)))
        write(tmp_path, *gold("8"), name="held_out.csv")
        for evaluation in ({"share": 0.2}, {"csv": "held_out.csv"}):
            attributes: dict[str, Any] = {"evaluation": evaluation, "demonstrations": {"pool": 10}}
            (tmp_path / "labels.csv").unlink(missing_ok=True)
            gather(tmp_path, **attributes)
            before = roles(tmp_path)
            label_file(tmp_path, *(f"{id},bad,Ann," for id in [*ids(50), "8"]))
            gather(tmp_path, **attributes, human_labels="labels.csv")
            after = roles(tmp_path)
            assert (after["evaluation"], after["demonstration"]) == (before["evaluation"], before["demonstration"])
            assert after["training"] == before["monitor"]
            labels = store(tmp_path).query("SELECT DISTINCT label, person FROM human_labels").rows()
            assert labels == [("bad", "Ann")]
        origins = store(tmp_path).query("SELECT origin FROM human_labels WHERE record_id = '8'").item()
        assert origins == "held_out"

    @pytest.mark.parametrize(
        ("content", "problem"),
        [
            ("id,label\n1,good\n2,goood\n", "labels.csv:3: expected one of good, bad, found 'goood'"),
            (
                'id,label,note\n1,good,"two\nlines"\n2,,\n',
                "labels.csv:4: expected one of good, bad, found ''",
            ),
            ("id,label\n,good\n", "labels.csv:2: expected an id, found ''"),
            (
                "id,label,labelled_at\n1,good,soon\n",
                "labels.csv:2: expected a time such as 2020-02-20T06:43:18Z, found 'soon'",
            ),
            ("id,tag\n1,good\n", "labels.csv: expected the columns id and label, found id, tag; label is missing"),
            ("", "labels.csv: expected the columns id and label, found an empty file"),
        ],
    )
    def test_a_wrong_line_is_named(self, tmp_path: Path, content: str, problem: str) -> None:
        write(tmp_path, *gold("1"))
        gather(tmp_path)
        (tmp_path / "labels.csv").write_text(content, encoding="utf-8")
        with pytest.raises(SourceError) as error:
            gather(tmp_path, human_labels="labels.csv")
        assert problem in str(error.value)
        assert roles(tmp_path) == {"monitor": {"1"}}, "nothing was written"

    def test_a_file_that_is_not_there_or_not_utf_8_is_named(self, tmp_path: Path) -> None:
        write(tmp_path, *gold("1"))
        with pytest.raises(SourceError, match=r"labels.csv: .*No such file.*id,label,annotator,labelled_at"):
            gather(tmp_path, human_labels="labels.csv")
        (tmp_path / "labels.csv").write_bytes("id,label\né,good\n".encode("latin1"))
        with pytest.raises(SourceError, match=r"labels.csv: expected CSV in UTF-8"):
            gather(tmp_path, human_labels="labels.csv")

    def test_a_byte_order_mark_and_windows_lines_do_no_harm(self, tmp_path: Path) -> None:
        write(tmp_path, *gold("1"))
        (tmp_path / "labels.csv").write_bytes(b"\xef\xbb\xbfid,label\r\n1, bad \r\n\r\n")
        assert gather(tmp_path, human_labels="labels.csv").roles["training"] == 1


def test_the_counts_are_recorded_with_the_seed(tmp_path: Path) -> None:
    write(tmp_path, *gold("1", "2"))
    gather(tmp_path, demonstrations={"pool": 1, "seed": 7})
    facts = json.loads(
        store(tmp_path)
        .query("SELECT facts FROM stage_runs WHERE stage = 'human_labels' AND partition_key = 'all'")
        .item()
    )
    assert (facts["demonstration"], facts["monitor"], facts["demonstration_seed"]) == (1, 1, 7)


@pytest.mark.parametrize(
    ("name", "expected"),
    [
        ("ml_projects", {"demonstration": 100, "training": 0, "evaluation": 191, "monitor": 664}),
        ("climate_stance", {"demonstration": 0, "training": 0, "evaluation": 451, "monitor": 1848}),
    ],
)
def test_the_gold_of_this_workspace_has_its_roles(tmp_path: Path, name: str, expected: dict[str, int]) -> None:
    home = Store(tmp_path / name)
    declared = load_project(ASSETS / name / "defs.yaml")
    assert gather_human_labels(home, declared).roles == expected
    before = home.query("SELECT * FROM human_labels ORDER BY record_id")
    assert gather_human_labels(home, declared).held_out_duplicates == 0
    assert home.query("SELECT * FROM human_labels ORDER BY record_id").equals(before), "again gives the same"


FRAME = {"record_id": pl.String, "content_hash": pl.String, "content": pl.String, "gold": pl.String}
GOLD = st.dictionaries(st.sampled_from([*"abcdefgh"]), st.sampled_from(["good", "bad", None]))


@given(
    source=GOLD,
    held_out=st.dictionaries(st.sampled_from([*"abxy"]), st.just("good")),
    people=st.dictionaries(st.sampled_from([*"abcxz"]), st.sampled_from(["good", "bad"])),
    share=st.sampled_from([None, 0.3, 0.9]),
    pool=st.integers(1, 9) | st.none(),
    members=st.sets(st.sampled_from([*"abcz"])),
)
def test_every_gold_record_has_exactly_one_role(
    source: dict[str, str | None],
    held_out: dict[str, str],
    people: dict[str, str],
    share: float | None,
    pool: int | None,
    members: set[str],
) -> None:
    def frame(gold: Any) -> pl.DataFrame:
        return pl.DataFrame([(id, "h", "c", label) for id, label in gold.items()], schema=FRAME, orient="row")

    given_later = pl.DataFrame([(id, label, None, None) for id, label in people.items()], schema=SCHEMA, orient="row")
    demonstrations = Demonstrations(pool=pool) if pool else None
    table = assign_roles(frame(source), frame(held_out), given_later, share, demonstrations, members)
    known = set(source) | set(held_out)
    labelled = {id for id, label in source.items() if label} | set(held_out) | set(people)
    assert table["record_id"].to_list() == sorted(known & labelled)
    for id, label, role in table.select("record_id", "label", "role").rows():
        assert label == people.get(id, held_out.get(id, source.get(id)))
        if id in held_out:
            assert role == "evaluation"
        elif id in people:
            assert role != "monitor"
        if role == "demonstration":
            assert source[id]


def test_a_pool_prefers_its_members() -> None:
    candidates = ids(30)
    assert draw_pool(candidates, Demonstrations(pool=5), candidates[:5]) == set(candidates[:5])
    assert draw_pool(candidates, Demonstrations(pool=5), ["gone"]) == draw_pool(candidates, Demonstrations(pool=5), [])
