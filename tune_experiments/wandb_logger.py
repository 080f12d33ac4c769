"""Weights & Biases, through Ray's integration: a run for each trial, written by a process of its own."""

import io
from contextlib import redirect_stderr
from typing import Any

import ray
import wandb
from ray.air.integrations.wandb import WandbLoggerCallback
from ray.air.util.node import _force_on_current_node
from ray.exceptions import RayTaskError
from wandb.errors import UsageError

from cifar_core.errors import UserError
from tune_experiments.credentials import first_line

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
        UserError: there is no API key, and it is not offline; or a project cannot be called so.
    """

    title = "W&B"

    def __init__(self, project: str, group: str) -> None:
        super().__init__(project, group, upload_timeout=UPLOADS_WITHIN, resume="allow", settings=SETTINGS)
        self.ended: set[Any] = set()  # trials, whose processes may still be writing
        try:
            wandb.Settings(project=project)
        except UsageError as error:
            raise UserError(f"wandb: {first_line(error)}") from None
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
        """Start its process; another one, after the first, for a trial that goes on although it had ended.

        Ray's own restarts its processes, with a warning over the view, and gives them the key in a way that ends in a
        log which every user of the machine can read. Ours have it from the environment that Ray was started in, or
        from `wandb login`.
        """
        if not self._remote_logger_class:
            options: Any = {"num_cpus": 0, **_force_on_current_node()}  # type: ignore[dict-item]
            remote_class: Any = ray.remote(**options)(self._logger_actor_cls)
            self._remote_logger_class = remote_class
        if trial in self.ended and trial in self._trial_logging_futures:
            ray.wait([self._trial_logging_futures[trial]], timeout=UPLOADS_WITHIN)
            self._cleanup_logging_actors()
        self.ended.discard(trial)
        super().log_trial_start(trial)

    def log_trial_result(self, iteration: int, trial: Any, result: dict[str, Any]) -> None:
        """Log an epoch; raises what W&B did in another process."""
        self._cleanup_logging_actors()
        super().log_trial_result(iteration, trial, result)

    def log_trial_end(self, trial: Any, failed: bool = False) -> None:
        """Its process writes the rest and goes; raises as `log_trial_result` does."""
        self.ended.add(trial)
        super().log_trial_end(trial, failed)

    def _cleanup_logging_actors(self, timeout: int = 0, kill_on_timeout: bool = False) -> None:
        """Ray's own does not ask how a process ended: one that W&B refused would end like any other."""
        futures = list(self._trial_logging_futures.values())
        done, late = ray.wait(futures, num_returns=len(futures), timeout=timeout)
        for future in [*done, *(late if kill_on_timeout else [])]:
            self._cleanup_logging_actor(self._logging_future_to_trial.pop(future))
        try:
            ray.get(done)
        except RayTaskError as error:
            raise error.cause or error from None

    def epochs_there(self, trial: Any) -> int:
        """None that is known: all are logged again, and W&B passes over the steps that it has."""
        return 0

    def lacks_end(self, trial: Any) -> bool:
        """It is not asked."""
        return False

    def log_interruption(self, trial: Any) -> None:
        """As where it ends."""
        self.log_trial_end(trial)
