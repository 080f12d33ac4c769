"""What is searched: `max_lr` and `l1_factor` log-uniform, `peak_epoch` whole epochs; and the seed's own setting."""

from dataclasses import asdict, dataclass, replace
from typing import Any

from cifar_core.config import TrainConfig


@dataclass(frozen=True)
class Setting:
    """One point of the space."""

    max_lr: float
    l1_factor: float
    peak_epoch: int

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
