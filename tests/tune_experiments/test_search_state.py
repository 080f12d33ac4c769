from dataclasses import astuple, replace
from pathlib import Path
from random import Random

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from tests.tune_experiments.made_up import (
    EPOCHS,
    PROPOSERS,
    REFERENCE,
    fails,
    made_up_epoch,
    made_up_state,
    metrics,
    run_one_at_a_time,
)
from tune_experiments.early_stopping import Audit, SuccessiveHalving
from tune_experiments.ledger import Ledger, Trial, TrialState
from tune_experiments.search_space import Setting
from tune_experiments.search_state import SearchState
from tune_experiments.searcher import Proposer

TRIALS = 14
EVERY_END = {TrialState.COMPLETED, TrialState.STOPPED, TrialState.DIVERGED, TrialState.FAILED}


class Repeat:
    """Proposes one setting for ever, and keeps what it was told."""

    def __init__(self) -> None:
        self.followed: list[str] = []
        self.told: list[tuple[str, TrialState]] = []

    def propose(self, number: int) -> Setting:
        return Setting(0.1, 0.01, number)

    def follow(self, trial: Trial) -> None:
        self.followed.append(trial.trial_id)

    def tell(self, trial: Trial) -> None:
        self.told.append((trial.trial_id, trial.state))


@pytest.fixture(autouse=True)
def no_flushing(monkeypatch: pytest.MonkeyPatch) -> None:
    """Thousands of events that no power cut threatens."""
    monkeypatch.setattr("os.fsync", lambda fd: None)


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "ledger.jsonl"


def outcome(trial: Trial) -> tuple[object, ...]:
    """Everything about a trial but the clock, in a form where NaN equals NaN."""
    return trial.trial_id, trial.setting, trial.state, trial.reason, repr([astuple(epoch) for epoch in trial.epochs])


def started(path: Path, proposer: Proposer | None = None, trials: int = 3) -> SearchState:
    """A search with rungs at epochs 1 and 4, of which all trials are running, none with an epoch yet."""
    halving = SuccessiveHalving([1, 4], 2)
    state = SearchState(Ledger(path), proposer or Repeat(), halving, REFERENCE, EPOCHS, trials)
    for _ in range(trials):
        state.next_trial()
    return state


def test_first_trial_is_the_reference_and_then_the_proposers(path: Path) -> None:
    state = started(path)
    assert [trial.setting for trial in state.trials] == [REFERENCE, Setting(0.1, 0.01, 1), Setting(0.1, 0.01, 2)]
    assert state.next_trial() is None
    assert state.proposer.followed == ["00000"]  # type: ignore[attr-defined]


def test_remaining_counts_down(path: Path) -> None:
    state = made_up_state(Ledger(path), Repeat(), 3)
    counts = [state.remaining]
    while state.next_trial():
        counts.append(state.remaining)
    assert counts == [3, 2, 1, 0]


def test_a_trial_behind_at_a_rung_stops_and_the_proposer_hears_it(path: Path) -> None:
    state = started(path)
    assert state.report("00001", metrics(1, 0.6), "w").state is TrialState.RUNNING
    trial = state.report("00002", metrics(1, 0.5), "w")
    assert (trial.state, trial.reason) == (TrialState.STOPPED, "behind at the rung of epoch 1")
    assert state.proposer.told == [("00002", TrialState.STOPPED)]  # type: ignore[attr-defined]


def test_a_trial_is_judged_only_at_rungs(path: Path) -> None:
    state = started(path)
    for epoch in (1, 2, 3):
        state.report("00001", metrics(epoch, 0.9), "w")
    for epoch, accuracy in ((1, 0.9), (2, 0.9), (3, 0.0)):
        assert state.report("00002", metrics(epoch, accuracy), "w").state is TrialState.RUNNING
    assert state.report("00001", metrics(4, 0.9), "w").state is TrialState.RUNNING
    assert state.report("00002", metrics(4, 0.0), "w").state is TrialState.STOPPED


