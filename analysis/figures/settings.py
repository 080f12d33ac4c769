"""Scores against settings: slices, a map of two parameters, parallel coordinates."""

from typing import Any

import numpy as np
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.collections import LineCollection
from matplotlib.figure import Figure
from numpy.typing import NDArray

from analysis.figures.shared import (
    BOUND_STYLE,
    SEED_STYLE,
    legend_below,
    score_scale,
    set_parameter_axis,
    spread_limits,
)
from analysis.ranking import on_search_scale
from analysis.tables import rows
from analysis.trials import PARAMETERS
from cifar_core.figures.style import BAD, COLOURS, GOOD, new_axes, new_figure, style
from tune_experiments.ledger import TrialState

GRID = 80  # points of the map along each axis
LEAST_FOR_GROUND = 8  # completed trials
BANDWIDTH, AT_TRIALS = 0.1, 50  # of the smoothing, as a share of the space, up to so many completed trials
LEAST_WEIGHT, LEAST_SHARE = 0.4, 0.05  # where a map has ground: in trials nearby, and in shares of where most are


@style()
def slices(trials: pd.DataFrame, top: pd.DataFrame) -> Figure:
    """Score against each parameter; settings of trials without a score along the bottom; the best 10 % shaded.

    Args:
        trials: as `trials.Experiment.trials`, with at least one completed.
        top: as `ranking.top_settings` gives it.
    """
    completed = trials[trials["state"] == TrialState.COMPLETED]
    low, high = spread_limits(100 * completed["score"])
    figure, axes = new_figure(columns=3, panel_size=(3.9, 3.4))
    for panel, row in zip(axes[0], rows(top), strict=True):
        panel.axvspan(*_wide_enough(row), color=GOOD, alpha=0.15, linewidth=0, label="best 10 %")
        for bound in (row.space_low, row.space_high):
            panel.axvline(bound, **BOUND_STYLE)
        size = 26 if len(completed) < 500 else 6
        panel.scatter(completed[row.parameter], 100 * completed["score"], s=size, alpha=0.6, label="completed")
        _rug(panel, trials, row.parameter, (low, high))
        _mark_seed(panel, trials, row.parameter, low)
        set_parameter_axis(panel, row.parameter)
        panel.set_ylim(low - 0.11 * (high - low), high)
    axes[0, 0].set_ylabel("validation accuracy (%)")
    legend_below(figure, axes[0, 0], columns=5)
    return figure


def _wide_enough(row: Any) -> tuple[float, float]:
    """The range of the best trials, stretched so that it is seen even where it is one value."""
    if row.parameter == "peak_epoch":
        return float(row.low) - 0.3, float(row.high) + 0.3
    return float(row.low) / 1.08, float(row.high) * 1.08


def _rug(axes: Axes, trials: pd.DataFrame, parameter: str, limits: tuple[float, float]) -> None:
    low, high = limits
    for line, (state, colour) in enumerate(((TrialState.STOPPED, "#999999"), (TrialState.DIVERGED, BAD))):
        values = trials.loc[trials["state"] == state, parameter]
        if len(values):
            place = np.full(len(values), low - 0.045 * line * (high - low))
            look: dict[str, Any] = {"marker": "|", "s": 36, "color": colour, "alpha": _faint(len(values))}
            axes.scatter(values, place, label=f"{state.value}, no score", **look)


def _faint(marks: int) -> float:
    """How opaque each of many marks may be, so that where they are dense is seen."""
    return float(np.clip(60 / max(1, marks), 0.04, 0.6))


def _mark_seed(axes: Axes, trials: pd.DataFrame, parameter: str, bottom: float) -> None:
    first = trials.iloc[0]
    if first["state"] == TrialState.COMPLETED:
        axes.scatter(first[parameter], max(100 * first["score"], bottom), label="seed's setting", **SEED_STYLE)


@style()
def score_map(trials: pd.DataFrame) -> Figure:
    """Score over `max_lr` and `peak_epoch`: a dot for each completed trial, a cross for each that has no score.

    The ground is the trials' mean, weighted by a Gaussian of their distance, left white where none is near, and
    everywhere with fewer than `LEAST_FOR_GROUND` completed trials.

    Args:
        trials: as `trials.Experiment.trials`, with at least one completed.
    """
    completed = trials[trials["state"] == TrialState.COMPLETED]
    others = trials[trials["state"].isin([TrialState.STOPPED, TrialState.DIVERGED])]
    scale = score_scale(completed["score"])
    figure, axes = new_axes(panel_size=(6.4, 4.2))
    if len(completed) >= LEAST_FOR_GROUND:
        axes.contourf(
            *_smooth(trials, completed), levels=12, norm=scale.norm, cmap=scale.cmap, alpha=0.5, extend="both"
        )
    axes.scatter(
        others["max_lr"], _jitter(others), marker="x", s=22 if len(others) < 500 else 9, color="#888888", linewidth=0.9,
        label="no score", alpha=max(0.1, _faint(len(others))),
    )  # fmt: skip
    size = 44 if len(completed) < 500 else 8
    axes.scatter(
        completed["max_lr"], _jitter(completed), color=scale.to_rgba(100 * completed["score"].to_numpy()), s=size,
        edgecolor="white", linewidth=0.5, label="completed",
    )  # fmt: skip
    set_parameter_axis(axes, "max_lr")
    set_parameter_axis(axes, "peak_epoch", "y")
    figure.colorbar(scale, ax=axes, label="validation accuracy (%)", extend="min")
    axes.grid(False)
    legend_below(figure, axes, columns=2)
    return figure


