"""The folder of one training run: which files it holds, and whether a run may start or go on in it."""

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import yaml

from cifar_core.config import TrainConfig
from cifar_core.errors import UserError
from cifar_core.options import from_mapping, read_yaml, to_mapping
from cifar_core.whole_file import write_text_whole


class RunFolder:
    """Paths in a run's folder. `metrics.json` is written last: where it is, the run is finished."""

    def __init__(self, root: Path) -> None:
        self.root = root
        self.config = root / "config.yaml"
        self.checkpoint = root / "checkpoint.pt"
        self.metrics = root / "metrics.json"
        self.history = root / "history.parquet"
        self.steps = root / "steps.parquet"
        self.misclassified = root / "misclassified.csv"
        self.layers = root / "layers.csv"
        self.model = root / "model.safetensors"
        self.figures = root / "figures"
        self.tensorboard = root / "tensorboard"

    @property
    def finished(self) -> bool:
        """Whether a run ended here."""
        return self.metrics.exists()

    def check_free(self, config: TrainConfig) -> None:
        """Whether a run of `config` may start here, or go on after it was interrupted.

        Raises:
            UserError: the folder holds a finished run, one of another config, or something else.
        """
        if self.finished:
            raise UserError(f"{self.root}: holds a finished run; give another --output")
        if self.config.exists():
            self._check_same(config)
        elif self.root.exists() and (not self.root.is_dir() or any(self.root.iterdir())):
            raise UserError(f"{self.root}: exists and is not the folder of a run; give another --output")

    def create(self, config: TrainConfig) -> None:
        """Make the folder and write its `config.yaml`; raises `UserError` where that is not possible."""
        try:
            self.figures.mkdir(parents=True, exist_ok=True)
            write_text_whole(self.config, yaml.safe_dump(to_mapping(config), sort_keys=False))
        except OSError as error:
            raise UserError(f"{self.root}: cannot be written ({error.strerror}); give another --output") from None

    def read_config(self) -> TrainConfig:
        """The config of the run in this folder; raises `UserError` where there is none."""
        return from_mapping(TrainConfig, read_yaml(self.config), str(self.config))

    def write_metrics(self, metrics: Mapping[str, Any]) -> None:
        """Write the final numbers, which also marks the run as finished."""
        write_text_whole(self.metrics, json.dumps(metrics, indent=2) + "\n")

    def _check_same(self, config: TrainConfig) -> None:
        theirs, ours = to_mapping(self.read_config()), to_mapping(config)
        differing = [f"{key} {theirs[key]}" for key in ours if theirs[key] != ours[key]]
        if differing:
            raise UserError(f"{self.root}: holds an unfinished run with {', '.join(differing)}; give another --output")
