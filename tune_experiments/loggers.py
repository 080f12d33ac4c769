"""MLflow and Weights & Biases, where a flag asks for them."""

from dataclasses import dataclass
from importlib.util import find_spec

from cifar_core.errors import UserError
from tune_experiments.credentials import credentials_to_environment
from tune_experiments.experiment import Experiment
from tune_experiments.forwarder import Logger


@dataclass(frozen=True)
class Destinations:
    """What the flags ask for.

    Attributes:
        mlflow: a tracking URI; empty for a file in the experiment's folder, none for no MLflow.
        wandb: a W&B project, or none.
    """

    mlflow: str | None = None
    wandb: str | None = None

    def check(self) -> None:
        """Raise `UserError` where a package is missing."""
        for name, value in (("mlflow", self.mlflow), ("wandb", self.wandb)):
            if value is not None and find_spec(name) is None:
                raise UserError(f"--{name} needs a package that is not installed: pip install -e '.[{name}]'")

    def connect(self, experiment_name: str) -> list[Logger]:
        """The loggers that need nothing in the experiment's folder; raises `UserError` where one cannot be used."""
        loggers: list[Logger] = []
        if self.mlflow:
            from tune_experiments.mlflow_logger import MLflowLogger  # takes seconds

            loggers.append(MLflowLogger(credentials_to_environment(self.mlflow), experiment_name))
        if self.wandb is not None:
            from tune_experiments.wandb_logger import WandbLogger  # takes seconds

            loggers.append(WandbLogger(self.wandb, experiment_name))
        return loggers

    def open_files(self, experiment: Experiment) -> list[Logger]:
        """The loggers into files of the folder, which is there and locked; raises `UserError` as `connect` does."""
        if self.mlflow != "":
            return []
        from tune_experiments.mlflow_logger import MLflowLogger  # takes seconds

        return [MLflowLogger(f"sqlite:///{experiment.file('mlflow.db')}", experiment.path.name)]
