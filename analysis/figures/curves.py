"""How learning went, in every trial."""

import numpy as np
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.collections import LineCollection
from matplotlib.figure import Figure

from analysis.figures.shared import clock_unit, score_scale, set_epoch_axis
from cifar_core.figures.style import NEUTRAL, new_figure, style

STOPPED_COLOUR = "#b9b9b9"
MOST_LINES = 600  # more run together


@style()
def all_curves(epochs: pd.DataFrame, scores: "pd.Series[float]", stops: pd.DataFrame, rungs: list[int]) -> Figure:
    """Validation accuracy of every trial against the epoch and against the search's clock; of at most `MOST_LINES`.

    Args:
        epochs: as `trials.Experiment.epochs`, not empty.
        scores: by trial id, of completed trials; their lines have the score's colour, the others are grey.
        stops: the last epochs of the stopped trials, marked; as `progress.stop_points` gives them.
        rungs: epochs, marked.
    """
    begin = (epochs["finished_at"] - epochs["seconds"]).min()
    unit, name = clock_unit(epochs["finished_at"].max() - begin)
    epochs = epochs.assign(percent=100 * epochs["val_accuracy"], clock=(epochs["finished_at"] - begin) / unit)
    epochs = epochs[epochs["trial_id"].isin(_shown(epochs, scores))]
    stops = epochs.loc[epochs.index.intersection(stops.index)]
    figure, axes = new_figure(columns=2, panel_size=(5.6, 4.0))
    for panel, column in zip(axes[0], ("epoch", "clock"), strict=True):
        _draw_lines(panel, epochs, column, scores)
        panel.scatter(stops[column], stops["percent"], marker="x", s=16, linewidth=0.9, color="#777777")
        panel.autoscale_view()
        panel.set_ylim(bottom=0)
    _mark_rungs(axes[0, 0], rungs)
    axes[0, 0].set_ylabel("validation accuracy (%)")
    set_epoch_axis(axes[0, 0], "epoch")
    axes[0, 1].set_xlabel(f"{name} since the first epoch began")
    if len(scores):
        figure.colorbar(score_scale(scores), ax=axes, label="final score (%); grey: none", extend="min", shrink=0.9)
    return figure


def _shown(epochs: pd.DataFrame, scores: "pd.Series[float]") -> set[str]:
    """Ids of the trials that are drawn: the best tenth of `MOST_LINES`, and others at equal distances."""
    ids = epochs["trial_id"].unique()
    if len(ids) <= MOST_LINES:
        return set(ids)
    best = scores.nlargest(MOST_LINES // 10).index
    others = np.setdiff1d(ids, best)
    return {*best, *others[np.linspace(0, len(others) - 1, MOST_LINES - len(best)).astype(int)]}


def _draw_lines(axes: Axes, epochs: pd.DataFrame, column: str, scores: "pd.Series[float]") -> None:
    """Those without a score at the back, the best in front."""
    points = epochs[[column, "percent"]].to_numpy()
    starts = np.flatnonzero(epochs["trial_id"].ne(epochs["trial_id"].shift()).to_numpy())[1:]
    lines = pd.Series(np.split(points, starts), index=epochs["trial_id"].unique())
    finished = scores[scores.index.isin(lines.index)].sort_values()
    many = len(lines) > 300
    width = 0.5 if many else 1.3
    grey = lines[~lines.index.isin(finished.index)]
    axes.add_collection(LineCollection(list(grey), colors=STOPPED_COLOUR, linewidths=width, alpha=0.3 if many else 0.8))
    if len(finished):
        colours = score_scale(scores).to_rgba(100 * finished.to_numpy())
        axes.add_collection(LineCollection(list(lines[finished.index]), colors=colours, linewidths=width))


def _mark_rungs(axes: Axes, rungs: list[int]) -> None:
    for rung in rungs:
        axes.axvline(rung, color=NEUTRAL, linestyle=":", linewidth=1)
        axes.annotate(
            "rung", (rung, 1), xycoords=("data", "axes fraction"), xytext=(2, -2), textcoords="offset points",
            fontsize=8.5, color=NEUTRAL, va="top",
        )  # fmt: skip
