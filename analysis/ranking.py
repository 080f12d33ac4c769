"""Which trials are best, and how sure that is."""

from typing import Any

import numpy as np
import pandas as pd

from analysis.tables import rows
from analysis.trials import PARAMETERS, Experiment
from analysis.words import count, percent, setting_text
from cifar_core.intervals import wilson_interval
from tune_experiments.ledger import TrialState
from tune_experiments.records import LEADERBOARD_COLUMNS, STATE_ORDER


def rank_trials(experiment: Experiment) -> pd.DataFrame:
    """Trials, best first: `records.LEADERBOARD_COLUMNS`, and `low`, `high`, `gain`.

    Only completed trials have a rank. `low` to `high` is the score's 95 % interval (Wilson) from the sampling of the
    validation images; what another seed would change is not in it. `gain` is the score less that of the seed's
    setting, NaN where either has none.
    """
    board = experiment.trials.assign(is_seed_setting=experiment.trials.index == 0)
    board["order"] = board["state"].map({state.value: order for order, state in enumerate(STATE_ORDER)})
    keys = ["order", "epochs", "score", "last_val_accuracy", "trial_id"]
    board = board.sort_values(keys, ascending=[True, False, False, False, True], ignore_index=True)
    completed = board["state"] == TrialState.COMPLETED
    board.insert(0, "rank", pd.Series(range(1, len(board) + 1), dtype="Int64").where(completed))
    hits = (board["score"] * experiment.val_images).round().to_numpy()
    board["low"], board["high"] = wilson_interval(hits, np.full(len(board), experiment.val_images))
    board["gain"] = board["score"] - board.loc[board["is_seed_setting"], "score"].max()
    return board[[*LEADERBOARD_COLUMNS, "low", "high", "gain"]]


def top_settings(experiment: Experiment, share: float = 0.1) -> pd.DataFrame:
    """Where the best `share` of the completed trials lie (at least one trial): one row per parameter.

    Columns: `parameter`, `best`, `low`, `high` (of the best share), `space_low`, `space_high`, `covered` (the share
    of the space from `low` to `high`, on the scale it was searched on) and `edge`: "low" or "high" where the best
    value lies within 5 % of a bound, or beyond it, so that the space may be too small.
    """
    completed = experiment.completed.sort_values("score", ascending=False, kind="stable")
    top = completed.head(max(1, round(share * len(completed))))
    return pd.DataFrame([_top_range(experiment, top[name]) for name in PARAMETERS])


def _top_range(experiment: Experiment, values: "pd.Series[float]") -> dict[str, object]:
    name = str(values.name)
    bounds = getattr(experiment.space, name)
    best, low, high, start, end = on_search_scale(name, [values.iloc[0], values.min(), values.max(), *bounds])
    width = max(end - start, 1e-12)
    edge = "low" if best < start + 0.05 * width else "high" if best > end - 0.05 * width else ""
    return {
        "parameter": name,
        "best": values.iloc[0],
        "low": values.min(),
        "high": values.max(),
        "space_low": bounds[0],
        "space_high": bounds[1],
        "covered": min(1.0, (high - low) / width),
        "edge": edge,
    }


def on_search_scale(parameter: str, values: object) -> np.ndarray[tuple[int, ...], np.dtype[np.float64]]:
    """Values on the scale on which the parameter was searched: logarithms, but for `peak_epoch`."""
    numbers = np.asarray(values, np.float64)
    return numbers if parameter == "peak_epoch" else np.log10(numbers)


def describe_ranking(board: pd.DataFrame, val_images: int) -> str:
    """The best trial beside the seed's setting, and how many cannot be told from it."""
    completed = board[board["rank"].notna()]
    states = ", ".join(f"{number} {state}" for state, number in board["state"].value_counts().items())
    if completed.empty:
        return f"No trial has completed yet, so none has a score ({states or 'no trial has started'})."
    best = completed.iloc[0]
    close = int((completed["score"].iloc[1:] >= best["low"]).sum())
    sentences = [
        f"{count(len(board), 'trial')}: {states}.",
        f"The best, {best['trial_id']} ({setting_text(best)}), scores {percent(best['score'])}, 95 % interval "
        f"{percent(best['low'])} to {percent(best['high'])} from the sampling of {val_images:,} validation images.",
        _beside_seed(best),
        f"{count(close, 'more trial')} {'lies' if close == 1 else 'lie'} within that interval: one run each does not "
        "say which is best."
        if close
        else "No other completed trial lies within that interval.",
        "The best of many noisy scores looks better than it is.",
    ]
    return " ".join(sentences)


def _beside_seed(best: "pd.Series[Any]") -> str:
    if best["is_seed_setting"]:
        return "It is the seed's own setting: nothing better was found."
    if pd.isna(best["gain"]):
        return "The seed's setting has no score to compare with."
    return (
        f"That is {100 * best['gain']:.1f} points above the seed's setting ({percent(best['score'] - best['gain'])})."
    )


def describe_top(top: pd.DataFrame, completed: int) -> str:
    """Where the best trials lie, and whether the space should be larger."""
    number = max(1, round(0.1 * completed))
    ranges = [f"{row.parameter} {row.low:.3g} to {row.high:.3g}" for row in rows(top)]
    where = f"The best 10 % ({count(number, 'trial')}) have {', '.join(ranges)}."
    if number == 1:
        values = ", ".join(f"{row.parameter} {row.best:.3g}" for row in rows(top))
        where = f"The best 10 % are a single trial: {values}."
    edges = [f"{row.parameter} (at its {row.edge} end)" for row in rows(top) if row.edge]
    if edges:
        return (
            f"{where} The best lies at the edge of the space in {' and '.join(edges)}: a wider range may hold better."
        )
    return f"{where} The best lies inside the space in every parameter."
