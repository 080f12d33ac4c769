"""How long the trials that remain will take: pure arithmetic.

A trial that is stopped early trains fewer epochs than the schedule has, and those that end first are the short ones, so
the lengths of the ended trials alone would promise too much. Trials under way count as having passed each epoch behind
them (Kaplan and Meier 1958, "Nonparametric estimation from incomplete observations"). Second chances are not foreseen.
"""

import heapq
import math
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence

from tune_experiments.ledger import Trial


def seconds_left(
    trials: Sequence[Trial],
    num_samples: int,
    epochs: int,
    slots: int,
    epoch_seconds: float,
    under_way: Mapping[str, float],
) -> float:
    """Until the last of `num_samples` trials has ended.

    Args:
        trials: those that there are.
        epochs: of the whole schedule.
        slots: trials at a time.
        epoch_seconds: that an epoch takes.
        under_way: how long ago those that are in a slot last reported, in seconds, by their ids.
    """
    to_come = epochs_to_come(trials, epochs)
    remaining = sorted(
        (trial for trial in trials if not trial.ended), key=lambda trial: trial.trial_id not in under_way
    )
    durations = []
    for trial in remaining:
        behind = len(trial.epochs)
        more = to_come[behind] if trial.stopped_at is None else epochs - behind  # it runs to the end for the audit
        durations.append(more * epoch_seconds - min(epoch_seconds, under_way.get(trial.trial_id, 0.0)))
    return time_to_finish(durations, slots, num_samples - len(trials), to_come[0] * epoch_seconds)


def epochs_to_come(trials: Iterable[Trial], epochs: int) -> list[float]:
    """How many more a trial that goes on is expected to train, by the epochs behind it (0 to `epochs`)."""
    ended, reached = Counter[int](), Counter[int]()
    for trial in trials:
        length = len(trial.epochs) if trial.stopped_at is None else trial.stopped_at  # the audit adds the rest
        reached[length] += 1
        ended[length] += trial.ended or trial.stopped_at is not None
    to_come, there = [0.0], 0
    for epoch in range(epochs, 0, -1):
        there += reached[epoch]  # trials that have this epoch behind them
        share_going_on = 1 - ended[epoch] / there if there else 1.0
        to_come.append(1 + share_going_on * to_come[-1])
    return to_come[::-1]


def time_to_finish(durations: Iterable[float], slots: int, more: int = 0, each: float = 0.0) -> float:
    """When the last one is done, each being taken in this order by the first of the slots that is free.

    After `durations` come so many `more`, `each` of the same length.
    """
    free_at = [0.0] * slots
    for duration in durations:
        heapq.heapreplace(free_at, free_at[0] + duration)
    if more > 0 and each > 0:
        until_level = math.ceil((max(free_at) - min(free_at)) / each)
        of_every_slot = max(0, more // slots - until_level)  # however many: not one by one
        free_at = [free + of_every_slot * each for free in free_at]
        for _ in range(more - of_every_slot * slots):
            heapq.heapreplace(free_at, free_at[0] + each)
    return max(free_at)


def in_words(seconds: float) -> str:
    """The two largest of its hours, minutes and seconds."""
    minutes, rest = divmod(round(seconds), 60)
    hours, minutes = divmod(minutes, 60)
    return f"{hours} h {minutes:02d} min" if hours else f"{minutes} min {rest:02d} s" if minutes else f"{rest} s"
