"""What the terminal shows while trials run: a bar on a terminal, plain lines elsewhere."""

import sys
import time
from collections.abc import Callable, Sequence
from typing import Protocol, TextIO

from tqdm import tqdm

from tune_experiments.experiment import best_first
from tune_experiments.ledger import Trial, TrialState, count_states


class Watched(Protocol):
    """Trials, and how many there are to be."""

    @property
    def trials(self) -> Sequence[Trial]:
        """Those that there are."""

    @property
    def num_samples(self) -> int:
        """How many are asked for."""


def best_so_far(trials: Sequence[Trial]) -> str:
    """The best score, as part of a line."""
    best = best_first(trials)
    return f"best {best[0].score:.1%}" if best else "no trial completed yet"


class Progress:
    """Trials ended of those asked for, the states, how it stands, and the time that is left.

    Args:
        state: what is watched.
        unit: what its trials are called.
        standing: says how it stands, in some words.
        stream: the terminal, or what takes its place; none is standard error.
    """

    def __init__(
        self,
        state: Watched,
        unit: str = "trial",
        standing: Callable[[Sequence[Trial]], str] = best_so_far,
        stream: TextIO | None = None,
    ) -> None:
        self.state = state
        self.unit = unit
        self.standing = standing
        self.stream = stream or sys.stderr
        self.started_at = time.monotonic()
        self.ended_before = self._ended()
        self.bar = tqdm(
            total=state.num_samples,
            initial=self.ended_before,
            unit=unit,
            file=self.stream,
            disable=not self.stream.isatty(),
            bar_format="{desc} {percentage:3.0f}%|{bar}| {n_fmt}/{total_fmt} {unit}s [{elapsed}{postfix}]",
        )

    def update(self, trial: Trial) -> None:
        """A trial reported an epoch or ended."""
        ended = self._ended()
        if self.bar.disable and trial.ended:
            print(
                f"{self._describe(trial)} | {ended}/{self.state.num_samples} {self.unit}s, {self._outlook()}",
                file=self.stream,
            )
            self.stream.flush()
        self.bar.n = ended
        self.bar.set_postfix_str(self._outlook())

    def close(self) -> None:
        """Leave the bar as it is."""
        self.bar.close()

    def _ended(self) -> int:
        return sum(trial.ended for trial in self.state.trials)

    def _describe(self, trial: Trial) -> str:
        setting = trial.setting
        values = f"max_lr {setting.max_lr:.3g}, l1_factor {setting.l1_factor:.2g}, peak_epoch {setting.peak_epoch}"
        accuracy = f"val {trial.epochs[-1].val_accuracy:.1%} " if trial.epochs else ""
        return f"{trial.trial_id} ({values}) {trial.state.value}: {accuracy}after {len(trial.epochs)} epochs"

    def _outlook(self) -> str:
        counts = count_states(self.state.trials)
        parts = [
            f"{counts[state]} {state.value}" for state in (TrialState.COMPLETED, TrialState.STOPPED) if counts[state]
        ]
        parts += [
            f"{counts[state]} {state.value}" for state in (TrialState.DIVERGED, TrialState.FAILED) if counts[state]
        ]
        parts += filter(None, [self.standing(self.state.trials)])
        left = self._seconds_left()
        if left is not None:
            parts.append(f"about {_duration(left)} left")
        return ", ".join(parts)

    def _seconds_left(self) -> float | None:
        """From the trials per second so far; nothing to go by before the first has ended."""
        ended = self._ended()
        if ended <= self.ended_before:
            return None
        elapsed = time.monotonic() - self.started_at
        return elapsed / (ended - self.ended_before) * (self.state.num_samples - ended)


def _duration(seconds: float) -> str:
    minutes, rest = divmod(round(seconds), 60)
    hours, minutes = divmod(minutes, 60)
    return f"{hours} h {minutes:02d} min" if hours else f"{minutes} min {rest:02d} s" if minutes else f"{rest} s"
