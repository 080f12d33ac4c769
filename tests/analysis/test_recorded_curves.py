"""The committed learning curves, and that the default scheduler does on them what the README says."""

from dataclasses import replace
from pathlib import Path

import pandas as pd
import pytest

from analysis.learning_curves import LearningCurves, curves_of
from analysis.replay import Searches
from analysis.schedulers import halving, halvings
from cifar_core.config import RangeTestConfig, TrainConfig
from tune_experiments.config import Plan, SearchConfig

RECORDED = Path(__file__).parents[2] / "docs/learning_curves/learning_curves.parquet"
SEARCHES = 400


@pytest.fixture(scope="module")
def table() -> pd.DataFrame:
    return pd.read_parquet(RECORDED)


@pytest.fixture(scope="module")
def curves(table: pd.DataFrame) -> LearningCurves:
    return curves_of(table[table["seed"] == 0])


def test_a_hundred_settings_are_whole_and_twenty_have_three_seeds(table: pd.DataFrame) -> None:
    epochs = table.groupby(["trial_id", "seed"])["epoch"].agg(["count", "max"])
    assert (epochs["count"] == epochs["max"]).all()
    assert table[table["seed"] == 0]["trial_id"].nunique() >= 100
    assert (table.groupby("trial_id")["seed"].nunique() >= 3).sum() >= 20
    assert not table.duplicated(["trial_id", "seed", "epoch"]).any()


def test_every_epoch_has_what_a_rung_could_use(curves: LearningCurves) -> None:
    for value in ("raw", "raw loss", "ema", "ema loss"):
        assert curves.known_epochs(value) == list(range(1, curves.epochs))
    assert len(curves.known_epochs("probe")) >= 3


def test_the_default_scheduler_keeps_the_best_for_less_than_half_of_the_epochs(curves: LearningCurves) -> None:
    plan = Plan(TrainConfig(epochs=curves.epochs), SearchConfig(), RangeTestConfig())
    searches = Searches(curves, trials=40, workers=2, number=SEARCHES, halves=20)
    ours = searches.outcomes(halving("asha", "ema", plan.rungs, plan.search.reduction_factor)).mean(axis=0)
    stock = replace(plan, search=replace(plan.search, scheduler="stock-asha"))
    theirs = searches.outcomes(halving("stock-asha", "raw", stock.rungs, stock.search.reduction_factor)).mean(axis=0)
    epochs, regret, kept = ours
    assert epochs <= 0.4 and kept >= 0.8
    assert regret <= theirs[1] / 4


def test_whatever_rungs_a_user_chooses_the_average_tells_more_than_the_weights(curves: LearningCurves) -> None:
    searches = Searches(curves, trials=40, workers=2, number=60, halves=20)
    regrets = {
        value: sum(
            searches.outcomes(policy).mean(axis=0)[1] for policy in halvings("stock-asha", value, range(1, 12), 12)
        )
        for value in ("raw", "ema")
    }
    assert regrets["ema"] < regrets["raw"] / 2
