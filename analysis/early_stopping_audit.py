"""Was early stopping right? What a rung's value says about the final score, and what stopping saved."""

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from analysis.tables import rows
from analysis.trials import Experiment
from analysis.words import count, percent
from tune_experiments.ledger import TrialState

MIN_COMPLETED = 5
RESAMPLES = 1000
MOST_TRIALS = 2000  # more do not narrow the interval by anything visible


def rung_table(experiment: Experiment, seed: int = 0) -> pd.DataFrame:
    """One row per rung.

    Columns: `rung` (epoch), `reached`, `stopped` (trials), `completed` (trials that went on to the end), `rho`,
    Spearman's rank correlation of the completed trials' accuracy at the rung with their score, its bootstrap 95 %
    interval `low` to `high` (NaN below `MIN_COMPLETED` completed trials), and `best_rank`, the place among all that
    reached the rung of the trial that is best in the end (None where none completed).
    """
    rows = [_rung_row(experiment, rung, np.random.default_rng((seed, rung))) for rung in experiment.rungs]
    columns = ["rung", "reached", "stopped", "completed", "rho", "low", "high", "best_rank"]
    return pd.DataFrame(rows, columns=columns).astype({"best_rank": "Int64"})


def rung_values(experiment: Experiment) -> pd.DataFrame:
    """`trial_id`, `rung`, `value` (validation accuracy there), `state` and `score` of every trial at every rung."""
    at_rungs = experiment.epochs[experiment.epochs["epoch"].isin(experiment.rungs)]
    values = at_rungs[["trial_id", "epoch", "val_accuracy"]].rename(columns={"epoch": "rung", "val_accuracy": "value"})
    return values.merge(experiment.trials[["trial_id", "state", "score"]], on="trial_id")


def savings(experiment: Experiment) -> dict[str, int]:
    """Epochs `spent`, and `saved`: those that the stopped trials did not run."""
    stopped = experiment.trials[experiment.trials["state"] == TrialState.STOPPED]
    saved = len(stopped) * experiment.schedule_epochs - int(stopped["epochs"].sum())
    return {"spent": len(experiment.epochs), "saved": saved}


def spearman(left: NDArray[np.float64], right: NDArray[np.float64]) -> NDArray[np.float64]:
    """Rank correlation of each row of float64 (R, N) with that of the other; NaN where a row is constant.

    Ties share their mean rank.
    """
    from scipy.stats import rankdata

    ranks = [rankdata(side, axis=1) for side in (left, right)]
    x, y = (rank - rank.mean(axis=1, keepdims=True) for rank in ranks)
    with np.errstate(invalid="ignore"):
        return np.asarray((x * y).sum(axis=1) / np.sqrt((x**2).sum(axis=1) * (y**2).sum(axis=1)))


def _rung_row(experiment: Experiment, rung: int, rng: np.random.Generator) -> dict[str, object]:
    values = rung_values(experiment)
    here = values[values["rung"] == rung]
    ended_here = experiment.trials[experiment.trials["epochs"] == rung]
    completed = here[here["state"] == TrialState.COMPLETED]
    best = completed.sort_values("score", kind="stable")["value"].iloc[-1] if len(completed) else None
    rho, low, high = _correlation(completed["value"].to_numpy(), completed["score"].to_numpy(), rng)
    return {
        "rung": rung,
        "reached": len(here),
        "stopped": int((ended_here["state"] == TrialState.STOPPED).sum()),
        "completed": len(completed),
        "rho": rho,
        "low": low,
        "high": high,
        "best_rank": None if best is None else 1 + int((here["value"] > best).sum()),
    }


def _correlation(
    values: NDArray[np.float64], scores: NDArray[np.float64], rng: np.random.Generator
) -> tuple[float, float, float]:
    """Spearman's rho and the percentile bootstrap of it."""
    if len(values) < MIN_COMPLETED:
        return float("nan"), float("nan"), float("nan")
    rho = float(spearman(values[None], scores[None])[0])
    if np.isnan(rho):
        return rho, rho, rho
    if len(values) > MOST_TRIALS:
        part = rng.choice(len(values), MOST_TRIALS, replace=False)
        values, scores = values[part], scores[part]
    draws = rng.integers(len(values), size=(RESAMPLES, len(values)))
    low, high = np.nanquantile(spearman(values[draws], scores[draws]), [0.025, 0.975])
    return rho, float(low), float(high)


def describe_rungs(experiment: Experiment, table: pd.DataFrame) -> str:
    """Correlation at the first rung, how close the best came to being stopped, and what was saved."""
    if table.empty:
        return "This search stopped no trial early (scheduler none), so there is nothing to judge."
    return " ".join([_describe_correlations(table), _describe_best(table), _describe_savings(experiment)])


def _describe_correlations(table: pd.DataFrame) -> str:
    known = table[table["rho"].notna()]
    if known.empty:
        return (
            f"Whether the rungs foretell the score cannot be said: that needs at least {MIN_COMPLETED} completed "
            f"trials with different values, and there are {table['completed'].max()}."
        )
    parts = [
        f"after epoch {row.rung} {row.rho:.2f} ({row.low:.2f} to {row.high:.2f}, n = {row.completed})"
        for row in rows(known)
    ]
    return (
        f"Rank correlation of the accuracy at a rung with the final score: {'; '.join(parts)}. "
        "Only completed trials have both, and those were let through, which lowers it."
    )


def _describe_best(table: pd.DataFrame) -> str:
    known = table[table["best_rank"].notna()]
    if known.empty:
        return ""
    places = [f"{row.best_rank} of {row.reached} at epoch {row.rung}" for row in rows(known)]
    return f"The trial that is best in the end was number {', '.join(places)}."


def _describe_savings(experiment: Experiment) -> str:
    saved = savings(experiment)
    share = saved["saved"] / max(1, saved["saved"] + saved["spent"])
    return (
        f"Stopping saved {count(saved['saved'], 'epoch')} ({percent(share)} of what the same trials would have taken "
        "in full). What the stopped trials would have scored is not known."
    )
