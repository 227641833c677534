"""The plots of a project: pure functions from polars frames to figures.

Each takes counts, never records, and gives a figure for `png` (metadata in the Dagster UI) or `svg` (the
quality report). Many labels are cut to the most frequent ones and "other N labels"; many partitions are put
together into at most `MOST_BARS` bars; an empty frame gives a small figure that says so.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import numpy as np
import polars as pl

from annotation_pipelines.quality.agreement import wilson
from annotation_pipelines.reports.drawing import (
    ACCENT,
    INK,
    NEUTRAL,
    PALE,
    RULE,
    SERIES,
    SOFT,
    WARM,
    bare,
    canvas,
    fit,
    headline,
    look,
    markdown_image,
    no_data,
    png,
    svg,
)
from annotation_pipelines.reports.partition_axis import PartitionBars, Vector, draw_bars, quiet_axis, volume_axis

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

__all__ = [
    "accuracy_over_partitions",
    "calibration",
    "confusion_matrix",
    "cost_over_partitions",
    "distribution_over_partitions",
    "fold_labels",
    "label_distribution",
    "markdown_image",
    "no_data",
    "png",
    "svg",
]


@look()
def label_distribution(
    counts: pl.DataFrame | dict[str, int], *, title: str = "Label distribution", most: int = 20
) -> Figure:
    """How often each label occurs: horizontal bars with count and share.

    Args:
        counts: label, records (as `quality.agreement.label_distribution` gives), or label to records. A label that
            never occurs is shown too.
        most: Labels shown by name.
    """
    if isinstance(counts, pl.DataFrame):
        frame = counts
    else:
        schema = {"label": pl.String, "records": pl.Int64}
        frame = pl.DataFrame({"label": list(counts), "records": list(counts.values())}, schema)
    total = int(frame["records"].sum())
    if not total:
        return no_data(f"{title}: no labels yet")
    shown = fold_labels(frame, most)
    names, values = shown["label"].to_list(), shown["records"].to_list()
    rows = range(len(names))
    figure = canvas(0.75 + 0.27 * len(names))
    axes = figure.add_subplot()
    colours = [NEUTRAL if shown["folded"][row] else ACCENT for row in rows]
    axes.barh(rows, values, height=0.66, color=colours)
    for row, value in zip(rows, values, strict=True):
        axes.annotate(
            f"{value:,}  {value / total:.1%}",
            (value, row),
            xytext=(5, 0),
            textcoords="offset points",
            va="center",
            color=INK if value else SOFT,
            fontsize=8.5,
        )
    axes.set_xlim(0, max(values) * 1.22)
    axes.set_ylim(len(names) - 0.4, -0.6)
    axes.set_yticks(rows, [fit(name, 34) for name in names])
    axes.tick_params(axis="y", labelcolor=INK)
    axes.set_xticks([])
    bare(axes)
    headline(figure, f"{title}: {_count(total, 'record')}")
    return figure


@look()
def distribution_over_partitions(
    counts: pl.DataFrame, *, title: str = "Labels over partitions", most: int = len(SERIES)
) -> Figure:
    """The share of each label in every partition, above the number of labelled records.

    Args:
        counts: partition_key, label, records.
        most: Labels with a colour of their own, up to seven.
    """
    counts = counts.drop_nulls("label")
    if counts.is_empty():
        return no_data(f"{title}: no labels yet")
    bars = PartitionBars(counts)
    totals = counts.group_by("label").agg(pl.col("records").sum())
    order = fold_labels(totals, min(most, len(SERIES)))
    named = order.filter(~pl.col("folded"))["label"].to_list()
    volume = bars.totals("records")
    figure = canvas(3.9)
    top, bottom = figure.subplots(2, 1, sharex=True, height_ratios=[3, 1])
    base, patches = np.zeros(len(bars)), []
    for colour, (label, _, folded) in zip((*SERIES, NEUTRAL), order.iter_rows(), strict=False):
        rows = ~pl.col("label").is_in(named) if folded else pl.col("label") == label
        share = bars.totals("records", rows) / np.maximum(volume, 1)
        patches.append(draw_bars(top, share, NEUTRAL if folded else colour, base))
        base = base + share
    quiet_axis(top)
    top.set_ylim(0, 1)
    headline(figure, f"{title}: {_count(int(volume.sum()), 'record')}")
    legend = figure.legend(patches, ["label"] * len(patches), loc="outside right upper")
    # Set afterwards: a legend leaves out a label that begins with an underscore.
    for text, label in zip(legend.get_texts(), order["label"], strict=True):
        text.set_text(fit(label, 24))
    draw_bars(bottom, volume, NEUTRAL)
    volume_axis(bottom, "records")
    bars.label(bottom)
    return figure


@look()
def confusion_matrix(
    counts: pl.DataFrame,
    labels: Sequence[str] = (),
    *,
    title: str = "Teacher against gold",
    gold: str = "gold",
    most: int = 15,
) -> Figure:
    """Which labels are taken for which: rows are gold, shaded by share of the row, counts in the cells.

    Args:
        counts: gold, label, records, as `quality.agreement.confusion` gives.
        labels: The order of the labels; default, and where they are more than `most`: most frequent first.
        gold: What the rows are called.
        most: Labels with a row of their own.
    """
    counts = counts.drop_nulls(["gold", "label"])
    total = int(counts["records"].sum())
    if not total:
        return no_data(f"{title}: no record has both labels yet")
    frequency = pl.concat([counts.select("label", "records"), counts.select(pl.col("gold").alias("label"), "records")])
    folded = fold_labels(frequency.group_by("label").agg(pl.col("records").sum()), most)
    names = folded["label"].to_list()
    if not folded["folded"].any():
        place = {label: index for index, label in enumerate(labels)}
        names.sort(key=lambda name: place.get(name, len(place)))
    own = {name: index for index, name in enumerate(names)}
    if folded["folded"].any():
        del own[names[-1]]
    cells = np.zeros((len(names), len(names)), dtype=np.int64)
    for truth, label, records in counts.select("gold", "label", "records").iter_rows():
        cells[own.get(truth, len(names) - 1), own.get(label, len(names) - 1)] += records
    correct = int(counts.filter(pl.col("gold") == pl.col("label"))["records"].sum())
    return _draw_confusion(
        cells, names, f"{title}: {correct:,} of {_count(total, 'record')} agree ({correct / total:.1%})", gold
    )


def _draw_confusion(cells: np.ndarray[Any, Any], names: list[str], title: str, gold: str) -> Figure:
    from matplotlib.colors import LinearSegmentedColormap

    size = len(names)
    share = cells / np.maximum(cells.sum(axis=1, keepdims=True), 1)
    room = 72 // size
    upright = size > 4 and max(map(len, names)) > room
    figure = canvas(1.3 + max(0.32 * size, 0.9) + (1.1 if upright else 0.2))
    axes = figure.add_subplot()
    shades = LinearSegmentedColormap.from_list("house", ["#ffffff", "#c9d8e6", ACCENT, "#173a5e"])
    axes.imshow(share, cmap=shades, vmin=0, vmax=1, aspect="auto")
    digits = 8.5 if size <= 10 else 7
    for row, column in zip(*np.nonzero(cells), strict=True):
        axes.text(
            column,
            row,
            f"{cells[row, column]:,}",
            ha="center",
            va="center",
            fontsize=digits,
            color="white" if share[row, column] > 0.45 else INK,
        )
    axes.set_xticks(range(size), [fit(name, 20 if upright else room) for name in names])
    axes.tick_params(axis="x", labelrotation=90 if upright else 0)
    axes.set_yticks(range(size), [fit(name, 28) for name in names])
    axes.set_xticks(np.arange(size + 1) - 0.5, minor=True)
    axes.set_yticks(np.arange(size + 1) - 0.5, minor=True)
    axes.grid(which="minor", color=PALE, linewidth=1)
    axes.tick_params(which="both", length=0, labelcolor=INK)
    axes.spines[:].set_visible(False)
    axes.set_xlabel("label given")
    axes.set_ylabel(gold)
    headline(figure, title)
    return figure


@look()
def calibration(bins: pl.DataFrame, *, title: str = "Calibration of the teacher") -> Figure:
    """A reliability diagram with the expected calibration error (Guo et al. 2017, arXiv 1706.04599).

    Args:
        bins: n, mean_confidence, accuracy; one row a bin, as in `quality.agreement.Calibration`.
    """
    bins = bins.filter(pl.col("n") > 0).sort("mean_confidence")
    total = int(bins["n"].sum())
    if not total:
        return no_data(f"{title}: no record has a confidence and gold yet")
    n, confidence, accuracy = (bins[c].cast(pl.Float64).to_numpy() for c in ("n", "mean_confidence", "accuracy"))
    error = float((n * np.abs(accuracy - confidence)).sum() / total)
    figure = canvas(3.9)
    top, bottom = figure.subplots(2, 1, sharex=True, height_ratios=[3, 1])
    top.plot([0, 1], [0, 1], color=RULE, linewidth=1.2)
    top.vlines(confidence, confidence, accuracy, color=WARM, linewidth=1.4)
    lower, upper = _intervals(n * accuracy, n)
    top.vlines(confidence, lower, upper, color=ACCENT, alpha=0.35, linewidth=5)
    top.scatter(confidence, accuracy, color=ACCENT, s=30, zorder=3, linewidth=0)
    top.text(0.015, 0.96, "above the line: better than it says", color=SOFT, fontsize=8.5, va="top")
    top.text(0.99, 0.04, "below the line: overconfident", color=SOFT, fontsize=8.5, ha="right")
    top.set_xlim(0, 1)
    top.set_ylim(0, 1.02)
    quiet_axis(top)
    top.set_ylabel("share correct")
    headline(figure, f"{title}: expected calibration error {error:.3f}, {_count(total, 'record')}")
    bottom.vlines(confidence, 0, n, color=NEUTRAL, linewidth=9)
    volume_axis(bottom, "records")
    bottom.xaxis.set_major_formatter(_percent)
    bottom.set_xlabel("confidence stated, with 95% intervals of the share correct above")
    return figure


@look()
def accuracy_over_partitions(counts: pl.DataFrame, *, title: str = "Accuracy of the teacher over partitions") -> Figure:
    """Accuracy against gold in every partition that has gold, with 95% intervals.

    Args:
        counts: partition_key, records (that have both labels) and correct, as in `quality.agreement.TeacherAccuracy`.
    """
    counts = counts.filter(pl.col("records") > 0)
    if counts.is_empty():
        return no_data(f"{title}: no labelled record has gold yet")
    bars = PartitionBars(counts)
    n, correct = bars.totals("records"), bars.totals("correct")
    lower, upper = _intervals(correct, n)
    overall = float(correct.sum() / n.sum())
    figure = canvas(3.4)
    top, bottom = figure.subplots(2, 1, sharex=True, height_ratios=[3, 1])
    top.axhline(overall, color=WARM, linewidth=1, zorder=1)
    positions, dense = np.arange(len(bars)), len(bars) > 30
    top.vlines(positions, lower, upper, color=ACCENT, alpha=0.35, linewidth=3 if dense else 5)
    top.scatter(positions, correct / n, color=ACCENT, s=14 if dense else 26, zorder=3, linewidth=0)
    quiet_axis(top)
    top.set_ylim(min(0.5, float(lower.min()) - 0.03), 1.02)
    headline(figure, f"{title}: {overall:.1%} overall, {_count(int(n.sum()), 'gold record')}")
    draw_bars(bottom, n, NEUTRAL)
    volume_axis(bottom, "gold records")
    bars.label(bottom)
    return figure


@look()
def cost_over_partitions(costs: pl.DataFrame, *, title: str = "Cost over partitions") -> Figure:
    """US dollars and calls in every partition. A cost that is not known is marked, never drawn as zero.

    Args:
        costs: partition_key, calls, cost_usd (null where a price is unknown).
    """
    if costs.is_empty() or not costs["calls"].sum():
        return no_data(f"{title}: no calls yet")
    bars = PartitionBars(costs.with_columns(pl.col("cost_usd").is_null().cast(pl.Int64).alias("unknown")))
    usd, calls, unknown = (bars.totals(column) for column in ("cost_usd", "calls", "unknown"))
    known = np.where(unknown > 0, 0, usd)
    if unknown.any():
        amount = "unknown"
    else:
        amount = f"${usd.sum():,.4g}" if usd.sum() < 1 else f"${usd.sum():,.2f}"
    if known.any():
        figure = canvas(3.3)
        top, bottom = figure.subplots(2, 1, sharex=True, height_ratios=[2, 1])
        _draw_cost(top, known, np.flatnonzero(unknown))
    else:
        figure = canvas(2.0)
        bottom = figure.add_subplot()
    headline(figure, f"{title}: {amount} for {_count(int(calls.sum()), 'call')}")
    draw_bars(bottom, calls, NEUTRAL)
    volume_axis(bottom, "calls")
    bars.label(bottom)
    return figure


def _draw_cost(axes: Axes, known: np.ndarray[Any, Any], missing: np.ndarray[Any, Any]) -> None:
    draw_bars(axes, known, ACCENT)
    volume_axis(axes, "US dollars", amounts=True)
    axes.tick_params(axis="x", length=0)
    if len(missing):
        low = np.full(len(missing), 0.07)
        axes.plot(missing, low, "x", color=WARM, markersize=4, transform=axes.get_xaxis_transform())
        axes.text(0.995, 1, "× cost unknown", color=WARM, ha="right", va="top", transform=axes.transAxes)


def fold_labels(counts: pl.DataFrame, most: int) -> pl.DataFrame:
    """The most frequent labels, and the others in one row where there are more than `most`.

    Args:
        counts: label, records.

    Returns:
        label, records, folded; most frequent first, the row "other N labels" (folded) last.
    """
    ordered = counts.select("label", pl.col("records").cast(pl.Int64), pl.lit(False).alias("folded")).sort(
        ["records", "label"], descending=[True, False]
    )
    if len(ordered) <= most + 1:
        return ordered
    rest = ordered.slice(most)
    other = pl.DataFrame(
        {"label": [f"other {len(rest)} labels"], "records": [int(rest["records"].sum())], "folded": [True]}
    )
    return pl.concat([ordered.head(most), other])


def _intervals(correct: Vector, records: Vector) -> tuple[Vector, Vector]:
    """Both ends of the 95% interval of each share."""
    shares = [wilson(round(hits), round(cases)) for hits, cases in zip(correct, records, strict=True)]
    return np.array([share.lower for share in shares]), np.array([share.upper for share in shares])


def _percent(value: float, _: object) -> str:
    return f"{value:.0%}"


def _count(number: int, noun: str) -> str:
    return f"{number:,} {noun}{'' if number == 1 else 's'}"
