"""Which trials are best, and how sure that is."""

from typing import Any

import numpy as np
import pandas as pd

from analysis.tables import rows
from analysis.trials import PARAMETERS, Experiment
from analysis.words import count, percent, setting_text
from cifar_core.intervals import wilson_interval
from tune_experiments.records import LEADERBOARD_COLUMNS, ranked
from tune_experiments.search_space import Setting, edges


def rank_trials(experiment: Experiment) -> pd.DataFrame:
    """Trials, best first: `records.LEADERBOARD_COLUMNS`, and `low`, `high`, `gain`.

    The order is that of `records.ranked`: confirmed settings, then completed trials, then the others, which have no
    rank. `low` to `high` is the score's 95 % interval (Wilson) from the sampling of the validation images; what another
    seed would change is only in the interval of a confirmed mean. `gain` is the score less that of the seed's setting,
    NaN where either has none.
    """
    board = ranked(experiment.trials, experiment.verdict).filter(items=LEADERBOARD_COLUMNS)
    hits = (board["score"] * experiment.val_images).round().to_numpy()
    low, high = wilson_interval(hits, np.full(len(board), experiment.val_images))
    return board.assign(low=low, high=high, gain=board["score"] - board.loc[board["is_seed_setting"], "score"].max())


def best_tenth(experiment: Experiment) -> pd.DataFrame:
    """The best 10 % of the completed trials by score, best first; at least one where any completed."""
    completed = experiment.completed.sort_values("score", ascending=False, kind="stable")
    return completed.head(max(1, round(0.1 * len(completed))))


def top_settings(experiment: Experiment) -> pd.DataFrame:
    """Where the best 10 % of the completed trials lie: one row per parameter.

    Columns: `parameter`, `best`, `low`, `high` (of the best 10 %), `space_low`, `space_high`, `covered` (the share
    of the space from `low` to `high`, on the scale it was searched on) and `edge`: "low" or "high" where the best
    value lies at a bound as `search_space.edges` sees it, so that the space may be too small.
    """
    top = best_tenth(experiment)
    best = top.iloc[0]
    at_edge = edges(experiment.space, Setting(best["max_lr"], best["l1_factor"], int(best["peak_epoch"])))
    return pd.DataFrame([_top_range(experiment, top[name], at_edge.get(name, "")) for name in PARAMETERS])


def _top_range(experiment: Experiment, values: "pd.Series[float]", edge: str) -> dict[str, object]:
    name = str(values.name)
    bounds = getattr(experiment.space, name)
    low, high, start, end = on_search_scale(name, [values.min(), values.max(), *bounds])
    return {
        "parameter": name,
        "best": values.iloc[0],
        "low": values.min(),
        "high": values.max(),
        "space_low": bounds[0],
        "space_high": bounds[1],
        "covered": min(1.0, (high - low) / max(end - start, 1e-12)),
        "edge": edge,
    }


def on_search_scale(parameter: str, values: object) -> np.ndarray[tuple[int, ...], np.dtype[np.float64]]:
    """Values on the scale on which the parameter was searched: logarithms, but for `peak_epoch`."""
    numbers = np.asarray(values, np.float64)
    return numbers if parameter == "peak_epoch" else np.log10(numbers)


def describe_ranking(board: pd.DataFrame, val_images: int) -> str:
    """The best trial beside the seed's setting, and how many cannot be told from it."""
    states = ", ".join(f"{number} {state}" for state, number in board["state"].value_counts().items())
    if board["rank"].isna().all():
        return f"No trial has completed yet, so none has a score ({states or 'no trial has started'})."
    is_confirmed = "confirmed_mean" in board and board["confirmed_mean"].notna().any()
    answer = _describe_confirmed(board) if is_confirmed else _describe_scores(board, val_images)
    return f"{count(len(board), 'trial')}: {states}. {answer}"


def _describe_confirmed(board: pd.DataFrame) -> str:
    confirmed = board[board["confirmed_mean"].notna()]
    best = confirmed.iloc[0]
    in_search = "" if pd.isna(best["score"]) else f"; in the search it had {percent(best['score'])}"
    sentences = [
        f"{count(len(confirmed), 'setting')} trained again with {count(best['confirm_seeds'], 'fresh seed')} "
        f"{'comes' if len(confirmed) == 1 else 'come'} first, by the mean of those runs.",
        f"First is {best['trial_id']} ({setting_text(best)}): {_confirmed_mean(best)}{in_search}.",
    ]
    seed = confirmed[confirmed["is_seed_setting"]]
    if best["is_seed_setting"]:
        sentences.append("It is the seed's own setting: nothing better was found.")
    elif len(seed):
        sentences.append(f"The seed's setting is number {seed['rank'].iloc[0]}: {_confirmed_mean(seed.iloc[0])}.")
    return " ".join([*sentences, "All others have one run each and stand behind, by their score in the search."])


def _confirmed_mean(row: "pd.Series[Any]") -> str:
    low, high = row["confirmed_low"], row["confirmed_high"]
    interval = "" if pd.isna(low) else f", 95 % interval {percent(low)} to {percent(high)}"
    return percent(row["confirmed_mean"]) + interval


def _describe_scores(board: pd.DataFrame, val_images: int) -> str:
    completed = board[board["rank"].notna()]
    best = completed.iloc[0]
    close = int((completed["score"].iloc[1:] >= best["low"]).sum())
    sentences = [
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


def describe_top(experiment: Experiment, top: pd.DataFrame) -> str:
    """Where the best trials lie, and whether the space should be larger."""
    number = len(best_tenth(experiment))
    ranges = [f"{row.parameter} {row.low:.3g} to {row.high:.3g}" for row in rows(top)]
    where = f"The best 10 % ({count(number, 'trial')}) have {', '.join(ranges)}."
    if number == 1:
        values = ", ".join(f"{row.parameter} {row.best:.3g}" for row in rows(top))
        where = f"The best 10 % are a single trial: {values}."
    edges = [f"{row.parameter} (at its {row.edge} end)" for row in rows(top) if row.edge]
    if not edges:
        return f"{where} The best lies inside the space in every parameter."
    return (
        f"{where} The best lies at the edge of the space in {' and '.join(edges)}: a wider range may hold better. "
        f"--resume {experiment.name} --extend-space --num-samples N searches it (N above {len(experiment.trials)})."
    )
