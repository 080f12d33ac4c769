from pathlib import Path

import pytest
from pandas.testing import assert_frame_equal

from analysis.ranking import describe_ranking, describe_top, rank_trials, top_settings
from analysis.trials import Experiment
from tests.analysis.by_hand import COMPLETED, STOPPED, experiment_of, four_trials
from tests.tune_experiments.made_up import ended_trial
from tune_experiments.ledger import Ledger
from tune_experiments.records import LEADERBOARD_COLUMNS, leaderboard
from tune_experiments.search_space import Setting


def test_it_is_the_leaderboard_of_the_search(experiment: Experiment, finished: Path) -> None:
    trials = list(Ledger(finished / "ledger.jsonl").trials.values())
    assert_frame_equal(rank_trials(experiment)[LEADERBOARD_COLUMNS], leaderboard(trials))


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
    top = top_settings(experiment_of(trials)).set_index("parameter")
    assert (top.loc["max_lr", "best"], top.loc["max_lr", "low"], top.loc["max_lr", "high"]) == (0.9, 0.45, 0.9)
    assert top.loc["max_lr", "covered"] == pytest.approx(0.30103 / 3, abs=1e-5)  # a factor of 2 of three decades
    assert top["edge"].tolist() == ["high", "", ""]
    text = describe_top(top.reset_index(), 20)
    assert "(2 trials) have max_lr 0.45 to 0.9" in text
    assert "max_lr (at its high end): a wider range" in text
