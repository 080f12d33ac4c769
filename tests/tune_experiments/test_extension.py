from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from cifar_core.config import RangeTestConfig, TrainConfig
from cifar_core.errors import UserError
from cifar_core.lr_range_test import Curve, RangeTest, Suggestion
from tests.tune_experiments.made_up import SPACE, metrics
from tune_experiments.config import Plan, SearchConfig
from tune_experiments.experiment import Experiment
from tune_experiments.extension import extended_plan, searched_space
from tune_experiments.ledger import Ledger, TrialState
from tune_experiments.search_space import SearchSpace, Setting

PLAN = Plan(
    TrainConfig(epochs=9),
    SearchConfig(num_samples=5, max_lr_range=SPACE.max_lr, l1_factor_range=SPACE.l1_factor, peak_epoch_range=(1, 7)),
    RangeTestConfig(),
)
AT_HIGH_LR = Setting(0.95, 0.01, 3)


def experiment(folder: Path, *scores: tuple[Setting, float]) -> Experiment:
    """A search with these completed trials."""
    made = Experiment(folder)
    made.make()
    ledger = Ledger(made.ledger)
    for setting, score in scores:
        trial = ledger.propose(setting)
        ledger.add_epoch(trial.trial_id, metrics(9, score), "host:1", TrialState.COMPLETED, "")
    return made


def test_only_the_bound_at_which_the_best_lies_moves(tmp_path: Path) -> None:
    found = experiment(tmp_path, (Setting(0.03, 0.01, 1), 0.6), (AT_HIGH_LR, 0.7))
    plan = extended_plan(found, PLAN)
    assert plan.search.max_lr_range == (SPACE.max_lr[0], 3 * SPACE.max_lr[1])
    assert plan.search.l1_factor_range == SPACE.l1_factor and plan.search.peak_epoch_range == (1, 7)
    assert replace(plan, search=PLAN.search) == replace(PLAN, search=PLAN.search)


def test_a_range_from_the_range_test_becomes_explicit(tmp_path: Path) -> None:
    found = experiment(tmp_path, (AT_HIGH_LR, 0.7))
    curve = Curve(np.array([0.001, 1.0]), np.array([2.0, 3.0]), seed=0, l1_factor=0.01)
    suggestion = Suggestion(low=0.1, edge=0.3, max_lr_range=(0.05, 0.9), refusal=None)
    found.range_test.write_text(RangeTest((curve,), suggestion).to_json())
    plan = replace(PLAN, search=replace(PLAN.search, max_lr_range=None, peak_epoch_range=None))
    assert searched_space(found, plan) == SearchSpace((0.05, 0.9), SPACE.l1_factor, (1, 7))
    assert extended_plan(found, plan).search.max_lr_range == pytest.approx((0.05, 2.7))


@pytest.mark.parametrize(
    ("scores", "num_samples", "message"),
    [
        ([], 5, "no trial has completed yet, so nothing says where to extend the space"),
        ([(Setting(0.03, 0.01, 3), 0.7)], 5, "the best trial .00000. lies inside the space; nothing to extend"),
        ([(AT_HIGH_LR, 0.7)], 1, "--extend-space wants new trials: give --num-samples above 1"),
    ],
)
def test_one_line_where_there_is_nothing_to_extend(
    tmp_path: Path, scores: list[tuple[Setting, float]], num_samples: int, message: str
) -> None:
    plan = replace(PLAN, search=replace(PLAN.search, num_samples=num_samples))
    with pytest.raises(UserError, match=message):
        extended_plan(experiment(tmp_path, *scores), plan)
