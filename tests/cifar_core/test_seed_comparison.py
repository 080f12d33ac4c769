from dataclasses import replace
from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from cifar_core.config import TrainConfig
from cifar_core.run_folder import RunFolder
from cifar_core.schedule import one_cycle
from cifar_core.seed_comparison import METRICS, compare, final_table, main, read_run, read_seed_run


def test_the_seeds_run_ends_where_it_says() -> None:
    run = read_seed_run()
    assert run["epoch"].tolist() == list(range(1, 25))
    assert run.iloc[-1][["train_accuracy", "test_accuracy", "test_loss"]].tolist() == pytest.approx([0.95, 0.895, 0.36])


def test_our_schedule_is_the_seeds_at_the_start_of_each_epoch() -> None:
    schedule = one_cycle(TrainConfig(), steps_per_epoch=98)
    ours = [schedule.at(98 * epoch).lr for epoch in range(24)]
    np.testing.assert_allclose(read_seed_run()["lr"], ours, atol=6e-5 + 1e-5)


def test_compare_gives_mean_interval_and_the_seeds_values() -> None:
    seed_run = read_seed_run()
    runs = [seed_run.assign(test_accuracy=value) for value in (0.90, 0.91, 0.92)]
    table = compare(runs, seed_run)
    np.testing.assert_allclose(table["test_accuracy"], 0.91)
    np.testing.assert_allclose(table["test_accuracy_high"] - 0.91, 4.3027 * 0.01 / 3**0.5, rtol=1e-4)
    for metric in METRICS:
        np.testing.assert_array_equal(table[f"seed_{metric}"], seed_run[metric])
    last_line = final_table(table).splitlines()[2].split()
    assert last_line == ["test_accuracy", "0.9100", "0.8852", "…", "0.9348", "0.8950"]


def write_run(root: Path, config: TrainConfig, epochs: int) -> Path:
    """A finished run's folder with made-up numbers: epoch e has test accuracy e/100; two steps an epoch."""
    folder = RunFolder(root)
    folder.create(config)
    epoch = np.arange(1, epochs + 1)
    history = {"epoch": epoch, "val_accuracy": epoch / 100, "val_loss": 1.0, "train_accuracy": 0.5, "train_loss": 2.0}
    pd.DataFrame(history).to_parquet(folder.history)
    pd.DataFrame({"lr": np.arange(2 * epochs) / 1000}).to_parquet(folder.steps)
    folder.write_metrics({"state": "completed"})
    return root


def test_read_run_takes_the_rate_of_each_epochs_first_step(tmp_path: Path) -> None:
    run = read_run(write_run(tmp_path, TrainConfig(val_size=0), 24), epochs=24)
    np.testing.assert_allclose(run["lr"], np.arange(0, 48, 2) / 1000)
    np.testing.assert_allclose(run["test_accuracy"], np.arange(1, 25) / 100)


def test_the_command_writes_table_and_figure(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    runs = [write_run(tmp_path / str(seed), replace(TrainConfig(), val_size=0, seed=seed), 24) for seed in range(2)]
    main([*map(str, runs), "--output", str(tmp_path / "docs")])
    table = pd.read_csv(tmp_path / "docs" / "seed_comparison.csv")
    assert len(table) == 24 and table["test_accuracy"].iloc[-1] == pytest.approx(0.24)
    assert (tmp_path / "docs" / "seed_comparison.png").stat().st_size > 10_000
    assert "test_accuracy" in capsys.readouterr().out


@pytest.mark.parametrize(
    ("config", "epochs", "line"),
    [
        (TrainConfig(), 24, "has val_size 5000; the seed's run watched the test set: --val-size 0"),
        (TrainConfig(val_size=0, epochs=3), 3, "has 3 epochs; the seed's run has 24"),
        (None, 0, "holds no finished run"),
    ],
)
def test_a_run_that_does_not_compare_is_one_line(
    config: TrainConfig | None, epochs: int, line: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    if config is not None:
        write_run(tmp_path, config, epochs)
    with pytest.raises(SystemExit) as exit_code:
        main([str(tmp_path)])
    error = capsys.readouterr().err
    assert exit_code.value.code == 2 and line in error and error.count("\n") == 1
