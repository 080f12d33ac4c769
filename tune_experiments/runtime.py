"""Ray: starting or joining it, what it offers, and how many trials fit."""

import logging
import os
import signal
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from types import FrameType
from typing import Any, NoReturn

import ray
from ray._common.utils import get_default_ray_temp_dir
from ray._private.services import canonicalize_bootstrap_address_or_die
from ray.exceptions import RayError
from ray.tune import TuneError

from cifar_core.errors import UserError
from tune_experiments.config import SearchConfig
from tune_experiments.ray_watch import cluster_silence, dead_processes, ends_with_ray, knock
from tune_experiments.reaper import watched

ENVIRONMENT = {
    "RAY_worker_register_timeout_seconds": "600",  # on a busy machine, Ray's minute ends workers before they began
    "RAY_task_oom_retries": "3",  # of the range test's sweeps; the default is to try for ever
    "RAY_AIR_NEW_OUTPUT": "0",  # the terminal shows our progress, not Tune's tables
    "RAY_CHDIR_TO_TRIAL_DIR": "0",  # relative paths mean the same in trials
    "RAY_USAGE_STATS_ENABLED": "0",
    "RAY_ACCEL_ENV_VAR_OVERRIDE_ON_ZERO": "0",  # Ray's coming default: leave GPUs alone where none is asked for
    "TUNE_DISABLE_AUTO_CALLBACK_LOGGERS": "1",  # we name the ones that we want
    "TUNE_WARN_EXCESSIVE_EXPERIMENT_CHECKPOINT_SYNC_THRESHOLD_S": "0",  # we resume from the ledger
}


class ClusterError(Exception):
    """Ray itself failed, and not a trial. The message is one line."""


@dataclass(frozen=True)
class Cluster:
    """What a running Ray offers."""

    cpus: int
    gpus: int
    nodes: int
    dashboard_url: str | None

    def gpus_per_trial(self, search: SearchConfig, device: str) -> float:
        """What was asked for, or one where there are GPUs and `device` may be one of them."""
        if search.gpus_per_trial is not None:
            return search.gpus_per_trial
        return 1.0 if self.gpus and device in ("auto", "cuda") else 0.0

    def slots(self, search: SearchConfig) -> int:
        """How many trials run at a time; raises `UserError` where not even one fits."""
        gpus = search.gpus_per_trial or 0.0
        fitting = self.cpus // search.cpus_per_trial
        if gpus:
            fitting = min(fitting, int(self.gpus // gpus) if gpus >= 1 else self.gpus * int(1 / gpus + 1e-9))
        if fitting < 1:
            raise UserError(
                f"a trial wants {search.cpus_per_trial} CPUs and {gpus:g} GPUs; Ray has {self.cpus} and {self.gpus}"
            )
        return min(fitting, search.max_concurrent or fitting)


@contextmanager
def ray_cluster(address: str | None, dashboard: bool, how_to_resume: str) -> Iterator[Cluster]:
    """Join the Ray cluster at `address` (see `check_cluster`), or start Ray here for as long as the block runs.

    A Ray that is started here has its dashboard on the loopback only, and goes when this process does. This process
    goes when Ray does: a line then tells `how_to_resume`. SIGTERM is a `KeyboardInterrupt` in the block.

    Raises:
        UserError: there is no cluster at the address.
        ClusterError: Ray failed in the block.
    """
    os.environ.update({name: value for name, value in ENVIRONMENT.items() if name not in os.environ})
    if address:
        _join(address)
        with _shut_down_after(), ends_with_ray(cluster_silence(), how_to_resume), _failures_in_one_line():
            yield _describe(None)
        return
    with watched(get_default_ray_temp_dir()), _shut_down_after():
        context: Any = ray.init(
            address="local",  # not what RAY_ADDRESS or an earlier `ray start` points to
            include_dashboard=dashboard,
            dashboard_host="127.0.0.1",
            _node_ip_address="127.0.0.1",
            log_to_driver=False,
            logging_level=logging.ERROR,
        )
        with ends_with_ray(dead_processes, how_to_resume), _failures_in_one_line():
            yield _describe(context.dashboard_url)


@contextmanager
def _failures_in_one_line() -> Iterator[None]:
    signal.signal(signal.SIGTERM, _interrupt)  # Ray's own handler exits without a word
    try:
        yield
    except (RayError, TuneError) as error:
        raise ClusterError(" ".join(str(error).strip().splitlines()[-1:])) from error


def _interrupt(number: int, frame: FrameType | None) -> NoReturn:
    raise KeyboardInterrupt


@contextmanager
def _shut_down_after() -> Iterator[None]:
    try:
        yield
    finally:
        ray.shutdown()


def check_cluster(address: str) -> None:
    """Whether something answers at an address (`auto` or HOST:PORT). Ray itself would try for many minutes, and abort.

    Raises:
        UserError: nothing does.
    """
    try:
        knock(canonicalize_bootstrap_address_or_die(address))
    except (OSError, ValueError, OverflowError) as error:  # no such host, no answer; no address; no such port
        raise UserError(f"address is {address}: no Ray cluster there ({error}); give auto or HOST:PORT") from None


def _join(address: str) -> None:
    try:
        ray.init(address=address, log_to_driver=False, logging_level=logging.ERROR)
    except (ConnectionError, ValueError, RuntimeError) as error:
        reason = next(iter(str(error).splitlines()), type(error).__name__)
        raise UserError(
            f"address is {address}: cannot be joined ({reason}); a cluster that asks for Ray's token wants auto, or "
            "RAY_AUTH_MODE=token in the environment"
        ) from None


def _describe(dashboard: str | None) -> Cluster:
    resources = ray.cluster_resources()
    return Cluster(
        cpus=int(resources.get("CPU", 0)),
        gpus=int(resources.get("GPU", 0)),
        nodes=sum(node["Alive"] for node in ray.nodes()),
        dashboard_url=f"http://{dashboard}" if dashboard else None,
    )
