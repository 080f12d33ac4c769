"""Best score so far against what was spent."""

from collections.abc import Mapping
from typing import Any

import pandas as pd
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from analysis.figures.shared import clock_unit, legend_below, set_epoch_axis, spread_limits
from cifar_core.figures.style import COLOURS, NEUTRAL, new_axes, new_figure, style

DASHES = ("-", "--", ":")


@style()
def best_so_far(table: pd.DataFrame) -> Figure:
    """Best score against epochs of all trials and against wall time, beside random search's expectation.

    Args:
        table: as `progress.progress` gives it, with at least one score.
    """
    figure, axes = new_figure(columns=2, panel_size=(5.4, 3.6))
    shown = _thinned(table)
    unit, name = clock_unit(table["elapsed"].max())
    for panel, x in zip(axes[0], (shown["epochs"], shown["elapsed"] / unit), strict=True):
        _draw(panel, x, table)
        panel.set_ylim(*_limits(table))
    axes[0, 0].set_ylabel("best validation accuracy (%)")
    set_epoch_axis(axes[0, 0], "epochs spent, all trials together")
    axes[0, 1].set_xlabel(f"{name} since the first epoch began")
    legend_below(figure, axes[0, 0])
    return figure


def _thinned(table: pd.DataFrame) -> pd.DataFrame:
    """At most some 2,000 rows, every change of the best among them."""
    step = max(1, len(table) // 2000)
    return table.loc[(table.index % step == 0) | table["best"].diff().gt(0)]


def _draw(axes: Axes, x: "pd.Series[float]", table: pd.DataFrame) -> None:
    shown = 100 * _thinned(table)[["best", "random_low", "random_high"]]
    axes.step(x, shown["best"], where="post", color=COLOURS[0], linewidth=2, label="this search")
    if shown["random_low"].notna().any():
        axes.fill_between(
            x, shown["random_low"], shown["random_high"], color=NEUTRAL, alpha=0.25, linewidth=0,
            label="random search without stopping, expected",
        )  # fmt: skip


def _limits(table: pd.DataFrame) -> tuple[float, float]:
    return spread_limits(100 * pd.concat([table["best"].dropna(), table["random_low"].dropna()]))


@style()
def best_of_several(tables: Mapping[str, pd.DataFrame]) -> Figure:
    """Best score of each experiment against epochs spent.

    Args:
        tables: by the experiment's name, as `progress.progress` gives them, at least one with a score.
    """
    figure, axes = new_axes(panel_size=(7.0, 4.0))
    for number, (name, table) in enumerate(tables.items()):
        shown = _thinned(table)
        look: dict[str, Any] = {
            "color": COLOURS[number % len(COLOURS)],
            "linestyle": DASHES[number // len(COLOURS) % 3],
        }
        axes.step(shown["epochs"], 100 * shown["best"], where="post", linewidth=2, label=name, **look)
    axes.set_ylim(*spread_limits(100 * pd.concat([table["best"].dropna() for table in tables.values()])))
    axes.set_ylabel("best validation accuracy (%)")
    set_epoch_axis(axes, "epochs spent, all trials together")
    legend_below(figure, axes)
    return figure
