"""MLflow, through Ray's integration: a run for each trial, which a resumed search goes on with."""

import logging
import os
import time
from typing import Any

from mlflow.entities import Metric
from ray.air.integrations.mlflow import MLflowLoggerCallback

from cifar_core.errors import UserError
from tune_experiments.credentials import first_line

PATIENCE = {"MLFLOW_HTTP_REQUEST_MAX_RETRIES": "3", "MLFLOW_HTTP_REQUEST_TIMEOUT": "20"}  # seconds; not for minutes
ENDED = ("FINISHED", "FAILED")


class MLflowLogger(MLflowLoggerCallback):
    """Logs into the MLflow experiment that is called like ours, at a tracking URI without secrets.

    Raises:
        UserError: MLflow cannot work with the URI, or nothing answers there.
    """

    title = "MLflow"

    def __init__(self, uri: str, experiment: str) -> None:
        os.environ.update({name: value for name, value in PATIENCE.items() if name not in os.environ})
        logging.getLogger("mlflow").setLevel(logging.WARNING)  # it tells how it makes its tables
        super().__init__(uri, experiment_name=experiment)
        try:
            self.setup()  # type: ignore[no-untyped-call]
        except Exception as error:  # MLflow's, SQLAlchemy's or a connection's
            raise UserError(f"mlflow cannot be used: {first_line(error)}") from None
        self.client = self.mlflow_util._get_client()

    def open(self, search_id: str) -> None:
        """Find the runs of this search, by its tag."""
        self.tags = {"search": search_id}
        ours = [str(self.mlflow_util.experiment_id)]
        token: str | None = ""
        self.there: dict[str, Any] = {}  # runs, by trial
        while token is not None:
            found = self.client.search_runs(ours, f"tags.search = '{search_id}'", page_token=token)
            self.there |= {run.data.tags["trial_name"]: run for run in found}
            token = found.token or None

    def log_trial_start(self, trial: Any) -> None:
        """Begin a run, or go on with the one that is there."""
        if trial not in self._trial_runs and trial.name in self.there:
            self._trial_runs[trial] = self.there[trial.name].info.run_id
        if trial in self._trial_runs:
            self.client.update_run(self._trial_runs[trial], status="RUNNING")
        super().log_trial_start(trial)

    def log_trial_result(self, iteration: int, trial: Any, result: dict[str, Any]) -> None:
        """Log an epoch in one piece: a resume goes by its number, so that none of the rest may be missing."""
        now = int(time.time() * 1000)
        metrics = [Metric(name, float(value), now, iteration) for name, value in result.items()]
        self.client.log_batch(self._trial_runs[trial], metrics, synchronous=True)

    def epochs_there(self, trial: Any) -> int:
        """What its run has."""
        run = self.client.get_run(self._trial_runs[trial])
        return int(run.data.metrics.get("epoch", 0))

    def lacks_end(self, trial: Any) -> bool:
        """Whether its run is missing or not ended."""
        return trial.name not in self.there or self.there[trial.name].info.status not in ENDED

    def log_interruption(self, trial: Any) -> None:
        """A run that is not ended is one that may go on."""
        self.mlflow_util.end_run(run_id=self._trial_runs[trial], status="KILLED")
