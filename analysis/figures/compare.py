"""Scores of several experiments."""

from collections.abc import Mapping

import numpy as np
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from analysis.figures.shared import SEED_STYLE, legend_below, spread_limits
from cifar_core.figures.style import COLOURS, GOOD, new_axes, style


@style()
def scores_of_several(scores: Mapping[str, "pd.Series[float]"], table: pd.DataFrame) -> Figure:
    """A row for each experiment: every completed trial's score, the seed's setting's, and the winner's confirmed mean.

    Args:
        scores: by the experiment's name.
        table: as `compare.compare` gives it, by the experiment's name.
    """
    figure, axes = new_axes(panel_size=(7.0, 1.9 + 0.5 * len(scores)))
    seed_settings = table["seed_setting"].astype("float64").to_dict()
    for place, (name, values) in enumerate(scores.items()):
        jitter = place + 0.3 * ((np.arange(len(values)) * 0.618034) % 1 - 0.5)
        axes.scatter(100 * values, jitter, s=20 if len(values) < 500 else 5, alpha=0.55, color=COLOURS[0])
        label = "seed's setting" if place == 0 else None
        axes.scatter(100 * seed_settings[name], place, label=label, **SEED_STYLE)
    axes.set_yticks(range(len(scores)), list(scores))
    axes.set_xlim(*spread_limits(100 * pd.concat(list(scores.values()))))
    if "confirmed" in table:
        _draw_winners(axes, table.loc[list(scores)])
    axes.set(xlabel="validation accuracy of completed trials (%)", ylim=(len(scores) - 0.5, -0.5))
    axes.grid(False, axis="y")
    legend_below(figure, axes, columns=2)
    return figure


def _draw_winners(axes: Axes, table: pd.DataFrame) -> None:
    """Below the scores of each search."""
    shown = table[["confirmed", "confirmed_low", "confirmed_high"]].astype("float64")
    places = np.arange(len(table)) + 0.3
    axes.hlines(places, 100 * shown["confirmed_low"], 100 * shown["confirmed_high"], colors=GOOD, linewidth=1.8)
    axes.set_xlim(right=np.nanmax([axes.get_xlim()[1], *(101 * shown["confirmed_high"])]))
    label = "the winner with fresh seeds, 95 % interval"
    axes.scatter(100 * shown["confirmed"], places, marker="D", s=36, color=GOOD, zorder=5, label=label)
