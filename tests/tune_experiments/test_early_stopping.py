import math

import pytest
from hypothesis import assume, given
from hypothesis import strategies as st
from ray.tune.experiment import Trial as TuneTrial
from ray.tune.schedulers import TrialScheduler
from ray.tune.schedulers.async_hyperband import _Bracket

from tests.tune_experiments.made_up import metrics
from tune_experiments.early_stopping import Audit, SuccessiveHalving, cutoff, rung_value, rungs

accuracies = st.floats(0, 1)
factors = st.floats(1.2, 8)


@pytest.mark.parametrize(
    ("grace", "factor", "epochs", "expected"),
    [
        (3, 3, 24, [3, 9]),
        (2, 2, 8, [2, 4]),
        (1, 4, 64, [1, 4, 16]),
        (1, 2.5, 20, [1, 2, 6, 16]),
        (1, 1.3, 5, [1, 2, 3, 4]),
        (8, 2, 8, []),
        (9, 2, 8, []),
        (1, 2, 1, []),
    ],
)
def test_rungs_of_hand_made_cases(grace: int, factor: float, epochs: int, expected: list[int]) -> None:
    assert rungs("stock-asha", grace, factor, epochs) == expected


@pytest.mark.parametrize(("grace", "factor", "powers"), [(3, 3, 12), (1, 10, 8), (5, 5, 9)])
def test_no_rung_is_lost_to_rounding(grace: int, factor: int, powers: int) -> None:
    """Logarithms lose one: `log(243 / 3) / log(3)` is 3.9999999999999996."""
    for power in range(1, powers):
        assert rungs("stock-asha", grace, factor, grace * factor**power) == [grace * factor**k for k in range(power)]


@given(st.integers(1, 50), factors, st.integers(1, 1000))
def test_rungs_rise_from_the_grace_period_and_stay_below_the_end(grace: int, factor: float, epochs: int) -> None:
    levels = rungs("stock-asha", grace, factor, epochs)
    assert levels == sorted(set(levels))
    assert all(grace <= level < epochs for level in levels)
    assert (grace in levels) == (grace < epochs)
    if levels:
        assert levels[-1] * factor + factor >= epochs  # the next rung would be past the end


@pytest.mark.parametrize(
    ("grace", "epochs", "expected"),
    [(None, 24, [2, 12]), (None, 12, [1, 6]), (None, 8, [1, 6]), (None, 1, []), (3, 24, [3, 18]), (8, 8, [])],
)
@pytest.mark.parametrize("factor", [1.5, 2.5, 4])
def test_rungs_of_asha_are_where_they_are_whatever_share_they_keep(
    grace: int | None, epochs: int, expected: list[int], factor: float
) -> None:
    assert rungs("asha", grace, factor, epochs) == expected
    assert rungs("none", grace, factor, epochs) == []


def test_asha_looks_at_the_averaged_weights_and_stock_asha_at_the_weights() -> None:
    known, unknown = metrics(1, 0.5, ema_val_accuracy=0.6), metrics(1, 0.5)
    assert (rung_value(known, "asha"), rung_value(known, "stock-asha")) == (0.6, 0.5)
    assert math.isnan(rung_value(unknown, "asha")) and rung_value(unknown, "stock-asha") == 0.5


def test_first_arrival_has_nothing_to_reach() -> None:
    assert cutoff([], 3) == -math.inf
    assert SuccessiveHalving([1], 3).keeps("a", 1, 0.0)


def test_cutoff_of_hand_made_cases() -> None:
    assert cutoff([0.4], 3) == 0.4
    assert cutoff([0.2, 0.4], 2) == pytest.approx(0.3)
    assert cutoff([0.4, 0.1, 0.3, 0.2], 3) == pytest.approx(0.3)
    assert cutoff([0.4, 0.1, 0.3, 0.2, 0.5], 4) == pytest.approx(0.4)


@given(st.lists(st.integers(0, 1000), min_size=1, max_size=30, unique=True), factors)
def test_the_best_one_in_factor_is_above_the_cutoff(values: list[int], factor: float) -> None:
    bar = cutoff(values, factor)
    assert min(values) <= bar <= max(values)
    above = sum(value > bar + 1e-9 for value in values)
    assert abs(above - (len(values) - 1) / factor) < 1


@given(st.lists(accuracies, max_size=30), factors, accuracies)
def test_cutoff_and_decision_are_those_of_rays_asha(values: list[float], factor: float, newcomer: float) -> None:
    theirs = _Bracket(min_t=1, max_t=1, reduction_factor=factor, s=0)
    ours = SuccessiveHalving([1], factor)
    for number, value in enumerate(values):
        theirs.on_result(TuneTrial("trainable", trial_id=str(number), stub=True), 1, value)
        ours.record(str(number), 1, value)
    bar = cutoff(values, factor)
    assert bar == (pytest.approx(theirs.cutoff(theirs._rungs[0][1]), abs=1e-12) if values else -math.inf)
    assume(abs(newcomer - bar) > 1e-12)
    action = theirs.on_result(TuneTrial("trainable", trial_id="newcomer", stub=True), 1, newcomer)
    assert ours.keeps("newcomer", 1, newcomer) == (action == TrialScheduler.CONTINUE)


