from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from tests.tune_experiments.made_up import ended_trial
from tune_experiments.ledger import Trial, TrialState
from tune_experiments.records import epochs_frame, leaderboard, trials_frame
from tune_experiments.search_space import Setting

TRIALS = [
    ended_trial("00000", TrialState.COMPLETED, 0.2, 0.6),
    ended_trial("00001", TrialState.STOPPED, 0.99),
    ended_trial("00002", TrialState.COMPLETED, 0.3, 0.8),
    ended_trial("00003", TrialState.DIVERGED, 0.9),
    ended_trial("00004", TrialState.FAILED, 0.95),
    ended_trial("00005", TrialState.RUNNING, 0.97),
    Trial("00006", Setting(0.1, 1e-3, 3)),
    ended_trial("00007", TrialState.COMPLETED, 0.4, 0.6),
    ended_trial("00008", TrialState.STOPPED, 0.1, 0.2),
    ended_trial("00009", TrialState.STOPPED, 0.98),
]
MANY_OR_NONE = [[], [Trial("00000", Setting(0.1, 1e-3, 3))], TRIALS[1:2], TRIALS[:1], TRIALS]


@pytest.mark.parametrize("trials", MANY_OR_NONE)
def test_types_of_the_columns_do_not_depend_on_what_happened(trials: list[Trial]) -> None:
    text, real, whole = pd.Series(["text"]).dtype, np.dtype("float64"), np.dtype("int64")
    assert trials_frame(trials).dtypes.to_dict() == {
        "trial_id": text, "max_lr": real, "l1_factor": real, "peak_epoch": whole, "state": text, "score": real,
        "epochs": whole, "seconds": real, "last_val_accuracy": real, "last_val_loss": real, "started_at": real,
        "ended_at": real, "reason": text, "stopped_at": pd.Int64Dtype(), "audit_score": real,
        "second_chances": whole,
    }  # fmt: skip
    assert epochs_frame(trials).dtypes.to_dict() == {
        "trial_id": text, "epoch": whole, "train_loss": real, "train_accuracy": real, "val_loss": real,
        "val_accuracy": real, "lr": real, "momentum": real, "l1": real, "seconds": real,
        "ema_val_loss": real, "ema_val_accuracy": real, "finished_at": real, "worker": text,
    }  # fmt: skip
    assert leaderboard(trials).dtypes.to_dict() == {
        "rank": pd.Int64Dtype(), "trial_id": text, "max_lr": real, "l1_factor": real, "peak_epoch": whole,
        "state": text, "score": real, "epochs": whole, "seconds": real, "last_val_accuracy": real,
        "is_seed_setting": np.dtype("bool"),
    }  # fmt: skip


@pytest.mark.parametrize("trials", MANY_OR_NONE)
def test_tables_survive_parquet(trials: list[Trial], tmp_path: Path) -> None:
    for table in (trials_frame(trials), epochs_frame(trials)):
        table.to_parquet(tmp_path / "table.parquet", index=False)
        pd.testing.assert_frame_equal(pd.read_parquet(tmp_path / "table.parquet"), table, check_exact=True)


def test_one_row_per_trial_in_order_of_proposal() -> None:
    table = trials_frame(TRIALS).set_index("trial_id")
    assert list(table.index) == [trial.trial_id for trial in TRIALS]
    assert list(table["state"]) == [trial.state.value for trial in TRIALS]
    assert list(table["epochs"]) == [2, 1, 2, 2, 1, 1, 0, 2, 2, 1]
    row = table.loc["00002"]
    assert row["seconds"] == 4.0
    assert (row["started_at"], row["ended_at"]) == (1008.0, 1020.0)
    assert (row["last_val_accuracy"], row["last_val_loss"]) == (0.8, 1.1)


def test_only_completed_trials_have_a_score_and_only_ended_ones_an_end() -> None:
    table = trials_frame(TRIALS).set_index("trial_id")
    assert table["score"].dropna().to_dict() == {"00000": 0.6, "00002": 0.8, "00007": 0.6}
    assert list(table.index[table["ended_at"].isna()]) == ["00005", "00006"]
    assert list(table.index[table["started_at"].isna()]) == ["00006"]
    assert table["last_val_accuracy"].isna()["00003"]


def test_an_audited_trial_is_running_and_then_stopped_with_its_score_apart() -> None:
    trial = ended_trial("00000", TrialState.AUDITED, 0.3, 0.4, 0.9)
    trial.stopped_at = 1
    row = trials_frame([trial]).iloc[0]
    assert (row["state"], row["stopped_at"], row["epochs"]) == ("running", 1, 3) and np.isnan(row["audit_score"])
    trial.state = TrialState.STOPPED
    row = trials_frame([trial]).iloc[0]
    assert (row["state"], row["audit_score"]) == ("stopped", 0.9) and np.isnan(row["score"])


def test_one_row_per_trial_and_epoch() -> None:
    table = epochs_frame(TRIALS)
    assert len(table) == sum(len(trial.epochs) for trial in TRIALS)
    assert table.loc[table["trial_id"] == "00008", ["epoch", "val_accuracy", "finished_at"]].to_numpy().tolist() == [
        [1, 0.1, 1010.0],
        [2, 0.2, 1020.0],
    ]


def test_leaderboard_ranks_completed_trials_alone() -> None:
    board = leaderboard(TRIALS)
    assert list(board["trial_id"][:3]) == ["00002", "00000", "00007"]  # of two equal ones the earlier
    assert list(board["rank"][:3]) == [1, 2, 3]
    assert board["rank"][3:].isna().all()
    assert list(board["state"][3:]) == ["running", "pending", *["stopped"] * 3, "diverged", "failed"]


def test_leaderboard_puts_who_got_further_first_among_the_stopped() -> None:
    board = leaderboard(TRIALS)
    assert list(board.loc[board["state"] == "stopped", "trial_id"]) == ["00008", "00001", "00009"]


def test_leaderboard_marks_the_seeds_setting_wherever_it_is() -> None:
    board = leaderboard(TRIALS)
    assert list(board.loc[board["is_seed_setting"], "trial_id"]) == ["00000"]
