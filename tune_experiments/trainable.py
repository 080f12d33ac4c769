"""A Ray Tune trial: one step is one epoch of a `cifar_core` run.

Checkpoints are ours, not Tune's: one file per trial, replaced whole, that holds the run with its history. So a
trial whose worker died and a trial of a search that was resumed start alike: they load that file if it is there,
report again what the driver does not know yet, and go on. Losing the file costs time only, as a run is a pure
function of its config.

A worker goes from trial to trial, and Ray's dashboard knows nothing of that. So the worker says it in the two places
that the dashboard shows as they are now: its log, and its process's title. Its name as an actor is given once.
"""

import os
import platform
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import asdict
from typing import Any

import ray
import torch
from ray import tune
from ray._raylet import setproctitle  # type: ignore[attr-defined]  # its stub lacks it

from cifar_core.config import TrainConfig
from cifar_core.datasets import TrainingData
from cifar_core.errors import UserError
from cifar_core.history import EpochMetrics
from cifar_core.tensorboard import RunWriter
from cifar_core.train import Trainer
from tune_experiments.experiment import Experiment
from tune_experiments.ledger import Trial, TrialState, state_after
from tune_experiments.search_space import Setting

CHECKPOINT_SHARE = 0.02  # of a trial's time may go into writing checkpoints


def trial_config(trial: Trial) -> dict[str, Any]:
    """What Ray Tune hands to the worker of a trial."""
    return {
        "trial_id": trial.trial_id,
        "known_epochs": len(trial.epochs),
        **asdict(trial.setting),
        "seed": trial.seed,
    }


