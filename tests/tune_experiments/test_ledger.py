import json
import math
import os
from collections.abc import Callable
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from cifar_core.config import TrainConfig
from cifar_core.errors import UserError
from tests.tune_experiments.made_up import metrics
from tune_experiments.ledger import Ledger, Trial, TrialState, count_states, state_after
from tune_experiments.search_space import Setting

FIRST, SECOND, THIRD = Setting(0.1, 1e-3, 2), Setting(0.30000000000000004, 2e-7, 1), Setting(1e-3, 10.0, 5)


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "ledger.jsonl"


def fill(path: Path) -> Ledger:
    """One trial of every state."""
    ledger = Ledger(path)
    for setting in (FIRST, SECOND, THIRD, FIRST, SECOND, THIRD, FIRST):
        ledger.propose(setting)
    ledger.add_epoch("00000", metrics(1, 0.1), "one:1", TrialState.RUNNING, "")
    ledger.add_epoch("00001", metrics(1, 1 / 3), "two:2", TrialState.RUNNING, "")
    ledger.add_epoch("00001", metrics(2, 2 / 3), "one:1", TrialState.COMPLETED, "")
    ledger.add_epoch("00002", metrics(1, 0.2), "one:1", TrialState.STOPPED, "behind at the rung of epoch 1")
    lost = metrics(1, math.nan, train_loss=math.inf, val_loss=math.nan)
    ledger.add_epoch("00003", lost, "one:1", TrialState.DIVERGED, "the loss is not finite at epoch 1")
    ledger.fail("00004", "its worker died")
    for epoch in (1, 2):
        ledger.add_epoch("00006", metrics(epoch, 0.2), "one:1", TrialState.AUDITED, "behind at the rung of epoch 1")
    return ledger


def assert_same_trials(left: dict[str, Trial], right: dict[str, Trial]) -> None:
    """Equal in everything, where NaN equals NaN."""
    assert list(left) == list(right)
    for ours, theirs in zip(left.values(), right.values(), strict=True):
        assert repr(ours.epochs) == repr(theirs.epochs)
        assert {**vars(ours), "epochs": None} == {**vars(theirs), "epochs": None}


def test_reading_gives_what_was_written(path: Path) -> None:
    ledger = fill(path)
    again = Ledger(path)
    assert_same_trials(again.trials, ledger.trials)
    assert [trial.state.value for trial in again.trials.values()] == [
        "running", "completed", "stopped", "diverged", "failed", "pending", "audited",
    ]  # fmt: skip
    assert again.trials["00001"].workers == ["two:2", "one:1"]
    assert again.trials["00004"].reason == "its worker died"
    assert len(again.trials["00001"].finished_at) == 2


def test_a_file_is_there_only_after_the_first_event(path: Path) -> None:
    ledger = Ledger(path)
    assert not path.exists() and ledger.trials == {}
    ledger.propose(FIRST)
    assert path.exists()


def test_only_a_completed_trial_has_a_score(path: Path) -> None:
    scores = {trial.state.value: trial.score for trial in fill(path).trials.values()}
    assert scores.pop("completed") == 2 / 3
    assert set(scores.values()) == {None}


def test_what_has_ended(path: Path) -> None:
    ledger = fill(path)
    assert [trial.trial_id for trial in ledger.unfinished()] == ["00000", "00005", "00006"]
    assert [trial.ended for trial in ledger.trials.values()] == [False, True, True, True, True, False, False]


def test_a_stopped_trial_has_an_audit_score_only_where_it_ran_on(path: Path) -> None:
    ledger = fill(path)
    assert {trial.trial_id: trial.stopped_at for trial in ledger.trials.values() if trial.stopped_at} == {
        "00002": 1, "00006": 1,
    }  # fmt: skip
    assert all(trial.audit_score is None for trial in ledger.trials.values())
    ledger.add_epoch("00006", metrics(3, 0.7), "one:1", TrialState.STOPPED, "behind at the rung of epoch 1")
    for read in (ledger, Ledger(path)):
        audited = read.trials["00006"]
        assert (audited.ended, audited.stopped_at, audited.audit_score, audited.score) == (True, 1, 0.7, None)


