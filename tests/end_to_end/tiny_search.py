"""Running a real, tiny search in a process of its own, and killing it."""

import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path

ROOT = Path(__file__).parents[2]
TINY = """
    --num-samples 5 --epochs 4 --train-size 256 --val-size 120 --width 0.0625 --batch-size 64
    --grace-period 1 --range-test-seeds 1 --no-dashboard --seed 3 --confirm-top 0
""".split()  # noqa: SIM905  # as one would type it
CONFIRM = ["--confirm-top", "1", "--confirm-seeds", "2"]  # after TINY: the seed's setting and the best, twice each
APART = ["unshare", "--map-root-user", "--mount"]  # runs a command with mounts of its own, where that is allowed


def search_command(storage: Path, *flags: str) -> list[str]:
    return [sys.executable, str(ROOT / "tune_experiments/search.py"), "--storage", str(storage), *flags]


def run_search(storage: Path, *flags: str) -> subprocess.CompletedProcess[str]:
    """Run a search to its end. Ray workers may outlive it and keep pipes open, so output goes to a file."""
    log = storage / "output.log"
    with log.open("w") as output:
        done = subprocess.run(search_command(storage, *flags), stdout=output, stderr=output, cwd=storage, timeout=400)
    return subprocess.CompletedProcess(done.args, done.returncode, log.read_text(), "")


def kill_search_when(storage: Path, condition: Callable[[], bool], with_signal: signal.Signals, *flags: str) -> int:
    """Start a search, send the signal once the condition holds, and return the exit code."""
    with (storage / "killed.log").open("w") as output:
        process = subprocess.Popen(search_command(storage, *flags), stdout=output, stderr=output, cwd=storage)
        deadline = time.monotonic() + 200
        while not condition():
            assert process.poll() is None, (storage / "killed.log").read_text()
            assert time.monotonic() < deadline
            time.sleep(0.05)
        os.kill(process.pid, with_signal)
        return process.wait(timeout=120)
