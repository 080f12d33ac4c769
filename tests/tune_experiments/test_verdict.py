import json
import math
from collections.abc import Sequence
from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from tests.tune_experiments.made_up import ended_trial
from tune_experiments.ledger import Trial, TrialState
from tune_experiments.search_space import Setting
from tune_experiments.verdict import Estimate, Finalist, Opening, Verdict, estimate, judge, paired_gain

SETTINGS = {name: Setting(0.1 * number, 1e-3, number) for number, name in enumerate("SABC", start=1)}
NOTHING = Estimate(None, None, None)
Run = float | TrialState  # a validation accuracy, or how else it ended


def finalist(name: str, *runs: Run, search_score: float | None = 0.5) -> Finalist:
    """Trial `name` ("S" is the one with the seed's setting) and its runs."""
    ended = [
        ended_trial(f"{name}-seed{seed}", TrialState.COMPLETED, run)
        if isinstance(run, float)
        else ended_trial(f"{name}-seed{seed}", run, 0.9)
        for seed, run in enumerate(runs, start=1)
    ]
    trial = Trial(name, SETTINGS[name], TrialState.STOPPED)
    if search_score is not None:
        trial = ended_trial(name, TrialState.COMPLETED, search_score, setting=SETTINGS[name])
    return Finalist(trial, name == "S", ended)


def verdict(*finalists: Finalist, openings: Sequence[Opening] = ()) -> Verdict:
    seeds = range(1, 1 + len(finalists[0].runs))
    return judge(finalists, seeds, epochs=1, val_images=40, openings=openings)


def opening(time: float = 0.0, **accuracies: float) -> Opening:
    """Accuracies by `<name>_<seed>`; each loss is one less the accuracy."""
    return Opening(time, 50, {name.replace("_", "-seed"): (1 - value, value) for name, value in accuracies.items()})


def opened_for(*finalists: Finalist, value: float = 0.3) -> Opening:
    return Opening(0.0, 50, {run.trial_id: (1.0, value) for each in finalists for run in each.runs})


def test_an_estimate_is_students_interval() -> None:
    found = estimate([0.01, 0.02, 0.03])
    half = 4.302653 * 0.01 / math.sqrt(3)
    assert found.mean is not None
    np.testing.assert_allclose([found.mean, found.low, found.high], [0.02, 0.02 - half, 0.02 + half], rtol=1e-6)


@pytest.mark.parametrize(
    ("values", "expected"), [([0.5], Estimate(0.5, None, None)), ([], NOTHING), ([0.5, None], NOTHING)]
)
def test_there_is_no_interval_of_one_value_and_no_mean_without_all(
    values: list[float | None], expected: Estimate
) -> None:
    assert estimate(values) == expected


def test_a_gain_is_counted_seed_by_seed() -> None:
    """Seeds differ by far more than the settings do; the pairs show it."""
    gain = paired_gain([0.31, 0.52, 0.73], [0.30, 0.50, 0.70])
    half = 4.302653 * 0.01 / math.sqrt(3)
    np.testing.assert_allclose([gain.mean, gain.low, gain.high], [0.02, 0.02 - half, 0.02 + half], rtol=1e-6)
    assert paired_gain([0.3, 0.5], [0.3, None]) == NOTHING


def test_the_winner_has_the_highest_mean_whatever_the_search_said() -> None:
    found = verdict(
        finalist("A", 0.60, 0.61, search_score=0.70),
        finalist("B", 0.64, 0.65, search_score=0.66),
        finalist("S", 0.50, 0.52, search_score=0.55),
    )
    assert found.winner == "B"
    assert [one.trial_id for one in found.settings] == ["A", "B", "S"]
    assert [one.is_seed_setting for one in found.settings] == [False, False, True]
    np.testing.assert_allclose([one.mean for one in found.settings], [0.605, 0.645, 0.51])
    np.testing.assert_allclose([one.shrinkage for one in found.settings], [-0.095, -0.015, -0.04])
    np.testing.assert_allclose([one.gain.mean for one in found.settings], [0.095, 0.135, 0.0], atol=1e-12)


def test_of_equal_means_the_one_that_the_search_had_first_wins() -> None:
    assert verdict(finalist("B", 0.6, 0.6), finalist("A", 0.6, 0.6), finalist("S", 0.5, 0.5)).winner == "B"


@pytest.mark.parametrize(("shift", "established"), [(0.03, True), (0.02, False), (-0.01, False)])
def test_a_difference_is_established_when_its_interval_lies_above_zero(shift: float, established: bool) -> None:
    """The half width is 0.0248 for these three differences."""
    ours = (0.5 + shift - 0.01, 0.6 + shift, 0.7 + shift + 0.01)
    assert verdict(finalist("A", *ours), finalist("S", 0.5, 0.6, 0.7)).established is established


