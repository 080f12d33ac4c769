"""Was early stopping right? What a rung's value says about the final score, what was missed, and what was saved.

Trials that were let through say little about those that were stopped. The audited ones, a random share of the stopped
that ran to the end all the same, stand for the others: each counts as many times as there are stopped trials for one
audited.
"""

from typing import NamedTuple

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from analysis.tables import rows
from analysis.trials import Experiment
from analysis.words import count, percent
from tune_experiments.early_stopping import SuccessiveHalving, gives_second_chances
from tune_experiments.ledger import TrialState

MIN_WHOLE = 5  # trials that ran to the end, for a correlation
RESAMPLES = 1000
MOST_TRIALS = 2000  # more do not narrow the interval by anything visible
Numbers = NDArray[np.float64]


class Estimate(NamedTuple):
    """A value with its 95 % interval; NaN where there is too little to say."""

    value: float
    low: float
    high: float


UNKNOWN = Estimate(float("nan"), float("nan"), float("nan"))


def ends(experiment: Experiment) -> pd.DataFrame:
    """The trials that ran to the end: `trial_id`, `end` (final accuracy), `audited`, `weight` (how many it stands for).

    An audited trial that diverged in its audit ends at 0. One that would pass its rung now, and so would have gone on
    after all, is no sample of the stopped ones and is left out.
    """
    stopped = _stopped(experiment)
    lost = stopped["state"].eq(TrialState.DIVERGED)
    audited = stopped.assign(end=stopped["audit_score"].mask(lost, 0.0), audited=True)
    audited = audited[audited["end"].notna()]
    audited["weight"] = len(stopped) / max(1, len(audited))
    completed = experiment.completed.assign(end=experiment.completed["score"], audited=False, weight=1.0)
    return pd.concat([completed, audited])[["trial_id", "end", "audited", "weight"]].reset_index(drop=True)


def _stopped(experiment: Experiment) -> pd.DataFrame:
    """The trials that were stopped for good, the audited ones among them."""
    trials = experiment.trials
    return trials[trials["stopped_at"].notna() & ~trials["trial_id"].isin(_would_go_on(experiment))]


def _would_go_on(experiment: Experiment) -> set[str]:
    """The stopped trials that would pass their rung now, given all that were judged there."""
    if not gives_second_chances(experiment.plan["search"]["scheduler"]):
        return set()
    epochs = experiment.epochs.merge(experiment.trials[["trial_id", "stopped_at"]], on="trial_id")
    halving = SuccessiveHalving(experiment.rungs, experiment.plan["search"]["reduction_factor"])
    at_rungs = epochs[epochs["epoch"].isin(experiment.rungs)]
    judged = at_rungs[~(at_rungs["epoch"] > at_rungs["stopped_at"].astype("float64"))]
    for trial_id, epoch, value in judged[["trial_id", "epoch", experiment.rung_column]].itertuples(index=False):
        halving.record(trial_id, epoch, value)
    last = judged[judged["epoch"] == judged["stopped_at"]].set_index("trial_id")["epoch"]
    reached = {level: halving.reached(level) for level in halving.levels}
    return {str(trial_id) for trial_id, epoch in last.items() if trial_id in reached[epoch]}


def rung_values(experiment: Experiment) -> pd.DataFrame:
    """`trial_id`, `rung`, `value` (what the rung looked at), `state`, `stopped_at`, and the columns of `ends`.

    One row for each trial that was judged at a rung; `end` is NaN where it is not known.
    """
    at_rungs = experiment.epochs[experiment.epochs["epoch"].isin(experiment.rungs)]
    values = at_rungs[["trial_id"]].assign(rung=at_rungs["epoch"], value=at_rungs[experiment.rung_column])
    trials = experiment.trials[["trial_id", "state", "stopped_at"]]
    values = values.merge(trials, on="trial_id").merge(ends(experiment), on="trial_id", how="left")
    return values[~(values["rung"] > values["stopped_at"].astype("float64"))].reset_index(drop=True)


