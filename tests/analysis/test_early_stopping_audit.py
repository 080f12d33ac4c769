import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy.stats import spearmanr

from analysis.early_stopping_audit import (
    describe_rungs,
    ends,
    missed,
    rung_table,
    rung_values,
    savings,
    spearman,
    weighted_ranks,
)
from analysis.trials import Experiment
from tests.analysis.by_hand import COMPLETED, STOPPED, experiment_of, four_trials
from tests.tune_experiments.made_up import ended_trial
from tune_experiments.ledger import Trial, TrialState
from tune_experiments.search_space import Setting


def audited_trial(trial_id: str, *accuracies: float, state: TrialState = STOPPED) -> Trial:
    """Behind at epoch 2, and run to its end at epoch 4."""
    trial = ended_trial(trial_id, state, *accuracies, setting=Setting(0.03, 0.1, 1))
    trial.stopped_at = 2
    return trial


def audited_search(audited_end: float = 0.6, stopped: int = 8) -> Experiment:
    """Two completed trials, at 0.7 and 0.8; so many stopped at epoch 2, two of which were audited."""
    trials = [
        ended_trial("00000", COMPLETED, 0.3, 0.6, 0.65, 0.7),
        ended_trial("00001", COMPLETED, 0.2, 0.5, 0.7, 0.8, setting=Setting(0.1, 0.01, 3)),
        audited_trial("00002", 0.1, 0.4, 0.5, audited_end),
        audited_trial("00003", 0.1, 0.3, 0.4, 0.5),
        *(ended_trial(f"{4 + n:05d}", STOPPED, 0.1, 0.2 + 0.01 * n) for n in range(stopped - 2)),
    ]
    return experiment_of(trials)


def test_a_rung_by_hand() -> None:
    row = rung_table(four_trials()).iloc[0]
    assert (row["rung"], row["reached"], row["stopped"], row["whole"], row["audited"]) == (2, 3, 1, 2, 0)
    assert row["best_rank"] == 2
    assert rung_table(four_trials())["rho"].isna().all()  # two completed trials


def test_audited_trials_stand_for_the_stopped_ones() -> None:
    table = ends(audited_search())
    assert table["end"].tolist() == [0.7, 0.8, 0.6, 0.5]
    assert table["weight"].tolist() == [1, 1, 4, 4]
    row = rung_table(audited_search()).iloc[0]
    assert (row["reached"], row["stopped"], row["whole"], row["audited"]) == (10, 8, 4, 2)


def test_what_an_audited_trial_did_after_it_was_stopped_is_at_no_rung() -> None:
    experiment = experiment_of([ended_trial("00000", COMPLETED, *[0.5] * 8), audited_trial("00001", *[0.4] * 8)], 8)
    values = rung_values(experiment)
    assert values.groupby("rung")["trial_id"].apply(list).to_dict() == {2: ["00000", "00001"], 4: ["00000"]}


def test_an_audit_that_diverged_ended_at_nothing() -> None:
    trial = audited_trial("00001", 0.1, 0.4, state=TrialState.DIVERGED)
    experiment = experiment_of([ended_trial("00000", COMPLETED, 0.3, 0.6, 0.65, 0.7), trial])
    assert ends(experiment)["end"].tolist() == [0.7, 0.0]
    assert missed(experiment).audited == 1


def test_the_chance_that_the_best_was_stopped_by_hand() -> None:
    """None of 2 audited beat the best: p of the other 6 has density Beta(0.5, 2.5)."""
    found = missed(audited_search())
    assert (found.stopped, found.audited, found.better, found.best) == (8, 2, 0, 0.6)
    draws = 1 - (1 - np.random.default_rng(0).beta(0.5, 2.5, 200_000)) ** 6
    assert found.chance.value == pytest.approx(draws.mean(), abs=0.005)
    assert (found.chance.low, found.chance.high) == pytest.approx(tuple(np.quantile(draws, [0.025, 0.975])), abs=0.005)


def test_an_audited_trial_that_beat_the_best_settles_it() -> None:
    found = missed(audited_search(audited_end=0.9))
    assert (found.better, found.chance.value) == (1, 1.0)
    assert "1 of them ended above" in " ".join(describe_rungs(audited_search(0.9), rung_table(audited_search(0.9))))


def test_where_every_stopped_trial_was_audited_nothing_is_left_to_chance() -> None:
    assert missed(audited_search(stopped=2)).chance == (0.0, 0.0, 0.0)


def test_without_an_audit_nothing_is_known_of_the_stopped() -> None:
    found = missed(four_trials())
    assert (found.stopped, found.audited) == (1, 0) and np.isnan(found.chance.value)
    assert "not known: none of them was audited" in " ".join(describe_rungs(four_trials(), rung_table(four_trials())))


def test_epochs_spent_and_saved() -> None:
    found = savings(four_trials())
    assert (found.spent, found.saved, found.audit) == (4 + 4 + 2 + 1, 2, 0)
    assert found.share.value == 2 / (4 + 4 + 4 + 1)
    assert found.share.low <= found.share.value <= found.share.high
    assert savings(audited_search()).audit == 4


def test_correlation_of_rung_and_score() -> None:
    accuracies = [(0.1, 0.5), (0.2, 0.6), (0.3, 0.55), (0.4, 0.7), (0.5, 0.8), (0.6, 0.9)]
    trials = [ended_trial(f"{n:05d}", COMPLETED, 0, rung, 0, end) for n, (rung, end) in enumerate(accuracies)]
    experiment = experiment_of(trials)
    row = rung_table(experiment).iloc[0]
    assert row["rho"] == pytest.approx(1 - 6 * 2 / (6 * 35))  # two neighbours swapped
    assert row["low"] <= row["rho"] <= row["high"] <= 1
    assert "after epoch 2 0.94" in describe_rungs(experiment, rung_table(experiment))[0]


def test_spearman_is_scipys_ties_included() -> None:
    rng = np.random.default_rng(0)
    left, right = rng.integers(0, 8, 40).astype(float), rng.normal(size=40)
    assert spearman(left, right, np.ones(40)) == pytest.approx(spearmanr(left, right).statistic)
    assert np.isnan(spearman(np.ones(40), right, np.ones(40)))


@given(st.lists(st.tuples(st.integers(0, 5), st.integers(0, 5), st.integers(1, 4)), min_size=3, max_size=12))
def test_a_weight_counts_an_element_that_many_times(elements: list[tuple[int, int, int]]) -> None:
    left, right, weights = np.array(elements, float).T
    times = weights.astype(int)
    often = spearman(np.repeat(left, times), np.repeat(right, times), np.ones(times.sum()))
    assert spearman(left, right, weights) == pytest.approx(often, nan_ok=True)
    assert weighted_ranks(left, weights).tolist() == (
        weighted_ranks(np.repeat(left, times), np.ones(times.sum()))[np.cumsum(times) - 1].tolist()
    )


def test_what_is_said_of_a_real_folder(experiment: Experiment) -> None:
    table = rung_table(experiment)
    assert table["rung"].tolist() == [2, 4, 8]
    assert table["reached"].is_monotonic_decreasing
    assert table["stopped"].sum() == (experiment.trials["state"] == "stopped").sum()
    assert f"Stopping saved {savings(experiment).saved} epochs" in describe_rungs(experiment, table)[-1]


def test_without_early_stopping_there_is_nothing_to_judge() -> None:
    experiment = four_trials()
    experiment.plan["search"]["scheduler"] = "none"
    assert "nothing to judge" in describe_rungs(experiment, rung_table(experiment))[0]
