import time
from io import StringIO

from pytest import MonkeyPatch

from tests.tune_experiments.made_up import ended_trial
from tests.tune_experiments.test_monitoring import Trials
from tune_experiments import keeper
from tune_experiments.keeper import Keeper
from tune_experiments.ledger import TrialState
from tune_experiments.monitoring import Progress

TRIAL = ended_trial("00000", TrialState.RUNNING, 0.5)


def views_written(reports: int, seconds_each: float) -> int:
    written = []

    def write_views() -> None:
        time.sleep(seconds_each)
        written.append(1)

    kept = Keeper(Progress(Trials([TRIAL]), lambda: 1, stream=StringIO()), None, write_views)
    for _ in range(reports):
        kept.on_report(TRIAL)
        time.sleep(0.02)
    return len(written)


def test_views_are_written_at_the_first_report_and_then_now_and_then() -> None:
    assert views_written(3, 0) == 1


def test_views_that_take_long_are_written_less_often(monkeypatch: MonkeyPatch) -> None:
    monkeypatch.setattr(keeper, "VIEWS_EVERY", 0.0)
    assert views_written(3, 0) == 3
    assert views_written(3, 0.2) == 1
