"""What the pictures of a search share: colours of states, axes of parameters, the colour scale of scores."""

from typing import Any

import numpy as np
import pandas as pd
from matplotlib import colormaps
from matplotlib.artist import Artist
from matplotlib.axes import Axes
from matplotlib.cm import ScalarMappable
from matplotlib.collections import PathCollection
from matplotlib.colors import ListedColormap, Normalize
from matplotlib.figure import Figure
from matplotlib.ticker import (
    FuncFormatter,
    LogFormatterSciNotation,
    LogLocator,
    MaxNLocator,
    NullFormatter,
    StrMethodFormatter,
)

from cifar_core.figures.style import BAD, COLOURS, NEUTRAL
from tune_experiments.ledger import TrialState

STATE_COLOURS = {
    TrialState.COMPLETED.value: COLOURS[0],
    TrialState.RUNNING.value: COLOURS[5],
    TrialState.PENDING.value: COLOURS[5],
    TrialState.STOPPED.value: "#b3b3b3",
    TrialState.DIVERGED.value: BAD,
    TrialState.FAILED.value: COLOURS[6],
}
# dark is good, and stays so in grey print; without the palest yellow, which is no colour for a line
SCORES = ListedColormap(colormaps["viridis_r"](np.linspace(0.08, 1, 256)))
SEED_STYLE: dict[str, Any] = {
    "marker": "*",
    "s": 190,
    "color": BAD,
    "edgecolor": "white",
    "linewidth": 0.8,
    "zorder": 5,
}
BOUND_STYLE: dict[str, Any] = {"color": NEUTRAL, "linestyle": ":", "linewidth": 1}


def set_parameter_axis(axes: Axes, parameter: str, which: str = "x") -> None:
    """Label and scale of a parameter's axis; call it when the data is drawn, as few decades have more labels."""
    axis = axes.xaxis if which == "x" else axes.yaxis
    axis.set_label_text(parameter)
    if parameter == "peak_epoch":
        axis.set_major_locator(MaxNLocator(integer=True))
        return
    (axes.set_xscale if which == "x" else axes.set_yscale)("log")
    low, high = axis.get_view_interval()
    few = high < 100 * low
    axis.set_major_locator(LogLocator(subs=(1, 2, 5) if few else (1,)))
    axis.set_major_formatter(FuncFormatter(lambda value, _: f"{value:g}") if few else LogFormatterSciNotation())
    axis.set_minor_formatter(NullFormatter())


def set_epoch_axis(axes: Axes, label: str) -> None:
    """Whole epochs, few enough labels that large numbers do not touch."""
    axes.xaxis.set_major_locator(MaxNLocator(6, integer=True))
    axes.xaxis.set_major_formatter(StrMethodFormatter("{x:,.0f}"))
    axes.set_xlabel(label)


def clock_unit(seconds: float) -> tuple[float, str]:
    """The unit in which a span of time is read best: its length in seconds, and its name."""
    units = {1.0: "seconds", 60.0: "minutes", 3600.0: "hours", 86400.0: "days"}
    return next((unit, name) for unit, name in reversed(units.items()) if seconds >= 3 * unit or unit == 1)


def score_scale(scores: "pd.Series[float]") -> ScalarMappable:
    """Colours of scores in percent. The scale begins at the lower quartile: what is bad needs no shades."""
    low, high = 100 * np.quantile(scores, [0.25, 1.0])
    return ScalarMappable(Normalize(min(low, high - 0.5), high, clip=True), SCORES)


def spread_limits(percents: "pd.Series[float]") -> tuple[float, float]:
    """Limits of a percent axis with room around what is good, a long tail of bad values cut off."""
    lowest, middle, high = np.quantile(percents, [0.0, 0.5, 1.0]).tolist()
    low = max(lowest, middle - 2.5 * (high - middle) - 1)
    room = 0.06 * max(high - low, 1.0)
    return low - room, high + room


def legend_below(figure: Figure, *panels: Axes, columns: int = 3) -> None:
    """A legend under the panels with every label of theirs once; marks that are faint there can be seen in it."""
    entries: dict[str, Artist] = {}
    for panel in panels:
        for handle, label in zip(*panel.get_legend_handles_labels(), strict=True):
            entries.setdefault(label, handle)
    legend = figure.legend(list(entries.values()), list(entries), loc="outside lower center", ncols=columns)
    for mark in legend.legend_handles:
        if isinstance(mark, PathCollection):
            mark.set_alpha(1.0)
