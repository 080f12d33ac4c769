"""What the search cost and when its slots were busy."""

import pandas as pd
from matplotlib.figure import Figure
from matplotlib.patches import Patch

from analysis.figures.shared import STATE_COLOURS, clock_unit, legend_below, set_epoch_axis
from analysis.tables import rows
from analysis.words import count
from cifar_core.figures.style import new_axes, style


@style()
def epochs_by_state(table: pd.DataFrame, saved: int) -> Figure:
    """One bar of all epochs, by the state of the trial that they went into, and those that stopping saved.

    Args:
        table: as `cost.cost_by_state` gives it.
        saved: epochs that stopped trials did not run.
    """
    figure, axes = new_axes(panel_size=(6.8, 1.75))
    left = 0
    for row in rows(table[table["epochs"] > 0]):
        label = f"{row.state} ({count(row.trials, 'trial')})"
        axes.barh(0, row.epochs, left=left, color=STATE_COLOURS[row.state], label=label)
        left += row.epochs
    if saved:
        axes.barh(0, saved, left=left, color="white", edgecolor="#999999", hatch="///", label="saved by stopping")
    axes.set(yticks=[], ylim=(-0.6, 0.6))
    set_epoch_axis(axes, "epochs")
    legend_below(figure, axes, columns=2)
    return figure


@style()
def slot_gantt(timeline: pd.DataFrame) -> Figure:
    """A row for each slot, a bar for each trial that ran in it, in the colour of how the trial ended.

    Args:
        timeline: as `cost.slot_timeline` gives it, not empty.
    """
    slots = int(timeline["slot"].max()) + 1
    figure, axes = new_axes(panel_size=(8.2, min(8.0, 1.4 + 0.42 * slots)))
    few = len(timeline) <= 60
    unit, name = clock_unit(timeline["end"].max())
    timeline = timeline.assign(start=timeline["start"] / unit, end=timeline["end"] / unit)
    for state, part in timeline.groupby("state"):
        for _, runs in part.groupby("slot"):
            axes.broken_barh(
                list(zip(runs["start"], runs["end"] - runs["start"], strict=True)), (runs["slot"].iloc[0] - 0.4, 0.8),
                facecolor=STATE_COLOURS[str(state)], edgecolor="white", linewidth=0.6 if few else 0,
            )  # fmt: skip
    if few:
        for row in rows(timeline):
            if row.end - row.start > 0.04 * timeline["end"].max():
                text, colour = row.trial_id.lstrip("0") or "0", "black" if row.state == "stopped" else "white"
                axes.text((row.start + row.end) / 2, row.slot, text, ha="center", va="center", color=colour, fontsize=9)
    axes.set(xlabel=f"{name} since the first epoch began", ylabel="slot", xlim=(0, None))
    axes.set_yticks(range(0, slots, max(1, slots // 16)))
    axes.invert_yaxis()
    axes.grid(False, axis="y")
    states = [state for state in STATE_COLOURS if state in set(timeline["state"])]
    handles = [Patch(color=STATE_COLOURS[state], label=state) for state in states]
    figure.legend(handles=handles, loc="outside lower center", ncols=4)
    return figure
