"""Weights & Biases, through Ray's integration: a run for each trial, written by a process of its own."""

import io
import os
from contextlib import redirect_stderr
from typing import Any

import ray
from ray.air.integrations.wandb import WANDB_ENV_VAR, WandbLoggerCallback
from ray.air.util.node import _force_on_current_node

from cifar_core.errors import UserError

UPLOADS_WITHIN = 300  # seconds after the end; what is not uploaded stays in the folder, for `wandb sync`
SETTINGS = {  # what is about the machine and its user is nobody's business, and what is printed is Ray's
    "console": "off",
    "silent": True,
    "disable_git": True,
    "save_code": False,
    "x_disable_meta": True,
    "x_disable_stats": True,
}


class WandbLogger(WandbLoggerCallback):
    """Logs into a project, the trials of a search as a group. Local files are in `wandb/` of the experiment's folder.

    Raises:
        UserError: there is no API key, and it is not offline.
    """

    title = "W&B"

    def __init__(self, project: str, group: str) -> None:
        super().__init__(project, group, upload_timeout=UPLOADS_WITHIN, resume="allow", settings=SETTINGS)
        try:
            with redirect_stderr(io.StringIO()):  # Ray asks for the key in a way that W&B warns about
                self.setup()  # type: ignore[no-untyped-call]
        except ValueError:
            raise UserError(
                "wandb has no API key: set WANDB_API_KEY, run `wandb login`, or set WANDB_MODE=offline"
            ) from None

    def open(self, search_id: str) -> None:
        """Nothing to find: a trial's id is its run's."""

    def log_trial_start(self, trial: Any) -> None:
        """Start its process, as Ray does but for its restarts, about which Ray would write a warning over the view."""
        if not self._remote_logger_class:
            key = {name: os.environ[name] for name in (WANDB_ENV_VAR,) if name in os.environ}
            options: Any = {"num_cpus": 0, "runtime_env": {"env_vars": key}, **_force_on_current_node()}  # type: ignore[dict-item]
            remote_class: Any = ray.remote(**options)(self._logger_actor_cls)
            self._remote_logger_class = remote_class
        super().log_trial_start(trial)

    def epochs_there(self, trial: Any) -> int:
        """None that is known: all are logged again, and W&B passes over the steps that it has."""
        return 0

    def lacks_end(self, trial: Any) -> bool:
        """It is not asked."""
        return False

    def log_interruption(self, trial: Any) -> None:
        """Its process writes the rest and goes."""
        self.log_trial_end(trial)
