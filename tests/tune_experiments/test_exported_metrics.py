"""What is exported, on made-up searches; a real Prometheus reads it in tests/end_to_end/test_metrics.py."""

import math
import time
from collections.abc import Sequence
from dataclasses import dataclass, field

import pytest

from tests.tune_experiments.made_up import ended_trial, metrics
from tune_experiments import exported_metrics
from tune_experiments.exported_metrics import (
    BEST,
    EPOCH,
    IMAGES_PER_SECOND,
    LR,
    METRICS,
    SLOTS,
    SLOTS_BUSY,
    TRAIN_LOSS,
    TRIALS,
    VAL_ACCURACY,
    VAL_LOSS,
    Metric,
    Slots,
    exported,
    samples,
)
from tune_experiments.ledger import Trial, TrialState
from tune_experiments.search_space import Setting

NEVER = math.inf  # nothing was reported after it


@dataclass
class Trials:
    """What is exported."""

    trials: list[Trial] = field(default_factory=list)
    num_samples: int = 4


def values(state: Trials, since: float = NEVER) -> dict[tuple[Metric, str], float]:
    """By metric and by trial or state."""
    return {
        (metric, next(iter(labels.values()), "")): value
        for metric, value, labels in samples(state, slots=Slots(1, 2), images=300, since=since)
    }


def running(trial_id: str, *accuracies: float) -> Trial:
    return ended_trial(trial_id, TrialState.RUNNING, *accuracies)


def test_a_running_trial_has_its_last_epoch() -> None:
    found = values(Trials([running("00000", 0.1, 0.2)]))
    expected = {EPOCH: 2, VAL_ACCURACY: 0.2, VAL_LOSS: 1.1, TRAIN_LOSS: 1.2, LR: 0.01, IMAGES_PER_SECOND: 150}
    assert {metric: found[metric, "00000"] for metric in expected} == expected


def test_a_trial_that_has_not_finished_an_epoch_has_nothing_yet() -> None:
    assert not [trial for _, trial in values(Trials([running("00000")])) if trial == "00000"]


@pytest.mark.parametrize("end", [TrialState.COMPLETED, TrialState.STOPPED, TrialState.FAILED])
def test_a_trial_that_ended_has_its_last_epoch_once_more_and_then_nothing(end: TrialState) -> None:
    trial = ended_trial("00000", end, 0.1, 0.2)
    assert values(Trials([trial]), since=trial.finished_at[-1] - 1)[EPOCH, "00000"] == 2
    assert (EPOCH, "00000") not in values(Trials([trial]), since=trial.finished_at[-1])


def test_a_trial_whose_end_is_being_noted_by_another_thread_is_taken_the_next_time() -> None:
    trial = ended_trial("00000", TrialState.COMPLETED, 0.1)
    trial.finished_at = []
    assert (EPOCH, "00000") not in values(Trials([trial]), since=0.0)


def test_ten_thousand_trials_have_as_many_series_as_there_are_slots() -> None:
    ended = [ended_trial(f"{number:05d}", TrialState.STOPPED, 0.2) for number in range(9998)]
    found = values(Trials([*ended, running("09998", 0.1), running("09999", 0.1)], num_samples=10_000))
    assert {trial for metric, trial in found if "trial" in metric.labels} == {"09998", "09999"}
    assert found[TRIALS, "stopped"] == 9998


def test_what_is_not_finite_is_left_out() -> None:
    trial = running("00000")
    trial.epochs.append(metrics(1, math.nan, train_loss=math.inf, val_loss=math.nan, seconds=0.0))
    found = values(Trials([trial]))
    assert {metric for metric, name in found if name == "00000"} == {EPOCH, LR}


def test_every_state_is_told_and_what_is_to_be_proposed_is_pending() -> None:
    state = Trials([ended_trial("00000", TrialState.STOPPED, 0.2), Trial("00001", Setting(0.1, 0.1, 1))], 5)
    found = {name: value for (metric, name), value in values(state).items() if metric is TRIALS}
    assert found == {"pending": 4, "running": 0, "audited": 0, "completed": 0, "stopped": 1, "diverged": 0, "failed": 0}


def test_the_best_is_that_of_completed_trials() -> None:
    assert (BEST, "") not in values(Trials([running("00000", 0.9)]))
    ended = [
        ended_trial(f"0000{number}", TrialState.COMPLETED, accuracy) for number, accuracy in enumerate((0.3, 0.5, 0.4))
    ]
    assert values(Trials([running("00009", 0.9), *ended]))[BEST, ""] == 0.5


def test_slots() -> None:
    found = values(Trials())
    assert (found[SLOTS, ""], found[SLOTS_BUSY, ""]) == (2, 1)


def test_each_metric_has_a_name_of_its_own_and_a_help() -> None:
    assert len({metric.name for metric in METRICS}) == len(METRICS)
    assert all(metric.help and metric.prometheus_name == f"ray_{metric.name}" for metric in METRICS)


@dataclass
class Broken(Trials):
    """Whose trials cannot be read."""

    asked: int = 0

    @property
    def trials(self) -> Sequence[Trial]:  # type: ignore[override]
        self.asked += 1
        raise RuntimeError("no trials")

    @trials.setter
    def trials(self, trials: object) -> None:
        pass


def test_a_search_goes_on_where_exporting_fails_and_says_so_once(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(exported_metrics, "EXPORT_EVERY", 0.01)
    state = Broken()
    with exported(state, "mine", "search", slots=lambda: Slots(0, 1), images=1):
        while state.asked < 3:
            time.sleep(0.01)
    assert capsys.readouterr().err == "metrics cannot be exported (RuntimeError: no trials)\n"


def test_without_ray_nothing_is_said(capsys: pytest.CaptureFixture[str]) -> None:
    with exported(Trials([running("00000", 0.1)]), "mine-ä", "search", slots=lambda: Slots(0, 1), images=1):
        pass
    assert capsys.readouterr() == ("", "")