def _jitter(trials: pd.DataFrame) -> NDArray[np.float64]:
    """Peak epochs, equal ones a little apart; the same trial always in the same place."""
    return trials["peak_epoch"].to_numpy() + 0.4 * ((trials.index.to_numpy() * 0.618034) % 1 - 0.5)


def _smooth(trials: pd.DataFrame, completed: pd.DataFrame) -> tuple[NDArray[np.float64], ...]:
    rate = on_search_scale("max_lr", trials["max_lr"])
    lr_grid = np.linspace(rate.min() - 0.05, rate.max() + 0.05, GRID)
    peak_grid = np.linspace(trials["peak_epoch"].min() - 0.5, trials["peak_epoch"].max() + 0.5, GRID)
    width = BANDWIDTH * min(1.0, (AT_TRIALS / len(completed)) ** (1 / 6))  # falls as Scott's rule does
    across = (lr_grid[:, None] - on_search_scale("max_lr", completed["max_lr"])) / (np.ptp(lr_grid) * width)
    along = (peak_grid[:, None] - completed["peak_epoch"].to_numpy()) / (np.ptp(peak_grid) * width)
    near, scores = np.exp(-0.5 * along**2), 100 * completed["score"].to_numpy()
    weight = near @ np.exp(-0.5 * across**2).T
    mean = (near * scores) @ np.exp(-0.5 * across**2).T / np.maximum(weight, 1e-12)
    return 10**lr_grid, peak_grid, np.where(weight > max(LEAST_WEIGHT, LEAST_SHARE * weight.max()), mean, np.nan)


@style()
def parallel_coordinates(trials: pd.DataFrame) -> Figure:
    """A line for each completed trial through its three parameters and its score, the best on top.

    Args:
        trials: as `trials.Experiment.trials`, with at least one completed.
    """
    completed = trials[trials["state"] == TrialState.COMPLETED].sort_values("score")
    scale = score_scale(completed["score"])
    percents = 100 * completed["score"].to_numpy()
    columns = {name: on_search_scale(name, completed[name]) for name in PARAMETERS} | {"score": percents}
    bounds = {name: _bounds(values) for name, values in columns.items()}
    heights = np.column_stack(
        [(values - bounds[n][0]) / (bounds[n][1] - bounds[n][0]) for n, values in columns.items()]
    )
    lines = np.stack([np.broadcast_to(np.arange(heights.shape[1]), heights.shape), heights], axis=2)
    figure, axes = new_axes(panel_size=(7.4, 4.0))
    many = len(completed) > 300
    looks: dict[str, Any] = {"linewidths": 0.6, "alpha": 0.5} if many else {"linewidths": 1.5, "alpha": 0.85}
    axes.add_collection(LineCollection(list(lines), colors=scale.to_rgba(percents), rasterized=True, **looks))
    for place, (name, (low, high)) in enumerate(bounds.items()):
        _draw_scale(axes, place, name, low, high)
    axes.set(xlim=(-0.25, len(bounds) - 0.6), ylim=(-0.06, 1.06), yticks=[])
    axes.set_xticks(range(len(bounds)), [*PARAMETERS, "score"])
    axes.spines[:].set_visible(False)
    axes.grid(False)
    figure.colorbar(scale, ax=axes, label="validation accuracy (%)", extend="min")
    return figure


def _bounds(values: NDArray[np.float64]) -> tuple[float, float]:
    low, high = float(values.min()), float(values.max())
    return (low, high) if high > low else (low - 0.5, high + 0.5)


def _draw_scale(axes: Axes, place: int, name: str, low: float, high: float) -> None:
    axes.axvline(place, color=COLOURS[6], linewidth=0.9, zorder=3)
    whole_epochs = np.arange(np.ceil(low), high + 1e-9, max(1, round((high - low) / 5)))
    values = whole_epochs if name == "peak_epoch" else np.linspace(low, high, 5)
    for value in values[(values >= low) & (values <= high)]:
        text = f"{value:.1f} %" if name == "score" else f"{value:.3g}" if name == "peak_epoch" else f"{10**value:.2g}"
        box = {"facecolor": "white", "alpha": 0.75, "edgecolor": "none", "pad": 1}
        height = (value - low) / (high - low)
        axes.text(place + 0.03, height, text, fontsize=9, va="center", bbox=box, zorder=4)
