"""Splits: nothing in one tells what is in another, and records stay where they are."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta

import polars as pl
import pytest

from annotation_pipelines.exports.splits import NEAR_HELD_OUT, SYNTHETIC, assign, leaks
from annotation_pipelines.project.exports import Split
from tests.workspaces import STANCE

START = datetime(2026, 1, 1, tzinfo=UTC)
EIGHTY = Split(train=0.8, validation=0.1, test=0.1)


def rows(n: int, *, held_out: set[int] = frozenset(), synthetic: set[int] = frozenset()) -> pl.DataFrame:  # type: ignore[assignment]
    return pl.DataFrame(
        {
            "record_id": [f"r{i:05}" for i in range(n)],
            "first_seen": [None if i in held_out else START + timedelta(minutes=i) for i in range(n)],
            "held_out": [i in held_out for i in range(n)],
            "synthetic": [i in synthetic for i in range(n)],
        },
        schema_overrides={
            "record_id": pl.String,
            "first_seen": pl.Datetime("us", "UTC"),
            "held_out": pl.Boolean,
            "synthetic": pl.Boolean,
        },
    )


def tweets(n: int) -> list[str]:
    """Different real tweets."""
    return pl.read_csv(STANCE, infer_schema=False)["text"].unique(maintain_order=True).head(n).to_list()


def split_of(placed: pl.DataFrame) -> list[str | None]:
    return placed["split"].to_list()


class TestAssign:
    def test_near_duplicates_are_in_one_split_and_the_shares_are_about_those_declared(self) -> None:
        texts = tweets(600)
        texts += [text.upper() + " !" for text in texts[:300]] + texts[:100]
        placed = assign(rows(len(texts)), [texts], EIGHTY)
        splits = split_of(placed)
        assert splits[:300] == splits[600:900]
        assert splits[:100] == splits[900:]
        assert leaks(texts, [split or "" for split in splits]) == []
        assert 0.74 < splits.count("train") / len(splits) < 0.86
        assert splits.count("validation") > 0 < splits.count("test")

    def test_a_random_split_of_the_same_texts_leaks_and_is_caught(self) -> None:
        texts = tweets(100)
        texts += [text + " really" for text in texts]
        splits = ["train"] * 100 + ["test"] * 100
        found = leaks(texts, splits)
        assert len(found) > 60
        assert all(splits[one] != splits[other] for one, other, _ in found)

    def test_records_that_come_later_leave_the_others_where_they_are(self) -> None:
        texts = tweets(500)
        before = split_of(assign(rows(300), [texts[:300]], EIGHTY))
        after = split_of(assign(rows(500), [texts], EIGHTY))
        assert after[:300] == before

    def test_a_later_near_duplicate_with_a_smaller_id_goes_where_the_earlier_one_is(self) -> None:
        texts = tweets(80)
        old = rows(80).with_columns(record_id="z" + pl.col("record_id"))
        new = rows(80).with_columns(
            record_id="a" + pl.col("record_id"), first_seen=pl.col("first_seen").dt.offset_by("1y")
        )
        before = split_of(assign(old, [texts], EIGHTY))
        after = split_of(assign(pl.concat([new, old]), [[text + "!" for text in texts] + texts], EIGHTY))
        assert after[80:] == before
        assert after[:80] == before

    def test_another_order_of_the_rows_makes_no_difference(self) -> None:
        texts = tweets(200)
        there = assign(rows(200), [texts], EIGHTY).select("record_id", "split")
        back = assign(rows(200).reverse(), [texts[::-1]], EIGHTY).select("record_id", "split")
        assert there.sort("record_id").equals(back.sort("record_id"))

    def test_another_seed_splits_otherwise(self) -> None:
        texts = tweets(200)
        assert split_of(assign(rows(200), [texts], EIGHTY)) != split_of(assign(rows(200), [texts], EIGHTY, seed=1))

    def test_held_out_gold_is_test_with_its_whole_group(self) -> None:
        texts = tweets(60)
        texts += [text + " so" for text in texts]
        placed = assign(rows(120, held_out=set(range(30))), [texts], EIGHTY)
        assert set(split_of(placed)[:30]) == {"test"}
        assert set(split_of(placed)[60:90]) == {"test"}
        assert "train" in split_of(placed)[30:60]

    def test_where_test_has_no_share_it_is_held_out_gold_alone(self) -> None:
        texts = ["a text about global warming", "A text about global warming!", "something else altogether"]
        placed = assign(rows(3, held_out={0}), [texts], Split(train=1.0, validation=0, test=0))
        assert split_of(placed) == ["test", None, "train"]
        assert placed["left_out"].to_list() == [None, NEAR_HELD_OUT, None]

    def test_synthetic_records_are_train_or_nothing(self) -> None:
        real = tweets(150)
        texts = real + [text + " ok" for text in real] + [f"a synthetic text, number {i * 7919}" for i in range(100)]
        placed = assign(rows(400, synthetic=set(range(150, 400))), [texts], EIGHTY)
        splits, why = split_of(placed), placed["left_out"].to_list()
        assert set(splits[300:]) == {"train"}
        for mine, copy, reason in zip(splits[:150], splits[150:300], why[150:300], strict=True):
            assert (copy, reason) == (("train", None) if mine == "train" else (None, SYNTHETIC))
        assert None in splits[150:300]

    def test_records_with_the_same_prompt_are_in_one_split_by_the_second_reading(self) -> None:
        answers = tweets(200)
        prompts = [tweets(300)[250 + i // 4] for i in range(199)] + [""]
        placed = assign(rows(200), [answers, prompts], EIGHTY)
        splits = split_of(placed)
        assert all(len(set(splits[i : i + 4])) == 1 for i in range(0, 196, 4))
        assert len(set(placed["group"])) > 40

    def test_empty_prompts_join_nothing_but_empty_texts_are_one_group(self) -> None:
        texts = tweets(50)
        apart = assign(rows(50), [texts, [""] * 50], EIGHTY)
        assert apart["group"].n_unique() == assign(rows(50), [texts], EIGHTY)["group"].n_unique()
        assert assign(rows(3), [["", " ", "a text"]], EIGHTY)["group"].to_list() == [0, 0, 2]

    @pytest.mark.parametrize("n", [0, 1])
    def test_few_records_are_no_trouble(self, n: int) -> None:
        assert assign(rows(n), [["a text"][:n]], EIGHTY).height == n
