from types import SimpleNamespace
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from ray.tune.experiment import Trial as TuneTrial
from ray.tune.schedulers import MedianStoppingRule, TrialScheduler

from analysis.schedulers import MedianStopping, fixed_cut, halvings, random_search, usual

EPOCHS = 5
curves = st.lists(st.lists(st.integers(0, 20), min_size=EPOCHS, max_size=EPOCHS), min_size=1, max_size=8)


@settings(deadline=None)
@given(curves, st.integers(1, 3))
def test_median_stopping_decides_as_rays_rule(values: list[list[int]], grace_period: int) -> None:
    """Trials one after the other, each until the rule stops it."""
    theirs = MedianStoppingRule(grace_period=grace_period, metric="value", mode="max")
    ours = MedianStopping(grace_period, EPOCHS)
    controller: Any = SimpleNamespace(get_live_trials=list)
    for number, curve in enumerate(values):
        trial = TuneTrial("trainable", trial_id=str(number), stub=True)
        for epoch, value in enumerate(curve, start=1):
            result = {"time_total_s": epoch, "value": value}
            continues = theirs.on_trial_result(controller, trial, result) == TrialScheduler.CONTINUE
            assert ours.keeps(str(number), epoch, value) == continues
            ours.record(str(number), epoch, value)
            if not continues:
                break


def test_a_fixed_cut_keeps_the_best_share_and_no_value_that_is_not_a_number() -> None:
    policy = fixed_cut("raw", 2, 0.5)
    assert policy.pick is not None and (policy.rungs, policy.factor) == ((2,), 2.0)
    assert policy.pick([0.1, float("nan"), 0.4, 0.3]) == [2, 3]
    assert policy.pick([0.1]) == [0]


def test_random_search_runs_the_first_trials() -> None:
    policy = random_search(0.25)
    assert policy.pick is not None
    assert policy.pick([0.1] * 8) == [0, 1]


def test_rungs_lie_only_where_a_value_is_known() -> None:
    found = list(halvings("stock-asha", "probe", [2, 4, 8], 12))
    assert {policy.rungs for policy in found} >= {(2, 4, 8), (2, 8), (4, 8), (8,)}
    assert all(set(policy.rungs) <= {2, 4, 8} for policy in found)


def test_the_usual_schedulers_are_all_there() -> None:
    names = [policy.scheduler for policy in usual(range(1, 8), 8)]
    assert set(names) == {"stock-asha", "median stopping", "fixed cut", "random search"}
    assert all((policy.rule is None) != (policy.pick is None) for policy in usual(range(1, 8), 8))
    assert pytest.approx(1.5) == min(policy.factor for policy in usual(range(1, 8), 8))
