"""Run in a terminal by the tests: a view of made-up trials that goes on with each line that it is given."""

import sys
import termios
import warnings
from collections.abc import Iterable

from tqdm import tqdm

from tests.tune_experiments.made_up import ended_trial
from tests.tune_experiments.test_monitoring import Trials
from tune_experiments.ledger import TrialState
from tune_experiments.monitoring import Progress


def main(lines: Iterable[str]) -> None:
    running = [ended_trial(f"{number + 2:05d}", TrialState.RUNNING, 0.25) for number in range(2)]
    ended = [ended_trial("00000", TrialState.COMPLETED, 0.4, 0.5), ended_trial("00001", TrialState.STOPPED, 0.2)]
    state = Trials([*ended, *running], num_samples=20)
    progress = Progress(state, lambda: 2)
    progress.on_slots({trial.trial_id for trial in running})
    try:
        go_on(lines, state, progress)
    except KeyboardInterrupt:
        progress.close()
        print("interrupted")


def go_on(lines: Iterable[str], state: Trials, progress: Progress) -> None:
    running = state.trials[2:]
    for line in lines:
        if line == "print\n":
            print("a line of print's")
            tqdm.write("a line of tqdm's", file=sys.stderr)
            warnings.warn("a warning", stacklevel=1)
        if line == "epoch\n":
            running[0].epochs.append(ended_trial("", TrialState.RUNNING, 0.75).epochs[0])
            progress.update(running[0])
        if line == "end\n":
            running[0].state = TrialState.COMPLETED
            progress.update(running[0])
            progress.close()
            print("after the view")
            return


def without_echo() -> Iterable[str]:
    """The lines of standard input, which the terminal does not show."""
    attributes = termios.tcgetattr(sys.stdin)
    attributes[3] &= ~termios.ECHO
    termios.tcsetattr(sys.stdin, termios.TCSANOW, attributes)
    return sys.stdin


if __name__ == "__main__":
    main(without_echo())
