"""How much each parameter matters."""

import numpy as np
import pandas as pd
from matplotlib.figure import Figure

from cifar_core.figures.style import COLOURS, new_axes, style


@style()
def importance_bars(table: pd.DataFrame) -> Figure:
    """A bar for each method and parameter, with the interval of its resamplings.

    Args:
        table: as `importance.importances` gives it, not empty.
    """
    methods, parameters = table["method"].unique(), table["parameter"].unique()
    figure, axes = new_axes(panel_size=(6.4, 3.0))
    height = 0.8 / len(methods)
    for number, method in enumerate(methods):
        part = table[table["method"] == method].set_index("parameter").loc[parameters]
        places = np.arange(len(parameters)) + (number - (len(methods) - 1) / 2) * height
        centre = part["importance"]
        reach = 100 * np.maximum(0, np.vstack([centre - part["low"], part["high"] - centre]))
        axes.barh(
            places, 100 * centre, 0.9 * height, xerr=reach, color=(COLOURS[0], COLOURS[1])[number], label=method,
            error_kw={"capsize": 3, "elinewidth": 1},
        )  # fmt: skip
    axes.set_yticks(range(len(parameters)), parameters)
    axes.invert_yaxis()
    axes.set(xlabel="share of the importance (%), central 90 % of resamplings", xlim=(0, 100))
    axes.grid(False, axis="y")
    axes.legend(loc="lower right")
    return figure
