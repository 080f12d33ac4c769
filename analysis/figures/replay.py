"""What schedulers found in replay, against what they took."""

import pandas as pd
from matplotlib.figure import Figure

from cifar_core.figures.style import COLOURS, NEUTRAL, new_axes, style

MOST_EPOCHS = 0.7  # beyond which nobody stops early


@style()
def regret_against_epochs(table: pd.DataFrame, budget: float) -> Figure:
    """For each scheduler and what it looks at, the least regret within each share of the epochs.

    Args:
        table: as `replay.compare` gives it.
        budget: a share of the epochs to mark.
    """
    figure, axes = new_axes(panel_size=(7.4, 4.6))
    table = table[table["epochs"] <= MOST_EPOCHS]
    for number, ((scheduler, value), rows) in enumerate(table.groupby(["scheduler", "value"], sort=True)):
        front = rows.sort_values("epochs")
        front = front[front["regret"] < front["regret"].cummin().shift(fill_value=float("inf"))]
        label = scheduler if scheduler == "random search" else f"{scheduler}, {value}"
        axes.step(
            100 * front["epochs"], front["regret"], where="post", marker="o", markersize=4, label=label,
            color=COLOURS[number % len(COLOURS)], linestyle="-" if number < len(COLOURS) else "--",
        )  # fmt: skip
    axes.axvline(100 * budget, color=NEUTRAL, linestyle=":", linewidth=1)
    axes.set_yscale("symlog", linthresh=0.1)
    axes.set(
        xlabel="epochs, % of running all trials in full", ylabel="regret (points of accuracy)",
        xlim=(10, 100 * MOST_EPOCHS), ylim=(0, None),
    )  # fmt: skip
    axes.legend(loc="upper right", ncols=2)
    return figure
