"""What Prometheus can read about a search, through Ray's metrics API: one list of metrics, and a thread that exports.

The driver exports, not the workers. It alone knows states and the best; a trial keeps one series whichever worker goes
on with it, and a worker that is reused leaves none behind; and trials spend no time on it. Ray hands a gauge to its
agent only where it was set since the last time (every 10 s), and the agent forgets one after 20 s without. So whatever
is to be seen is set again every few seconds, and the series of a trial that has ended go by themselves: of a search of
10,000 trials there are only ever as many as there are slots. No agent, no dashboard, no Prometheus: nothing is lost.
"""

import math
import sys
import threading
import time
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Literal, NamedTuple

from ray.util.metrics import Gauge

from cifar_core.history import EpochMetrics
from tune_experiments.background import in_background
from tune_experiments.experiment import best_first
from tune_experiments.ledger import Trial, TrialState, count_states
from tune_experiments.monitoring import Watched

Stage = Literal["search", "confirmation"]
COMMON_LABELS = ("experiment", "stage")
EXPORT_EVERY = 2.0  # seconds; well below Ray's 10
EXPORTING_SHARE = 0.02  # of the time may go into it, with very many trials at a time
FORGOTTEN_AFTER = 10.0  # seconds; what is not set again by then has gaps in Prometheus


@dataclass(frozen=True)
class Metric:
    """A gauge; in Prometheus its name begins with `ray_`, as of all that Ray exports.

    Attributes:
        unit: of a value: `ratio` is a share of 1, `nats` a mean cross-entropy, empty a plain number.
        labels: beyond those that all have, which are `COMMON_LABELS`.
    """

    name: str
    unit: str
    help: str
    labels: tuple[str, ...] = ()

    @property
    def prometheus_name(self) -> str:
        """What a query asks for."""
        return f"ray_{self.name}"

    def gauge(self) -> Gauge:
        """Ray's own, which this process sets."""
        unit = f" ({self.unit})" if self.unit else ""
        return Gauge(self.name, self.help + unit, (*COMMON_LABELS, *self.labels))


OF_TRIAL = ("trial",)
EPOCH = Metric("cifar_trial_epoch", "epochs", "Last finished epoch of a trial, from 1", OF_TRIAL)
VAL_ACCURACY = Metric("cifar_trial_val_accuracy", "ratio", "Validation accuracy after the last epoch", OF_TRIAL)
VAL_LOSS = Metric("cifar_trial_val_loss", "nats", "Validation loss after the last epoch", OF_TRIAL)
TRAIN_LOSS = Metric("cifar_trial_train_loss", "nats", "Training loss in the last epoch, without the L1 term", OF_TRIAL)
LR = Metric("cifar_trial_lr", "", "Learning rate at the last step of the last epoch", OF_TRIAL)
IMAGES_PER_SECOND = Metric(
    "cifar_trial_images_per_second",
    "images/s",
    "Training images over the time of the last epoch",
    OF_TRIAL,
)
BEST = Metric("cifar_best_score", "ratio", "Best score so far: validation accuracy of a completed trial")
TRIALS = Metric("cifar_trials", "trials", "Trials in each state; those to be proposed are pending", ("state",))
SLOTS = Metric("cifar_slots", "trials", "How many trials can run at a time")
SLOTS_BUSY = Metric("cifar_slots_busy", "trials", "How many trials a worker is at")
METRICS = (EPOCH, VAL_ACCURACY, VAL_LOSS, TRAIN_LOSS, LR, IMAGES_PER_SECOND, BEST, TRIALS, SLOTS, SLOTS_BUSY)


class Slots(NamedTuple):
    """Places for trials: those that one is in, and all."""

    busy: int
    all: int


class Sample(NamedTuple):
    """What a gauge is set to, and the labels beyond `COMMON_LABELS`."""

    metric: Metric
    value: float
    labels: Mapping[str, str] = {}


def samples(state: Watched, slots: Slots, images: int, since: float) -> Iterator[Sample]:
    """What is to be exported now: of trials, only those that run, or reported after `since` (Unix seconds).

    `images` are those that a trial trains on in an epoch. What has no finite value is left out.
    """
    trials = list(state.trials)
    found = [*_of_search(state, trials, slots)]
    for trial in trials:
        reported_at = trial.finished_at[-1:]  # none where another thread is just about to note it
        if trial.epochs and (not trial.ended or reported_at > [since]):
            found += _of_trial(trial.epochs[-1], images, {"trial": trial.trial_id})
    return (sample for sample in found if math.isfinite(sample.value))


def _of_trial(epoch: EpochMetrics, images: int, labels: Mapping[str, str]) -> Iterator[Sample]:
    yield Sample(EPOCH, epoch.epoch, labels)
    yield Sample(VAL_ACCURACY, epoch.val_accuracy, labels)
    yield Sample(VAL_LOSS, epoch.val_loss, labels)
    yield Sample(TRAIN_LOSS, epoch.train_loss, labels)
    yield Sample(LR, epoch.lr, labels)
    yield Sample(IMAGES_PER_SECOND, images / epoch.seconds if epoch.seconds else math.nan, labels)


def _of_search(state: Watched, trials: Sequence[Trial], slots: Slots) -> Iterator[Sample]:
    for best in best_first(trials)[:1]:
        yield Sample(BEST, best.score or 0.0)
    counts = count_states(trials)
    counts[TrialState.PENDING] += max(0, state.num_samples - len(trials))
    for name, count in counts.items():
        yield Sample(TRIALS, count, {"state": name.value})
    yield Sample(SLOTS, slots.all)
    yield Sample(SLOTS_BUSY, slots.busy)


@contextmanager
def exported(state: Watched, experiment: str, stage: Stage, slots: Callable[[], Slots], images: int) -> Iterator[None]:
    """Export while the block runs, in which Ray does. What goes wrong with it is said once; the search goes on.

    `slots` is called in another thread.
    """
    gauges = Gauges({"experiment": experiment.encode("ascii", "backslashreplace").decode(), "stage": stage})

    def export(left: threading.Event) -> None:
        since, is_last, pause = time.time(), False, EXPORT_EVERY
        while not is_last:
            is_last = left.wait(pause)
            now, began = time.time(), time.monotonic()
            with gauges.trouble_said_once():
                gauges.set_all(samples(state, slots(), images, since))
            since = now - pause  # once more: an epoch is written down a moment after it was timed
            pause = min(max(EXPORT_EVERY, (time.monotonic() - began) / EXPORTING_SHARE), FORGOTTEN_AFTER / 2)

    with in_background(export, "exported metrics"):
        yield


class Gauges:
    """Ray's gauges, with labels that all of their samples have."""

    def __init__(self, common: Mapping[str, str]) -> None:
        self.common = common
        self.by_metric: dict[Metric, Gauge] = {}
        self.had_trouble = False

    def set_all(self, found: Iterable[Sample]) -> None:
        """Set those of all samples."""
        for metric, value, labels in found:
            if metric not in self.by_metric:
                self.by_metric[metric] = metric.gauge()
            self.by_metric[metric].set(value, {**self.common, **labels})

    @contextmanager
    def trouble_said_once(self) -> Iterator[None]:
        """Go on whatever happens: nothing of a search depends on what it exports."""
        try:
            yield
        except Exception as error:
            if not self.had_trouble:
                print(f"metrics cannot be exported ({type(error).__name__}: {error})", file=sys.stderr)
            self.had_trouble = True
