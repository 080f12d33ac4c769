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

VITAL = {"raylet", "gcs_server"}  # of Ray's own processes: without them nothing goes on
LOOK_EVERY = 0.3  # seconds
ASK_EVERY = 1.0  # seconds, where a look is a question over the network
ANSWERS_WITHIN = 10.0  # seconds
SILENT_FOR = 30.0  # seconds; the driver's own patience is a minute, and then it aborts without a word
EXIT_RAY_LOST = 1


@contextmanager
def ends_with_ray(trouble: Callable[[], str], how_to_resume: str) -> Iterator[None]:
    """End this process when there is `trouble` with Ray that it does not survive.

    Left alone, the driver first blames the trials for it, which would then be in the ledger as failed, and aborts
    after up to a minute. There is nothing to clean up: whatever happened is on the disk.
    """
    left = threading.Event()

    def watch() -> None:
        while not left.wait(LOOK_EVERY):
            if what := trouble():
                print(f"\nerror: Ray's {what}; go on with {how_to_resume}", file=sys.stderr, flush=True)
                os._exit(EXIT_RAY_LOST)

    thread = threading.Thread(target=watch, daemon=True)
    thread.start()
    try:
        yield
    finally:
        left.set()
        thread.join()


def dead_processes() -> str:
    """Which vital processes of the Ray that was started here are dead."""
    node: Any = ray._private.worker._global_node
    dead = VITAL & {name for name, _ in node.dead_processes()}
    return f"{' and '.join(sorted(dead))} died" if dead else ""


def silence_of(address: str) -> Callable[[], str]:
    """Tells when the head of a cluster has not answered for a while."""
    answered_at = time.monotonic()

    def silence() -> str:
        nonlocal answered_at
        if time.monotonic() - answered_at > ASK_EVERY:
            with suppress(OSError):
                knock(address)
                answered_at = time.monotonic()
        return f"head at {address} does not answer" if time.monotonic() - answered_at > SILENT_FOR else ""

    return silence


def knock(address: str) -> None:
    """Connect to HOST:PORT and leave again; raises `OSError` or `ValueError`."""
    host, _, port = address.rpartition(":")
    socket.create_connection((host.strip("[]"), int(port)), timeout=ANSWERS_WITHIN).close()
