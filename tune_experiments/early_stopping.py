"""Early stopping's rungs, cutoffs and decisions as pure functions, and the state they act on.

Two schedulers, both ASHA (Li et al., arXiv 1810.05934) in the stopping form that Ray Tune uses: a trial is judged once,
when it reaches a rung, against the values seen there before.

- `stock-asha` is Ray's: it compares validation accuracy, and its reduction factor sets both what share a rung keeps and
  how far apart rungs are.
- `asha` fits OneCycle in three ways. It compares the accuracy of a moving average of the weights, which tells what the
  weights will come to once the learning rate has fallen, wherever a trial's peak is. Its rungs are `SPACING` apart
  whatever share they keep: two lenient rungs lose the best less often than strict ones for the same epochs. And when
  all trials have been started, a stopped one that would pass its rung now, given all that were there, goes on: it had
  come when the bar happened to be high. All three were chosen by replay over recorded curves (docs/learning_curves).
"""

import math
from bisect import bisect_left, insort
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

import numpy as np

from cifar_core.history import EpochMetrics

Scheduler = Literal["asha", "stock-asha", "none"]
SPACING = 6.0  # of asha's rungs
GRACE_SHARE = 1 / 12  # of the schedule, before the first rung


def rungs(scheduler: Scheduler, grace_period: int | None, reduction_factor: float, epochs: int) -> list[int]:
    """The epochs at which trials are judged: grace · spacing^k, rounded, below the end of the schedule.

    Without a grace period it is `GRACE_SHARE` of the schedule, but at least an epoch.
    """
    if scheduler == "none":
        return []
    spacing = SPACING if scheduler == "asha" else reduction_factor
    level = float(grace_period or max(1, round(GRACE_SHARE * epochs)))
    levels: list[int] = []
    while round(level) < epochs:
        if round(level) not in levels:
            levels.append(round(level))
        level *= spacing
    return levels


def cutoff(earlier: Sequence[float], reduction_factor: float) -> float:
    """The value that a trial must reach: the (1 - 1/factor) quantile of the earlier ones; -inf for the first."""
    if not earlier:
        return -math.inf
    ranked = sorted(earlier)
    place = (1 - 1 / reduction_factor) * (len(ranked) - 1)
    below = math.floor(place)
    above = min(below + 1, len(ranked) - 1)
    return ranked[below] + (place - below) * (ranked[above] - ranked[below])


def judges_by_average(scheduler: Scheduler) -> bool:
    """Whether the rungs look at the averaged weights."""
    return scheduler == "asha"


def gives_second_chances(scheduler: Scheduler) -> bool:
    """Whether stopped trials may go on once all have been started."""
    return scheduler == "asha"


def rung_value(metrics: EpochMetrics, scheduler: Scheduler) -> float:
    """The accuracy that a rung compares; NaN, which passes no rung, where the average was not scored."""
    value = metrics.ema_val_accuracy if judges_by_average(scheduler) else metrics.val_accuracy
    return math.nan if value is None else value


@dataclass(frozen=True)
class Audit:
    """A random share of the trials that are behind runs on to the end, to show what stopping loses."""

    share: float = 0.0
    seed: int = 0

    def picks(self, trial_id: str) -> bool:
        """Whether this trial is one of them: a pure function of the seed and the trial."""
        draw = np.random.default_rng((self.seed, int(trial_id), _AUDIT_STREAM)).random()
        return bool(draw < self.share)


_AUDIT_STREAM = 1  # apart from the proposers' draws, and not 0, which numpy's seeding ignores at the end


class SuccessiveHalving:
    """Which trials go on. Its whole state is the value that each trial had at each rung.

    A value that is not a number never passes. A tie with the cutoff passes. A trial asked about twice at one
    rung (its worker died and it came by again) counts once. State is rebuilt by giving it the recorded values
    again, in any order.
    """

    def __init__(self, levels: Sequence[int], reduction_factor: float) -> None:
        self.levels = tuple(levels)
        self.reduction_factor = reduction_factor
        self.values: dict[int, dict[str, float]] = {level: {} for level in levels}
        self._ranked: dict[int, list[float]] = {level: [] for level in levels}  # the same, sorted

    def record(self, trial_id: str, epoch: int, value: float) -> None:
        """Take note of a value; epochs that are no rung are of no interest."""
        if epoch in self.values and math.isfinite(value):
            self._ranked[epoch] = self._others(trial_id, epoch)
            insort(self._ranked[epoch], value)
            self.values[epoch][trial_id] = value

    def keeps(self, trial_id: str, epoch: int, value: float) -> bool:
        """Whether the trial goes on after `epoch`, given the trials that were there before it."""
        if epoch not in self.values:
            return True
        return value >= cutoff(self._others(trial_id, epoch), self.reduction_factor)

    def reached(self, epoch: int) -> set[str]:
        """The trials that would pass this rung now, given all that were there."""
        bar = cutoff(self._ranked[epoch], self.reduction_factor)
        return {trial_id for trial_id, value in self.values[epoch].items() if value >= bar}

    def _others(self, trial_id: str, epoch: int) -> list[float]:
        """The sorted values of the other trials."""
        ranked, own = self._ranked[epoch], self.values[epoch].get(trial_id)
        if own is None:
            return ranked
        place = bisect_left(ranked, own)
        return ranked[:place] + ranked[place + 1 :]
