import numpy as np
import pandas as pd
import pytest

from analysis.seed_noise import regret_of_one_run, seed_deviation


def test_deviation_by_hand_takes_settings_with_several_seeds() -> None:
    rows = [("a", 0, 0.5), ("a", 1, 0.7), ("b", 0, 0.4), ("b", 1, 0.4), ("b", 2, 0.7), ("c", 0, 0.9)]
    table = pd.DataFrame([(*row[:2], epoch, row[2] * epoch) for row in rows for epoch in (0.5, 1)])
    table.columns = pd.Index(["trial_id", "seed", "epoch", "val_accuracy"])
    deviation, freedom = seed_deviation(table)
    assert freedom == 3
    assert deviation == pytest.approx(np.sqrt((0.01 + 0.01 + 0.01 + 0.01 + 0.04) / 3))


def test_one_seed_each_tells_nothing() -> None:
    table = pd.DataFrame({"trial_id": ["a", "b"], "seed": 0, "epoch": 1, "val_accuracy": [0.1, 0.2]})
    assert np.isnan(seed_deviation(table)[0])


def test_without_noise_one_run_finds_the_best_and_with_much_it_picks_at_random() -> None:
    quality = np.linspace(0, 1, 11)
    assert regret_of_one_run(quality, 0.0, 5) == 0
    assert regret_of_one_run(quality, 1e6, 11) == pytest.approx(0.5, abs=0.02)
    assert regret_of_one_run(quality, 0.05, 5) < regret_of_one_run(quality, 0.2, 5)
