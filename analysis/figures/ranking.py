"""The best trials and how sure their scores are."""

import pandas as pd
from matplotlib.figure import Figure

from analysis.tables import rows
from cifar_core.figures.style import BAD, COLOURS, NEUTRAL, new_axes, style

SHOWN = 20


@style()
def best_trials(board: pd.DataFrame) -> Figure:
    """Scores of the `SHOWN` best completed trials with their 95 % intervals, and of the seed's setting.

    Args:
        board: as `ranking.rank_trials` gives it, with at least one completed trial.
    """
    completed = board[board["rank"].notna()]
    shown = completed[(completed["rank"] <= SHOWN) | completed["is_seed_setting"]].iloc[::-1].reset_index(drop=True)
    figure, axes = new_axes(panel_size=(6.4, 1.3 + 0.25 * len(shown)))
    for place, row in enumerate(rows(shown)):
        colour, marker = (BAD, "*") if row.is_seed_setting else (COLOURS[0], "o")
        axes.plot([100 * row.low, 100 * row.high], [place, place], color=colour, alpha=0.5, linewidth=1.6)
        axes.plot(100 * row.score, place, marker=marker, color=colour, markersize=7)
    best = completed.iloc[0]
    axes.axvspan(100 * best["low"], 100 * best["high"], color=NEUTRAL, alpha=0.12, linewidth=0)
    names = [f"{row.rank}.  {row.trial_id}" + (" (seed)" if row.is_seed_setting else "") for row in rows(shown)]
    axes.set_yticks(range(len(shown)), names)
    axes.set(xlabel="validation accuracy (%), 95 % interval of the sampling of images")
    axes.grid(False, axis="y")
    return figure
