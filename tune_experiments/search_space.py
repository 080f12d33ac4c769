"""What is searched: `max_lr` and `l1_factor` log-uniform, `peak_epoch` whole epochs; and the seed's own setting."""

import math
from dataclasses import asdict, dataclass, replace
from typing import Any

from cifar_core.config import TrainConfig

AT_EDGE = 0.05  # of a parameter's span, on the scale on which it is searched
WIDER = {"max_lr": 3.0, "l1_factor": 10.0}  # factors by which a bound moves out; of peak_epoch, to the limit


@dataclass(frozen=True)
class Setting:
    """One point of the space."""

    max_lr: float
    l1_factor: float
    peak_epoch: int

    def __str__(self) -> str:
        """For people; the ledger has every digit."""
        return f"max_lr {self.max_lr:.4g}, l1_factor {self.l1_factor:.3g}, peak_epoch {self.peak_epoch}"

    def applied_to(self, config: TrainConfig) -> TrainConfig:
        """The training run of this setting."""
        return replace(config, **asdict(self))


@dataclass(frozen=True)
class SearchSpace:
    """Bounds, both ends included."""

    max_lr: tuple[float, float]
    l1_factor: tuple[float, float]
    peak_epoch: tuple[int, int]

    def __contains__(self, setting: Setting) -> bool:
        return all(low <= getattr(setting, name) <= high for name, (low, high) in asdict(self).items())

    def including(self, setting: Setting) -> "SearchSpace":
        """The smallest space that holds this one and `setting`."""

        def stretched(name: str) -> tuple[Any, Any]:
            (low, high), value = getattr(self, name), getattr(setting, name)
            return min(low, value), max(high, value)

        return SearchSpace(stretched("max_lr"), stretched("l1_factor"), stretched("peak_epoch"))


def seed_setting(config: TrainConfig) -> Setting:
    """The seed's setting with its peak at the same share of this schedule, to the nearest epoch but at least 1."""
    recipe = TrainConfig(epochs=config.epochs)
    return Setting(recipe.max_lr, recipe.l1_factor, max(1, round(recipe.peak)))


def default_peak_range(epochs: int) -> tuple[int, int]:
    """From the first epoch to three quarters of the schedule: later leaves too little time to anneal."""
    return min(1, epochs - 1), max(1, round(0.75 * epochs))


def edges(space: SearchSpace, setting: Setting) -> dict[str, str]:
    """The parameters of `setting` that lie at a bound or beyond it, each with "low" or "high": the space may be small.

    `peak_epoch` is not at its low bound where that is 0, as there is nothing below.
    """
    found = {}
    for name, (low, high) in asdict(space).items():
        start, end, value = (_on_scale(name, number) for number in (low, high, getattr(setting, name)))
        margin = AT_EDGE * (end - start)
        if value <= start + margin and not (name == "peak_epoch" and low == 0):
            found[name] = "low"
        elif value >= end - margin:
            found[name] = "high"
    return found


def extended(space: SearchSpace, at: dict[str, str], epochs: int) -> SearchSpace:
    """The space with the bounds in `at`, as `edges` gives them, moved out; a peak lies between 0 and `epochs`."""
    bounds = {}
    for name, (low, high) in asdict(space).items():
        end = at.get(name)
        if name == "peak_epoch":
            bounds[name] = (0 if end == "low" else low, epochs if end == "high" else high)
        else:
            factor = WIDER[name]
            bounds[name] = (low / factor if end == "low" else low, high * factor if end == "high" else high)
    return SearchSpace(**bounds)


def _on_scale(name: str, value: float) -> float:
    return value if name == "peak_epoch" else math.log10(value)
