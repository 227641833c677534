"""How often labels agree with those of people: accuracy with its interval, confusion, calibration, distribution.

Pure functions over label columns, and one question to the store: how good is the teacher. Frames have one row a fact,
so that any label, whatever its name, can be a value in them.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence
from dataclasses import dataclass

import polars as pl

from annotation_pipelines.store.database import Store

Z_95 = 1.959963984540054

# Only pairs about the same content count: a label given for an earlier text says nothing about the present one.
_TEACHER = """
SELECT labels.partition_key, people.role, people.label AS gold, labels.state, labels.label, labels.confidence
FROM human_labels AS people
JOIN llm_labels AS labels USING (record_id, content_hash)
WHERE people.role IN ('monitor', 'evaluation')
    AND ($partition_key IS NULL OR labels.partition_key = $partition_key)
    AND ($annotator IS NULL OR labels.annotator = $annotator)
ORDER BY labels.partition_key, people.record_id, labels.annotator
"""


@dataclass(frozen=True)
class Accuracy:
    """The share of records whose label is the gold one, with its 95% interval; all three None without records."""

    correct: int
    records: int
    value: float | None
    lower: float | None
    upper: float | None


@dataclass(frozen=True)
class Calibration:
    """Whether confidence means what it says.

    Attributes:
        bins: lower, upper, n, mean_confidence, accuracy; ten rows of equal width, empty ones with nulls.
        error: The expected calibration error: the mean gap between confidence and accuracy; None without records.
    """

    bins: pl.DataFrame
    error: float | None


@dataclass(frozen=True)
class TeacherAccuracy:
    """The annotator against people.

    Attributes:
        overall: Over all gold records that it labelled.
        asked: Gold records that it was asked about, those without a label included.
        partitions: partition_key, asked, records (labelled), correct, accuracy, lower, upper; one row a partition.
        pairs: partition_key, role, gold, label, confidence of every gold record that it labelled.
    """

    overall: Accuracy
    asked: int
    partitions: pl.DataFrame
    pairs: pl.DataFrame

    @property
    def value(self) -> float | None:
        """The accuracy over all; None without records."""
        return self.overall.value

    @property
    def records(self) -> int:
        """Gold records that it labelled."""
        return self.overall.records


def wilson(correct: int, records: int, z: float = Z_95) -> Accuracy:
    """A share with its score interval (Wilson 1927), which holds for few records and for shares near 0 and 1.

    Raises:
        ValueError: There are more correct ones than records, or fewer than none.
    """
    if not 0 <= correct <= records:
        raise ValueError(f"expected 0 <= correct <= records, found {correct} of {records}")
    if not records:
        return Accuracy(0, 0, None, None, None)
    share = correct / records
    spread = 1 + z**2 / records
    centre = (share + z**2 / (2 * records)) / spread
    half = z / spread * math.sqrt(share * (1 - share) / records + z**2 / (4 * records**2))
    # Where none or all are correct the bound is exactly 0 or 1, but for rounding.
    lower = 0.0 if correct == 0 else max(0.0, centre - half)
    upper = 1.0 if correct == records else min(1.0, centre + half)
    return Accuracy(correct, records, share, lower, upper)


def accuracy(gold: pl.Series, label: pl.Series) -> Accuracy:
    """The share of records whose label is the gold one, over those that have both; of equal length."""
    both = pl.DataFrame({"gold": gold, "label": label}).drop_nulls()
    return wilson(int((both["gold"] == both["label"]).sum()), both.height)


def confusion(gold: pl.Series, label: pl.Series, names: Sequence[str]) -> pl.DataFrame:
    """How often each gold label got each label: gold, label, records, share (of the records with that gold label).

    One row a pair of names, in their order, zeros included. Labels beyond `names` follow them. Rows where either is
    null are left out; share is null where no record has the gold label.
    """
    both = pl.DataFrame({"gold": gold, "label": label}, schema_overrides=_TEXT).drop_nulls()
    found = pl.DataFrame({"gold": _all_names(names, both["gold"], both["label"])}, schema_overrides=_TEXT)
    grid = found.join(found.rename({"gold": "label"}), how="cross", maintain_order="left_right")
    counted = both.group_by("gold", "label").agg(records=pl.len())
    total = pl.col("records").sum().over("gold")
    return (
        grid.join(counted, on=["gold", "label"], how="left", maintain_order="left")
        .with_columns(pl.col("records").fill_null(0).cast(pl.Int64))
        .with_columns(share=pl.when(total > 0).then(pl.col("records") / total))
    )


def label_distribution(label: pl.Series, names: Sequence[str]) -> pl.DataFrame:
    """How often each label occurs: label, records, share; in the order of `names`, further labels after them."""
    labels = pl.DataFrame({"label": label}, schema_overrides=_TEXT).drop_nulls()
    found = pl.DataFrame({"label": _all_names(names, labels["label"])}, schema_overrides=_TEXT)
    counted = labels.group_by("label").agg(records=pl.len())
    return (
        found.join(counted, on="label", how="left", maintain_order="left")
        .with_columns(pl.col("records").fill_null(0).cast(pl.Int64))
        .with_columns(share=pl.when(pl.lit(labels.height > 0)).then(pl.col("records") / max(labels.height, 1)))
    )


def calibration(confidence: pl.Series, correct: pl.Series, bins: int = 10) -> Calibration:
    """Confidence against accuracy in bins of equal width (Guo et al. 2017, arXiv 1706.04599).

    Args:
        confidence: 0 to 1; records without one are left out.
        correct: Whether the label is the gold one; of equal length.
        bins: How many bins. A confidence on a border belongs to the bin above it, 1 to the last.
    """
    known = (
        pl.DataFrame({"confidence": confidence, "correct": correct}, schema_overrides=_NUMBER)
        .with_columns(pl.col("confidence").fill_nan(None))
        .drop_nulls()
    )
    # The small term puts 0.3, which is 2.9999999999999996 tenths, where people expect it.
    number = (pl.col("confidence") * bins + 1e-9).floor().cast(pl.Int64).clip(0, bins - 1)
    counted = known.group_by(number.alias("bin")).agg(
        n=pl.len(),
        mean_confidence=pl.col("confidence").mean(),
        accuracy=pl.col("correct").cast(pl.Float64).mean(),
    )
    table = (
        pl.DataFrame({"bin": range(bins), "lower": [b / bins for b in range(bins)]}, schema=_BINS)
        .join(counted, on="bin", how="left", maintain_order="left")
        .select(
            "lower",
            upper=pl.col("lower").shift(-1, fill_value=1.0),
            n=pl.col("n").fill_null(0).cast(pl.Int64),
            mean_confidence="mean_confidence",
            accuracy="accuracy",
        )
    )
    if known.is_empty():
        return Calibration(table, None)
    gaps = (pl.col("mean_confidence") - pl.col("accuracy")).abs() * pl.col("n")
    return Calibration(table, float(table.select(gaps.sum()).item()) / known.height)


def teacher_accuracy(
    store: Store, partition_key: str | None = None, *, annotator_name: str | None = None
) -> TeacherAccuracy:
    """How often the annotator agrees with people, on gold that it has not seen (roles monitor and evaluation).

    Args:
        partition_key: Only this partition; default: all, held-out records included.
        annotator_name: Only this annotator; default: all that the store knows.

    Raises:
        StoreError: The store cannot be read.
    """
    asked = store.query(_TEACHER, {"partition_key": partition_key, "annotator": annotator_name})
    pairs = asked.filter((pl.col("state") == "labelled") & pl.col("label").is_not_null()).drop("state")
    rows = []
    for key in asked["partition_key"].unique(maintain_order=True):
        of_partition = pairs.filter(pl.col("partition_key") == key)
        share = accuracy(of_partition["gold"], of_partition["label"])
        rows.append(
            {
                "partition_key": key,
                "asked": asked.filter(pl.col("partition_key") == key).height,
                "records": share.records,
                "correct": share.correct,
                "accuracy": share.value,
                "lower": share.lower,
                "upper": share.upper,
            }
        )
    return TeacherAccuracy(
        accuracy(pairs["gold"], pairs["label"]), asked.height, pl.DataFrame(rows, schema=_PARTITIONS), pairs
    )


_TEXT: dict[str, type[pl.DataType]] = {"gold": pl.String, "label": pl.String}
_NUMBER: dict[str, type[pl.DataType]] = {"confidence": pl.Float64, "correct": pl.Boolean}
_BINS: dict[str, type[pl.DataType]] = {"bin": pl.Int64, "lower": pl.Float64}
_PARTITIONS: dict[str, type[pl.DataType]] = {
    "partition_key": pl.String,
    "asked": pl.Int64,
    "records": pl.Int64,
    "correct": pl.Int64,
    "accuracy": pl.Float64,
    "lower": pl.Float64,
    "upper": pl.Float64,
}


def _all_names(names: Sequence[str], *found: Iterable[str]) -> list[str]:
    further = sorted({name for column in found for name in column} - set(names))
    return [*names, *further]