class CifarTrial(tune.Trainable):
    """Trains one setting after another in one process: Tune reuses the actor."""

    def setup(  # type: ignore[override]  # tune.with_parameters passes the rest
        self, config: dict[str, Any], train: TrainConfig, data: TrainingData, experiment: Experiment, rungs: list[int]
    ) -> None:
        """Take the first trial. `data` is mapped from the object store, not copied."""
        self.rungs = rungs
        self.train_config = train
        self.data = data
        self.experiment = experiment
        self._take(config)
        self.first_trial = self.trial.trial_id

    def __repr__(self) -> str:
        """What Ray's dashboard calls this worker for as long as it lives: Ray asks once."""
        return f"{self.experiment.path.name}, first trial {self.first_trial}"

    def reset_config(self, new_config: dict[str, Any]) -> bool:
        """Take the next trial in this process; the last one's memory is free before this one's is taken."""
        self.cleanup()
        self._take(new_config)
        return True

    def _take(self, config: dict[str, Any]) -> None:
        setting = Setting(config["max_lr"], config["l1_factor"], config["peak_epoch"])
        # Our id, not Tune's, which changes when a search is resumed.
        self.trial = Trial(config["trial_id"], setting, TrialState.RUNNING, seed=config["seed"])
        self.reported: int = config["known_epochs"]
        self.trainer: Trainer | None = None
        self.writer: RunWriter | None = None
        seed = self.train_config.seed if self.trial.seed is None else self.trial.seed
        self._say(f"{setting}, seed {seed}; from epoch {self.reported + 1} of {self.train_config.epochs}")

    def _say(self, what: str) -> None:
        _log(f"{self.trial.trial_id}: {what}")

    def cleanup(self) -> None:
        """Leave the trial, and close its TensorBoard file."""
        if self.trial.state is TrialState.RUNNING:
            self._say(f"ended by the search after epoch {self.reported} of {self.train_config.epochs}")
        if self.writer:
            with _optional("TensorBoard file"):
                self.writer.close()
        self.writer = None

    def step(self) -> dict[str, Any]:
        """The metrics of the next epoch that the driver does not know, or the `error` that prevents it.

        An error is a result and not raised, as Tune would only try again what fails again. Tune does restart the
        trial when this process dies, and has to where a CUDA error made it useless.
        """
        worker = f"{platform.node()}:{os.getpid()}"
        if ray.is_initialized():  # Ray sets the title before each step and after it; a test's process keeps its own
            setproctitle(f"ray::{type(self).__name__} {self.trial.trial_id}: {self.trial.setting}")
        try:
            metrics = self._next_epoch()
            self._say_epoch(metrics)
            return {**asdict(metrics), "worker": worker}
        except Exception as error:
            self.trainer = None
            self.trial.state = TrialState.FAILED
            self._say(f"failed: {describe_error(error)}")
            if "CUDA error" in str(error):  # unlike running out of memory, it leaves the process without its GPU
                raise
            return {"error": describe_error(error), "worker": worker}

    def _say_epoch(self, metrics: EpochMetrics) -> None:
        self._say(
            f"epoch {metrics.epoch}/{self.train_config.epochs}: validation accuracy {metrics.val_accuracy:.3f}, "
            f"loss {metrics.val_loss:.3f}, training loss {metrics.train_loss:.3f}, lr {metrics.lr:.4g}, "
            f"{metrics.seconds:.1f} s"
        )
        self.trial.state, reason = state_after(metrics, self.train_config.epochs)
        if self.trial.state is not TrialState.RUNNING:
            self._say(f"{self.trial.state.value}: {reason}" if reason else self.trial.state.value)

    def _next_epoch(self) -> EpochMetrics:
        self.trainer = trainer = self.trainer or self._start()
        while trainer.finished_epochs <= self.reported:
            metrics = trainer.run_epoch(score_average=trainer.finished_epochs + 1 in self.rungs)
            if self.writer:
                with _optional("TensorBoard file"):
                    self.writer.add_epoch(metrics, trainer.history.steps[-1])
            if self._checkpoint_is_due(trainer):
                self._write_checkpoint(trainer)
        self.reported += 1
        return trainer.history.epochs[self.reported - 1]

    def _start(self) -> Trainer:
        trainer = Trainer(self.trial.applied_to(self.train_config), self.data)
        self.started_at = time.monotonic()
        self.checkpoint_seconds: list[float] = []  # of each that was written
        try:
            self.experiment.checkpoints.restore(trainer, self.trial.trial_id)
        except (UserError, OSError) as error:
            self._say(f"{error}; the trial starts over")
        with _optional("TensorBoard file"):
            folder = self.experiment.tensorboard / self.trial.trial_id
            self.writer = RunWriter(folder, trainer.config, trainer.history)
        return trainer

    def _checkpoint_is_due(self, trainer: Trainer) -> bool:
        """Whether there is time for one, and for the last one after it, which is always written."""
        two_more = 2 * max(self.checkpoint_seconds, default=0.0)
        allowed = CHECKPOINT_SHARE * (time.monotonic() - self.started_at)
        return trainer.done or sum(self.checkpoint_seconds) + two_more <= allowed

    def _write_checkpoint(self, trainer: Trainer) -> None:
        start = time.monotonic()
        with _optional("checkpoint"):
            self.experiment.checkpoints.save(trainer, self.trial.trial_id)
        self.checkpoint_seconds.append(time.monotonic() - start)


@contextmanager
def _optional(what: str) -> Iterator[None]:
    """Go on where storage fails: it costs a curve, or time after a resume. The ledger ends a search on a full disk."""
    try:
        yield
    except OSError as error:
        _log(f"{what}: {error}")


def _log(line: str) -> None:
    """Write to the half of the worker's log that the dashboard opens first. A full disk costs the line alone."""
    with suppress(OSError):
        print(line, file=sys.stderr, flush=True)


def describe_error(error: Exception) -> str:
    """One line, with what to change where memory ran out."""
    lines = str(error).strip().splitlines()
    text = f"{type(error).__name__}: {lines[0]}" if lines else type(error).__name__
    if isinstance(error, torch.OutOfMemoryError):
        return f"the GPU is out of memory; raise --gpus-per-trial or lower --batch-size or --width ({text})"
    if isinstance(error, MemoryError):
        return f"the host is out of memory; lower --max-concurrent or --batch-size ({text})"
    return text