def rung_table(experiment: Experiment, seed: int = 0) -> pd.DataFrame:
    """One row per rung.

    Columns: `rung` (epoch), `reached`, `stopped` (trials), `whole` (those judged there of which the end is known) and
    `audited` (of these, stopped there or later and run on), `rho`, Spearman's rank correlation of the value at the rung
    with the final accuracy, its bootstrap 95 % interval `low` to `high` (NaN below `MIN_WHOLE` such trials), and
    `best_rank`, the place among all that were judged at the rung of the trial that is best in the end (None where none
    is known).
    """
    values = rung_values(experiment)
    table = [_rung_row(values, rung, np.random.default_rng((seed, rung))) for rung in experiment.rungs]
    columns = ["rung", "reached", "stopped", "whole", "audited", "rho", "low", "high", "best_rank"]
    return pd.DataFrame(table, columns=columns).astype({"best_rank": "Int64"})


def _rung_row(values: pd.DataFrame, rung: int, rng: np.random.Generator) -> dict[str, object]:
    here = values[values["rung"] == rung]
    whole = here[here["end"].notna()]
    best = whole.sort_values("end", kind="stable")["value"].iloc[-1] if len(whole) else None
    value, end, weight = (whole[name].to_numpy(np.float64) for name in ("value", "end", "weight"))
    rho = _correlation(value, end, weight, rng)
    return {
        "rung": rung,
        "reached": len(here),
        "stopped": int((here["stopped_at"] == rung).sum()),
        "whole": len(whole),
        "audited": int(whole["audited"].sum()),
        "rho": rho.value,
        "low": rho.low,
        "high": rho.high,
        "best_rank": None if best is None else 1 + int((here["value"] > best).sum()),
    }


def _correlation(values: Numbers, scores: Numbers, weights: Numbers, rng: np.random.Generator) -> Estimate:
    """Spearman's rho, and the percentile bootstrap of it over trials."""
    if len(values) > MOST_TRIALS:
        part = rng.choice(len(values), MOST_TRIALS, replace=False)
        values, scores, weights = values[part], scores[part], weights[part]
    if len(values) < MIN_WHOLE or np.isnan(spearman(values, scores, weights)):
        return UNKNOWN
    x, y = weighted_ranks(values, weights), weighted_ranks(scores, weights)
    draws = rng.integers(len(values), size=(RESAMPLES, len(values)))
    low, high = np.nanquantile(_correlate(x[draws], y[draws], weights[draws]), [0.025, 0.975])
    return Estimate(spearman(values, scores, weights), float(low), float(high))


def spearman(left: Numbers, right: Numbers, weights: Numbers) -> float:
    """Rank correlation of two float64 (N,), each element counting `weights` times; NaN where one is constant."""
    return float(_correlate(weighted_ranks(left, weights), weighted_ranks(right, weights), weights))


def weighted_ranks(values: Numbers, weights: Numbers) -> Numbers:
    """Ranks of float64 (N,), as if each element stood there `weights` times; ties share their mean rank."""
    _, places = np.unique(values, return_inverse=True)
    mass = np.bincount(places, weights)
    return np.asarray((np.cumsum(mass) - mass / 2)[places])


def _correlate(x: Numbers, y: Numbers, weights: Numbers) -> Numbers:
    """Weighted Pearson correlation along the last axis."""
    total = weights.sum(-1, keepdims=True)
    x, y = (side - (weights * side).sum(-1, keepdims=True) / total for side in (x, y))
    with np.errstate(invalid="ignore", divide="ignore"):
        return np.asarray((weights * x * y).sum(-1) / np.sqrt((weights * x**2).sum(-1) * (weights * y**2).sum(-1)))


class Missed(NamedTuple):
    """What the audit says about the stopped trials. Without an audited one, nothing is known."""

    stopped: int
    audited: int
    better: int  # of the audited, those that ended above the best completed trial
    best: float  # the best end of an audited trial, NaN without one
    chance: Estimate  # that any stopped trial would have ended above the best completed one


def missed(experiment: Experiment) -> Missed:
    """The chance that the best was stopped, from the audited trials.

    The share p of stopped trials that would have beaten the best completed one has, after `better` of `audited` did,
    Jeffreys' Beta(better + 1/2, audited - better + 1/2) distribution; that at least one of the others would have is
    1 - (1 - p)^others. The interval is that of p carried through; the chance is 1 where one is known to have beaten it.
    """
    from scipy.stats import beta

    whole = ends(experiment)
    audits = whole.loc[whole["audited"], "end"]
    stopped, audited = len(_stopped(experiment)), len(audits)
    better = int((audits > experiment.completed["score"].max()).sum())
    chance = UNKNOWN
    if better:
        chance = Estimate(1.0, 1.0, 1.0)
    elif audited and len(experiment.completed):
        posterior, others = beta(0.5, audited + 0.5), stopped - audited
        low, high = (1 - (1 - posterior.ppf(q)) ** others for q in (0.025, 0.975))
        none_better = float(np.prod(1 - 0.5 / (audited + 1 + np.arange(others))))  # E[(1 - p)^others]
        chance = Estimate(1 - none_better, float(low), float(high))
    return Missed(stopped, audited, better, float(audits.max()) if audited else float("nan"), chance)


