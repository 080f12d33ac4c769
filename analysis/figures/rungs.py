"""What the rungs knew about the end."""

import pandas as pd
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from numpy.random import default_rng

from analysis.figures.shared import STATE_COLOURS
from analysis.tables import rows
from cifar_core.figures.style import new_figure, style
from tune_experiments.ledger import TrialState

MOST_COLUMNS = 3


@style()
def rung_against_score(values: pd.DataFrame, table: pd.DataFrame) -> Figure:
    """A panel for each rung: final score against accuracy at the rung; what was stopped there along the bottom.

    Args:
        values: as `early_stopping_audit.rung_values` gives it, with at least one completed trial.
        table: as `early_stopping_audit.rung_table` gives it, not empty.
    """
    columns = min(MOST_COLUMNS, len(table))
    lines = -(-len(table) // columns)
    figure, axes = new_figure(lines, columns, panel_size=(max(3.9, 7.0 / columns), 3.5))
    for panel in axes.ravel()[len(table) :]:
        panel.set_axis_off()
    for panel, row in zip(axes.ravel(), rows(table), strict=False):
        here = values[values["rung"] == row.rung]
        _draw_panel(panel, here, values["score"].min())
        rho = "" if pd.isna(row.rho) else f", ρ = {row.rho:.2f} ({row.low:.2f} to {row.high:.2f})"
        panel.set_title(f"after epoch {row.rung}{rho}", fontsize=11)
        panel.set_xlabel("accuracy at the rung (%)")
    for panel in axes[:, 0]:
        panel.set_ylabel("final score (%)")
    figure.legend(*axes[0, 0].get_legend_handles_labels(), loc="outside lower center", ncols=2)
    return figure


def _draw_panel(axes: Axes, here: pd.DataFrame, lowest: float) -> None:
    completed, stopped = here[here["score"].notna()], here[here["state"] == TrialState.STOPPED]
    size = 26 if len(here) < 500 else 6
    axes.scatter(
        100 * completed["value"], 100 * completed["score"], s=size, alpha=0.7,
        color=STATE_COLOURS["completed"], label="completed",
    )  # fmt: skip
    if len(stopped):
        height = 100 * lowest - 1.5 - default_rng(0).uniform(0, 1.2, len(stopped))
        axes.scatter(
            100 * stopped["value"], height, marker="x", s=20, linewidth=0.9, color="#888888",
            label="stopped here or later, no score",
        )  # fmt: skip