def test_last_epoch_completes_a_trial_however_it_did(path: Path) -> None:
    state = SearchState(Ledger(path), Repeat(), SuccessiveHalving([1], 2), REFERENCE, epochs=1, num_samples=2)
    for accuracy in (0.9, 0.1):
        trial = state.next_trial()
        assert trial is not None
        assert state.report(trial.trial_id, metrics(1, accuracy), "w").score == accuracy


def test_the_reference_is_never_stopped_but_counts_at_the_rungs(path: Path) -> None:
    state = started(path)
    state.report("00001", metrics(1, 0.9), "w")
    assert state.report("00000", metrics(1, 0.1), "w").state is TrialState.RUNNING
    assert state.halving.values[1] == {"00001": 0.9, "00000": 0.1}


@pytest.mark.parametrize("lost", [{"train_loss": np.nan}, {"train_loss": np.inf}, {"val_loss": np.nan}])
@pytest.mark.parametrize("trial_id", ["00000", "00001"])
def test_a_loss_that_is_not_finite_ends_any_trial(path: Path, lost: dict[str, float], trial_id: str) -> None:
    state = started(path)
    trial = state.report(trial_id, metrics(1, 0.1, **lost), "w")
    assert (trial.state, trial.score) == (TrialState.DIVERGED, None)
    assert trial.reason == "the loss is not finite at epoch 1"


def test_divergence_in_the_last_epoch_is_no_completion(path: Path) -> None:
    state = started(path)
    for epoch in range(1, EPOCHS):
        state.report("00000", metrics(epoch, 0.5), "w")
    assert state.report("00000", metrics(EPOCHS, 0.5, val_loss=np.nan), "w").state is TrialState.DIVERGED


def test_known_epochs_and_late_reports_change_nothing(path: Path) -> None:
    state = started(path)
    state.report("00000", metrics(1, 0.5), "one:1")
    state.report("00000", metrics(2, 0.6), "one:1")
    state.fail("00001", "died")
    content = path.read_bytes()
    state.report("00000", metrics(1, 0.7), "two:2")
    state.report("00000", metrics(2, 0.7), "two:2")
    state.report("00001", metrics(1, 0.7), "two:2")
    state.fail("00001", "died again")
    assert path.read_bytes() == content
    assert state.halving.values[1] == {"00000": 0.5}
    assert state.report("00000", metrics(3, 0.7), "two:2").workers == ["one:1", "one:1", "two:2"]
    assert state.proposer.told == [("00001", TrialState.FAILED)]  # type: ignore[attr-defined]


def test_hopeless_is_when_the_first_three_failed_alike(path: Path) -> None:
    state = started(path, trials=4)
    answers = []
    for trial_id in ("00001", "00002", "00003"):
        answers.append(state.hopeless)
        state.fail(trial_id, "out of memory")
    assert answers == [None, None, None]
    assert state.hopeless == "out of memory"
    state.report("00000", metrics(1), "w")
    assert state.hopeless == "out of memory"
    state.fail("00000", "another reason")
    assert state.hopeless is None


def test_a_hopeless_search_that_is_resumed_gets_another_chance(path: Path) -> None:
    state = started(path, trials=6)
    for free, trial_id in enumerate(("00000", "00001", "00002")):
        state.fail(trial_id, f"out of memory ({free} MiB free)")
    assert state.hopeless
    resumed = SearchState(Ledger(path), Repeat(), SuccessiveHalving([], 2), REFERENCE, EPOCHS, num_samples=6)
    assert resumed.hopeless is None and resumed.unfinished == 3
    assert SearchState(Ledger(path), Repeat(), SuccessiveHalving([], 2), REFERENCE, EPOCHS, 2).unfinished == 3


def test_a_search_with_any_other_end_is_not_hopeless(path: Path) -> None:
    state = started(path, trials=4)
    state.report("00000", metrics(1, train_loss=np.nan), "w")
    for trial_id in ("00001", "00002", "00003"):
        state.fail(trial_id, "out of memory")
    assert state.hopeless is None


