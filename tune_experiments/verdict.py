"""What a confirmation decides, as pure functions of its runs: means, paired differences, the winner.

The winner is chosen on validation images alone. `Verdict` is the content of `confirm.json`.
"""

import json
import math
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from datetime import UTC, datetime

import numpy as np

from cifar_core.intervals import mean_interval
from tune_experiments.ledger import Trial

FORMAT = 1
CONFIRM_FILE = "confirm.json"

Scores = Sequence[float | None]  # one for each seed; None where the run is missing, diverged or failed


@dataclass(frozen=True)
class Estimate:
    """A mean and its 95 % interval over seeds: no interval of one value, and nothing where a value is missing."""

    mean: float | None
    low: float | None
    high: float | None


@dataclass(frozen=True)
class Finalist:
    """A trial of the search and its runs with fresh seeds, in the order of the seeds."""

    trial: Trial
    is_seed_setting: bool
    runs: Sequence[Trial]

    @property
    def scores(self) -> Scores:
        """The runs' validation accuracies."""
        return [run.score for run in self.runs]


@dataclass(frozen=True)
class Opening:
    """The test set was opened, at a Unix time. Loss and accuracy by run id."""

    time: float
    images: int
    results: Mapping[str, tuple[float, float]]


@dataclass(frozen=True)
class ConfirmedSetting:
    """A finalist as `confirm.json` shows it. Accuracies are on validation images."""

    trial_id: str
    is_seed_setting: bool
    max_lr: float
    l1_factor: float
    peak_epoch: int
    search_score: float | None
    states: list[str]  # of the runs
    val_accuracy: list[float | None]
    mean: float | None
    low: float | None
    high: float | None
    shrinkage: float | None  # confirmed mean less search score: what the search's pick of the best had flattered
    gain: Estimate  # over the seed's setting, seed by seed


@dataclass(frozen=True)
class TestedSetting:
    """A setting on the test set, the final weights of each of its runs."""

    trial_id: str
    accuracy: list[float | None]
    loss: list[float | None]
    mean: float | None  # accuracy
    low: float | None
    high: float | None


@dataclass(frozen=True)
class TestResult:
    """What the test set says about the winner and the seed's setting."""

    images: int
    opened: list[str]  # when, an ISO time for each
    settings: list[TestedSetting]  # the winner, then the seed's setting where it is another
    gain: Estimate  # of the winner over the seed's setting, seed by seed


@dataclass(frozen=True)
class Verdict:
    """A confirmation so far."""

    format: int
    finished: bool
    epochs: int
    val_images: int
    seeds: list[int]
    settings: list[ConfirmedSetting]  # the best of the search first
    winner: str | None
    established: bool  # the winner's gain over the seed's setting: its interval lies above 0
    test: TestResult | None

    def to_json(self) -> str:
        """The text of `confirm.json`."""
        return json.dumps(asdict(self), indent=2, allow_nan=False) + "\n"


def estimate(values: Scores) -> Estimate:
    """Mean and interval (Student) of one value for each seed."""
    numbers = np.array([value for value in values if value is not None], np.float64)
    if not len(values) or len(numbers) < len(values):
        return Estimate(None, None, None)
    low, high = map(float, mean_interval(numbers))
    return Estimate(float(numbers.mean()), _finite(low), _finite(high))


def paired_gain(values: Scores, reference: Scores) -> Estimate:
    """Mean and interval of the differences, seed by seed: what a seed does to both alike is not in it."""
    pairs = zip(values, reference, strict=True)
    return estimate([None if ours is None or theirs is None else ours - theirs for ours, theirs in pairs])


def choose_winner(settings: Sequence[ConfirmedSetting]) -> ConfirmedSetting | None:
    """The highest mean, of equal ones the first; none where every setting lacks a run, and so its mean."""
    return max((setting for setting in settings if setting.mean is not None), key=_mean, default=None)


def judge(
    finalists: Sequence[Finalist], seeds: Sequence[int], epochs: int, val_images: int, openings: Sequence[Opening]
) -> Verdict:
    """Decide from the runs so far, of which some may be missing; exactly one finalist has the seed's setting."""
    reference = next(finalist for finalist in finalists if finalist.is_seed_setting)
    settings = [_confirmed(finalist, reference) for finalist in finalists]
    all_ended = all(run.ended for finalist in finalists for run in finalist.runs)
    winner = choose_winner(settings) if all_ended else None
    test = _read_test(tested_finalists(finalists, winner.trial_id), openings) if winner else None
    return Verdict(
        format=FORMAT,
        finished=all_ended and (winner is None or test is not None),
        epochs=epochs,
        val_images=val_images,
        seeds=list(seeds),
        settings=settings,
        winner=winner.trial_id if winner else None,
        established=winner is not None and winner.gain.low is not None and winner.gain.low > 0,
        test=test,
    )


def tested_finalists(finalists: Sequence[Finalist], winner: str) -> list[Finalist]:
    """Those that the test set is opened for: the winner, and the seed's setting where it is another."""
    chosen = [finalist for finalist in finalists if finalist.trial.trial_id == winner]
    return chosen + [finalist for finalist in finalists if finalist.is_seed_setting and finalist not in chosen]


def untested_runs(finalists: Sequence[Finalist], openings: Sequence[Opening]) -> list[Trial]:
    """The completed runs that no opening of the test set has looked at."""
    known = {run_id for opening in openings for run_id in opening.results}
    runs = [run for finalist in finalists for run in finalist.runs]
    return [run for run in runs if run.score is not None and run.trial_id not in known]


def _mean(setting: ConfirmedSetting) -> float:
    assert setting.mean is not None
    return setting.mean


def _finite(number: float) -> float | None:
    return number if math.isfinite(number) else None


def _confirmed(finalist: Finalist, reference: Finalist) -> ConfirmedSetting:
    trial, result = finalist.trial, estimate(finalist.scores)
    has_both = result.mean is not None and trial.score is not None
    return ConfirmedSetting(
        trial_id=trial.trial_id,
        is_seed_setting=finalist.is_seed_setting,
        **asdict(trial.setting),
        search_score=trial.score,
        states=[run.state.value for run in finalist.runs],
        val_accuracy=list(finalist.scores),
        **asdict(result),
        shrinkage=result.mean - trial.score if has_both else None,  # type: ignore[operator]
        gain=paired_gain(finalist.scores, reference.scores),
    )


def _read_test(finalists: Sequence[Finalist], openings: Sequence[Opening]) -> TestResult | None:
    """None while a run has not been tested yet."""
    if untested_runs(finalists, openings):
        return None
    results = {run_id: result for opening in openings for run_id, result in opening.results.items()}
    settings = [_tested(finalist, results) for finalist in finalists]
    return TestResult(
        images=openings[-1].images,
        opened=[datetime.fromtimestamp(opening.time, UTC).isoformat(timespec="seconds") for opening in openings],
        settings=settings,
        gain=paired_gain(settings[0].accuracy, settings[-1].accuracy),
    )


def _tested(finalist: Finalist, results: Mapping[str, tuple[float, float]]) -> TestedSetting:
    found = [results.get(run.trial_id) for run in finalist.runs]
    accuracy = [result and result[1] for result in found]
    return TestedSetting(
        trial_id=finalist.trial.trial_id,
        accuracy=accuracy,
        loss=[result and _finite(result[0]) for result in found],
        **asdict(estimate(accuracy)),
    )
