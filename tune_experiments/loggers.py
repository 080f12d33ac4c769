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
        for flag, value, package in (("mlflow", self.mlflow, "mlflow-skinny"), ("wandb", self.wandb, "wandb")):
            if value is not None and find_spec(flag) is None:
                raise UserError(f"--{flag} needs a package that is not installed: pip install {package}")

    def connect(self, experiment: Experiment) -> list[Logger]:
        """The loggers for an experiment; raises `UserError` where one cannot be used, or the folder not be made."""
        loggers: list[Logger] = []
        if self.mlflow is not None:
            from tune_experiments.mlflow_logger import MLflowLogger  # takes seconds

            if not self.mlflow:
                experiment.make()
            uri = self.mlflow or f"sqlite:///{experiment.file('mlflow.db')}"
            loggers.append(MLflowLogger(credentials_to_environment(uri), experiment.path.name))
        if self.wandb is not None:
            from tune_experiments.wandb_logger import WandbLogger  # takes seconds

            loggers.append(WandbLogger(self.wandb, experiment.path.name))
        return loggers
