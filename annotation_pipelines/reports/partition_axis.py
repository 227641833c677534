"""Axes over partitions: neighbours put together where there are many, bars as one path, few ticks."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, Any

import numpy as np
import polars as pl

from annotation_pipelines.reports.drawing import fit

if TYPE_CHECKING:
    from matplotlib.axes import Axes

MOST_BARS = 60
"""Bars on an axis; with more partitions than that, neighbours share a bar."""

Vector = np.ndarray[Any, np.dtype[np.float64]]


class PartitionBars:
    """The rows of a frame in bars along its partitions, in the order of their keys.

    Args:
        frame: partition_key and numbers; several rows a partition are summed.

    Attributes:
        names: The first partition of each bar.
        width: How many partitions share a bar.
    """

    def __init__(self, frame: pl.DataFrame) -> None:
        keys = frame.select(pl.col("partition_key").unique().sort())
        self.width = math.ceil(len(keys) / MOST_BARS)
        self.names: list[str] = keys["partition_key"].gather_every(self.width).to_list()
        places = keys.with_row_index("bar").with_columns(pl.col("bar").cast(pl.Int64) // self.width)
        self.frame = frame.join(places, on="partition_key", how="left")

    def __len__(self) -> int:
        return len(self.names)

    def totals(self, column: str, rows: pl.Expr | None = None) -> Vector:
        """The sum of a column in every bar, of some rows or of all."""
        chosen = self.frame if rows is None else self.frame.filter(rows)
        sums = chosen.group_by("bar").agg(pl.col(column).sum().cast(pl.Float64))
        values = np.zeros(len(self))
        values[sums["bar"].to_numpy()] = sums[column].to_numpy()
        return values

    def label(self, axes: Axes) -> None:
        """Name some of the bars on the horizontal axis."""
        longest = max(len(fit(name, 16)) for name in self.names)
        step = max(1, math.ceil(len(self) / max(2, 72 // (longest + 3))))
        ticks = range(0, len(self), step)
        axes.set_xticks(ticks, [fit(self.names[tick], 16) for tick in ticks])
        axes.set_xlabel("partition" if self.width == 1 else f"{self.width} partitions a bar, named by the first")


def draw_bars(axes: Axes, height: Vector, colour: str, base: Vector | None = None) -> Any:
    """Bars at 0, 1, 2, ... as one path, for a small SVG; gives the artist, for a legend."""
    from matplotlib.patches import PathPatch
    from matplotlib.path import Path

    low = np.zeros(len(height)) if base is None else base
    left, right = np.arange(len(height)) - 0.41, np.arange(len(height)) + 0.41
    outline = [(left, low), (left, low + height), (right, low + height), (right, low), (left, low)]
    corners = np.stack([np.stack(corner, axis=1) for corner in outline], axis=1)[height > 0]
    codes = np.tile([Path.MOVETO, Path.LINETO, Path.LINETO, Path.LINETO, Path.CLOSEPOLY], len(corners))
    patch = PathPatch(Path(corners.reshape(-1, 2), codes), facecolor=colour, linewidth=0)
    axes.add_patch(patch)
    # Room for three bars at least, lest a single one becomes a wall.
    axes.set_xlim(-0.75, max(len(height), 3) - 0.25)
    return patch


def volume_axis(axes: Axes, name: str, *, amounts: bool = False) -> None:
    """A vertical axis from zero with few lines: whole numbers, or amounts in US dollars."""
    from matplotlib.ticker import FuncFormatter, MaxNLocator

    axes.set_ylim(0, axes.dataLim.y1 * 1.15 or 1)
    axes.yaxis.set_major_locator(MaxNLocator(3, integer=not amounts))
    axes.yaxis.set_major_formatter(FuncFormatter(lambda v, _: f"${v:,.4g}" if amounts else f"{v:,.0f}"))
    axes.grid(axis="y")
    axes.spines["left"].set_visible(False)
    axes.set_ylabel(name)


def quiet_axis(axes: Axes) -> None:
    """The upper of two stacked axes: shares in percent, light lines, no ticks below."""
    axes.grid(axis="y")
    axes.spines["left"].set_visible(False)
    axes.tick_params(axis="x", length=0)
    axes.yaxis.set_major_formatter(lambda value, _: f"{value:.0%}")
