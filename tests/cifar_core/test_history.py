import math
from dataclasses import fields
from typing import Any

import numpy as np
import pytest

from cifar_core.history import EpochMetrics, History, StepMetrics

EPOCH_COLUMNS = [field.name for field in fields(EpochMetrics)]


def epoch(number: int = 1, **changes: Any) -> EpochMetrics:
    usual: dict[str, Any] = dict.fromkeys(EPOCH_COLUMNS[1:], 0.5)
    return EpochMetrics(epoch=number, **(usual | changes))


def steps(*losses: float) -> StepMetrics:
    loss = np.array(losses, np.float32)
    return StepMetrics(loss, loss / np.float32(10), loss / np.float32(100))


@pytest.mark.parametrize(
    ("changes", "diverged"),
    [
        ({}, False),
        ({"train_loss": math.nan}, True),
        ({"train_loss": math.inf}, True),
        ({"val_loss": math.nan}, True),
        ({"val_loss": -math.inf}, True),
        ({"train_loss": 1e30}, False),
        ({"val_accuracy": 0.0}, False),
    ],
)
def test_diverged_is_a_loss_that_is_not_finite(changes: dict[str, Any], diverged: bool) -> None:
    assert epoch(**changes).diverged is diverged


def test_epoch_frame_has_a_row_per_epoch() -> None:
    frame = History([epoch(1), epoch(2, val_accuracy=0.75)], [steps(1), steps(1)]).epoch_frame()
    assert list(frame.columns) == EPOCH_COLUMNS
    assert frame["epoch"].tolist() == [1, 2]
    assert frame["val_accuracy"].tolist() == [0.5, 0.75]


def test_step_frame_counts_steps_over_epochs() -> None:
    frame = History([epoch(1), epoch(2)], [steps(4, 3), steps(2)]).step_frame()
    assert list(frame.columns) == ["step", "loss", "lr", "momentum"]
    assert frame["step"].tolist() == [0, 1, 2]
    assert frame["loss"].tolist() == [4, 3, 2]
    np.testing.assert_array_equal(frame["momentum"], np.array([4, 3, 2], np.float32) / np.float32(100))


def test_nothing_yet_has_the_same_columns() -> None:
    assert list(History().epoch_frame().columns) == EPOCH_COLUMNS
    assert list(History().step_frame().columns) == ["step", "loss", "lr", "momentum"]
    assert len(History().epoch_frame()) == len(History().step_frame()) == 0
