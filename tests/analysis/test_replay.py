from dataclasses import replace
from itertools import pairwise

import numpy as np
import pandas as pd
import pytest
from hypothesis import given
from hypothesis import strategies as st

from analysis.learning_curves import LearningCurves
from analysis.replay import Searches, best_within, compare, replay_pick, replay_search
from analysis.schedulers import MedianStopping, fixed_cut, halving, random_search, usual
from tune_experiments.early_stopping import SuccessiveHalving

EPOCHS = 6


def made_up(settings: int = 30, noise: float = 0.0) -> LearningCurves:
    """Settings of rising quality, whose values rise with the epoch and tell the quality but for noise."""
    rng = np.random.default_rng(0)
    quality = np.linspace(0.2, 0.8, settings)
    clean = quality[:, None] * (1 - np.exp(-np.arange(1, EPOCHS + 1) / 2))
    names = pd.DataFrame({"trial_id": [f"{number:05d}" for number in range(settings)]})
    return LearningCurves(names, {"raw": clean + rng.normal(0, noise, clean.shape), "ema": clean}, quality)


def one_worker(rule: SuccessiveHalving, values: list[list[float]]) -> tuple[int, list[int]]:
    found = replay_search(rule, values, EPOCHS, 1, np.random.default_rng(0))
    return found.epochs, found.completed


def test_a_search_by_hand() -> None:
    """Rungs after 1 and 3: the first passes all; the second is behind at 1, the third at 3, the fourth passes."""
    values = [[0.5, 0, 0.6, 0, 0, 0], [0.4, 0, 0, 0, 0, 0], [0.6, 0, 0.5, 0, 0, 0], [0.7, 0, 0.7, 0, 0, 0]]
    assert one_worker(SuccessiveHalving([1, 3], 2), values) == (6 + 1 + 3 + 6, [0, 3])


def test_a_second_chance_by_hand() -> None:
    """The second is behind the first, but in the upper half of all three in the end."""
    values = [[0.9] * 6, [0.5] * 6, [0.1] * 6]
    for second_chances, completed in ((False, [0]), (True, [0, 1])):
        rule = SuccessiveHalving([1], 2)
        found = replay_search(rule, values, EPOCHS, 1, np.random.default_rng(0), second_chances)
        assert found.completed == completed
        assert found.epochs == 3 + 5 * len(completed)


def test_a_value_that_is_not_a_number_ends_a_trial() -> None:
    assert one_worker(SuccessiveHalving([1], 2), [[np.nan] * 6, [0.1] * 6]) == (1 + 6, [1])


def test_workers_share_the_trials_and_as_many_as_trials_see_nothing_of_each_other_before_the_rung() -> None:
    values = [[0.1 * trial] * EPOCHS for trial in range(5)]
    for workers in (1, 2, 5, 1000):
        found = replay_search(SuccessiveHalving([2], 5), values, EPOCHS, workers, np.random.default_rng(1))
        assert found.readings == 5
        assert found.epochs == 5 * 2 + 4 * len(found.completed)
        assert 4 in found.completed


def test_a_fixed_cut_by_hand() -> None:
    pick = fixed_cut("raw", 2, 0.5).pick
    assert pick is not None
    found = replay_pick(pick, [[0, 0.3], [0, 0.1], [0, 0.4], [0, 0.2]], EPOCHS, 2)
    assert (found.epochs, found.readings, found.completed) == (4 * 2 + 2 * 4, 4, [2, 0])


def test_random_search_costs_what_it_runs() -> None:
    outcomes = Searches(made_up(), trials=10, workers=2, number=50, halves=5).outcomes(random_search(0.3))
    assert outcomes[:, 0] == pytest.approx(0.3)


def test_values_without_noise_find_the_best_wherever_it_comes() -> None:
    row = Searches(made_up(), trials=12, workers=3, number=100, halves=5).replay(halving("ours", "ema", [1], 4.0))
    assert (row["regret"], row["kept"]) == (0.0, 1.0)
    assert 0.2 < float(str(row["epochs"])) < 0.7


def test_reading_a_value_costs_what_it_is_said_to() -> None:
    dearer = replace(made_up(), costs={"ema": 0.5})
    policy = halving("ours", "ema", [2], 3.0)
    free, dear = (Searches(curves, 10, 1, number=20, halves=2).outcomes(policy) for curves in (made_up(), dearer))
    assert dear[:, 0] - free[:, 0] == pytest.approx(0.5 * 10 / (10 * EPOCHS))
    assert (dear[:, 1:] == free[:, 1:]).all()


def test_noise_at_the_rung_costs_regret_and_more_epochs_buy_it_back() -> None:
    searches = Searches(made_up(noise=0.1), trials=15, workers=2, number=400, halves=10)
    regrets = [float(str(searches.replay(fixed_cut("raw", 1, share))["regret"])) for share in (0.1, 0.3, 0.6, 1.0)]
    assert all(more >= less for more, less in pairwise(regrets)) and regrets[-1] == 0


def test_the_same_seed_replays_the_same() -> None:
    first, second, other = (
        Searches(made_up(noise=0.1), 10, 2, number=40, halves=4, seed=seed).replay(halving("ours", "raw", [1, 3], 2.0))
        for seed in (0, 0, 1)
    )
    assert first == second != other


def test_more_trials_than_settings_are_drawn_again() -> None:
    searches = Searches(made_up(10), trials=500, workers=10_000, number=2, halves=2)
    assert searches.outcomes(halving("ours", "ema", [1], 3.0)).shape == (2, 3)


def test_the_best_of_each_scheduler_within_a_budget() -> None:
    searches = Searches(made_up(noise=0.05), trials=10, workers=2, number=40, halves=4)
    table = compare(searches, usual([1, 2], EPOCHS))
    assert table["regret"].is_monotonic_increasing
    best = best_within(table, 0.5)
    assert (best["epochs"] <= 0.5).all() and not best.duplicated(["scheduler", "value"]).any()
    for row in best.itertuples():
        rivals = table[(table["scheduler"] == row.scheduler) & (table["epochs"] <= 0.5)]
        assert row.regret == rivals["regret"].min()
    assert (table["regret_low"] <= table["regret"]).all() and (table["regret"] <= table["regret_high"]).all()


@given(
    st.lists(st.lists(st.floats(0, 1), min_size=EPOCHS, max_size=EPOCHS), min_size=1, max_size=10), st.integers(1, 12)
)
def test_every_trial_runs_and_none_runs_longer_than_its_schedule(values: list[list[float]], workers: int) -> None:
    for rule in (SuccessiveHalving([1, 2, 4], 2), MedianStopping(2, EPOCHS)):
        found = replay_search(rule, values, EPOCHS, workers, np.random.default_rng(0))
        assert len(values) <= found.epochs <= EPOCHS * len(values)
        assert len(set(found.completed)) == len(found.completed) >= 1
