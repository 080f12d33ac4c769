"""Ray: starting or joining it, what it offers, and how many trials fit."""

import logging
import os
import signal
import sys
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from types import FrameType
from typing import Any, NoReturn

import ray
from ray._common.utils import get_default_ray_temp_dir
from ray.exceptions import RayError
from ray.tune import TuneError

from cifar_core.errors import UserError
from tune_experiments.config import SearchConfig
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
VITAL = {"raylet", "gcs_server"}  # of Ray's own processes: without them nothing goes on
EXIT_RAY_LOST = 1


class ClusterError(Exception):
    """Ray itself failed, and not a trial. The message is one line."""


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
def ray_cluster(address: str | None, dashboard: bool, how_to_resume: str) -> Iterator[Cluster]:
    """Join the Ray cluster at `address` (`auto` or HOST:PORT), or start Ray here for as long as the block runs.

    A Ray that is started here has its dashboard on the loopback only, and goes when this process does. This process
    goes when it does: a line then tells `how_to_resume`. SIGTERM is a `KeyboardInterrupt` in the block.

    Raises:
        UserError: there is no cluster at the address.
        ClusterError: Ray failed in the block.
    """
    os.environ.update({name: value for name, value in ENVIRONMENT.items() if name not in os.environ})
    if address:
        _join(address)
        with _shut_down_after(), _failures_in_one_line():
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
        with _ends_with_ray(how_to_resume), _failures_in_one_line():
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
def _ends_with_ray(how_to_resume: str) -> Iterator[None]:
    """End this process when Ray's vital ones are dead.

    Left alone, the driver first blames the trials for it, which would then be in the ledger as failed, and aborts
    after up to a minute. There is nothing to clean up: whatever happened is on the disk.
    """
    node: Any = ray._private.worker._global_node
    left = threading.Event()

    def watch() -> None:
        while not left.wait(0.3):
            dead = sorted(VITAL & {name for name, _ in node.dead_processes()})
            if dead:
                line = f"\nerror: Ray's {' and '.join(dead)} died; go on with {how_to_resume}"
                print(line, file=sys.stderr, flush=True)
                os._exit(EXIT_RAY_LOST)

    thread = threading.Thread(target=watch, daemon=True)
    thread.start()
    try:
        yield
    finally:
        left.set()
        thread.join()


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
        raise UserError(
            f"address is {address}: no Ray cluster there ({next(iter(str(error).splitlines()), type(error).__name__)})"
        ) from None


def _describe(dashboard: str | None) -> Cluster:
    resources = ray.cluster_resources()
    return Cluster(
        cpus=int(resources.get("CPU", 0)),
        gpus=int(resources.get("GPU", 0)),
        nodes=sum(node["Alive"] for node in ray.nodes()),
        dashboard_url=f"http://{dashboard}" if dashboard else None,
    )
