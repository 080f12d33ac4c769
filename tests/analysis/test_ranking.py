from dataclasses import replace
from pathlib import Path

import pytest
from pandas.testing import assert_frame_equal

from analysis.ranking import describe_ranking, describe_top, rank_trials, top_settings
from analysis.trials import Experiment, read_experiment
from tests.analysis.by_hand import COMPLETED, STOPPED, experiment_of, four_trials
from tests.analysis.folders import PLAN, add_confirmation, make_experiment
from tests.tune_experiments.made_up import ended_trial
from tune_experiments.ledger import Ledger
from tune_experiments.records import LEADERBOARD_COLUMNS, leaderboard
from tune_experiments.search_space import Setting


def test_it_is_the_leaderboard_of_the_search(experiment: Experiment, finished: Path) -> None:
    trials = list(Ledger(finished / "ledger.jsonl").trials.values())
    assert_frame_equal(rank_trials(experiment).filter(items=LEADERBOARD_COLUMNS), leaderboard(trials))


def test_confirmed_before_completed_before_stopped(tmp_path: Path) -> None:
    make_experiment(tmp_path / "one", replace(PLAN, search=replace(PLAN.search, num_samples=40)))
    add_confirmation(tmp_path / "one", top=1)
    experiment = read_experiment(str(tmp_path / "one"))
    board = rank_trials(experiment)
    assert_frame_equal(
        board.filter(items=LEADERBOARD_COLUMNS),
        leaderboard(list(Ledger(tmp_path / "one/ledger.jsonl").trials.values()), experiment.verdict),
    )
    assert board["rank"].dropna().tolist() == list(range(1, 1 + len(experiment.completed)))
    confirmed = board[board["confirmed_mean"].notna()]
    assert confirmed.index.tolist() == [0, 1]
    assert confirmed["confirmed_mean"].is_monotonic_decreasing
    assert confirmed["confirm_seeds"].tolist() == [3, 3]
    assert (confirmed["confirmed_low"] < confirmed["confirmed_mean"]).all()
    assert board["state"][2] == "completed" and board["score"][2] > board["score"][1]  # the seed's setting, confirmed
    text = describe_ranking(board, 1000)
    assert "2 settings trained again with 3 fresh seeds come first, by the mean of those runs." in text
    assert f"First is {board['trial_id'][0]}" in text and "The seed's setting is number 2: " in text


def test_ranks_intervals_and_gains() -> None:
    board = rank_trials(four_trials())
    assert board["trial_id"].tolist() == ["00001", "00000", "00002", "00003"]
    assert board["rank"].dropna().tolist() == [1, 2]
    assert board["gain"].head(2).tolist() == pytest.approx([0.1, 0.0])
    assert (board["low"][0], board["high"][0]) == pytest.approx((0.77408, 0.82362), abs=1e-5)  # Wilson, 800 of 1000
    assert board[["low", "high", "gain"]].tail(2).isna().all(axis=None)


def test_what_is_said() -> None:
    text = describe_ranking(rank_trials(four_trials()), 1000)
    assert "4 trials: 2 completed, 1 stopped, 1 diverged" in text
    assert "00001 (max_lr 0.1, l1_factor 0.01, peak_epoch 3), scores 80.0 %" in text
    assert "10.0 points above the seed's setting (70.0 %)" in text
    assert "No other completed trial lies within that interval" in text


def test_what_cannot_be_said() -> None:
    only_stopped = experiment_of([ended_trial("00000", STOPPED, 0.1, 0.2)])
    assert "none has a score" in describe_ranking(rank_trials(only_stopped), 1000)
    assert "no trial has started" in describe_ranking(rank_trials(experiment_of([])), 1000)
    seed_alone = experiment_of([ended_trial("00000", COMPLETED, 0.1, 0.2, 0.3, 0.4)])
    assert "nothing better was found" in describe_ranking(rank_trials(seed_alone), 1000)


def test_where_the_best_tenth_lies() -> None:
    trials = [
        ended_trial(
            f"{number:05d}", COMPLETED, 0, 0, 0, 0.9 - number / 100, setting=Setting(0.9 / (number + 1), 0.01, 3)
        )
        for number in range(20)
    ]
    experiment = experiment_of(trials)
    top = top_settings(experiment).set_index("parameter")
    assert (top.loc["max_lr", "best"], top.loc["max_lr", "low"], top.loc["max_lr", "high"]) == (0.9, 0.45, 0.9)
    assert top.loc["max_lr", "covered"] == pytest.approx(0.30103 / 3, abs=1e-5)  # a factor of 2 of three decades
    assert top["edge"].tolist() == ["high", "", ""]
    text = describe_top(experiment, top.reset_index())
    assert "(2 trials) have max_lr 0.45 to 0.9" in text
    assert "max_lr (at its high end): a wider range" in text
