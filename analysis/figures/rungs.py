"""What the rungs knew about the end."""

import pandas as pd
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from numpy.random import default_rng

from analysis.figures.shared import STATE_COLOURS, legend_below
from analysis.tables import rows
from cifar_core.figures.style import BAD, new_figure, style

MOST_COLUMNS = 3


@style()
def rung_against_end(values: pd.DataFrame, table: pd.DataFrame) -> Figure:
    """A panel for each rung: final accuracy against the value at the rung; what was stopped there along the bottom.

    Args:
        values: as `early_stopping_audit.rung_values` gives it, with at least one trial whose end is known.
        table: as `early_stopping_audit.rung_table` gives it, not empty.
    """
    columns = min(MOST_COLUMNS, len(table))
    lines = -(-len(table) // columns)
    figure, axes = new_figure(lines, columns, panel_size=(max(3.9, 7.0 / columns), 3.5))
    for panel in axes.ravel()[len(table) :]:
        panel.set_axis_off()
    lowest = float(values["end"].quantile(0.02))
    for panel, row in zip(axes.ravel(), rows(table), strict=False):
        _draw_panel(panel, values[values["rung"] == row.rung], lowest)
        rho = "" if pd.isna(row.rho) else f", ρ = {row.rho:.2f} ({row.low:.2f} to {row.high:.2f})"
        panel.set_title(f"after epoch {row.rung}{rho}", fontsize=11)
        panel.set_xlabel("accuracy at the rung (%)")
    for panel in axes[:, 0]:
        panel.set_ylabel("final accuracy (%)")
    legend_below(figure, *axes.ravel()[: len(table)])
    return figure


def _draw_panel(axes: Axes, here: pd.DataFrame, lowest: float) -> None:
    completed = here[here["audited"].eq(False)]
    audited, unknown = here[here["audited"].eq(True)], here[here["end"].isna() & here["stopped_at"].notna()]
    size = 26 if len(here) < 500 else 6
    axes.scatter(
        100 * completed["value"], 100 * completed["end"].clip(lowest), s=size, alpha=0.7,
        color=STATE_COLOURS["completed"], label="completed",
    )  # fmt: skip
    if len(audited):
        axes.scatter(
            100 * audited["value"], 100 * audited["end"].clip(lowest), s=size + 14, facecolor="none", edgecolor=BAD,
            linewidth=1.4, label="stopped, but run on for the audit",
        )  # fmt: skip
    if len(unknown):
        height = 100 * lowest - 1.5 - default_rng(0).uniform(0, 1.2, len(unknown))
        axes.scatter(
            100 * unknown["value"], height, marker="x", s=20, linewidth=0.9, color="#888888",
            label="stopped here or later, end unknown",
        )  # fmt: skip
