"""The ledger as tables. Imports neither Ray nor torch."""

from collections.abc import Sequence

import pandas as pd

from tune_experiments.ledger import Trial, TrialState
from tune_experiments.verdict import Verdict

TRIAL_COLUMNS = {
    "trial_id": "str", "max_lr": "float64", "l1_factor": "float64", "peak_epoch": "int64", "state": "str",
    "score": "float64", "epochs": "int64", "seconds": "float64", "last_val_accuracy": "float64",
    "last_val_loss": "float64", "started_at": "float64", "ended_at": "float64", "reason": "str",
    "stopped_at": "Int64", "audit_score": "float64", "second_chances": "int64",
}  # fmt: skip
EPOCH_COLUMNS = {
    "trial_id": "str", "epoch": "int64", "train_loss": "float64", "train_accuracy": "float64", "val_loss": "float64",
    "val_accuracy": "float64", "lr": "float64", "momentum": "float64", "l1": "float64", "seconds": "float64",
    "ema_val_loss": "float64", "ema_val_accuracy": "float64", "finished_at": "float64", "worker": "str",
}  # fmt: skip
CONFIRMED_COLUMNS = ["confirmed_mean", "confirmed_low", "confirmed_high", "confirm_seeds"]
LEADERBOARD_COLUMNS = [
    "rank", "trial_id", "max_lr", "l1_factor", "peak_epoch", "state", *CONFIRMED_COLUMNS, "score", "epochs", "seconds",
    "last_val_accuracy", "is_seed_setting",
]  # fmt: skip
STATE_ORDER = [
    TrialState.COMPLETED,
    TrialState.RUNNING,
    TrialState.PENDING,
    TrialState.STOPPED,
    TrialState.DIVERGED,
    TrialState.FAILED,
]


def trials_frame(trials: Sequence[Trial]) -> pd.DataFrame:
    """One row per trial, in order of proposal; no `score` unless the trial completed; times in Unix seconds."""
    return _frame([_trial_row(trial) for trial in trials], TRIAL_COLUMNS)


def epochs_frame(trials: Sequence[Trial]) -> pd.DataFrame:
    """One row per trial and finished epoch."""
    rows = [
        {"trial_id": trial.trial_id, **vars(metrics), "finished_at": finished_at, "worker": worker}
        for trial in trials
        for metrics, finished_at, worker in zip(trial.epochs, trial.finished_at, trial.workers, strict=True)
    ]
    return _frame(rows, EPOCH_COLUMNS)


def leaderboard(trials: Sequence[Trial], verdict: Verdict | None = None) -> pd.DataFrame:
    """`LEADERBOARD_COLUMNS` of the trials, best first; those of a confirmation only where there is one."""
    return ranked(trials_frame(trials), verdict).filter(items=LEADERBOARD_COLUMNS)


def ranked(trials: pd.DataFrame, verdict: Verdict | None = None) -> pd.DataFrame:
    """The rows of `trials_frame`, best first, with `rank` and `is_seed_setting`, which marks the first trial.

    Settings that were confirmed with fresh seeds come first, by their mean, then completed trials by score. Only these
    have a rank: a stopped trial is never compared with them. Among the others, those that got further come first, then
    those with the better last validation accuracy. A verdict adds `CONFIRMED_COLUMNS`: mean and interval over the
    seeds, and how many of the runs completed.
    """
    frame = trials.assign(is_seed_setting=trials.index == 0).merge(_confirmed_frame(verdict), on="trial_id", how="left")
    order = frame["state"].map({state.value: place for place, state in enumerate(STATE_ORDER)})
    frame["order"] = order.where(frame["confirmed_mean"].isna(), -1)
    keys = {"order": True, "confirmed_mean": False, "epochs": False, "score": False, "last_val_accuracy": False}
    frame = frame.sort_values([*keys, "trial_id"], ascending=[*keys.values(), True], ignore_index=True)
    frame.insert(0, "rank", pd.Series(range(1, len(frame) + 1), dtype="Int64").where(frame["order"] <= 0))
    return frame.drop(columns=["order"] if verdict else ["order", *CONFIRMED_COLUMNS])


def _confirmed_frame(verdict: Verdict | None) -> pd.DataFrame:
    """A row for each finalist, without a mean where one of its runs is missing."""
    rows = [
        [one.trial_id, one.mean, one.low, one.high, sum(value is not None for value in one.val_accuracy)]
        for one in (verdict.settings if verdict else [])
    ]
    types = {"trial_id": "str"} | dict.fromkeys(CONFIRMED_COLUMNS[:3], "float64") | {"confirm_seeds": "Int64"}
    return pd.DataFrame(rows, columns=list(types)).astype(types)


def _frame(rows: Sequence[dict[str, object]], columns: dict[str, str]) -> pd.DataFrame:
    """Rows as a table whose types do not depend on the values that happen to be there."""
    return pd.DataFrame(rows, columns=list(columns)).astype(columns)


def _trial_row(trial: Trial) -> dict[str, object]:
    last = trial.epochs[-1] if trial.epochs else None
    return {
        "trial_id": trial.trial_id,
        **vars(trial.setting),
        "state": TrialState.RUNNING.value if trial.state is TrialState.AUDITED else trial.state.value,
        "score": trial.score,
        "epochs": len(trial.epochs),
        "seconds": sum(metrics.seconds for metrics in trial.epochs),
        "last_val_accuracy": last and last.val_accuracy,
        "last_val_loss": last and last.val_loss,
        "started_at": trial.finished_at[0] - trial.epochs[0].seconds if last else None,
        "ended_at": trial.finished_at[-1] if last and trial.ended else None,
        "reason": trial.reason,
        "stopped_at": trial.stopped_at,
        "audit_score": trial.audit_score,
        "second_chances": trial.second_chances,
    }
