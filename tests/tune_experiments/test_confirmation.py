import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pytest

from cifar_core.errors import UserError
from tests.tune_experiments.made_up import REFERENCE, ended_trial, metrics
from tune_experiments.confirmation import Confirmation, ConfirmLedger
from tune_experiments.ledger import Trial, TrialState
from tune_experiments.search_space import Setting

pytestmark = pytest.mark.usefixtures("no_flushing")
EPOCHS = 3
SEEDS = (4, 5, 6)
SEED_TRIAL = ended_trial("00000", TrialState.COMPLETED, 0.5)
GOOD = ended_trial("00007", TrialState.COMPLETED, 0.8, setting=Setting(0.1, 1e-3, 1))
BETTER = ended_trial("00009", TrialState.COMPLETED, 0.7, setting=Setting(0.2, 1e-3, 1))
UNSTABLE = ended_trial("00003", TrialState.COMPLETED, 0.9, setting=Setting(0.9, 1e-3, 1))
DYING = ended_trial("00005", TrialState.COMPLETED, 0.6, setting=Setting(0.3, 0.1, 1))
BASES = {"00000": 0.5, "00007": 0.6, "00009": 0.7, "00003": 0.9, "00005": 0.8}


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "confirm.jsonl"


def confirmation(
    path: Path, finalists: Sequence[Trial] = (GOOD, SEED_TRIAL), seeds: Sequence[int] = SEEDS
) -> Confirmation:
    return Confirmation(ConfirmLedger(path), finalists, "00000", seeds, EPOCHS, val_images=40)


def step(state: Confirmation, run: Trial) -> None:
    """The next epoch of a run, a pure function of the run and the epoch; or its end."""
    epoch, finalist = len(run.epochs) + 1, run.trial_id[:5]
    assert run.seed is not None
    if finalist == "00005" and run.seed == 5 and epoch == 2:
        state.fail(run.trial_id, "its worker died")
    elif finalist == "00003" and run.seed == 6 and epoch == 3:
        state.report(run.trial_id, metrics(epoch, float("nan"), train_loss=float("nan")), "w")
    else:
        accuracy = BASES[finalist] + 0.01 * run.seed - 0.1 / epoch + 0.001 * (run.seed * int(finalist) % 7)
        state.report(run.trial_id, metrics(epoch, accuracy), "w")


def train(state: Confirmation) -> None:
    """All runs, one at a time."""
    while (run := state.next_trial()) is not None:
        while not run.ended:
            step(state, run)


def finish(state: Confirmation) -> dict[str, Any]:
    """Train, and open the test set where that is not done yet; what `confirm.json` then holds, but for the clock."""
    train(state)
    if runs := state.runs_to_test():
        state.ledger.add_opening(50, {run.trial_id: (0.5, (run.score or 0.0) - 0.1) for run in runs})
    return timeless(state)


def timeless(state: Confirmation) -> dict[str, Any]:
    content: dict[str, Any] = json.loads(state.verdict.to_json())
    if content["test"]:
        content["test"]["opened"] = len(content["test"]["opened"])
    return content


def test_each_finalist_runs_with_each_seed_and_pairs_come_together(path: Path) -> None:
    state = confirmation(path)
    given_out = []
    while (run := state.next_trial()) is not None:
        given_out.append((run.trial_id, run.setting, run.seed, run.state))
    assert given_out == [
        (f"{trial.trial_id}-seed{seed}", trial.setting, seed, TrialState.PENDING)
        for seed in SEEDS
        for trial in (GOOD, SEED_TRIAL)
    ]
    assert ConfirmLedger(path).trials == state.ledger.trials


def test_a_run_ends_with_its_schedule_and_is_never_stopped_early(path: Path) -> None:
    state = confirmation(path)
    runs = [state.next_trial(), state.next_trial()]
    for run, accuracy in zip(runs, (0.9, 0.0), strict=True):
        assert run is not None
        for epoch in (1, 2):
            assert state.report(run.trial_id, metrics(epoch, accuracy), "w").state is TrialState.RUNNING
        assert state.report(run.trial_id, metrics(3, accuracy), "w").score == accuracy


def test_known_epochs_and_late_reports_change_nothing(path: Path) -> None:
    state = confirmation(path)
    first, second = state.next_trial(), state.next_trial()
    assert first is not None and second is not None
    state.report(first.trial_id, metrics(1, 0.5), "w")
    state.fail(second.trial_id, "died")
    content = path.read_bytes()
    state.report(first.trial_id, metrics(1, 0.6), "w")
    state.report(second.trial_id, metrics(1, 0.6), "w")
    state.fail(second.trial_id, "died again")
    assert path.read_bytes() == content


def test_a_run_that_is_given_back_is_given_out_again_unless_it_has_ended(path: Path) -> None:
    state = confirmation(path)
    first, second = state.next_trial(), state.next_trial()
    assert first is not None and second is not None
    state.fail(second.trial_id, "died")
    state.give_back(second.trial_id)
    state.give_back(first.trial_id)
    assert state.remaining == 5
    assert state.next_trial() is first


