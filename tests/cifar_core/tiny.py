"""Runs so small that a test can afford many of them."""

from dataclasses import replace
from functools import cache
from typing import Any

import numpy as np
import torch

from cifar_core.config import TrainConfig
from cifar_core.datasets import TrainingData, load_training_data
from cifar_core.history import History
from cifar_core.image_data import ImageData
from cifar_core.train import Trainer

TINY = TrainConfig(
    dataset="synthetic",
    train_size=100,
    val_size=40,
    width=1 / 16,
    epochs=3,
    batch_size=32,  # three batches of 32 and one of 4
    peak_epoch=1,
    l1_factor=0.1,
    device="cpu",
    precision="fp32",
    threads=1,
)


@cache
def tiny_data() -> TrainingData:
    """What TINY trains on."""
    return load_training_data(TINY)


def trained(epochs: int = TINY.epochs, **changes: Any) -> Trainer:
    """A run of TINY after some epochs."""
    trainer = Trainer(replace(TINY, **changes), tiny_data())
    for _ in range(epochs):
        trainer.run_epoch()
    return trainer


def dark_and_bright(count: int) -> ImageData:
    """Two classes that anything can tell apart."""
    rng = np.random.default_rng(0)
    labels = np.arange(count) % 2
    images = rng.integers(0, 100, (count, 32, 32, 3)) + 150 * labels[:, None, None, None]
    return ImageData(images.astype(np.uint8), labels, ("dark", "bright"))


def numbers(history: History) -> tuple[list[list[float]], list[list[float]]]:
    """All of a history but the clock, epochs and steps."""
    epochs = history.epoch_frame().drop(columns="seconds").to_numpy().tolist()
    return epochs, history.step_frame().to_numpy().tolist()


def state(trainer: Trainer) -> list[torch.Tensor]:
    """Weights, statistics and momentum."""
    return [*trainer.model.state_dict().values(), *trainer.optimizer.momentum_buffers]