@pytest.mark.parametrize("kind", PROPOSERS)
def test_a_search_that_is_cut_anywhere_ends_as_one_that_was_not(path: Path, kind: str) -> None:
    uncut = [outcome(trial) for trial in run_one_at_a_time(made_up_state(Ledger(path), PROPOSERS[kind](), TRIALS))]
    assert {state for _, _, state, _, _ in uncut} == EVERY_END
    assert len({setting for _, setting, _, _, _ in uncut}) == TRIALS
    lines = path.read_bytes().splitlines(keepends=True)
    for number, line in enumerate(lines):
        for cut in (0, 1 + number % (len(line) - 1)):
            path.write_bytes(b"".join(lines[:number]) + line[:cut])
            resumed = run_one_at_a_time(made_up_state(Ledger(path), PROPOSERS[kind](), TRIALS))
            assert [outcome(trial) for trial in resumed] == uncut
            assert path.read_bytes().count(b"\n") == len(lines)


@pytest.mark.parametrize("kind", PROPOSERS)
def test_a_search_that_grows_ends_as_one_that_was_that_large(tmp_path: Path, kind: str) -> None:
    large = run_one_at_a_time(made_up_state(Ledger(tmp_path / "large"), PROPOSERS[kind](), TRIALS))
    for num_samples in (1, 5, 5, TRIALS):
        grown = run_one_at_a_time(made_up_state(Ledger(tmp_path / "grown"), PROPOSERS[kind](), num_samples))
        assert [outcome(trial) for trial in grown] == [outcome(trial) for trial in large[:num_samples]]


def test_a_resumed_search_first_goes_on_with_what_was_running(path: Path) -> None:
    state = started(path)
    state.report("00001", metrics(1, 0.5), "w")
    state.fail("00000", "died")
    resumed = made_up_state(Ledger(path), Repeat(), 4)
    assert resumed.remaining == 3
    given_out = [resumed.next_trial() for _ in range(4)]
    assert [trial and trial.trial_id for trial in given_out] == ["00001", "00002", "00003", None]
    assert given_out[0] is not None and len(given_out[0].epochs) == 1
    assert resumed.proposer.followed == ["00000", "00001", "00002"]  # type: ignore[attr-defined]
    assert resumed.proposer.told == [("00000", TrialState.FAILED)]  # type: ignore[attr-defined]


def test_fewer_samples_than_there_are_already_just_finishes_them(path: Path) -> None:
    started(path, trials=3)
    state = made_up_state(Ledger(path), Repeat(), 1)
    assert state.remaining == 3
    assert len(run_one_at_a_time(state)) == 3
    assert all(trial.ended for trial in state.trials)


