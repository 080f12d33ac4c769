"""ASHA's rungs, cutoffs and decisions as pure functions, and the state they act on.

Source: Li et al., "A System for Massively Parallel Hyperparameter Tuning" (arXiv 1810.05934), in the stopping
form that Ray Tune uses: a trial is judged once, when it reaches a rung, against the values seen there before.
"""

import math
from collections.abc import Sequence

import numpy as np


def rungs(grace_period: int, reduction_factor: float, epochs: int) -> list[int]:
    """The epochs at which trials are judged: grace · factor^k, rounded, below the end of the schedule."""
    levels: list[int] = []
    level = float(grace_period)
    while round(level) < epochs:
        if round(level) not in levels:
            levels.append(round(level))
        level *= reduction_factor
    return levels


def cutoff(earlier: Sequence[float], reduction_factor: float) -> float:
    """The value that a trial must reach: the (1 - 1/factor) quantile of the earlier ones; -inf for the first."""
    if not earlier:
        return -math.inf
    return float(np.quantile(earlier, 1 - 1 / reduction_factor))


class SuccessiveHalving:
    """Which trials go on. Its whole state is the value that each trial had at each rung.

    A value that is not a number never passes. A tie with the cutoff passes. A trial asked about twice at one
    rung (its worker died and it came by again) counts once. State is rebuilt by giving it the recorded values
    again, in any order.
    """

    def __init__(self, levels: Sequence[int], reduction_factor: float) -> None:
        self.reduction_factor = reduction_factor
        self.values: dict[int, dict[str, float]] = {level: {} for level in levels}

    def record(self, trial_id: str, epoch: int, value: float) -> None:
        """Take note of a value; epochs that are no rung are of no interest."""
        if epoch in self.values and math.isfinite(value):
            self.values[epoch][trial_id] = value

    def keeps(self, trial_id: str, epoch: int, value: float) -> bool:
        """Whether the trial goes on after `epoch`, given the trials that were there before it."""
        if epoch not in self.values:
            return True
        earlier = [other for name, other in self.values[epoch].items() if name != trial_id]
        return value >= cutoff(earlier, self.reduction_factor)
