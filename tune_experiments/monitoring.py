"""What the terminal shows while trials run: one view, redrawn in place, on a terminal; plain lines elsewhere."""

import math
import sys
import time
from collections import deque
from collections.abc import Callable, Sequence
from collections.abc import Set as AbstractSet
from statistics import median
from typing import Protocol, TextIO

from tune_experiments.experiment import best_first
from tune_experiments.ledger import Trial, TrialState, count_states
from tune_experiments.live_view import LiveView, View, can_redraw
from tune_experiments.time_left import in_words, seconds_left

ENDS = (TrialState.COMPLETED, TrialState.STOPPED, TrialState.DIVERGED, TrialState.FAILED)
EPOCHS_TIMED = 100  # the last ones: what an epoch takes changes with what else the machine does
LOOKING_SHARE = 0.02  # of the time may go into looking at very many trials; their next report comes soon
FAST = 0.002  # seconds: a look at so few trials follows every report


class Watched(Protocol):
    """Trials, how many there are to be, and how many epochs each has."""

    epochs: int

    @property
    def trials(self) -> Sequence[Trial]:
        """Those that there are."""

    @property
    def num_samples(self) -> int:
        """How many are asked for."""


def best_so_far(trials: Sequence[Trial]) -> str:
    """The best score and whose it is, as part of a line."""
    best = best_first(trials)
    return f"best {best[0].score:.1%} ({best[0].trial_id})" if best else "no trial completed yet"


class Progress:
    """Trials ended of those asked for, the states, how it stands, what runs, and the time that is left.

    Args:
        state: what is watched.
        slots: says how many trials there can be at a time, which may change.
        unit: what its trials are called.
        standing: says how it stands, in some words.
        time_budget: after so many seconds it ends in any case.
        stream: the terminal, or what takes its place; none is standard error.
    """

    def __init__(
        self,
        state: Watched,
        slots: Callable[[], int],
        unit: str = "trial",
        standing: Callable[[Sequence[Trial]], str] = best_so_far,
        time_budget: float | None = None,
        stream: TextIO | None = None,
    ) -> None:
        self.state = state
        self.slots = slots
        self.unit = unit
        self.standing = standing
        self.stream = stream or sys.stderr
        self.started_at = time.monotonic()
        self.ends_by = math.inf if time_budget is None else self.started_at + time_budget
        self.heard_of_at: dict[str, float] = {}  # the trials in slots, by id: when they last reported, or began
        self.epoch_seconds = deque[float](maxlen=EPOCHS_TIMED)
        self.live: LiveView | None = None
        self._look()
        if can_redraw(self.stream):
            self.live = LiveView(self.view, self.stream)

    def on_slots(self, trial_ids: AbstractSet[str]) -> None:
        """Which trials are in a slot has changed."""
        now = time.monotonic()
        self.heard_of_at = {trial_id: self.heard_of_at.get(trial_id, now) for trial_id in trial_ids}
        self._look_now_and_then()

    @property
    def slots_busy(self) -> int:
        """How many slots a trial is in."""
        return len(self.heard_of_at)

    def update(self, trial: Trial) -> None:
        """A trial reported an epoch or ended."""
        now = time.monotonic()
        if trial.trial_id in self.heard_of_at:
            self.epoch_seconds.append(now - self.heard_of_at[trial.trial_id])
            self.heard_of_at[trial.trial_id] = now
        self._look_now_and_then()
        if not self.live and trial.ended:
            print(f"{_described(trial)} | {_in_a_line(self.view)}", file=self.stream, flush=True)

    def close(self) -> None:
        """Leave the last state on the terminal, without what runs no more and the time that was left."""
        if self.live:
            self.heard_of_at = {}
            self.epoch_seconds.clear()
            self._look()
            self.live.close(self.view)

    def _look_now_and_then(self) -> None:
        pause = 0.0 if self.looking_took < FAST else self.looking_took / LOOKING_SHARE
        if time.monotonic() - self.view.taken_at >= pause:
            self._look()
            if self.live:
                self.live.view = self.view

    def _look(self) -> None:
        now, trials = time.monotonic(), self.state.trials
        running = [trial for trial in trials if trial.trial_id in self.heard_of_at and not trial.ended]
        counts = count_states(trials)
        busy = [f"{len(running)} running ({len(running)} of {self.slots()} slots busy)"] if self.heard_of_at else []
        self.view = View(
            ended=sum(counts[state] for state in ENDS),
            of=self.state.num_samples,
            unit=self.unit,
            counts=[
                *(busy if self.live else []),
                *(f"{counts[state]} {state.value}" for state in ENDS if counts[state]),
            ],
            standing=self.standing(trials),
            rows=[_cells(trial, self.state.epochs) for trial in running],
            started_at=self.started_at,
            taken_at=now,
            seconds_left=self._seconds_left(),
        )
        self.looking_took = time.monotonic() - now

    def _seconds_left(self) -> float | None:
        """Nothing to go by before the first epoch has ended."""
        if not self.epoch_seconds:
            return None
        now, state = time.monotonic(), self.state
        since = {trial_id: now - at for trial_id, at in self.heard_of_at.items()}
        left = seconds_left(
            state.trials, state.num_samples, state.epochs, self.slots(), median(self.epoch_seconds), since
        )
        return max(0.0, min(left, self.ends_by - now))


def _in_a_line(view: View) -> str:
    left = "" if view.seconds_left is None else f"about {in_words(view.seconds_left)} left"
    return ", ".join(filter(None, [f"{view.ended}/{view.of} {view.unit}s", *view.counts, view.standing, left]))


def _described(trial: Trial) -> str:
    setting = trial.setting
    values = f"max_lr {setting.max_lr:.3g}, l1_factor {setting.l1_factor:.2g}, peak_epoch {setting.peak_epoch}"
    accuracy = f"val {trial.epochs[-1].val_accuracy:.1%} " if trial.epochs else ""
    audited = " earlier, audited to the end" if trial.audit_score is not None else ""
    epochs = f"{len(trial.epochs)} epoch{'' if len(trial.epochs) == 1 else 's'}"
    return f"{trial.trial_id} ({values}) {trial.state.value}{audited}: {accuracy}after {epochs}"


def _cells(trial: Trial, epochs: int) -> list[str]:
    """What a running trial does, the most important first; the epoch is the one that it is in."""
    setting = trial.setting
    return [
        trial.trial_id,
        f"epoch {min(len(trial.epochs) + 1, epochs)}/{epochs}",
        f"val {trial.epochs[-1].val_accuracy:.1%}" if trial.epochs else "",
        f"max_lr {setting.max_lr:.3g}",
        f"l1_factor {setting.l1_factor:.2g}",
        f"peak_epoch {setting.peak_epoch}",
        "behind, runs on for the audit" if trial.state is TrialState.AUDITED else "",
    ]