def test_nothing_is_established_where_the_seeds_own_setting_wins() -> None:
    found = verdict(finalist("A", 0.4, 0.4), finalist("S", 0.6, 0.6))
    assert (found.winner, found.established) == ("S", False)
    assert found.settings[1].gain == Estimate(0.0, 0.0, 0.0)


@pytest.mark.parametrize("end", [TrialState.DIVERGED, TrialState.FAILED])
def test_a_setting_that_lost_a_run_has_no_mean_and_cannot_win(end: TrialState) -> None:
    found = verdict(finalist("A", 0.9, end, 0.9), finalist("S", 0.5, 0.5, 0.5))
    lost = found.settings[0]
    assert (lost.val_accuracy, lost.states) == ([0.9, None, 0.9], ["completed", end, "completed"])
    assert (lost.mean, lost.low, lost.high, lost.shrinkage, lost.gain) == (None, None, None, None, NOTHING)
    assert found.winner == "S"


def test_nothing_is_established_where_the_seeds_setting_lost_a_run() -> None:
    found = verdict(finalist("A", 0.9, 0.9), finalist("S", 0.1, TrialState.DIVERGED))
    assert (found.winner, found.established, found.settings[0].gain) == ("A", False, NOTHING)


def test_without_any_whole_setting_there_is_no_winner_and_the_test_set_stays_closed() -> None:
    found = verdict(finalist("A", 0.9, TrialState.FAILED), finalist("S", TrialState.DIVERGED, 0.1))
    assert (found.winner, found.established, found.test, found.finished) == (None, False, None, True)


@pytest.mark.parametrize("state", [TrialState.PENDING, TrialState.RUNNING])
def test_nothing_is_decided_before_all_runs_have_ended(state: TrialState) -> None:
    found = verdict(finalist("A", 0.9, 0.9), finalist("B", 0.1, state), finalist("S", 0.1, 0.1))
    assert (found.winner, found.established, found.test, found.finished) == (None, False, None, False)
    assert found.settings[0].mean == 0.9


def test_a_trial_of_the_search_without_a_score_has_no_shrinkage() -> None:
    found = verdict(finalist("A", 0.4, 0.6), finalist("S", 0.3, 0.3, search_score=None))
    assert (found.settings[1].search_score, found.settings[1].shrinkage, found.settings[1].mean) == (None, None, 0.3)


def test_it_is_finished_once_the_test_set_was_opened_for_the_winner_and_the_seeds_setting() -> None:
    finalists = [finalist("A", 0.8, 0.8), finalist("B", 0.7, 0.7), finalist("S", 0.6, 0.6)]
    assert not verdict(*finalists).finished
    assert not verdict(*finalists, openings=[opening(A_1=0.5, A_2=0.6, B_1=0.1, B_2=0.1)]).finished
    found = verdict(*finalists, openings=[opening(1.7e9, A_1=0.5, A_2=0.7, S_1=0.4, S_2=0.5)])
    assert found.finished and found.test is not None
    assert (found.test.images, found.test.opened) == (50, ["2023-11-14T22:13:20+00:00"])
    assert [one.trial_id for one in found.test.settings] == ["A", "S"]
    assert [one.accuracy for one in found.test.settings] == [[0.5, 0.7], [0.4, 0.5]]
    np.testing.assert_allclose([one.loss for one in found.test.settings], [[0.5, 0.3], [0.6, 0.5]])
    np.testing.assert_allclose([one.mean for one in found.test.settings], [0.6, 0.45])
    half = 12.706205 * 0.05  # t of one degree of freedom, standard error of 0.1 and 0.2
    np.testing.assert_allclose([found.test.gain.mean, found.test.gain.low], [0.15, 0.15 - half], rtol=1e-6)


def test_each_opening_is_told() -> None:
    finalists = [finalist("B", 0.8, 0.8), finalist("A", 0.7, 0.7), finalist("S", 0.6, 0.6)]
    first = opening(0.0, A_1=0.1, A_2=0.1, S_1=0.2, S_2=0.2)
    assert not verdict(*finalists, openings=[first]).finished
    found = verdict(*finalists, openings=[first, opening(3600.0, B_1=0.3, B_2=0.3)])
    assert found.test is not None
    assert found.test.opened == ["1970-01-01T00:00:00+00:00", "1970-01-01T01:00:00+00:00"]
    assert [one.accuracy for one in found.test.settings] == [[0.3, 0.3], [0.2, 0.2]]


def test_of_the_seeds_setting_as_winner_each_run_is_tested_once() -> None:
    finalists = [finalist("S", 0.8, 0.8), finalist("A", 0.7, 0.7)]
    found = verdict(*finalists, openings=[opening(S_1=0.5, S_2=0.6)])
    assert found.finished and found.test is not None
    assert [one.trial_id for one in found.test.settings] == ["S"]
    assert found.test.gain == Estimate(0.0, 0.0, 0.0)


