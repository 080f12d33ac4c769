"""A Ray Tune trial: one step is one epoch of a `cifar_core` run.

Checkpoints are ours, not Tune's: one file per trial, replaced whole, that holds the run with its history. So a
trial whose worker died and a trial of a search that was resumed start alike: they load that file if it is there,
report again what the driver does not know yet, and go on. Losing the file costs time only, as a run is a pure
function of its config.
"""

import os
import platform
import time
from dataclasses import asdict
from pathlib import Path
from typing import Any

from ray import tune

from cifar_core import checkpoint
from cifar_core.config import TrainConfig
from cifar_core.datasets import TrainingData
from cifar_core.errors import UserError
from cifar_core.train import Trainer
from tune_experiments.ledger import Trial
from tune_experiments.search_space import Setting

CHECKPOINT_SHARE = 0.02  # of a trial's time may go into writing checkpoints


def trial_config(trial: Trial) -> dict[str, Any]:
    """What Ray Tune hands to the worker of a trial."""
    return {"trial_id": trial.trial_id, "known_epochs": len(trial.epochs), **asdict(trial.setting)}


class CifarTrial(tune.Trainable):
    """Trains one setting after another in one process: Tune reuses the actor."""

    def setup(  # type: ignore[override]  # tune.with_parameters passes the rest
        self, config: dict[str, Any], train: TrainConfig, data: TrainingData, checkpoints: Path
    ) -> None:
        """Start the first trial. `data` is mapped from the object store, not copied."""
        self.train_config = train
        self.data = data
        self.checkpoints = checkpoints
        self._begin(config)

    def reset_config(self, new_config: dict[str, Any]) -> bool:
        """Start the next trial in this process."""
        self._begin(new_config)
        return True

    def step(self) -> dict[str, Any]:
        """The metrics of the next epoch that the driver does not know."""
        self.reported += 1
        while self.trainer.finished_epochs < self.reported:
            self.trainer.run_epoch()
            if self._checkpoint_is_due():
                self._write_checkpoint()
        metrics = self.trainer.history.epochs[self.reported - 1]
        return {**asdict(metrics), "worker": f"{platform.node()}:{os.getpid()}"}

    def _begin(self, config: dict[str, Any]) -> None:
        setting = Setting(config["max_lr"], config["l1_factor"], config["peak_epoch"])
        self.reported: int = config["known_epochs"]
        self.checkpoint_file = self.checkpoints / f"{config['trial_id']}.pt"
        self.trainer = Trainer(setting.applied_to(self.train_config), self.data)
        self.checkpoint_cost = 0.0
        self.checkpointed_at = time.monotonic()
        if self.checkpoint_file.exists():
            try:
                checkpoint.restore(self.trainer, self.checkpoint_file)
            except UserError as error:
                print(f"{error}; the trial starts over")

    def _checkpoint_is_due(self) -> bool:
        elapsed = time.monotonic() - self.checkpointed_at
        return self.trainer.done or self.checkpoint_cost <= CHECKPOINT_SHARE * elapsed

    def _write_checkpoint(self) -> None:
        start = time.monotonic()
        checkpoint.save(self.trainer, self.checkpoint_file)
        self.checkpointed_at = time.monotonic()
        self.checkpoint_cost = self.checkpointed_at - start
