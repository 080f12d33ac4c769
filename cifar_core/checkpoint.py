"""A run in one file: config, weights, momentum and history. Loading runs no code from the file."""

import dataclasses
import io
import zipfile
from pathlib import Path
from typing import Any

import torch

from cifar_core.config import TrainConfig
from cifar_core.errors import UserError
from cifar_core.history import EpochMetrics, History, StepMetrics
from cifar_core.options import from_mapping, to_mapping
from cifar_core.train import Trainer
from cifar_core.whole_file import write_whole

FORMAT = 1


def save(trainer: Trainer, path: Path) -> None:
    """Write the run's state. A crash at any moment leaves the old file or the new one, never a part."""
    content = {
        "format": FORMAT,
        "config": to_mapping(trainer.config),
        "class_names": list(trainer.data.train.class_names),
        "data_fingerprint": trainer.data.fingerprint,
        "model": trainer.model.state_dict(),
        "momentum": trainer.optimizer.momentum_buffers,
        "average": trainer.average and trainer.average.state_dict(),
        "epochs": [dataclasses.asdict(epoch) for epoch in trainer.history.epochs],
        "steps": [
            {name: torch.from_numpy(values) for name, values in vars(steps).items()} for steps in trainer.history.steps
        ],
    }

    def write(path: Path) -> None:
        with path.open("wb") as file:  # with a path, torch raises no OSError for a full disk
            torch.save(content, file)

    write_whole(path, write)


def restore(trainer: Trainer, path: Path) -> None:
    """Put a saved run's state into a fresh trainer of the same config; raises `UserError` for another one's."""
    content = read(path)
    theirs, ours = content["config"], to_mapping(trainer.config)
    differing = [key for key in ours if key != "data_dir" and theirs.get(key) != ours[key]]
    if differing:
        raise UserError(f"{path}: saved by a run with another {', '.join(differing)}")
    if content["data_fingerprint"] != trainer.data.fingerprint:
        raise UserError(f"{path}: saved by a run on other images")
    trainer.model.load_state_dict(content["model"])
    for buffer, saved in zip(trainer.optimizer.momentum_buffers, content["momentum"], strict=True):
        buffer.copy_(saved)
    if trainer.average:
        trainer.average.load_state_dict(content["average"])
    trainer.history = History(
        [EpochMetrics(**epoch) for epoch in content["epochs"]],
        [StepMetrics(**{name: values.numpy() for name, values in steps.items()}) for steps in content["steps"]],
    )


def read_config(path: Path) -> TrainConfig:
    """The config of the run that wrote the file."""
    return from_mapping(TrainConfig, read(path)["config"], str(path))


def read(path: Path) -> dict[str, Any]:
    """The content of a checkpoint, tensors on the CPU; raises `UserError` where it is none."""
    try:
        blob = path.read_bytes()
    except OSError as error:
        raise UserError(f"{path}: cannot be read ({error.strerror})") from None
    try:
        damaged = zipfile.ZipFile(io.BytesIO(blob)).testzip()  # torch itself does not look at the checksums
        content = None if damaged else torch.load(io.BytesIO(blob), map_location="cpu", weights_only=True)
    except Exception as error:  # a broken file makes torch raise nearly anything
        reason = next(iter(str(error).splitlines()), type(error).__name__)[:80]
        raise UserError(f"{path}: not a whole checkpoint ({reason})") from None
    if damaged:
        raise UserError(f"{path}: not a whole checkpoint (the checksum of {damaged} is wrong)")
    if not isinstance(content, dict) or content.get("format") != FORMAT:
        raise UserError(f"{path}: not a checkpoint of this version (format {FORMAT})")
    return content
