"""The learning curve of rounds of selection: how good the student is, and how far successive students agree."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
import polars as pl

from annotation_pipelines.reports.drawing import ACCENT, SOFT, WARM, canvas, headline, look, no_data
from annotation_pipelines.reports.partition_axis import quiet_axis

if TYPE_CHECKING:
    from matplotlib.figure import Figure


@look()
def learning_curve(rounds: pl.DataFrame, *, enough: float | None = None) -> Figure:
    """The headline metric with its 95% interval, and Cohen's kappa with the round before, over silver labels.

    Args:
        rounds: silver, metric, value, lower, upper, agreement, stopped; one row a round, in order.
        enough: The agreement at which rounds end, drawn as a line.
    """
    if rounds.is_empty():
        return no_data("Learning curve: no round has ended yet")
    name = str(rounds["metric"][-1]).replace("_", " ")
    columns = ("silver", "value", "lower", "upper", "agreement")
    silver, value, lower, upper, kappa = (rounds[c].cast(pl.Float64).to_numpy() for c in columns)
    figure = canvas(3.9)
    top, bottom = figure.subplots(2, 1, sharex=True, height_ratios=[3, 2])
    for axes, heights, label in ((top, value, name), (bottom, kappa, "agreement")):
        there = ~np.isnan(heights)
        axes.plot(silver[there], heights[there], color=ACCENT, marker="o", markersize=4, linewidth=1.6)
        quiet_axis(axes)
        axes.set_ylim(0, 1.02)
        axes.set_ylabel(label)
        if not there.any():
            axes.text(0.5, 0.5, "not measured", color=SOFT, ha="center", va="center", transform=axes.transAxes)
    measured = ~np.isnan(value)
    top.vlines(silver[measured], lower[measured], upper[measured], color=ACCENT, alpha=0.35, linewidth=5)
    if enough is not None:
        bottom.axhline(enough, color=WARM, linewidth=1.2)
    bottom.set_xlabel("silver labels")
    why = rounds["stopped"][-1]
    last = "" if np.isnan(value[-1]) else f": {name} {value[-1]:.3f}"
    headline(figure, f"Learning curve{last} after {len(rounds)} rounds" + (f"; {why}" if why else ""))
    return figure
