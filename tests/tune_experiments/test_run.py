from pathlib import Path

import pytest

from tests.tune_experiments.made_up import PROPOSERS, ended_trial, made_up_state
from tune_experiments import run
from tune_experiments.ledger import Ledger, Trial, TrialState
from tune_experiments.run import Budget, ExitCode, exit_code
from tune_experiments.verdict import Verdict

COMPLETED = ended_trial("00000", TrialState.COMPLETED, 0.5)
DIVERGED = ended_trial("00000", TrialState.DIVERGED)


def verdict(finished: bool) -> Verdict:
    return Verdict(1, finished, 9, 40, [1, 2], [], None, False, None)


def test_what_is_left_of_a_budget(monkeypatch: pytest.MonkeyPatch) -> None:
    now = [100.0]
    monkeypatch.setattr(run.time, "monotonic", lambda: now[0])
    budget, unlimited = Budget(60.0), Budget(None)
    now[0] = 130.0
    assert (budget.left, budget.is_spent) == (30.0, False)
    now[0] = 170.0
    assert (budget.left, budget.is_spent) == (-10.0, True)
    assert (unlimited.left, unlimited.is_spent) == (None, False)


@pytest.mark.parametrize(
    ("trial", "asked", "confirmed", "seconds", "code"),
    [
        (COMPLETED, 1, None, None, ExitCode.DONE),
        (COMPLETED, 1, verdict(True), None, ExitCode.DONE),
        (COMPLETED, 1, verdict(True), 0.0, ExitCode.DONE),
        (COMPLETED, 1, verdict(False), 0.0, ExitCode.DONE),  # as far as the time budget went
        (COMPLETED, 1, verdict(False), 1e9, ExitCode.INTERRUPTED),
        (COMPLETED, 1, verdict(False), None, ExitCode.INTERRUPTED),
        (COMPLETED, 2, None, None, ExitCode.INTERRUPTED),
        (COMPLETED, 2, None, 0.0, ExitCode.DONE),
        (DIVERGED, 1, None, None, ExitCode.NOTHING_COMPLETED),
    ],
)
def test_exit_codes(
    tmp_path: Path,
    trial: Trial,
    asked: int,
    confirmed: Verdict | None,
    seconds: float | None,
    code: ExitCode,
) -> None:
    state = made_up_state(Ledger(tmp_path / "ledger"), PROPOSERS["random"](), asked)
    state.ledger.trials["00000"] = trial
    assert exit_code(state, confirmed, Budget(seconds)) is code
