"""One look for every figure: sizes, fonts and colours that everyone can tell apart.

Figures are built on `matplotlib.figure.Figure`, never on pyplot, whose state is shared by the whole process.
"""

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import matplotlib as mpl
import numpy as np
from cycler import cycler
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from numpy.typing import NDArray

# Okabe & Ito, "Color Universal Design" (2008), the yellow left out: it is too pale for a line on white.
COLOURS = ("#0072B2", "#E69F00", "#009E73", "#D55E00", "#CC79A7", "#56B4E9", "#000000")
GOOD, BAD, NEUTRAL = COLOURS[2], COLOURS[3], "#666666"

RAW_LINE: dict[str, Any] = {"linewidth": 0.8, "alpha": 0.35}
SMOOTH_LINE: dict[str, Any] = {"linewidth": 2.2}

PANEL_SIZE = (5.6, 3.7)  # inches; with 11 pt text a panel is still readable at half a page's width


@contextmanager
def style() -> Iterator[None]:
    """The project's matplotlib settings; decorate every figure function with `@style()`."""
    with mpl.rc_context(
        {
            "figure.dpi": 160,
            "font.size": 11,
            "axes.titlesize": 12,
            "axes.prop_cycle": cycler(color=COLOURS),
            "axes.spines.top": False,
            "axes.spines.right": False,
            "axes.axisbelow": True,
            "axes.grid": True,
            "grid.color": "#dddddd",
            "grid.linewidth": 0.6,
            "legend.fontsize": 9.5,
            "legend.framealpha": 0.85,
            "svg.fonttype": "none",
        }
    ):
        yield


def new_figure(
    rows: int = 1, columns: int = 1, panel_size: tuple[float, float] = PANEL_SIZE
) -> tuple[Figure, NDArray[np.object_]]:
    """A figure and its axes, an array of shape (rows, columns). `panel_size` is one panel's, in inches."""
    width, height = panel_size
    figure = Figure(figsize=(width * columns, height * rows), layout="constrained")
    return figure, figure.subplots(rows, columns, squeeze=False)


def new_axes(panel_size: tuple[float, float] = PANEL_SIZE) -> tuple[Figure, Axes]:
    """A figure with a single panel of `panel_size` inches."""
    figure, axes = new_figure(panel_size=panel_size)
    return figure, axes[0, 0]
