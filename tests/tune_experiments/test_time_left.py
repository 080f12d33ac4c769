import pytest
from hypothesis import given
from hypothesis import strategies as st

from tests.tune_experiments.made_up import ended_trial
from tune_experiments.ledger import Trial, TrialState
from tune_experiments.time_left import epochs_to_come, seconds_left, time_to_finish

COMPLETED, STOPPED, RUNNING, AUDITED = (
    TrialState.COMPLETED, TrialState.STOPPED, TrialState.RUNNING, TrialState.AUDITED,
)  # fmt: skip


def trial(number: int, state: TrialState, epochs: int, stopped_at: int | None = None) -> Trial:
    made = ended_trial(f"{number:05d}", state, *[0.5] * epochs)
    made.stopped_at = stopped_at or made.stopped_at
    return made


def test_where_nothing_is_known_every_trial_goes_to_the_end() -> None:
    assert epochs_to_come([], 4) == [4, 3, 2, 1, 0]
    assert seconds_left([], 6, 4, 2, 10.0, {}) == 120


def test_of_those_that_passed_an_epoch_the_share_that_went_on_is_expected_to() -> None:
    """4 reached epoch 1 and 2 ended there; 1 of the 2 others ended at epoch 2."""
    trials = [trial(0, STOPPED, 1), trial(1, STOPPED, 1), trial(2, STOPPED, 2), trial(3, COMPLETED, 4)]
    assert epochs_to_come(trials, 4) == [1 + (1 + 2 / 2) / 2, 1 + 2 / 2, 2, 1, 0]


def test_trials_under_way_count_for_the_epochs_behind_them() -> None:
    """The stopped ones end first; without the running ones, no trial would be expected to get beyond epoch 1."""
    stopped = [trial(0, STOPPED, 1)]
    running = [trial(1, RUNNING, 1), trial(2, RUNNING, 2), trial(3, RUNNING, 0)]
    assert epochs_to_come(stopped, 4)[0] == 1
    assert epochs_to_come(stopped + running, 4) == [1 + 2 / 3 * 3, 3, 2, 1, 0]


def test_what_an_audited_trial_trains_after_it_was_behind_is_not_expected_of_others() -> None:
    trials = [trial(0, AUDITED, 3, stopped_at=1), trial(1, STOPPED, 4, stopped_at=1)]
    assert epochs_to_come(trials, 4) == [1, 3, 2, 1, 0]
    assert seconds_left(trials, 2, 4, 1, 10.0, {}) == 10


def test_the_trial_in_a_slot_has_part_of_its_epoch_behind_it() -> None:
    running = trial(0, RUNNING, 2)
    assert seconds_left([running], 1, 4, 1, 10.0, {"00000": 3.0}) == 17
    assert seconds_left([running], 1, 4, 1, 10.0, {"00000": 99.0}) == 10  # late: any moment now


def test_the_trials_in_slots_come_first() -> None:
    """After a resume: 00000 waits while 00001 runs; both have one epoch to go, and one more is to be proposed."""
    trials = [trial(0, RUNNING, 3), trial(1, RUNNING, 3)]
    assert seconds_left(trials, 3, 4, 2, 10.0, {"00001": 10.0}) == pytest.approx(40)


@pytest.mark.parametrize(
    ("durations", "slots", "expected"), [([], 2, 0), ([3, 1, 1, 1], 2, 3), ([1, 1, 1, 3], 2, 4), ([5, 5], 1, 10)]
)
def test_each_slot_takes_the_next_trial(durations: list[float], slots: int, expected: float) -> None:
    assert time_to_finish(durations, slots) == expected


def test_nothing_is_left_once_all_have_ended() -> None:
    assert seconds_left([trial(0, COMPLETED, 4), trial(1, STOPPED, 1)], 2, 4, 2, 10.0, {}) == 0


@given(
    st.lists(st.integers(0, 9), max_size=8),
    st.integers(1, 4),
    st.integers(0, 40),
    st.sampled_from([0.0, 1.0, 3.0, 7.0]),
)
def test_many_of_one_length_are_counted_as_if_one_by_one(
    durations: list[float], slots: int, more: int, each: float
) -> None:
    assert time_to_finish(durations, slots, more, each) == time_to_finish([*durations, *[each] * more], slots)
