"""Ray: starting or joining it, and what it offers."""

import logging
import os
import signal
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from functools import partial
from types import FrameType
from typing import Any, NoReturn

import ray
from ray._common.utils import get_default_ray_temp_dir
from ray._private import parameter, ray_constants
from ray._private.authentication.authentication_utils import is_token_auth_enabled
from ray._private.services import canonicalize_bootstrap_address_or_die
from ray.exceptions import RayError
from ray.tune import TuneError

from cifar_core.errors import UserError
from tune_experiments.access import LOOPBACK, ensure_token_file
from tune_experiments.config import SearchConfig
from tune_experiments.ray_watch import cluster_silence, dead_processes, ends_with_ray, knock
from tune_experiments.reaper import watched

ENVIRONMENT = {
    "RAY_worker_register_timeout_seconds": "600",  # on a busy machine, Ray's minute ends workers before they began
    "RAY_prestart_worker_first_driver": "0",  # processes that no trial can use: theirs have an environment of Tune
    "RAY_task_oom_retries": "3",  # of the range test's sweeps; the default is to try for ever
    "RAY_AIR_NEW_OUTPUT": "0",  # the terminal shows our progress, not Tune's tables
    "RAY_CHDIR_TO_TRIAL_DIR": "0",  # relative paths mean the same in trials
    "RAY_USAGE_STATS_ENABLED": "0",
    "RAY_ACCEL_ENV_VAR_OVERRIDE_ON_ZERO": "0",  # Ray's coming default: leave GPUs alone where none is asked for
    # Trials keep the memory that they free, in huge pages: taking it from the kernel anew cost 8 to 22 % of a CPU step.
    "GLIBC_TUNABLES": "glibc.malloc.hugetlb=1:glibc.malloc.mmap_threshold=4294967296:"
    "glibc.malloc.trim_threshold=4294967296",
    "TUNE_DISABLE_AUTO_CALLBACK_LOGGERS": "1",  # we name the ones that we want
    "TUNE_WARN_EXCESSIVE_EXPERIMENT_CHECKPOINT_SYNC_THRESHOLD_S": "0",  # we resume from the ledger
}


class ClusterError(Exception):
    """Ray itself failed, and not a trial. The message is one line."""


@dataclass(frozen=True)
class Cluster:
    """What a running Ray offers.

    Attributes:
        dashboard_url: none where there is no dashboard, or it is another's to tell of.
        dashboard_host: the interfaces that the dashboard listens on.
        asks_for_token: it and its dashboard; a cluster that is joined may not, whatever Ray's default is here.
    """

    cpus: int
    gpus: int
    nodes: int
    dashboard_url: str | None
    dashboard_host: str = LOOPBACK
    asks_for_token: bool = True

    def gpus_per_trial(self, search: SearchConfig, device: str) -> float:
        """What was asked for, or one where there are GPUs and `device` may be one of them."""
        if search.gpus_per_trial is not None:
            return search.gpus_per_trial
        return 1.0 if self.gpus and device in ("auto", "cuda") else 0.0


@contextmanager
def ray_cluster(address: str | None, dashboard_host: str | None, how_to_resume: str) -> Iterator[Cluster]:
    """Join the Ray cluster at `address` (see `check_cluster`), or start Ray here for as long as the block runs.

    A Ray that is started here listens on the loopback only, but for its dashboard, which is at `dashboard_host` or not
    at all (see `access.check_dashboard_host`). It goes when this process does. This process goes when Ray does: a line
    then tells `how_to_resume`. SIGTERM is a `KeyboardInterrupt` in the block.

    Raises:
        UserError: there is no cluster at the address.
        ClusterError: Ray failed in the block.
    """
    os.environ.update({name: value for name, value in ENVIRONMENT.items() if name not in os.environ})
    if address:
        dashboard = _join(address)
        with _shut_down_after(), ends_with_ray(cluster_silence(), how_to_resume), _failures_in_one_line():
            yield _describe(dashboard)
        return
    ensure_token_file()
    with watched(get_default_ray_temp_dir()), _on_loopback_only(), _agent_on_a_free_port(), _shut_down_after():
        context: Any = ray.init(
            address="local",  # not what RAY_ADDRESS or an earlier `ray start` points to
            include_dashboard=dashboard_host is not None,
            dashboard_host=dashboard_host or LOOPBACK,
            log_to_driver=False,
            logging_level=logging.ERROR,
        )
        with ends_with_ray(dead_processes, how_to_resume), _failures_in_one_line():
            yield _describe(context.dashboard_url, dashboard_host or LOOPBACK)


@contextmanager
def _on_loopback_only() -> Iterator[None]:
    """Ray that is started in the block is no cluster: all of its ports, those without a token too, are on 127.0.0.1.

    That is what Ray does on macOS and Windows by itself. Elsewhere it takes this variable, which has the name of those
    systems but is heard on all; in this process it was read when Ray was imported. `_node_ip_address="127.0.0.1"` does
    not do it: Ray replaces it by the machine's own address.
    """
    name, was_cluster = ray_constants.ENABLE_RAY_CLUSTERS_ENV_VAR, ray_constants.ENABLE_RAY_CLUSTER
    before = os.environ.get(name)
    os.environ[name], ray_constants.ENABLE_RAY_CLUSTER = "0", False
    try:
        yield
    finally:
        ray_constants.ENABLE_RAY_CLUSTER = was_cluster
        os.environ.pop(name)
        os.environ.update({} if before is None else {name: before})


@contextmanager
def _agent_on_a_free_port() -> Iterator[None]:
    """Ray that is started in the block takes any free port for its agent, through which the dashboard reads logs.

    `ray.init` has no argument for it, and its default is one number: of two Rays on a machine, the second has no logs.
    """
    module: Any = parameter
    parameters = module.RayParams
    module.RayParams = partial(parameters, dashboard_agent_listen_port=0)
    try:
        yield
    finally:
        module.RayParams = parameters


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


def _join(address: str) -> str | None:
    """Join a cluster; returns HOST:PORT of its dashboard."""
    try:
        context: Any = ray.init(address=address, log_to_driver=False, logging_level=logging.ERROR)
    except (ConnectionError, ValueError, RuntimeError) as error:
        reason = next(iter(str(error).splitlines()), type(error).__name__)
        raise UserError(
            f"address is {address}: cannot be joined ({reason}); a cluster that asks for Ray's token wants auto, or "
            "RAY_AUTH_MODE=token in the environment"
        ) from None
    return context.dashboard_url or None


def _describe(dashboard: str | None, dashboard_host: str = LOOPBACK) -> Cluster:
    resources = ray.cluster_resources()
    return Cluster(
        cpus=int(resources.get("CPU", 0)),
        gpus=int(resources.get("GPU", 0)),
        nodes=sum(node["Alive"] for node in ray.nodes()),
        dashboard_url=f"http://{dashboard}" if dashboard else None,
        dashboard_host=dashboard_host,
        asks_for_token=is_token_auth_enabled(),
    )
