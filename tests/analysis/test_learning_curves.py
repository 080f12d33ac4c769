from dataclasses import replace
from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from analysis.learning_curves import FEWEST, curves_of, read_curves
from cifar_core.errors import UserError
from tests.analysis.folders import PLAN, make_experiment


def table(settings: int = FEWEST, epochs: int = 3) -> pd.DataFrame:
    """Accuracy is 0.1 · setting + 0.01 · epoch, that of the average 0.05 less."""
    rows = [
        {
            "trial_id": f"{number:05d}", "max_lr": 0.01 * (number + 1), "l1_factor": 1e-3, "peak_epoch": 1,
            "epoch": epoch, "val_accuracy": 0.1 * number + 0.01 * epoch, "val_loss": 2.0 - 0.1 * number,
            "ema_val_accuracy": 0.1 * number + 0.01 * epoch - 0.05, "probe_val_accuracy": 0.5 if epoch == 2 else np.nan,
        }
        for number in range(settings)
        for epoch in range(1, epochs + 1)
    ]  # fmt: skip
    return pd.DataFrame(rows)


def test_curves_are_arrays_of_settings_and_epochs() -> None:
    curves = curves_of(table().sample(frac=1, random_state=0))
    assert (len(curves), curves.epochs) == (FEWEST, 3)
    assert curves.values["raw"][2] == pytest.approx([0.21, 0.22, 0.23])
    assert curves.values["raw loss"][2] == pytest.approx([-1.8] * 3)
    assert curves.values["ema"][2] == pytest.approx([0.16, 0.17, 0.18])
    assert curves.scores == pytest.approx([0.1 * number + 0.03 for number in range(FEWEST)])
    assert curves.settings["trial_id"].tolist() == [f"{number:05d}" for number in range(FEWEST)]
    assert "ema loss" not in curves.values


def test_a_rung_can_be_where_a_value_was_recorded() -> None:
    curves = curves_of(table())
    assert curves.known_epochs("raw") == [1, 2]
    assert curves.known_epochs("probe") == [2]


def test_reading_the_average_costs_a_forward_pass_over_the_validation_images() -> None:
    assert curves_of(table()).costs == {}
    costs = curves_of(table().assign(train_images=1000, val_images=1000)).costs
    assert costs == {"ema": 0.25, "ema loss": 0.25, "probe": 0.625}


def test_runs_that_were_cut_short_are_left_out_and_diverged_ones_score_nothing() -> None:
    content = table(FEWEST + 2)
    cut = (content["trial_id"] == "00001") & (content["epoch"] == 3)
    lost = (content["trial_id"] == "00004") & (content["epoch"] >= 2)
    content.loc[lost, ["val_accuracy", "val_loss", "ema_val_accuracy"]] = np.nan
    curves = curves_of(content[~cut & ~(lost & (content["epoch"] == 3))])
    assert "00001" not in set(curves.settings["trial_id"]) and len(curves) == FEWEST + 1
    place = curves.settings["trial_id"].tolist().index("00004")
    assert curves.scores[place] == 0
    assert np.isnan(curves.values["raw"][place]).tolist() == [False, True, True]


def test_a_recorded_table_is_read_seed_by_seed(tmp_path: Path) -> None:
    path = tmp_path / "curves.parquet"
    both = pd.concat([table().assign(seed=0), table().assign(seed=1, val_accuracy=0.3)])
    both.to_parquet(path)
    assert read_curves(str(path)).scores[1] == pytest.approx(0.13)
    assert read_curves(str(path), seed=1).scores[1] == pytest.approx(0.3)


def test_an_experiments_whole_trials_are_curves(tmp_path: Path) -> None:
    experiment = make_experiment(tmp_path / "search", replace(PLAN, search=replace(PLAN.search, scheduler="none")))
    curves = read_curves(str(experiment.path))
    trials = pd.read_parquet(experiment.path / "trials.parquet")
    completed = trials[trials["state"] == "completed"]
    assert curves.settings["trial_id"].tolist() == completed["trial_id"].tolist()
    assert curves.scores == pytest.approx(completed["score"].to_numpy())
    assert set(curves.values) == {"raw", "raw loss"}


@pytest.mark.parametrize(
    ("content", "reason"),
    [
        (table().drop(columns="peak_epoch"), "no column peak_epoch"),
        (table(FEWEST - 1), "7 whole learning curves; a replay needs at least 8"),
    ],
)
def test_tables_that_are_not_learning_curves_have_a_line(tmp_path: Path, content: pd.DataFrame, reason: str) -> None:
    path = tmp_path / "curves.parquet"
    content.to_parquet(path)
    with pytest.raises(UserError, match=f"curves.parquet: {reason}"):
        read_curves(str(path))


@pytest.mark.parametrize(("name", "content"), [("absent.parquet", None), ("broken.parquet", b"PAR1, but not really")])
def test_files_that_cannot_be_read_have_a_line(tmp_path: Path, name: str, content: bytes | None) -> None:
    if content:
        (tmp_path / name).write_bytes(content)
    with pytest.raises(UserError, match=f"{name}: cannot be read"):
        read_curves(str(tmp_path / name))
