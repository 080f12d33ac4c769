"""The ledger as tables. Imports neither Ray nor torch."""

from collections.abc import Sequence
from dataclasses import asdict

import pandas as pd

from tune_experiments.ledger import Trial, TrialState

TRIAL_COLUMNS = {
    "trial_id": "str", "max_lr": "float64", "l1_factor": "float64", "peak_epoch": "int64", "state": "str",
    "score": "float64", "epochs": "int64", "seconds": "float64", "last_val_accuracy": "float64",
    "last_val_loss": "float64", "started_at": "float64", "ended_at": "float64", "reason": "str",
}  # fmt: skip
EPOCH_COLUMNS = {
    "trial_id": "str", "epoch": "int64", "train_loss": "float64", "train_accuracy": "float64", "val_loss": "float64",
    "val_accuracy": "float64", "lr": "float64", "momentum": "float64", "l1": "float64", "seconds": "float64",
    "finished_at": "float64", "worker": "str",
}  # fmt: skip
LEADERBOARD_COLUMNS = ["rank", *list(TRIAL_COLUMNS)[:9], "is_seed_setting"]
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
        {"trial_id": trial.trial_id, **asdict(metrics), "finished_at": finished_at, "worker": worker}
        for trial in trials
        for metrics, finished_at, worker in zip(trial.epochs, trial.finished_at, trial.workers, strict=True)
    ]
    return _frame(rows, EPOCH_COLUMNS)


def leaderboard(trials: Sequence[Trial]) -> pd.DataFrame:
    """Trials, best first. Only completed ones have a rank: a stopped trial is never compared with them.

    Among the others, those that got further come first, then those with the better last validation accuracy.
    `is_seed_setting` marks the first trial.
    """
    frame = trials_frame(trials)
    frame["is_seed_setting"] = frame.index == 0
    frame["state_order"] = frame["state"].map({state.value: order for order, state in enumerate(STATE_ORDER)})
    keys = ["state_order", "epochs", "score", "last_val_accuracy", "trial_id"]
    frame = frame.sort_values(keys, ascending=[True, False, False, False, True], ignore_index=True)
    completed = frame["state"] == TrialState.COMPLETED.value
    frame.insert(0, "rank", pd.Series(range(1, len(frame) + 1), dtype="Int64").where(completed))
    return frame[LEADERBOARD_COLUMNS]


def _frame(rows: Sequence[dict[str, object]], columns: dict[str, str]) -> pd.DataFrame:
    """Rows as a table whose types do not depend on the values that happen to be there."""
    return pd.DataFrame(rows, columns=list(columns)).astype(columns)


def _trial_row(trial: Trial) -> dict[str, object]:
    last = trial.epochs[-1] if trial.epochs else None
    return {
        "trial_id": trial.trial_id,
        **asdict(trial.setting),
        "state": trial.state.value,
        "score": trial.score,
        "epochs": len(trial.epochs),
        "seconds": sum(metrics.seconds for metrics in trial.epochs),
        "last_val_accuracy": last and last.val_accuracy,
        "last_val_loss": last and last.val_loss,
        "started_at": trial.finished_at[0] - trial.epochs[0].seconds if last else None,
        "ended_at": trial.finished_at[-1] if last and trial.ended else None,
        "reason": trial.reason,
    }
