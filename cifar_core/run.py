"""One complete training run: it trains, goes on where it was interrupted, and leaves every number and picture."""

import math
import platform
from functools import partial
from importlib.metadata import version
from pathlib import Path
from typing import Any

import torch
from tqdm import tqdm

from cifar_core import checkpoint, summary
from cifar_core.config import TrainConfig
from cifar_core.datasets import load_test_data, load_training_data
from cifar_core.export import export_checkpoint
from cifar_core.history import EpochMetrics
from cifar_core.pictures import prediction_pictures, training_pictures
from cifar_core.predictions import misclassified, predict
from cifar_core.run_folder import RunFolder
from cifar_core.tensorboard import RunWriter
from cifar_core.train import Trainer

PACKAGES = ("torch", "torchvision", "numpy", "albumentations")


def run(config: TrainConfig, root: Path, export: bool = False) -> dict[str, Any]:
    """Train, and write the run's folder. Returns the content of its `metrics.json`.

    The folder of an interrupted run of the same config is continued from its last finished epoch: the result is,
    bit for bit on a CPU, that of a run without interruption.

    Raises:
        UserError: the data set or the device is not there, or the folder is not free for this run.
    """
    folder = RunFolder(root)
    folder.check_free(config)
    trainer = Trainer(config, load_training_data(config))
    folder.create(config)
    if folder.checkpoint.exists():
        checkpoint.restore(trainer, folder.checkpoint)
    writer = RunWriter(folder.tensorboard, config, trainer.history)
    train(trainer, folder, writer)
    metrics = write_results(trainer, folder, writer)
    if export:
        export_checkpoint(folder.checkpoint, folder.model)
    writer.close()
    folder.write_metrics(metrics)
    return metrics


def train(trainer: Trainer, folder: RunFolder, writer: RunWriter) -> None:
    """Train to the end of the schedule, saving after each epoch. A bar on a terminal, else a line per epoch."""
    epochs = trainer.config.epochs
    steps = partial(tqdm, total=trainer.loader.steps_per_epoch, unit="step", leave=False, disable=None)
    with tqdm(total=epochs, initial=trainer.finished_epochs, unit="epoch", disable=None) as bar:
        while not trainer.done:
            metrics = trainer.run_epoch(steps)
            checkpoint.save(trainer, folder.checkpoint)
            writer.add_epoch(metrics, trainer.history.steps[-1])
            bar.update()
            bar.set_postfix_str(_scores(metrics))
            if bar.disable:
                print(f"epoch {metrics.epoch}/{epochs}  {_scores(metrics)}  {metrics.seconds:.1f} s", flush=True)


def write_results(trainer: Trainer, folder: RunFolder, writer: RunWriter) -> dict[str, Any]:
    """Write tables and pictures of a trained run, open the test set, and return the run's final numbers."""
    trainer.history.epoch_frame().to_parquet(folder.history, index=False)
    trainer.history.step_frame().to_parquet(folder.steps, index=False)
    summary.layer_frame(trainer.model).to_csv(folder.layers, index=False)
    writer.add_graph(trainer.model)
    metrics = final_metrics(trainer)
    pictures = training_pictures(trainer)
    if not trainer.history.epochs[-1].diverged:
        test = load_test_data(trainer.config)
        predictions = predict(trainer.scored, test, trainer.compute)
        misclassified(predictions).to_csv(folder.misclassified, index=False)
        metrics |= {"test_loss": predictions.loss, "test_accuracy": predictions.accuracy, "test_images": len(test)}
        writer.add_test(predictions.loss, predictions.accuracy, trainer.finished_epochs)
        pictures |= prediction_pictures(trainer, test, predictions)
    for name, figure in pictures.items():
        figure.savefig(folder.figures / f"{name}.png")
        writer.add_picture(name, folder.figures / f"{name}.png", trainer.finished_epochs)
    return metrics


def final_metrics(trainer: Trainer) -> dict[str, Any]:
    """What the run was, and how it ended on the images that it watched."""
    last = trainer.history.epochs[-1]
    compute, data = trainer.compute, trainer.data
    seconds = sum(epoch.seconds for epoch in trainer.history.epochs)
    return {
        "state": "diverged" if last.diverged else "completed",
        "epochs": last.epoch,
        "train_loss": _number(last.train_loss),
        "train_accuracy": last.train_accuracy,
        "val_loss": _number(last.val_loss),
        "val_accuracy": _number(last.val_accuracy),
        "train_images": len(data.train),
        "val_images": len(data.val),
        "data_fingerprint": data.train.fingerprint,
        "parameters": summary.count_parameters(trainer.model),
        "forward_flops": summary.count_flops(trainer.model),
        "seconds": round(seconds, 3),
        "device": _device_name(compute.device),
        "precision": str(compute.dtype).removeprefix("torch."),
        "versions": {"python": platform.python_version()} | {name: version(name) for name in PACKAGES},
    }


def _device_name(device: torch.device) -> str:
    if device.type == "cuda":
        return torch.cuda.get_device_name(device)
    return f"{device.type} ({platform.machine()}, {torch.get_num_threads()} threads)"


def _number(value: float) -> float | None:
    """A value that JSON has a word for."""
    return value if math.isfinite(value) else None


def _scores(metrics: EpochMetrics) -> str:
    return (
        f"train {metrics.train_accuracy:.1%} loss {metrics.train_loss:.3f}  "
        f"val {metrics.val_accuracy:.1%} loss {metrics.val_loss:.3f}"
    )
