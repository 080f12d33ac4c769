from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from analysis.seed_noise import main, regret_of_one_run, seed_deviation
from tests.analysis.test_learning_curves import table


def test_deviation_by_hand_takes_the_better_half_of_settings_with_several_seeds() -> None:
    rows = [("a", 0, 0.5), ("a", 1, 0.7), ("b", 0, 0.1), ("b", 1, 0.4), ("c", 0, 0.9), ("d", 0, 0.6), ("d", 1, 0.8)]
    table = pd.DataFrame([(*row[:2], epoch, row[2] * epoch) for row in rows for epoch in (0.5, 1)])
    table.columns = pd.Index(["trial_id", "seed", "epoch", "val_accuracy"])
    deviation, freedom = seed_deviation(table)
    assert freedom == 2  # of a and d
    assert deviation == pytest.approx(np.sqrt((2 * 0.01 + 2 * 0.01) / 2))


def test_the_command_says_what_the_seeds_do(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    path = tmp_path / "curves.parquet"
    second = table().assign(seed=1)
    second["val_accuracy"] += 0.02
    both = pd.concat([table().assign(seed=0), second])
    both.to_parquet(path)
    main([str(path), "--trials", "4"])
    assert "standard deviation over seeds 1.41 points (4 degrees of freedom)" in capsys.readouterr().out
    table().to_parquet(path)
    with pytest.raises(SystemExit):
        main([str(path)])
    assert "one seed each" in capsys.readouterr().err


def test_one_seed_each_tells_nothing() -> None:
    table = pd.DataFrame({"trial_id": ["a", "b"], "seed": 0, "epoch": 1, "val_accuracy": [0.1, 0.2]})
    assert np.isnan(seed_deviation(table)[0])


def test_without_noise_one_run_finds_the_best_and_with_much_it_picks_at_random() -> None:
    quality = np.linspace(0, 1, 11)
    assert regret_of_one_run(quality, 0.0, 5) == 0
    assert regret_of_one_run(quality, 1e6, 11) == pytest.approx(0.5, abs=0.02)
    assert regret_of_one_run(quality, 0.05, 5) < regret_of_one_run(quality, 0.2, 5)
