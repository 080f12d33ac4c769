"""What fresh seeds say of the finalists."""

from typing import Any

import numpy as np
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from numpy.typing import NDArray

from analysis.confirmation import interval_of
from analysis.figures.shared import SEED_STYLE, legend_below
from analysis.tables import rows
from cifar_core.figures.style import BAD, COLOURS, GOOD, NEUTRAL, new_figure, style

SEARCH_AT, SEEDS_AT, TEST_AT = 0.2, 0.17, 0.34  # rows above and below a setting's own line
BEYOND = 1.5  # an interval of few seeds is cut where it reaches farther from the points than this many times their span
LOOKS: dict[str, dict[str, Any]] = {
    "a finalist's mean, 95 % interval": {"marker": "o", "s": 52, "color": COLOURS[0], "zorder": 5},
    "the seed's setting": SEED_STYLE,
    "on the test set": {"marker": "^", "s": 42, "color": GOOD, "zorder": 5},
}


@style()
def confirmation(table: pd.DataFrame, runs: pd.DataFrame) -> Figure:
    """A row for each finalist: its score in the search, each fresh seed, their mean; beside it the paired differences.

    Args:
        table: as `confirmation.confirmation_table` gives it.
        runs: as `confirmation.run_table` gives it.
    """
    figure, panels = new_figure(columns=2, panel_size=(4.9, 1.9 + 0.7 * len(table)))
    left, right = panels[0]
    _draw_search_scores(left, table)
    _draw_side(left, table, runs, "val_accuracy", ("mean", "test_accuracy"))
    _draw_side(right, table, runs, "gain", ("gain", "test_gain"))
    left.set_yticklabels([row.trial_id + (" (seed)" if row.is_seed_setting else "") for row in rows(table)])
    left.set(xlabel="accuracy (%)", xlim=_limits(table, runs["val_accuracy"], "mean", "test_accuracy", "search_score"))
    right.axvline(0, color=BAD, linewidth=1.2, linestyle="--", zorder=1)
    right.scatter([0.0], table.index[table["is_seed_setting"]], **SEED_STYLE)
    right.tick_params(left=False, labelleft=False)
    right.set_xlabel("points above the seed's setting, seed by seed")
    right.set_xlim(*_limits(table, np.append(runs["gain"], 0.0), "gain", "test_gain"))
    legend_below(figure, left)
    return figure


def _draw_search_scores(axes: Axes, table: pd.DataFrame) -> None:
    """Above each setting's own line, with an arrow to the mean of fresh seeds."""
    known = table[table["search_score"].notna()]
    arrow = {"arrowstyle": "->", "color": NEUTRAL, "linewidth": 1.2, "shrinkA": 0, "shrinkB": 0}
    for place, row in zip(known.index, rows(known), strict=True):
        if not pd.isna(row.mean):
            to, start = ((100 * value, place - SEARCH_AT) for value in (row.mean, row.search_score))
            axes.annotate("", to, start, arrowprops=arrow)
    look: dict[str, Any] = {"marker": "s", "s": 42, "facecolor": "white", "edgecolor": NEUTRAL, "zorder": 4}
    axes.scatter(100 * known["search_score"], known.index - SEARCH_AT, label="score in the search", **look)


def _draw_side(axes: Axes, table: pd.DataFrame, runs: pd.DataFrame, each: str, estimates: tuple[str, str]) -> None:
    """One panel: each seed, and the estimates on the validation images and on the test set."""
    name, on_test = estimates
    finalist, seed_setting, tested = LOOKS
    _draw_seeds(axes, table, runs, each)
    _draw_estimates(axes, table[~table["is_seed_setting"]], name, finalist)
    _draw_estimates(axes, table[table["is_seed_setting"]], name, seed_setting)
    _draw_estimates(axes, table, on_test, tested, TEST_AT)
    axes.set(yticks=range(len(table)), ylim=(len(table) - 0.45, -0.55))
    axes.grid(False, axis="y")


def _draw_seeds(axes: Axes, table: pd.DataFrame, runs: pd.DataFrame, name: str) -> None:
    places = runs["trial_id"].map(pd.Series(table.index, index=table["trial_id"]))
    axes.scatter(100 * runs[name], places + SEEDS_AT, s=13, color="#888888", label="one fresh seed")


def _draw_estimates(axes: Axes, part: pd.DataFrame, name: str, label: str, below: float = 0.0) -> None:
    known = part[part[name].notna()]
    places, look = known.index + below, LOOKS[label]
    low, high = (100 * known[end] for end in interval_of(name))
    axes.hlines(places, low, high, colors=look["color"], linewidth=1.8, alpha=0.6)
    axes.scatter(100 * known[name], places, label=label if len(known) else None, **look)


def _limits(table: pd.DataFrame, seeds: "pd.Series[float] | NDArray[np.float64]", *names: str) -> tuple[float, float]:
    """Of an axis in percent: all points, and of the intervals as much as leaves the points apart."""
    points = 100 * np.concatenate([seeds, *(table[name] for name in names)])
    ends = [name for estimate in names if estimate != "search_score" for name in interval_of(estimate)]
    reach = np.append(points, 100 * table[ends].to_numpy())
    if np.isnan(points).all():
        return -1.0, 1.0
    low, high = np.nanmin(points), np.nanmax(points)
    room = BEYOND * max(high - low, 0.5)
    low, high = max(low - room, np.nanmin(reach)), min(high + room, np.nanmax(reach))
    margin = 0.05 * max(high - low, 1.0)
    return float(low - margin), float(high + margin)