def test_every_state_is_counted(path: Path) -> None:
    assert count_states(fill(path).trials.values()) == dict.fromkeys(TrialState, 1)
    assert count_states([]) == dict.fromkeys(TrialState, 0)


def test_ids_count_on_after_reading(path: Path) -> None:
    ids = [
        fill(path).propose(FIRST).trial_id,
        Ledger(path).propose(FIRST).trial_id,
        Ledger(path).propose(FIRST).trial_id,
    ]
    assert ids == ["00007", "00008", "00009"]


def test_a_trial_may_have_an_id_and_a_seed_of_its_own(path: Path) -> None:
    ledger = Ledger(path)
    ledger.propose(FIRST, "00027-seed3", 3)
    ledger.propose(SECOND)
    for read in (ledger, Ledger(path)):
        assert [(trial.trial_id, trial.seed) for trial in read.trials.values()] == [("00027-seed3", 3), ("00001", None)]
        runs = [trial.applied_to(TrainConfig(seed=9)) for trial in read.trials.values()]
        assert [(run.max_lr, run.seed) for run in runs] == [(FIRST.max_lr, 3), (SECOND.max_lr, 9)]


def test_a_ledger_of_before_there_were_seeds_is_read(path: Path) -> None:
    setting = '{"max_lr": 0.1, "l1_factor": 0.001, "peak_epoch": 2}'
    path.write_text(f'{{"event": "proposed", "trial_id": "00000", "setting": {setting}, "time": 1.0}}\n')
    assert Ledger(path).trials == {"00000": Trial("00000", FIRST)}


@pytest.mark.parametrize(
    ("epoch", "train_loss", "state"),
    [(2, 1.0, "running"), (3, 1.0, "completed"), (2, math.nan, "diverged"), (3, math.inf, "diverged")],
)
def test_an_epoch_ends_a_trial_that_nobody_stops_only_at_the_end_or_by_its_loss(
    epoch: int, train_loss: float, state: str
) -> None:
    found, reason = state_after(metrics(epoch, train_loss=train_loss), epochs=3)
    assert found == state
    assert reason == (f"the loss is not finite at epoch {epoch}" if state == "diverged" else "")


