"""Ray: starting or joining it, what it offers, and how many trials fit."""

import logging
import os
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import ray

from cifar_core.errors import UserError
from tune_experiments.config import SearchConfig
from tune_experiments.reaper import watched

ENVIRONMENT = {
    "RAY_AIR_NEW_OUTPUT": "0",  # the terminal shows our progress, not Tune's tables
    "RAY_CHDIR_TO_TRIAL_DIR": "0",  # relative paths mean the same in trials
    "RAY_USAGE_STATS_ENABLED": "0",
    "RAY_ACCEL_ENV_VAR_OVERRIDE_ON_ZERO": "0",  # Ray's coming default: leave GPUs alone where none is asked for
    "TUNE_DISABLE_AUTO_CALLBACK_LOGGERS": "1",  # we name the ones that we want
    "TUNE_WARN_EXCESSIVE_EXPERIMENT_CHECKPOINT_SYNC_THRESHOLD_S": "0",  # we resume from the ledger
}


@dataclass(frozen=True)
class Cluster:
    """What a running Ray offers."""

    cpus: int
    gpus: int
    nodes: int
    dashboard_url: str | None

    def gpus_per_trial(self, search: SearchConfig) -> float:
        """What was asked for, or one where there are GPUs."""
        if search.gpus_per_trial is not None:
            return search.gpus_per_trial
        return 1.0 if self.gpus else 0.0

    def slots(self, search: SearchConfig) -> int:
        """How many trials run at a time; raises `UserError` where not even one fits."""
        gpus = self.gpus_per_trial(search)
        fitting = self.cpus // search.cpus_per_trial
        if gpus:
            fitting = min(fitting, int(self.gpus // gpus) if gpus >= 1 else self.gpus * int(1 / gpus + 1e-9))
        if fitting < 1:
            raise UserError(
                f"a trial wants {search.cpus_per_trial} CPUs and {gpus:g} GPUs; Ray has {self.cpus} and {self.gpus}"
            )
        return min(fitting, search.max_concurrent or fitting)


@contextmanager
def ray_cluster(address: str | None, dashboard: bool) -> Iterator[Cluster]:
    """Join the Ray cluster at `address` (`auto` or HOST:PORT), or start Ray here for as long as the block runs.

    A Ray that is started here has its dashboard on the loopback only, and goes when this process does.
    """
    os.environ.update({name: value for name, value in ENVIRONMENT.items() if name not in os.environ})
    if address:
        _join(address)
        with _shut_down_after():
            yield _describe(None)
        return
    context: Any = ray.init(
        include_dashboard=dashboard,
        dashboard_host="127.0.0.1",
        _node_ip_address="127.0.0.1",
        log_to_driver=False,
        logging_level=logging.ERROR,
    )
    with watched(context.address_info["session_dir"]), _shut_down_after():
        yield _describe(context.dashboard_url)


@contextmanager
def _shut_down_after() -> Iterator[None]:
    try:
        yield
    finally:
        ray.shutdown()


def _join(address: str) -> None:
    try:
        ray.init(address=address, log_to_driver=False, logging_level=logging.ERROR)
    except (ConnectionError, ValueError, RuntimeError) as error:
        raise UserError(f"address is {address}: no Ray cluster there ({str(error).splitlines()[0]})") from None


def _describe(dashboard: str | None) -> Cluster:
    resources = ray.cluster_resources()
    return Cluster(
        cpus=int(resources.get("CPU", 0)),
        gpus=int(resources.get("GPU", 0)),
        nodes=sum(node["Alive"] for node in ray.nodes()),
        dashboard_url=f"http://{dashboard}" if dashboard else None,
    )
