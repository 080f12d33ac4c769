"""Looks whether the Ray that a search runs on is still there."""

import os
import socket
import sys
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from typing import Any

import ray

from tune_experiments.background import in_background

VITAL = {"raylet", "gcs_server"}  # of Ray's own processes: without them nothing goes on
LOOK_EVERY = 0.3  # seconds
ASK_EVERY = 1.0  # seconds, where a look is a question over the network
ANSWERS_WITHIN = 10.0  # seconds
EXIT_RAY_LOST = 1


@contextmanager
def ends_with_ray(trouble: Callable[[], str], how_to_resume: str) -> Iterator[None]:
    """End this process when there is `trouble` with Ray that it does not survive.

    Left alone, the driver first blames the trials for it, which would then be in the ledger as failed, and aborts
    after up to a minute. There is nothing to clean up: whatever happened is on the disk.
    """

    def watch(left: threading.Event) -> None:
        while not left.wait(LOOK_EVERY):
            if what := trouble():
                print(f"\nerror: Ray's {what}; go on with {how_to_resume}", file=sys.stderr, flush=True)
                os._exit(EXIT_RAY_LOST)

    with in_background(watch, "watches Ray"):
        yield


def dead_processes() -> str:
    """Which vital processes of the Ray that was started here are dead."""
    node: Any = ray._private.worker._global_node
    dead = VITAL & {name for name, _ in node.dead_processes()}
    return f"{' and '.join(sorted(dead))} died" if dead else ""


def cluster_silence() -> Callable[[], str]:
    """Tells when the head of the joined cluster, or the node that this process is on, has been silent for long.

    Ray ends this process without a word after a minute without its head, or some 10 seconds without its node.
    """
    context = ray.get_runtime_context()
    here = next(node for node in ray.nodes() if node["NodeID"] == context.get_node_id())
    node_address = f"{here['NodeManagerAddress']}:{here['NodeManagerPort']}"
    head, node = silence_of("head", context.gcs_address, 30.0), silence_of("node", node_address, 3.0)
    return lambda: head() or node()


def silence_of(what: str, address: str, patience: float) -> Callable[[], str]:
    """Tells when HOST:PORT has not answered for so many seconds; to be asked often."""
    answered_at = time.monotonic()

    def silence() -> str:
        nonlocal answered_at
        if time.monotonic() - answered_at > ASK_EVERY:
            with suppress(OSError):
                knock(address)
                answered_at = time.monotonic()
        return f"{what} at {address} does not answer" if time.monotonic() - answered_at > patience else ""

    return silence


def knock(address: str) -> None:
    """Connect to HOST:PORT and leave again; raises `OSError` or `ValueError`."""
    host, _, port = address.rpartition(":")
    socket.create_connection((host.strip("[]"), int(port)), timeout=ANSWERS_WITHIN).close()
