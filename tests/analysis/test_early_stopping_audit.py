import numpy as np
import pytest
from scipy.stats import spearmanr

from analysis.early_stopping_audit import describe_rungs, rung_table, savings, spearman
from analysis.trials import Experiment
from tests.analysis.by_hand import COMPLETED, experiment_of, four_trials
from tests.tune_experiments.made_up import ended_trial


def test_a_rung_by_hand() -> None:
    row = rung_table(four_trials()).iloc[0]
    assert (row["rung"], row["reached"], row["stopped"], row["completed"]) == (2, 3, 1, 2)
    assert row["best_rank"] == 2
    assert rung_table(four_trials())["rho"].isna().all()  # two completed trials


def test_epochs_spent_and_saved() -> None:
    assert savings(four_trials()) == {"spent": 4 + 4 + 2 + 1, "saved": 2}


def test_correlation_of_rung_and_score() -> None:
    accuracies = [(0.1, 0.5), (0.2, 0.6), (0.3, 0.55), (0.4, 0.7), (0.5, 0.8), (0.6, 0.9)]
    trials = [ended_trial(f"{n:05d}", COMPLETED, 0, rung, 0, end) for n, (rung, end) in enumerate(accuracies)]
    experiment = experiment_of(trials)
    row = rung_table(experiment).iloc[0]
    assert row["rho"] == pytest.approx(1 - 6 * 2 / (6 * 35))  # two neighbours swapped
    assert row["low"] <= row["rho"] <= row["high"] <= 1
    assert "after epoch 2 0.94" in describe_rungs(experiment, rung_table(experiment))


def test_spearman_is_scipys_ties_included() -> None:
    rng = np.random.default_rng(0)
    left, right = rng.integers(0, 8, 40).astype(float), rng.normal(size=40)
    rows = spearman(np.stack([left, np.ones(40)]), np.stack([right, right]))
    assert rows == pytest.approx([spearmanr(left, right).statistic, np.nan], nan_ok=True)


def test_what_is_said_of_a_real_folder(experiment: Experiment) -> None:
    table = rung_table(experiment)
    assert table["rung"].tolist() == [2, 4, 8]
    assert table["reached"].is_monotonic_decreasing
    assert table["stopped"].sum() == (experiment.trials["state"] == "stopped").sum()
    assert f"Stopping saved {savings(experiment)['saved']} epochs" in describe_rungs(experiment, table)


def test_without_early_stopping_there_is_nothing_to_judge() -> None:
    experiment = four_trials()
    experiment.plan["search"]["scheduler"] = "none"
    assert "nothing to judge" in describe_rungs(experiment, rung_table(experiment))