def test_progress_is_told_and_nothing_decided_before_the_end(path: Path) -> None:
    state = confirmation(path)
    for _ in range(2):
        run = state.next_trial()
        assert run is not None
        while not run.ended:
            step(state, run)
    verdict = state.verdict
    assert (verdict.finished, verdict.winner, verdict.test, state.runs_to_test()) == (False, None, None, [])
    assert [one.states for one in verdict.settings] == [["completed", "pending", "pending"]] * 2
    assert [one.val_accuracy[1:] for one in verdict.settings] == [[None, None]] * 2


def test_the_test_set_is_opened_for_the_winner_and_the_seeds_setting_only(path: Path) -> None:
    state = confirmation(path, (UNSTABLE, GOOD, BETTER, SEED_TRIAL))
    train(state)
    assert state.verdict.winner == "00009"
    expected = [f"{trial}-seed{seed}" for trial in ("00009", "00000") for seed in SEEDS]
    assert [run.trial_id for run in state.runs_to_test()] == expected


def test_a_confirmation_that_is_cut_anywhere_ends_as_one_that_was_not(path: Path) -> None:
    """Killed after every event, and in the middle of writing it. Nothing that was written is done again."""
    finalists = (UNSTABLE, GOOD, BETTER, DYING, SEED_TRIAL)
    uncut = finish(confirmation(path, finalists))
    assert (uncut["finished"], uncut["winner"], uncut["test"]["opened"]) == (True, "00009", 1)
    states = {one["trial_id"]: one["states"] for one in uncut["settings"]}
    assert (states["00003"][2], states["00005"][1]) == ("diverged", "failed")
    lines = path.read_bytes().splitlines(keepends=True)
    assert json.loads(lines[-1])["event"] == "tested"
    for number, line in enumerate(lines):
        for cut in (0, 1 + number % (len(line) - 1)):
            path.write_bytes(b"".join(lines[:number]) + line[:cut])
            assert finish(confirmation(path, finalists)) == uncut
            resumed = path.read_bytes().splitlines(keepends=True)
            assert resumed[:number] == lines[:number] and len(resumed) == len(lines)


def test_a_finished_confirmation_is_neither_run_nor_opened_again(path: Path) -> None:
    before = finish(confirmation(path))
    content = path.read_bytes()
    again = confirmation(path)
    assert (again.remaining, again.next_trial(), again.runs_to_test()) == (0, None, [])
    assert finish(again) == before
    assert path.read_bytes() == content


def test_a_search_that_was_extended_reuses_the_runs_and_tells_the_second_opening(path: Path) -> None:
    finish(confirmation(path))
    extended = confirmation(path, (GOOD, BETTER, SEED_TRIAL))
    assert extended.remaining == len(SEEDS)
    train(extended)
    assert [run.trial_id for run in extended.runs_to_test()] == [f"00009-seed{seed}" for seed in SEEDS]
    after = finish(extended)
    assert (after["winner"], after["test"]["opened"]) == ("00009", 2)
    assert [one["trial_id"] for one in after["test"]["settings"]] == ["00009", "00000"]


def test_new_finalists_that_do_not_win_open_nothing(path: Path) -> None:
    before = finish(confirmation(path, (BETTER, SEED_TRIAL)))
    after = finish(confirmation(path, (GOOD, BETTER, SEED_TRIAL)))
    assert after["test"] == before["test"] and after["test"]["opened"] == 1


def test_more_seeds_add_runs_and_fewer_leave_them_out(path: Path) -> None:
    before = finish(confirmation(path))
    more = confirmation(path, seeds=(*SEEDS, 7))
    assert more.remaining == 2
    after = finish(more)
    assert (
        after["seeds"] == [4, 5, 6, 7]
        and after["settings"][0]["val_accuracy"][:3] == (before["settings"][0]["val_accuracy"])
    )
    assert after["test"]["opened"] == 2
    fewer = confirmation(path, seeds=SEEDS[:2])
    assert (fewer.remaining, fewer.runs_to_test(), fewer.verdict.finished) == (0, [], True)


@pytest.mark.parametrize(
    "line",
    [
        b'{"event": "tested", "time": 1.0, "images": 50}',
        b'{"event": "tested", "time": 1.0, "images": 50, "results": {"00000-seed1": 3}}',
        b'{"event": "tested", "time": null, "images": 50, "results": {}}',
    ],
)
def test_one_line_for_a_damaged_ledger(path: Path, line: bytes) -> None:
    finish(confirmation(path))
    path.write_bytes(line + b"\n" + path.read_bytes())
    with pytest.raises(UserError, match=r"confirm\.jsonl: not a ledger of this version"):
        ConfirmLedger(path)


def test_the_seeds_setting_is_known_by_its_trial(path: Path) -> None:
    twin = ended_trial("00004", TrialState.COMPLETED, 0.6, setting=REFERENCE)
    settings = confirmation(path, (twin, SEED_TRIAL)).verdict.settings
    assert [one.is_seed_setting for one in settings] == [False, True]
