"""Our run of the recipe beside the seed's."""

import pandas as pd
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from cifar_core.figures.style import COLOURS, NEUTRAL, new_figure, style

PANELS = {
    "test_accuracy": ("test accuracy (%)", 100),
    "train_accuracy": ("training accuracy (%)", 100),
    "test_loss": ("test cross-entropy (nat)", 1),
    "train_loss": ("training cross-entropy (nat)", 1),
    "lr": ("learning rate at the epoch's start", 1),
}


@style()
def seed_comparison_figure(comparison: pd.DataFrame, label: str) -> Figure:
    """A panel for each metric against the epoch; a band for the 95 % interval where there are several runs.

    Args:
        comparison: as `cifar_core.seed_comparison.compare` gives it.
        label: what our run, or runs, were.
    """
    figure, axes = new_figure(rows=3, columns=2, panel_size=(5.0, 3.1))
    for panel, (metric, (quantity, factor)) in zip(axes.ravel(), PANELS.items(), strict=False):
        _draw(panel, comparison, metric, factor, label)
        panel.set(xlabel="epoch", ylabel=quantity)
    handles, labels = axes[0, 0].get_legend_handles_labels()
    axes[-1, -1].set_axis_off()
    axes[-1, -1].legend(handles, labels, loc="center", fontsize=11)
    return figure


def _draw(axes: Axes, comparison: pd.DataFrame, metric: str, factor: float, label: str) -> None:
    epoch = comparison["epoch"]
    axes.plot(epoch, factor * comparison[f"seed_{metric}"], "--x", color=NEUTRAL, markersize=5, label="original run")
    axes.plot(epoch, factor * comparison[metric], "-o", color=COLOURS[0], markersize=4, label=label)
    low, high = factor * comparison[f"{metric}_low"], factor * comparison[f"{metric}_high"]
    if low.notna().any():
        axes.fill_between(epoch, low, high, color=COLOURS[0], alpha=0.25, label="95 % interval of the mean")
