"""OneCycle as a pure function of the step.

Source: Smith & Topin, "Super-Convergence" (arXiv 1708.07120); linear annealing as torch's `OneCycleLR`.
"""

from dataclasses import dataclass
from typing import NamedTuple

from cifar_core.config import TrainConfig


class StepSetting(NamedTuple):
    """What the optimizer uses at one step."""

    lr: float
    momentum: float


@dataclass(frozen=True)
class OneCycle:
    """Learning rate up to `max_lr` and down again; momentum the other way round.

    `peak_step` may be fractional: the peak then falls between two steps.
    """

    total_steps: int
    peak_step: float
    first_lr: float
    max_lr: float
    last_lr: float
    momentum_low: float
    momentum_high: float

    def at(self, step: int) -> StepSetting:
        """The setting for `step`, counted from 0; raises `ValueError` outside the schedule."""
        if not 0 <= step < self.total_steps:
            raise ValueError(f"step {step} is outside the schedule of {self.total_steps} steps")
        if step <= self.peak_step:
            share = step / self.peak_step if self.peak_step > 0 else 1.0
            return StepSetting(
                _between(self.first_lr, self.max_lr, share),
                _between(self.momentum_high, self.momentum_low, share),
            )
        share = (step - self.peak_step) / (self.total_steps - 1 - self.peak_step)
        return StepSetting(
            _between(self.max_lr, self.last_lr, share), _between(self.momentum_low, self.momentum_high, share)
        )


def one_cycle(config: TrainConfig, steps_per_epoch: int) -> OneCycle:
    """The schedule of a run. Its peak is at the last step before `peak_epoch`, where torch's `OneCycleLR` puts it."""
    first_lr = config.max_lr / config.div_factor
    return OneCycle(
        total_steps=config.epochs * steps_per_epoch,
        peak_step=config.peak * steps_per_epoch - 1,
        first_lr=first_lr,
        max_lr=config.max_lr,
        last_lr=first_lr / config.final_div_factor,
        momentum_low=config.momentum_low,
        momentum_high=config.momentum_high,
    )


def _between(start: float, end: float, share: float) -> float:
    return start + (end - start) * share
