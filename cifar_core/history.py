"""What a training run measured: one row per epoch, one row per step."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass, field, fields
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

if TYPE_CHECKING:
    import pandas as pd


@dataclass(frozen=True)
class EpochMetrics:
    """One finished epoch. Losses are mean cross-entropy per image (without the L1 term), accuracies shares of 1.

    Training figures are gathered while the weights move and on augmented images; validation figures after the
    epoch. `lr` and `momentum` are those of the epoch's last step, `l1` the value of the L1 term after it. The
    `ema_` figures are those of the averaged weights, None where they were not asked for.
    """

    epoch: int  # counts from 1
    train_loss: float
    train_accuracy: float
    val_loss: float
    val_accuracy: float
    lr: float
    momentum: float
    l1: float
    seconds: float
    ema_val_loss: float | None = None
    ema_val_accuracy: float | None = None

    @classmethod
    def of(cls, values: Mapping[str, Any]) -> EpochMetrics:
        """From values by name, among which there may be others."""
        return cls(**{field.name: values[field.name] for field in fields(cls)})

    @property
    def diverged(self) -> bool:
        """Whether the weights can no longer be used: a loss is not finite."""
        return not np.isfinite([self.train_loss, self.val_loss]).all()


@dataclass(frozen=True, eq=False)
class StepMetrics:
    """The steps of one epoch, float32 arrays of shape (steps,). `loss` is the batch's mean cross-entropy."""

    loss: NDArray[np.float32]
    lr: NDArray[np.float32]
    momentum: NDArray[np.float32]


@dataclass
class History:
    """A run so far."""

    epochs: list[EpochMetrics] = field(default_factory=list)
    steps: list[StepMetrics] = field(default_factory=list)  # one entry per epoch

    def epoch_frame(self) -> pd.DataFrame:
        """One row per epoch, the columns of `EpochMetrics`."""
        import pandas as pd

        columns = [column.name for column in fields(EpochMetrics)]
        return pd.DataFrame([asdict(epoch) for epoch in self.epochs], columns=columns)

    def step_frame(self) -> pd.DataFrame:
        """One row per step: `step` (from 0), `loss`, `lr`, `momentum`."""
        import pandas as pd

        columns = {
            name: np.concatenate([getattr(steps, name) for steps in self.steps]) if self.steps else np.empty(0)
            for name in ("loss", "lr", "momentum")
        }
        return pd.DataFrame(columns).rename_axis("step").reset_index()
