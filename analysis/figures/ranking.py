"""The best trials and how sure their scores are."""

import math
from typing import Any

import pandas as pd
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from analysis.figures.shared import legend_below
from analysis.tables import rows
from cifar_core.figures.style import BAD, COLOURS, GOOD, NEUTRAL, new_axes, style

SHOWN = 20


@style()
def best_trials(board: pd.DataFrame) -> Figure:
    """The `SHOWN` best trials and the seed's setting, each with its 95 % interval.

    A confirmed setting has its mean over fresh seeds with the interval of these, and its score in the search as a
    hollow dot; the others have their score with the interval of the sampling of images.

    Args:
        board: as `ranking.rank_trials` gives it, with at least one trial that has a rank.
    """
    ranked = board[board["rank"].notna()]
    shown = ranked[(ranked["rank"] <= SHOWN) | ranked["is_seed_setting"]].iloc[::-1].reset_index(drop=True)
    figure, axes = new_axes(panel_size=(6.4, 1.9 + 0.25 * len(shown)))
    for place, row in enumerate(rows(shown)):
        _draw_row(axes, place, row)
    _, _, low, high = _estimate(ranked.iloc[0])
    axes.axvspan(100 * low, 100 * high, color=NEUTRAL, alpha=0.12, linewidth=0)
    names = [f"{row.rank}.  {row.trial_id}" + (" (seed)" if row.is_seed_setting else "") for row in rows(shown)]
    axes.set_yticks(range(len(shown)), names)
    axes.set(xlabel="validation accuracy (%), 95 % interval", ylim=(-0.7, len(shown) - 0.3))
    axes.grid(False, axis="y")
    legend_below(figure, axes, columns=2)
    return figure


def _draw_row(axes: Axes, place: int, row: Any) -> None:
    is_confirmed, value, low, high = _estimate(row)
    colour, label, marker, size = COLOURS[0], "score, one run", "o", 7
    if row.is_seed_setting:
        colour, label, marker, size = BAD, "the seed's setting", "*", 10
    elif is_confirmed:
        colour, label = GOOD, "mean of fresh seeds"
    axes.plot([100 * low, 100 * high], [place, place], color=colour, alpha=0.5, linewidth=1.6)
    if is_confirmed:
        hollow: dict[str, Any] = {"marker": "o", "markersize": 6, "markerfacecolor": "white", "linestyle": ""}
        axes.plot(100 * row.score, place, label="its score in the search", color=NEUTRAL, **hollow)
    axes.plot(100 * value, place, marker=marker, color=colour, markersize=size, linestyle="", label=label)


def _estimate(row: Any) -> tuple[bool, float, float, float]:
    """Whether a trial was confirmed; the mean of its fresh seeds, or its score where not, and the interval."""
    mean = getattr(row, "confirmed_mean", math.nan)
    if math.isnan(mean):
        return False, row.score, row.low, row.high
    return True, mean, row.confirmed_low, row.confirmed_high