@settings(max_examples=25, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(st.sampled_from(sorted(PROPOSERS)), st.integers(0, 2**32), st.integers(2, 5))
def test_whatever_the_order_of_the_reports(
    tmp_path_factory: pytest.TempPathFactory, kind: str, seed: int, slots: int
) -> None:
    """Several trials at a time in any order, workers that die and come by again, and a driver that is killed."""
    random = Random(seed)
    path = tmp_path_factory.mktemp("search") / "ledger.jsonl"
    state = made_up_state(Ledger(path), PROPOSERS[kind](), TRIALS)
    running: dict[str, int] = {}  # the last epoch that each worker reported
    given_out: list[str] = []
    while True:
        while len(running) < slots and (trial := state.next_trial()) is not None:
            running[trial.trial_id] = len(trial.epochs)
            given_out.append(trial.trial_id)
        if not running:
            break
        event, trial_id = random.random(), random.choice(sorted(running))
        trial = state.ledger.trials[trial_id]
        if event < 0.05:
            state = made_up_state(Ledger(path), PROPOSERS[kind](), TRIALS)
            running, given_out = {}, [trial.trial_id for trial in state.trials if trial.ended]
            continue
        if event < 0.15:
            running[trial_id] = random.randint(0, running[trial_id])
            continue
        running[trial_id] += 1
        if fails(trial.setting, running[trial_id]):
            state.fail(trial_id, "worker died")
        else:
            state.report(trial_id, made_up_epoch(trial.setting, running[trial_id]), "w")
        if trial.ended:
            del running[trial_id]
    assert sorted(given_out) == [f"{number:05d}" for number in range(TRIALS)]
    assert all(trial.ended for trial in state.trials)
    assert len({trial.setting for trial in state.trials}) == TRIALS
    assert state.trials[0].state is TrialState.COMPLETED
    for trial in state.trials:
        assert [epoch.epoch for epoch in trial.epochs] == list(range(1, len(trial.epochs) + 1))
        assert (len(trial.epochs) == EPOCHS) == (trial.state is TrialState.COMPLETED)
        assert trial.state is not TrialState.STOPPED or len(trial.epochs) in state.halving.values
    again = made_up_state(Ledger(path), PROPOSERS[kind](), TRIALS)
    assert again.halving.values == state.halving.values
    assert again.remaining == 0


def audited_state(path: Path) -> SearchState:
    """As `started`, but every trial that is behind is audited."""
    halving, audit = SuccessiveHalving([1, 4], 2), Audit(share=1.0)
    return SearchState(Ledger(path), Repeat(), halving, REFERENCE, EPOCHS, 3, audit=audit)


def test_an_audited_trial_runs_to_the_end_apart_from_the_selection(path: Path) -> None:
    state = audited_state(path)
    for _ in range(3):
        state.next_trial()
    state.report("00001", metrics(1, 0.6), "w")
    assert state.report("00002", metrics(1, 0.5), "w").state is TrialState.AUDITED
    assert state.proposer.told == [("00002", TrialState.AUDITED)]  # type: ignore[attr-defined]
    for epoch in range(2, EPOCHS):
        assert state.report("00002", metrics(epoch, 0.9), "w").state is TrialState.AUDITED
    trial = state.report("00002", metrics(EPOCHS, 0.99), "w")
    assert (trial.state, trial.score, trial.audit_score, trial.stopped_at) == (TrialState.STOPPED, None, 0.99, 1)
    assert trial.reason == "behind at the rung of epoch 1; runs on for the audit"
    assert len(state.proposer.told) == 1  # type: ignore[attr-defined]
    assert state.halving.values == {1: {"00001": 0.6, "00002": 0.5}, 4: {}}


def test_a_resumed_search_goes_on_with_its_audit(path: Path) -> None:
    before = audited_state(path)
    for _ in range(3):
        before.next_trial()
    before.report("00001", metrics(1, 0.6), "w")
    for epoch in range(1, 6):
        before.report("00002", metrics(epoch, 0.5), "w")
    state = audited_state(path)
    assert [trial.trial_id for trial in state.to_continue] == ["00000", "00001", "00002"]
    assert state.halving.values == before.halving.values
    assert state.proposer.told == [("00002", TrialState.AUDITED)]  # type: ignore[attr-defined]
    assert state.report("00002", metrics(6, 0.5), "w").state is TrialState.AUDITED


def test_an_audit_that_diverges_ends_as_diverged_and_is_told_once(path: Path) -> None:
    state = audited_state(path)
    for _ in range(3):
        state.next_trial()
    state.report("00001", metrics(1, 0.6), "w")
    state.report("00002", metrics(1, 0.5), "w")
    trial = state.report("00002", metrics(2, np.nan, train_loss=np.nan, val_loss=np.nan), "w")
    assert (trial.state, trial.stopped_at, trial.audit_score) == (TrialState.DIVERGED, 1, None)


def test_rungs_judge_by_the_averaged_weights(path: Path) -> None:
    halving = SuccessiveHalving([1], 2)
    state = SearchState(Ledger(path), Repeat(), halving, REFERENCE, EPOCHS, 4, scheduler="asha")
    for _ in range(4):
        state.next_trial()
    state.report("00001", metrics(1, 0.2, ema_val_accuracy=0.6), "w")
    assert state.report("00002", metrics(1, 0.9, ema_val_accuracy=0.5), "w").state is TrialState.STOPPED
    assert state.report("00003", metrics(1, 0.9), "w").state is TrialState.STOPPED, "no value passes no rung"
    assert halving.values[1] == {"00001": 0.6, "00002": 0.5}


def second_chance_state(path: Path, trials: int = 4) -> SearchState:
    """Judged by the averaged weights after epoch 1, a half kept."""
    return SearchState(Ledger(path), Repeat(), SuccessiveHalving([1], 2), REFERENCE, EPOCHS, trials, scheduler="asha")


def judged(state: SearchState, trial_id: str, value: float) -> TrialState:
    return state.report(trial_id, metrics(1, 0.1, ema_val_accuracy=value), "w").state


def test_a_trial_that_was_stopped_by_a_high_bar_goes_on_once_all_are_started(path: Path) -> None:
    state = second_chance_state(path)
    for _ in range(3):
        state.next_trial()
    assert judged(state, "00001", 0.9) is TrialState.RUNNING
    assert judged(state, "00002", 0.5) is TrialState.STOPPED
    assert state.second_chances() == []
    state.next_trial()
    assert judged(state, "00000", 0.1) is TrialState.RUNNING  # the reference
    assert judged(state, "00003", 0.2) is TrialState.STOPPED
    assert (state.remaining, state.unfinished) == (1, 3)
    again = state.next_trial()
    assert again is not None and again.trial_id == "00002"  # the median is now 0.35
    assert (again.state, again.stopped_at, again.second_chances, len(again.epochs)) == (TrialState.RUNNING, None, 1, 1)
    assert state.next_trial() is None and state.remaining == 0
    for epoch in range(2, EPOCHS + 1):
        state.report("00002", metrics(epoch, 0.7), "w")
    assert again.score == 0.7


def test_a_search_that_ended_before_a_second_chance_resumes_with_it(path: Path) -> None:
    before = second_chance_state(path, 3)
    for _ in range(3):
        before.next_trial()
    judged(before, "00001", 0.5)
    judged(before, "00002", 0.4)
    judged(before, "00000", 0.1)
    state = second_chance_state(path, 3)
    assert [trial.trial_id for trial in state.to_continue] == ["00000", "00001"]
    assert [trial.trial_id for trial in state.second_chances()] == ["00002"]
    given = [state.next_trial() for _ in range(4)]
    assert [trial and trial.trial_id for trial in given] == ["00000", "00001", "00002", None]
    assert [trial.trial_id for trial in second_chance_state(path, 3).to_continue] == ["00000", "00001", "00002"]


def test_stock_asha_gives_no_second_chance_and_an_audited_trial_gets_none(path: Path) -> None:
    for number, (scheduler, share) in enumerate((("stock-asha", 0.0), ("asha", 1.0))):
        ledger = Ledger(path.with_name(str(number)))
        state = SearchState(
            ledger,
            Repeat(),
            SuccessiveHalving([1], 2),
            REFERENCE,
            2,
            3,
            scheduler=scheduler,
            audit=Audit(share),  # type: ignore[arg-type]
        )
        for _ in range(3):
            state.next_trial()
        for trial_id, value in (("00001", 0.5), ("00002", 0.4), ("00000", 0.1)):
            state.report(trial_id, metrics(1, value, ema_val_accuracy=value), "w")
        state.report("00002", metrics(2, 0.9), "w")
        assert ledger.trials["00002"].state is TrialState.STOPPED and state.second_chances() == []


@pytest.mark.parametrize("cut", range(0, 40, 3))
def test_a_search_with_second_chances_ends_the_same_wherever_it_was_cut(path: Path, tmp_path: Path, cut: int) -> None:
    """One trial at a time; the averages are worth what the weights are, but for a shift by the number of the trial."""

    def state_at(file: Path) -> SearchState:
        halving = SuccessiveHalving([2, 6], 2)
        return SearchState(Ledger(file), PROPOSERS["optuna"](), halving, REFERENCE, EPOCHS, 10, scheduler="asha")

    def run(state: SearchState, events: int = 10**6) -> None:
        while (trial := state.next_trial()) is not None:
            while not trial.ended:
                if events == 0:
                    return
                events -= 1
                epoch = made_up_epoch(trial.setting, len(trial.epochs) + 1)
                average = None if epoch.diverged else epoch.val_accuracy - 0.01 * int(trial.trial_id)
                state.report(trial.trial_id, replace(epoch, ema_val_accuracy=average), "w")

    whole = state_at(path)
    run(whole)
    assert sum(trial.second_chances for trial in whole.trials) >= 1
    run(state_at(tmp_path / "cut"), cut)
    resumed = state_at(tmp_path / "cut")
    run(resumed)
    assert [outcome(trial) for trial in resumed.trials] == [outcome(trial) for trial in whole.trials]
