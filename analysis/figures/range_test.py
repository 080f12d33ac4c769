"""Where the good trials lie on the LR range test."""

import pandas as pd
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from analysis.figures.shared import SEED_STYLE, legend_below, set_parameter_axis, spread_limits
from analysis.range_test import RangeTest
from cifar_core.figures.style import BAD, COLOURS, GOOD, NEUTRAL, SMOOTH_LINE, new_figure, style
from tune_experiments.ledger import TrialState

MANY = 500  # completed trials, from which their dots are small


@style()
def scores_on_range_test(test: RangeTest, trials: pd.DataFrame, best: pd.DataFrame) -> Figure:
    """Above the sweeps' smoothed loss against learning rate, below each completed trial's score against its max_lr.

    Args:
        test: the sweeps and the suggested range.
        trials: as `trials.Experiment.trials`, with at least one completed.
        best: those of them that are marked, as `ranking.best_tenth` gives them.
    """
    figure, axes = new_figure(rows=2, panel_size=(6.8, 3.0))
    above, below = axes[:, 0]
    for number, (sweep, curve) in enumerate(test.curves.groupby("sweep", sort=False)):
        above.plot(curve["lr"], curve["loss"], color=COLOURS[number % len(COLOURS)], label=sweep, **SMOOTH_LINE)
    for panel in (above, below):
        _mark_range(panel, test)
    above.set_ylabel("training loss (nats)")
    _draw_scores(below, trials[trials["state"] == TrialState.COMPLETED], best)
    below.sharex(above)
    set_parameter_axis(below, "max_lr")
    above.tick_params(labelbottom=False)
    legend_below(figure, above, below, columns=2)
    return figure


def _mark_range(axes: Axes, test: RangeTest) -> None:
    low, high = test.max_lr_range
    axes.axvspan(low, high, color=GOOD, alpha=0.13, linewidth=0, label=f"suggested, {low:.2g} to {high:.2g}")
    if test.edge:
        axes.axvline(
            test.edge, color=BAD, linestyle="--", linewidth=1.2, label=f"the loss first rises, {test.edge:.2g}"
        )


def _draw_scores(axes: Axes, completed: pd.DataFrame, best: pd.DataFrame) -> None:
    others = completed[~completed["trial_id"].isin(best["trial_id"])]
    size = 26 if len(completed) < MANY else 6
    for part, colour, label in ((others, NEUTRAL, "completed"), (best, COLOURS[0], "best 10 %")):
        if len(part):
            axes.scatter(part["max_lr"], 100 * part["score"], s=size, color=colour, alpha=0.6, label=label)
    low, high = spread_limits(100 * completed["score"])
    seed = completed[completed.index == 0]
    if len(seed):
        axes.scatter(seed["max_lr"], (100 * seed["score"]).clip(lower=low), label="the seed's setting", **SEED_STYLE)
    axes.set(ylabel="validation accuracy (%)", ylim=(low, high))
