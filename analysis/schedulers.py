"""The schedulers that a replay compares: ours, which is the very object that searches use, and the usual others."""

import math
import statistics
from collections.abc import Callable, Collection, Iterator, Sequence
from typing import NamedTuple, Protocol

from tune_experiments.early_stopping import Scheduler, SuccessiveHalving, rungs

FACTORS = (1.5, 2.0, 2.25, 2.5, 3.0, 4.0, 5.0, 6.0)
SHARES = (0.05, 0.1, 0.15, 0.2, 0.25, 0.3, 0.4, 0.5)


class Rule(Protocol):
    """It is told each trial's value at each of its `levels`, and says who goes on."""

    @property
    def levels(self) -> Sequence[int]:
        """The epochs at which it looks, rising."""

    def keeps(self, trial_id: str, epoch: int, value: float) -> bool:
        """Whether the trial goes on."""

    def record(self, trial_id: str, epoch: int, value: float) -> None:
        """Take note of the value."""

    def reached(self, epoch: int) -> Collection[str]:
        """The trials that would pass now, given all that were there."""


class MedianStopping:
    """Ray's `MedianStoppingRule`: a trial stops whose best value is below the median of the others' means so far.

    Source: Golovin et al., "Google Vizier" (2017), section 3.2; `min_samples_required` as in Ray.
    """

    def __init__(self, grace_period: int, epochs: int, fewest: int = 3) -> None:
        self.levels = range(1, epochs)
        self.grace_period = grace_period
        self.fewest = fewest
        self.values: dict[str, list[float]] = {}

    def record(self, trial_id: str, epoch: int, value: float) -> None:
        """Take note of the value."""
        self.values.setdefault(trial_id, []).append(value)

    def reached(self, epoch: int) -> Collection[str]:
        """Nobody is asked twice."""
        return ()

    def keeps(self, trial_id: str, epoch: int, value: float) -> bool:
        """Whether the trial goes on."""
        if epoch < self.grace_period:
            return True
        others = (values for other, values in self.values.items() if other != trial_id and len(values) >= epoch)
        means = [statistics.fmean(values[self.grace_period - 1 : epoch]) for values in others]
        return len(means) < self.fewest or max([value, *self.values.get(trial_id, [])]) >= statistics.median(means)


class Policy(NamedTuple):
    """A scheduler and its settings. Exactly one of `rule` and `pick` says what it does.

    Attributes:
        scheduler: its name.
        value: what it looks at, a key of `LearningCurves.values`.
        rungs: the epochs at which it looks; of median stopping, the first of them.
        factor: of which it keeps one, or 1 / the share that it keeps.
        rule: makes one for a search of asynchronous workers.
        second_chances: whether stopped trials that would pass their rung in the end go on.
        pick: for a search without workers, the trials that are run to the end, from their values at the only rung (at
            none: of all trials, in their order).
    """

    scheduler: str
    value: str
    rungs: tuple[int, ...]
    factor: float
    rule: Callable[[], Rule] | None = None
    second_chances: bool = False
    pick: Callable[[Sequence[float]], list[int]] | None = None


def halving(scheduler: str, value: str, levels: Sequence[int], factor: float) -> Policy:
    """Successive halving in its stopping form, as searches use it and Ray's ASHA does."""
    return Policy(
        scheduler, value, tuple(levels), factor,
        rule=lambda: SuccessiveHalving(levels, factor), second_chances=scheduler == "asha",
    )  # fmt: skip


def halvings(scheduler: Scheduler, value: str, known: Sequence[int], epochs: int) -> Iterator[Policy]:
    """A scheduler of ours with every grace period and reduction factor whose rungs lie at `known` epochs."""
    for grace_period in known:
        for factor in FACTORS:
            levels = rungs(scheduler, grace_period, factor, epochs)
            if set(levels) <= set(known):
                yield halving(scheduler, value, levels, factor)


def median_stopping(value: str, grace_period: int, epochs: int) -> Policy:
    """Ray's median stopping rule."""
    return Policy("median stopping", value, (grace_period,), 2.0, rule=lambda: MedianStopping(grace_period, epochs))


def fixed_cut(value: str, epoch: int, share: float) -> Policy:
    """Every trial to one epoch, and then the best `share` of all of them, at least one, to the end.

    Source: "i-Epoch" of Egele et al., arXiv 2307.15422.
    """

    def pick(values: Sequence[float]) -> list[int]:
        known = [value if math.isfinite(value) else -math.inf for value in values]
        best_first = sorted(range(len(known)), key=lambda trial: -known[trial])
        return best_first[: max(1, round(share * len(values)))]

    return Policy("fixed cut", value, (epoch,), 1 / share, pick=pick)


def random_search(share: float) -> Policy:
    """Fewer trials, all of them in full."""
    return Policy(
        "random search", "raw", (), 1 / share, pick=lambda values: list(range(max(1, round(share * len(values)))))
    )


def usual(known: Sequence[int], epochs: int) -> Iterator[Policy]:
    """What a search could use without this project, over raw validation accuracy, each with all its settings."""
    yield from halvings("stock-asha", "raw", known, epochs)
    for grace_period in known:
        yield median_stopping("raw", grace_period, epochs)
        for share in SHARES:
            yield fixed_cut("raw", grace_period, share)
    for share in SHARES:
        yield random_search(share)
