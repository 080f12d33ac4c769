"""Ends what is left of a Ray that was started for a search whose driver is gone.

Ray's own processes notice a dead driver, but some of its agents only after two minutes. This script is started
beside Ray, in a session of its own, and waits at the end of a pipe that only the driver holds: however the driver
ends, the pipe closes. It imports nothing outside the standard library, to be small for as long as it waits.
"""

import os
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

GRACE = 10.0  # seconds in which Ray may end by itself
PROCESSES = Path("/proc")


@contextmanager
def watched(ray_folder: str) -> Iterator[None]:
    """While the block runs, this process is watched; when it is gone, or the block is left, Ray has to go.

    `ray_folder` is where Ray makes its session folders, whose names end with the driver's process id: so the watch
    can begin before Ray is started, which takes seconds.
    """
    if not PROCESSES.exists():  # macOS: Ray's agents there end by themselves, later
        yield
        return
    command = [sys.executable, "-IS", __file__, str(Path(ray_folder).resolve()), str(os.getpid())]
    watch = subprocess.Popen(command, stdin=subprocess.PIPE, start_new_session=True)
    assert watch.stdin is not None
    with watch.stdin:
        yield


def processes_of(session_folder: str) -> list[int]:
    """Processes that have a file open below the folder: all of Ray's have their logs there, whatever their names."""
    entries = (entry for entry in PROCESSES.iterdir() if entry.name.isdigit() and _uses(entry, session_folder))
    return [int(entry.name) for entry in entries]


def _uses(process: Path, folder: str) -> bool:
    try:
        return any(str(file.readlink()).startswith(folder + "/") for file in (process / "fd").iterdir())
    except OSError:  # it ended, or is another user's
        return False


def _left(ray_folder: Path, driver: int) -> set[int]:
    sessions = ray_folder.glob(f"session_*_{driver}")
    return {process for session in sessions for process in processes_of(str(session))} - {driver}


def main() -> None:
    """Wait for the driver's end, then for Ray's, then end Ray."""
    ray_folder, driver = Path(sys.argv[1]), int(sys.argv[2])  # not getppid: the driver may be gone by now
    sys.stdin.read()
    deadline = time.monotonic() + GRACE
    while _left(ray_folder, driver) and time.monotonic() < deadline:
        time.sleep(0.5)
    for process in _left(ray_folder, driver):
        with suppress(OSError):  # it may be quicker
            os.kill(process, signal.SIGKILL)


if __name__ == "__main__":
    main()