class Savings(NamedTuple):
    """Epochs of the search."""

    spent: int
    saved: int  # that the stopped trials did not run
    audit: int  # of those spent, for the audit
    share: Estimate  # saved, of what the same trials would have taken in full


def savings(experiment: Experiment, seed: int = 0) -> Savings:
    """What stopping saved; the interval, by bootstrap over trials, is for another search of this kind."""
    trials, whole = experiment.trials, experiment.schedule_epochs
    stopped = trials["state"] == TrialState.STOPPED
    saved = np.where(stopped, whole - trials["epochs"], 0).astype(np.float64)
    full = (trials["epochs"] + saved).to_numpy(np.float64)
    audit = (trials["epochs"] - trials["stopped_at"].astype("float64")).sum()
    share = UNKNOWN
    if full.sum():
        draws = np.random.default_rng(seed).integers(len(trials), size=(RESAMPLES, min(len(trials), MOST_TRIALS)))
        low, high = np.quantile(saved[draws].sum(1) / np.maximum(1, full[draws].sum(1)), [0.025, 0.975])
        share = Estimate(float(saved.sum() / full.sum()), float(low), float(high))
    return Savings(len(experiment.epochs), int(saved.sum()), int(audit), share)


def describe_rungs(experiment: Experiment, table: pd.DataFrame) -> list[str]:
    """What the rungs foretold, what was missed, how close the best came to being stopped, and what was saved."""
    if table.empty:
        return ["This search stopped no trial early, so there is nothing to judge."]
    sentences = [_describe_correlations(table), _describe_missed(missed(experiment)), _describe_best(table)]
    return [*filter(None, sentences), _describe_savings(savings(experiment))]


def _describe_correlations(table: pd.DataFrame) -> str:
    known = table[table["rho"].notna()]
    if known.empty:
        return (
            f"Whether the rungs foretell the score cannot be said: that needs at least {MIN_WHOLE} trials that ran to "
            f"the end with different values, and there are {table['whole'].max()}."
        )
    parts = [
        f"after epoch {row.rung} {row.rho:.2f} ({row.low:.2f} to {row.high:.2f}, n = {row.whole}, "
        f"{row.audited} of them audited)"
        for row in rows(known)
    ]
    caveat = "" if known["audited"].any() else " Without an audit, only trials that were let through have both."
    return f"Rank correlation of the value at a rung with the final accuracy: {'; '.join(parts)}.{caveat}"


def _describe_missed(found: Missed) -> str:
    if not found.stopped:
        return "No trial was stopped."
    if not found.audited:
        return "What the stopped trials would have scored is not known: none of them was audited (--audit)."
    ran = f"{found.audited} of {count(found.stopped, 'stopped trial')} ran to the end for the audit"
    if found.better:
        return f"{ran}, and {found.better} of them ended above the best completed trial: stopping missed the best."
    if np.isnan(found.chance.value):
        return f"{ran}."
    return (
        f"{ran}, none of them above the best completed trial; the best of them ended at {percent(found.best)}. From "
        f"that, the chance that any stopped trial would have been the best is {percent(found.chance.value)} "
        f"({percent(found.chance.low)} to {percent(found.chance.high)}; n = {found.audited})."
    )


def _describe_best(table: pd.DataFrame) -> str:
    known = table[table["best_rank"].notna()]
    if known.empty:
        return ""
    places = [f"{row.best_rank} of {row.reached} at epoch {row.rung}" for row in rows(known)]
    return f"The trial that is best in the end was number {', '.join(places)}."


def _describe_savings(found: Savings) -> str:
    audit = f"; {count(found.audit, 'epoch')} went into the audit" if found.audit else ""
    share = f"{percent(found.share.value)}, {percent(found.share.low)} to {percent(found.share.high)}"
    return (
        f"Stopping saved {count(found.saved, 'epoch')} of what the same trials would have taken in full "
        f"({share} in another search like it){audit}."
    )
