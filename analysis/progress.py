"""How fast the search found its best, beside what random search is expected to need."""

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from analysis.trials import Experiment
from analysis.words import count, duration, percent
from tune_experiments.ledger import TrialState

MIN_COMPLETED = 3
CURVE_POINTS = 200


def progress(experiment: Experiment) -> pd.DataFrame:
    """One row per finished epoch of any trial, in order of time.

    Columns: `epochs` and `trial_seconds` spent so far by all trials, `elapsed` (wall seconds since the first epoch
    began), `best` (best score so far, NaN before the first), and `random_low` to `random_high`: the best that random
    search without early stopping is expected to have after as many epochs. Its draws are the settings of this
    search. What a stopped one would have scored is not known: `random_low` counts it with its last accuracy, which it
    would probably have exceeded, and `random_high` leaves it out. NaN below `MIN_COMPLETED` completed trials.
    """
    epochs, total = experiment.epochs.sort_values("finished_at", kind="stable"), experiment.schedule_epochs
    scores = experiment.completed.set_index("trial_id")["score"]
    reached = epochs["trial_id"].map(scores).where(epochs["epoch"] == total)
    begin = (epochs["finished_at"] - epochs["seconds"]).min()
    table = pd.DataFrame(
        {
            "epochs": np.arange(1, len(epochs) + 1),
            "trial_seconds": epochs["seconds"].cumsum().to_numpy(),
            "elapsed": (epochs["finished_at"] - begin).to_numpy(),
            "best": reached.cummax().ffill().to_numpy(),
            "random_low": np.nan,
            "random_high": np.nan,
        }
    )
    if len(scores) >= MIN_COMPLETED:
        draws = table["epochs"].to_numpy() / total
        table["random_low"] = expected_best(_at_least(experiment.trials), draws)
        table["random_high"] = expected_best(scores.to_numpy(), draws)
    return table


def _at_least(trials: pd.DataFrame) -> NDArray[np.float64]:
    """What is known of each ended trial's score: itself, the last accuracy of a stopped one, nothing of a diverged."""
    known = trials[trials["state"].isin([TrialState.COMPLETED, TrialState.STOPPED, TrialState.DIVERGED])]
    return known["last_val_accuracy"].where(known["state"] != TrialState.DIVERGED, 0.0).to_numpy()


def expected_best(scores: NDArray[np.float64], draws: NDArray[np.float64]) -> NDArray[np.float64]:
    """Mean of the best of k scores drawn at random with replacement, for each k of `draws`; NaN where k is below 1.

    Source: Dodge et al., "Show Your Work" (arXiv 1909.03004), equation 2.
    """
    known = draws >= 1
    found = np.full(len(draws), np.nan)
    if known.any():
        grid = np.geomspace(1, draws.max(), CURVE_POINTS)
        below = (np.arange(1, len(scores) + 1) / len(scores)) ** grid[:, None]  # P(best of k is at most each score)
        found[known] = np.interp(draws[known], grid, np.diff(below, axis=1, prepend=0) @ np.sort(scores))
    return found


def describe_progress(experiment: Experiment, table: pd.DataFrame) -> str:
    """When the best was found, and what random search would have had by then."""
    found = table[table["best"].notna()]
    if found.empty:
        return "No trial has completed yet, so there is no best score to follow."
    first = found[found["best"] == found["best"].max()].iloc[0]
    text = (
        f"The best score, {percent(first['best'])}, was there after {count(int(first['epochs']), 'epoch')} "
        f"({duration(first['elapsed'])}) of {count(len(table), 'epoch')} ({duration(table['elapsed'].max())})."
    )
    if np.isnan(first["random_low"]):
        return f"{text} Random search's expectation needs at least {MIN_COMPLETED} completed trials."
    return (
        f"{text} Random search over the same settings, each trained in full, is expected between "
        f"{percent(first['random_low'])} (were the stopped ones no better than when they were stopped) and "
        f"{percent(first['random_high'])} (were none of them drawn) after as many epochs."
    )


def stop_points(experiment: Experiment) -> pd.DataFrame:
    """The epoch at which early stopping ended each trial, or would have, but for the audit: rows of `epochs`."""
    rungs = experiment.epochs["trial_id"].map(experiment.trials.set_index("trial_id")["stopped_at"])
    return experiment.epochs[experiment.epochs["epoch"].eq(rungs.astype("float64"))]