def test_of_a_seeds_setting_that_lost_a_run_the_others_are_tested() -> None:
    finalists = [finalist("A", 0.8, 0.8), finalist("S", 0.5, TrialState.DIVERGED)]
    found = verdict(*finalists, openings=[opening(A_1=0.5, A_2=0.6, S_1=0.4)])
    assert found.finished and found.test is not None
    assert (found.test.settings[1].accuracy, found.test.settings[1].mean) == ([0.4, None], None)
    assert found.test.gain == NOTHING


def test_the_file_has_these_keys_and_no_number_that_json_lacks() -> None:
    finalists = [finalist("A", 0.8, 0.8), finalist("S", 0.5, TrialState.DIVERGED)]
    tested = Opening(0.0, 50, {"A-seed1": (math.inf, 0.5), "A-seed2": (0.1, 0.6), "S-seed1": (0.1, 0.4)})
    text = verdict(*finalists, openings=[tested]).to_json()
    content = json.loads(text, parse_constant=lambda constant: pytest.fail(f"{constant} in the file"))
    assert list(content) == [
        "format", "finished", "epochs", "val_images", "seeds", "settings", "winner", "established", "test",
    ]  # fmt: skip
    assert list(content["settings"][0]) == [
        "trial_id", "is_seed_setting", "max_lr", "l1_factor", "peak_epoch", "search_score", "states", "val_accuracy",
        "mean", "low", "high", "shrinkage", "gain",
    ]  # fmt: skip
    assert list(content["settings"][0]["gain"]) == ["mean", "low", "high"]
    assert list(content["test"]) == ["images", "opened", "settings", "gain"]
    assert list(content["test"]["settings"][0]) == ["trial_id", "accuracy", "loss", "mean", "low", "high"]
    assert content["test"]["settings"][0]["loss"] == [None, 0.1]


accuracies = st.floats(0, 1)
runs = st.one_of(accuracies, st.sampled_from([TrialState.DIVERGED, TrialState.FAILED]))
tables = st.integers(2, 5).flatmap(lambda count: st.lists(st.tuples(*[runs] * count), min_size=3, max_size=3))
whole_tables = st.integers(2, 5).flatmap(
    lambda count: st.lists(st.tuples(*[accuracies] * count), min_size=3, max_size=3)
)


@given(tables)
def test_the_winner_is_whole_and_none_that_is_whole_is_better(table: list[tuple[Run, ...]]) -> None:
    found = verdict(*(finalist(name, *row) for name, row in zip("ABS", table, strict=True)))
    whole = {
        name: np.mean(row) for name, row in zip("ABS", table, strict=True) if all(isinstance(r, float) for r in row)
    }
    assert (found.winner is None) == (not whole)
    if found.winner:
        assert whole[found.winner] == max(whole.values())
    if found.established:
        gain = {one.trial_id: one.gain for one in found.settings}[found.winner or ""]
        assert gain.low is not None and 0 < gain.low <= (gain.mean or 0)
        assert found.winner != "S"
    json.loads(found.to_json())


@given(whole_tables, st.floats(0, 1))
def test_what_the_test_set_says_changes_no_decision(table: list[tuple[float, ...]], value: float) -> None:
    finalists = [finalist(name, *row) for name, row in zip("ABS", table, strict=True)]
    before = verdict(*finalists)
    after = verdict(*finalists, openings=[opened_for(*finalists, value=value)])
    assert after.finished
    assert replace(after, test=None, finished=False) == before


@given(whole_tables, st.data())
def test_what_a_seed_does_to_all_settings_alike_changes_no_gain(
    table: list[tuple[float, ...]], data: st.DataObject
) -> None:
    count = len(table[0])
    effects = data.draw(st.tuples(*[st.floats(-5, 5)] * count))
    moved = [[value + effect for value, effect in zip(row, effects, strict=True)] for row in table]
    for row, moved_row in zip(table, moved, strict=True):
        before, after = paired_gain(row, table[-1]), paired_gain(moved_row, moved[-1])
        np.testing.assert_allclose(
            [after.mean, after.low, after.high],  # type: ignore[arg-type]
            [before.mean, before.low, before.high],  # type: ignore[arg-type]
            atol=1e-9,
        )


@given(whole_tables, st.randoms(use_true_random=False))
def test_the_order_of_the_seeds_is_of_no_account(table: list[tuple[float, ...]], random: object) -> None:
    order = list(range(len(table[0])))
    random.shuffle(order)  # type: ignore[attr-defined]
    for row in table:
        before, after = estimate(row), estimate([row[place] for place in order])
        np.testing.assert_allclose([after.mean, after.low], [before.mean, before.low], atol=1e-12)  # type: ignore[arg-type]
