"""Scores of several experiments."""

from collections.abc import Mapping

import numpy as np
import pandas as pd
from matplotlib.figure import Figure

from analysis.figures.shared import SEED_STYLE, spread_limits
from cifar_core.figures.style import COLOURS, new_axes, style


@style()
def scores_of_several(scores: Mapping[str, "pd.Series[float]"], seed_settings: "pd.Series[float]") -> Figure:
    """A row for each experiment: the score of every completed trial, and of the seed's setting as a star.

    Args:
        scores: by the experiment's name.
        seed_settings: score of the seed's setting by the experiment's name, NaN where it has none.
    """
    figure, axes = new_axes(panel_size=(7.0, 1.5 + 0.5 * len(scores)))
    for place, (name, values) in enumerate(scores.items()):
        jitter = place + 0.3 * ((np.arange(len(values)) * 0.618034) % 1 - 0.5)
        axes.scatter(100 * values, jitter, s=20 if len(values) < 500 else 5, alpha=0.55, color=COLOURS[0])
        label = "seed's setting" if place == 0 else None
        axes.scatter(100 * seed_settings[name], place, label=label, **SEED_STYLE)
    axes.set_yticks(range(len(scores)), list(scores))
    axes.set_xlim(*spread_limits(100 * pd.concat(list(scores.values()))))
    axes.set(xlabel="validation accuracy of completed trials (%)", ylim=(len(scores) - 0.5, -0.5))
    axes.grid(False, axis="y")
    axes.legend(loc="upper left")
    return figure
