"""A run in TensorBoard: scalars per step and epoch, hyperparameters, the network's graph, figures."""

from __future__ import annotations

import copy
import warnings
from pathlib import Path
from typing import Any

import numpy as np
import torch
from PIL import Image
from torch import nn

from cifar_core.config import TrainConfig
from cifar_core.history import EpochMetrics, History, StepMetrics
from cifar_core.options import to_mapping

STEP_TAGS = {"loss": "step/loss", "lr": "step/learning_rate", "momentum": "step/momentum"}
EPOCH_TAGS = {
    "train_loss": "loss/train",
    "val_loss": "loss/validation",
    "train_accuracy": "accuracy/train",
    "val_accuracy": "accuracy/validation",
    "l1": "epoch/l1_term",
    "seconds": "epoch/seconds",
}
TEST_TAGS = {"loss": "loss/test", "accuracy": "accuracy/test"}
HPARAMS_METRICS = [
    EPOCH_TAGS["val_accuracy"],
    EPOCH_TAGS["val_loss"],
    EPOCH_TAGS["train_accuracy"],
    *TEST_TAGS.values(),
]


class RunWriter:
    """Writes one run, or one trial, into one folder.

    A new writer supersedes whatever the folder holds: it tells TensorBoard to forget it (`purge_step`) and writes the
    history again. So a run that goes on from a checkpoint shows each step once, also where the old event file went
    further than the checkpoint, or stayed on another machine.

    Scalars are written at the end of an epoch, from numbers that are on the host already: no step waits for them.
    """

    def __init__(self, folder: Path, config: TrainConfig, history: History) -> None:
        from torch.utils.tensorboard import SummaryWriter  # late: a trial without TensorBoard does not pay for it

        self._writer = SummaryWriter(str(folder), purge_step=0)
        self._events: Any = self._writer.file_writer  # untyped in torch
        self._next_step = 0
        self._write_hparams(config)
        for metrics, steps in zip(history.epochs, history.steps, strict=True):
            self.add_epoch(metrics, steps)

    def add_epoch(self, metrics: EpochMetrics, steps: StepMetrics) -> None:
        """Write an epoch and its steps; epochs count from 1, steps from 0 through the whole run."""
        for name, tag in STEP_TAGS.items():
            for step, value in enumerate(getattr(steps, name), start=self._next_step):
                self._add_scalar(tag, float(value), step)
        self._next_step += len(steps.loss)
        for name, tag in EPOCH_TAGS.items():
            self._add_scalar(tag, getattr(metrics, name), metrics.epoch)
        self._writer.flush()

    def add_test(self, loss: float, accuracy: float, epoch: int) -> None:
        """Write the test set's figures, once, at the last epoch."""
        self._add_scalar(TEST_TAGS["loss"], loss, epoch)
        self._add_scalar(TEST_TAGS["accuracy"], accuracy, epoch)

    def add_graph(self, model: nn.Module) -> None:
        """Write the network's graph, traced on a copy so that the model's statistics stay."""
        network = copy.deepcopy(model).cpu().eval()
        with warnings.catch_warnings():  # torch's own writer still uses the tracer that torch deprecates
            warnings.filterwarnings("ignore", "`torch.jit", FutureWarning)
            self._writer.add_graph(network, torch.zeros(1, 3, 32, 32))

    def add_picture(self, name: str, file: Path, epoch: int) -> None:
        """Write an image file."""
        with Image.open(file) as image:
            pixels = np.asarray(image.convert("RGB"))
        self._writer.add_image(f"figures/{name}", pixels, epoch, dataformats="HWC")

    def close(self) -> None:
        """Mark the run as ended and close the file."""
        self._events.add_summary(self._session_end)
        self._writer.close()

    def _write_hparams(self, config: TrainConfig) -> None:
        """Into this run itself, whose scalars are the metrics: `add_hparams` would make a second run."""
        from torch.utils.tensorboard.summary import hparams

        given = {name: value for name, value in to_mapping(config).items() if value is not None}
        values = given | {"peak_epoch": config.peak}  # a number in every run, so that runs compare
        experiment, start, self._session_end = hparams(  # type: ignore[no-untyped-call]
            values, dict.fromkeys(HPARAMS_METRICS, 0.0)
        )
        self._events.add_summary(experiment)
        self._events.add_summary(start)

    def _add_scalar(self, tag: str, value: float, step: int) -> None:
        self._writer.add_scalar(tag, value, step)
