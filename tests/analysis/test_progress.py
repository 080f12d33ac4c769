import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from analysis.progress import describe_progress, expected_best, progress, stop_points
from analysis.trials import Experiment
from tests.analysis.by_hand import COMPLETED, experiment_of, four_trials
from tests.tune_experiments.made_up import ended_trial


def test_best_so_far_of_a_search(experiment: Experiment) -> None:
    table = progress(experiment)
    assert table["epochs"].tolist() == list(range(1, len(experiment.epochs) + 1))
    assert table["trial_seconds"].iloc[-1] == pytest.approx(experiment.epochs["seconds"].sum())
    assert table["best"].iloc[-1] == experiment.trials["score"].max()
    assert table["best"].dropna().is_monotonic_increasing
    assert table["best"].first_valid_index() == 16  # two slots: the reference's ninth epoch is the 17th in all


def test_elapsed_counts_from_the_start_of_the_first_epoch() -> None:
    table = progress(experiment_of([ended_trial("00000", COMPLETED, 0.1, 0.2, 0.3, 0.4)]))
    assert table["elapsed"].tolist() == [2, 12, 22, 32]  # of 2 s each, reported every 10 s
    assert table["best"].isna().tolist() == [True, True, True, False]
    assert table["random_low"].isna().all()  # one score says nothing about others


def test_expected_best_by_hand() -> None:
    scores = np.array([0.5, 0.7, 0.6])
    assert expected_best(scores, np.array([0.5])) == pytest.approx([np.nan], nan_ok=True)
    assert expected_best(scores, np.array([1.0, 2.0])) == pytest.approx(
        [0.6, (0.5 * 1 + 0.6 * 3 + 0.7 * 5) / 9], abs=1e-6
    )
    assert expected_best(scores, np.array([1000.0])) == pytest.approx([0.7])


@given(st.lists(st.floats(0, 1), min_size=1, max_size=20), st.integers(1, 50))
def test_expected_best_rises_and_stays_within_the_scores(scores: list[float], draws: int) -> None:
    curve = expected_best(np.array(scores), np.arange(1.0, draws + 1))
    assert (np.diff(curve) >= -1e-12).all()
    assert min(scores) - 1e-12 <= curve[0] and curve[-1] <= max(scores) + 1e-12


def test_random_search_lies_between_what_the_stopped_ones_had_and_leaving_them_out(experiment: Experiment) -> None:
    table = progress(experiment).dropna()
    assert (table["random_low"] <= table["random_high"]).all()
    assert "Random search over the same settings" in describe_progress(experiment, table)


def test_stop_points_are_the_last_epochs_of_stopped_trials() -> None:
    points = stop_points(four_trials())
    assert points[["trial_id", "epoch", "val_accuracy"]].to_numpy().tolist() == [["00002", 2, 0.4]]