def test_an_event_is_in_the_file_before_it_is_acted_on(path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    ledger = fill(path)

    def full_disk(fd: int) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr("os.fsync", full_disk)
    with pytest.raises(OSError, match="No space left"):
        ledger.add_epoch("00000", metrics(2), "one:1", TrialState.COMPLETED, "")
    assert ledger.trials["00000"].state is TrialState.RUNNING
    assert len(ledger.trials["00000"].epochs) == 1


@pytest.mark.parametrize("kept", [0, 1, 30, 10_000])
def test_a_write_that_failed_is_made_good_by_the_next(path: Path, monkeypatch: pytest.MonkeyPatch, kept: int) -> None:
    ledger = fill(path)
    size = path.stat().st_size

    def full_disk(fd: int) -> None:
        os.ftruncate(fd, min(size + kept, os.fstat(fd).st_size))
        raise OSError(28, "No space left on device")

    with monkeypatch.context() as patches, pytest.raises(OSError, match="No space left"):
        patches.setattr("os.fsync", full_disk)
        ledger.add_epoch("00000", metrics(2), "one:1", TrialState.COMPLETED, "a reason that is long enough")
    ledger.add_epoch("00000", metrics(2, 0.3), "w", TrialState.RUNNING, "")
    assert_same_trials(Ledger(path).trials, ledger.trials)
    assert [epoch.val_accuracy for epoch in ledger.trials["00000"].epochs] == [0.1, 0.3]


def test_a_file_that_vanished_is_not_begun_anew(path: Path) -> None:
    ledger = fill(path)
    path.unlink()
    with pytest.raises(FileNotFoundError):
        ledger.propose(FIRST)
    assert not path.exists()


def test_every_line_is_json_of_one_event(path: Path) -> None:
    fill(path)
    lines = path.read_text().splitlines()
    assert [json.loads(line)["event"] for line in lines] == ["proposed"] * 7 + ["epoch"] * 5 + ["failed"] + [
        "epoch"
    ] * 2


@pytest.mark.parametrize(
    "last_event",
    [
        lambda ledger: ledger.propose(THIRD),
        lambda ledger: ledger.add_epoch("00000", metrics(2, math.nan), "é:1", TrialState.COMPLETED, "ünïcode"),
        lambda ledger: ledger.fail("00000", "it died\nin two lines"),
    ],
)
def test_a_last_line_cut_at_any_byte_never_happened(path: Path, last_event: Callable[[Ledger], object]) -> None:
    before = fill(path)
    whole = path.read_bytes()
    last_event(Ledger(path))
    content = path.read_bytes()
    for end in range(len(whole), len(content)):
        path.write_bytes(content[:end])
        ledger = Ledger(path)
        assert_same_trials(ledger.trials, before.trials)
        assert path.read_bytes() == content[:end]  # who only reads changes nothing
    ledger.propose(SECOND)
    assert path.read_bytes().startswith(whole + b'{"event": "proposed"')
    assert_same_trials(Ledger(path).trials, ledger.trials)
    assert list(Ledger(path).trials) == [*before.trials, "00007"]


def test_zeros_that_a_power_cut_left_at_the_end_are_dropped(path: Path) -> None:
    before = fill(path)
    content = path.read_bytes()
    path.write_bytes(content + bytes(512))
    ledger = Ledger(path)
    assert_same_trials(ledger.trials, before.trials)
    ledger.propose(SECOND)
    assert path.read_bytes().startswith(content + b'{"event": "proposed"') and b"\0" not in path.read_bytes()


def test_a_whole_last_line_is_kept(path: Path) -> None:
    before = fill(path)
    content = path.read_bytes()
    assert_same_trials(Ledger(path).trials, before.trials)
    assert path.read_bytes() == content


@pytest.mark.parametrize(
    "line",
    [
        b"\xff\xfe\x00",
        b"",
        b"\x00\x00\x00\x00",
        b"not json",
        b"[1, 2]",
        b"7",
        b"null",
        b'{"event": "proposed"}',
        b'{"event": "proposed", "trial_id": "00009", "setting": {"max_lr": 1}}',
        b'{"event": "proposed", "trial_id": "00009", "setting": 3}',
        b'{"event": "failed", "trial_id": "99999", "reason": ""}',
        b'{"event": "celebrated", "trial_id": "00000", "reason": ""}',
        b'{"event": "epoch", "trial_id": "00000", "reason": "", "state": "lost"}',
        b'{"event": "epoch", "trial_id": "00000", "reason": "", "state": "running", "metrics": {"loss": 1}}',
    ],
)
@pytest.mark.parametrize("place", [0, 4, -1])
def test_one_line_for_garbage_between_the_lines(path: Path, line: bytes, place: int) -> None:
    fill(path)
    lines = path.read_bytes().splitlines()
    lines.insert(place, line)
    garbled = b"\n".join(lines) + b"\n"
    path.write_bytes(garbled)
    with pytest.raises(UserError, match=r"ledger\.jsonl: not a ledger of this version") as caught:
        Ledger(path)
    assert "\n" not in str(caught.value)
    assert path.read_bytes() == garbled


@given(st.lists(st.floats(allow_nan=False), min_size=9, max_size=9))
def test_every_number_survives_exactly(tmp_path_factory: pytest.TempPathFactory, numbers: list[float]) -> None:
    path = tmp_path_factory.mktemp("ledger") / "ledger.jsonl"
    names = ("train_loss", "train_accuracy", "val_loss", "val_accuracy", "lr", "momentum", "l1", "seconds")
    written = metrics(1, **dict(zip(names, numbers[:8], strict=True)))
    ledger = Ledger(path)
    ledger.propose(Setting(numbers[8], numbers[0], 3))
    ledger.add_epoch("00000", written, "w", TrialState.RUNNING, "")
    (trial,) = Ledger(path).trials.values()
    assert trial.epochs == [written]
    assert trial.setting == Setting(numbers[8], numbers[0], 3)
