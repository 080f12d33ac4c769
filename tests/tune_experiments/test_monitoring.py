from dataclasses import dataclass
from io import StringIO

from tests.tune_experiments.made_up import ended_trial
from tune_experiments.ledger import Trial, TrialState
from tune_experiments.monitoring import Progress


@dataclass
class Trials:
    """What is watched."""

    trials: list[Trial]
    num_samples: int = 4


def lines(state: Trials, *ended: Trial, unit: str = "trial", **how: object) -> list[str]:
    """What is printed, where there is no terminal, as these trials end one after the other."""
    stream = StringIO()
    progress = Progress(state, unit, stream=stream, **how)  # type: ignore[arg-type]
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
        "1 completed, 1 stopped, best 60.0%, about "
    )
    assert first.endswith(" left")
    assert "1 diverged" in second
    assert "4/4 trials, 1 completed, 1 stopped, 1 diverged, 1 failed, best 60.0%" in third


def test_without_a_completed_trial_there_is_no_best() -> None:
    (line,) = lines(Trials([]), ended_trial("00000", TrialState.STOPPED, 0.2))
    assert "1/4 trials, 1 stopped, no trial completed yet, about " in line


def test_runs_are_called_so_and_how_it_stands_may_be_left_out() -> None:
    run = ended_trial("00007-seed3", TrialState.COMPLETED, 0.6)
    (line,) = lines(Trials([]), run, unit="run", standing=lambda trials: "")
    assert line.startswith("00007-seed3 (") and "| 1/4 runs, 1 completed, about " in line
