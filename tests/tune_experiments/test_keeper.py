from io import StringIO
from types import SimpleNamespace

from pytest import MonkeyPatch

from tests.tune_experiments.made_up import ended_trial
from tests.tune_experiments.test_monitoring import Trials
from tune_experiments import keeper
from tune_experiments.keeper import VIEWS_EVERY, VIEWS_SHARE, Keeper
from tune_experiments.ledger import TrialState
from tune_experiments.monitoring import Progress

TRIAL = ended_trial("00000", TrialState.RUNNING, 0.5)


def views_at(reports_at: list[float], views_take: float, monkeypatch: MonkeyPatch) -> list[float]:
    """When views are written, where trials report at these seconds."""
    now = 0.0
    written: list[float] = []

    def write_views() -> None:
        nonlocal now
        written.append(now)
        now += views_take

    monkeypatch.setattr(keeper, "time", SimpleNamespace(monotonic=lambda: now))
    kept = Keeper(Progress(Trials([TRIAL]), lambda: 1, stream=StringIO()), None, write_views)
    for at in reports_at:
        now = max(now, at)
        kept.on_report(TRIAL)
    return written


def test_views_are_written_at_the_first_report_and_then_now_and_then(monkeypatch: MonkeyPatch) -> None:
    assert VIEWS_EVERY == 5
    assert views_at([1, 2, 5.9, 6.1, 7, 11.2], 0, monkeypatch) == [1, 6.1, 11.2]


def test_views_that_take_long_are_written_less_often(monkeypatch: MonkeyPatch) -> None:
    assert VIEWS_SHARE == 0.1
    assert views_at([0, 10, 21.9, 22.1, 30], 2, monkeypatch) == [0, 22.1]