@pytest.mark.parametrize("earlier", [[], [0.1], [0.1, 0.2, 0.3]])
def test_a_value_that_is_no_number_never_passes_and_is_not_remembered(earlier: list[float]) -> None:
    halving = SuccessiveHalving([2], 3)
    for number, value in enumerate(earlier):
        halving.record(str(number), 2, value)
    halving.record("lost", 2, math.nan)
    assert not halving.keeps("lost", 2, math.nan)
    assert len(halving.values[2]) == len(earlier)


def test_a_tie_passes() -> None:
    halving = SuccessiveHalving([1], 3)
    for name in "abcd":
        halving.record(name, 1, 0.25)
    assert halving.keeps("e", 1, 0.25)
    assert not halving.keeps("e", 1, math.nextafter(0.25, 0))


def test_a_trial_is_not_judged_against_itself() -> None:
    halving = SuccessiveHalving([1], 2)
    for name, value in (("a", 0.5), ("b", 0.1), ("c", 0.29)):
        halving.record(name, 1, value)
    assert not halving.keeps("c", 1, 0.29)  # the median of the others is 0.3, of all three 0.29
    assert halving.keeps("a", 1, 0.5)
    assert halving.values == {1: {"a": 0.5, "b": 0.1, "c": 0.29}}


def test_a_trial_that_comes_by_again_counts_once() -> None:
    halving = SuccessiveHalving([1], 2)
    for name, value in (("a", 0.5), ("b", 0.1), ("b", 0.1), ("b", 0.1)):
        halving.record(name, 1, value)
    assert not halving.keeps("c", 1, 0.29)


def test_only_rungs_are_judged() -> None:
    halving = SuccessiveHalving([2, 4], 2)
    for epoch in (1, 3, 5):
        halving.record("good", epoch, 0.9)
        assert halving.keeps("bad", epoch, 0.0)
    assert halving.values == {2: {}, 4: {}}


def test_rungs_are_apart() -> None:
    halving = SuccessiveHalving([1, 2], 2)
    halving.record("a", 2, 0.9)
    assert halving.keeps("b", 1, 0.1)
    assert not halving.keeps("b", 2, 0.1)


@given(
    st.dictionaries(st.tuples(st.sampled_from("abcdef"), st.sampled_from([1, 2, 3])), accuracies, max_size=12),
    st.randoms(use_true_random=False),
    accuracies,
)
def test_order_of_the_recorded_values_plays_no_part(
    values: dict[tuple[str, int], float], random: object, asked: float
) -> None:
    shuffled = list(values.items())
    random.shuffle(shuffled)  # type: ignore[attr-defined]
    first, second = SuccessiveHalving([1, 3], 3), SuccessiveHalving([1, 3], 3)
    for halving, order in ((first, values.items()), (second, shuffled)):
        for (name, epoch), value in order:
            halving.record(name, epoch, value)
    for name in "abcxyz":
        for epoch in (1, 2, 3):
            assert first.keeps(name, epoch, asked) == second.keeps(name, epoch, asked)


@given(st.permutations([0.1, 0.2, 0.3, 0.4, 0.5, 0.6, 0.7, 0.8, 0.9]))
def test_the_best_is_never_stopped(values: list[float]) -> None:
    halving = SuccessiveHalving([1], 3)
    for value in values:
        kept = halving.keeps(str(value), 1, value)
        assert kept or value < 0.9
        halving.record(str(value), 1, value)


def test_the_audit_picks_its_share_and_depends_on_seed_and_trial_alone() -> None:
    names = [f"{number:05d}" for number in range(2000)]
    picked = [Audit(0.1, seed=3).picks(name) for name in names]
    assert picked == [Audit(0.1, seed=3).picks(name) for name in names]
    assert picked != [Audit(0.1, seed=4).picks(name) for name in names]
    assert 150 < sum(picked) < 250
    assert not any(Audit(0.0).picks(name) for name in names) and all(Audit(1.0).picks(name) for name in names)


def test_who_would_pass_now_is_judged_among_all_that_were_there() -> None:
    halving = SuccessiveHalving([1], 2)
    for trial_id, value in (("a", 0.9), ("b", 0.5), ("c", 0.2), ("d", 0.1)):
        halving.record(trial_id, 1, value)
    assert halving.reached(1) == {"a", "b"}
    assert SuccessiveHalving([1], 2).reached(1) == set()
