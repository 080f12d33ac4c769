import os
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from io import StringIO
from pathlib import Path

import pytest

from tests.terminal import Terminal
from tests.tune_experiments.made_up import ended_trial
from tune_experiments.ledger import Trial, TrialState
from tune_experiments.monitoring import Progress


@dataclass
class Trials:
    """What is watched."""

    trials: list[Trial]
    num_samples: int = 4
    epochs: int = 2


def lines(state: Trials, *ended: Trial, unit: str = "trial", **how: object) -> list[str]:
    """What is printed, where there is no terminal, as these trials end one after the other."""
    stream = StringIO()
    progress = Progress(state, lambda: 2, unit, stream=stream, **how)  # type: ignore[arg-type]
    progress.on_slots({trial.trial_id for trial in ended})
    for trial in ended:
        state.trials.append(trial)
        progress.update(trial)
    progress.close()
    return stream.getvalue().splitlines()


def test_a_line_for_each_trial_that_ends() -> None:
    first, second, third = lines(
        Trials([ended_trial("00000", TrialState.STOPPED, 0.2)]),
        ended_trial("00001", TrialState.COMPLETED, 0.5, 0.6),
        ended_trial("00002", TrialState.RUNNING, 0.9),
        ended_trial("00003", TrialState.DIVERGED),
        ended_trial("00004", TrialState.FAILED),
    )
    assert first.startswith(
        "00001 (max_lr 0.0655, l1_factor 0.0005, peak_epoch 2) completed: val 60.0% after 2 epochs | 2/4 trials, "
        "1 completed, 1 stopped, best 60.0% (00001), about "
    )
    assert first.endswith(" left")
    assert "1 diverged" in second
    assert "4/4 trials, 1 completed, 1 stopped, 1 diverged, 1 failed, best 60.0% (00001)" in third


def test_without_a_completed_trial_there_is_no_best() -> None:
    (line,) = lines(Trials([]), ended_trial("00000", TrialState.STOPPED, 0.2))
    assert "1/4 trials, 1 stopped, no trial completed yet, about " in line


def test_runs_are_called_so_and_how_it_stands_may_be_left_out() -> None:
    run = ended_trial("00007-seed3", TrialState.COMPLETED, 0.6)
    (line,) = lines(Trials([]), run, unit="run", standing=lambda trials: "")
    assert line.startswith("00007-seed3 (") and "| 1/4 runs, 1 completed, about " in line


ROOT = Path(__file__).parents[2]


@pytest.fixture
def terminal() -> Iterator[Terminal]:
    """A terminal of 80 columns, in which a view of 2 ended trials and 2 running ones is up."""
    command = [sys.executable, "-m", "tests.tune_experiments.watched_in_a_terminal"]
    terminal = Terminal(command, ROOT, columns=80, rows=24)
    terminal.read_until(lambda: "2 running" in terminal.text and terminal.text.endswith("peak_epoch 2"))
    yield terminal
    terminal.close()


def tell(terminal: Terminal, word: str) -> None:
    os.write(terminal.master, f"{word}\n".encode())


def test_a_terminal_shows_one_view_that_is_redrawn_in_place(terminal: Terminal) -> None:
    before = terminal.text.splitlines()
    assert before[0].startswith("2/20 trials  ━") and before[0].endswith(" s")
    assert before[1:] == [
        "2 running (2 of 2 slots busy), 1 completed, 1 stopped",
        "best 50.0% (00000)",
        "00002  epoch 2/2  val 25.0%  max_lr 0.0655  l1_factor 0.0005  peak_epoch 2",
        "00003  epoch 2/2  val 25.0%  max_lr 0.0655  l1_factor 0.0005  peak_epoch 2",
    ]
    tell(terminal, "epoch")
    terminal.read_until(lambda: "75.0%" in terminal.text and terminal.text.endswith("peak_epoch 2"))
    after = terminal.text.splitlines()
    assert after[0].endswith(" left")
    assert after[1:] == [before[1], before[2], before[3].replace("25.0%", "75.0%"), before[4]]

    tell(terminal, "print")  # others write, too: above the view
    terminal.read_until(lambda: "a warning" in terminal.text and terminal.text.splitlines()[-4:] == after[1:])
    lines = terminal.text.splitlines()
    assert lines[:2] == ["a line of print's", "a line of tqdm's"]
    assert [line[:5] for line in lines].count("2/20 ") == 1

    for columns, wide in ((40, False), (90, True)):
        terminal.resize(columns, 12)
        terminal.raw = b""
        terminal.read_until(lambda: terminal.raw.count(b"00003") >= 2)  # the size was heard of before the second
        terminal.read_until(lambda wide=wide: view_at_the_end(terminal) == (1, True, wide))  # type: ignore[misc]

    tell(terminal, "end")  # what stays is the last state, without what ran
    assert terminal.wait() == 0
    first, *others = terminal.text.splitlines()[-4:]
    assert first.startswith("3/20 trials  ━") and "left" not in first
    assert others == ["2 completed, 1 stopped", "best 75.0% (00002)", "after the view"]


def view_at_the_end(terminal: Terminal) -> tuple[int, bool, bool]:
    """How many views there are, whether one is whole at the end, and whether that has room for all that it shows."""
    lines = terminal.text.splitlines() or [""]
    return [line[:5] for line in lines].count("2/20 "), lines[-1].startswith("00003"), "peak_epoch" in lines[-1]


def test_ctrl_c_leaves_the_terminal_as_it_was(terminal: Terminal) -> None:
    terminal.press_ctrl_c()
    assert terminal.wait() == 0
    first, *others = terminal.text.removeprefix("^C").splitlines()
    assert first.startswith("2/20 trials  ━")
    assert others == ["1 completed, 1 stopped", "best 50.0% (00000)", "interrupted"]
    assert b"\x1b[?25l" not in terminal.raw  # the cursor was never hidden
