"""Whole searches as a user starts them: how soon they begin, how busy they keep the slots, what a trial's memory is."""

import subprocess
import sys
import tempfile
import threading
import time
from collections import defaultdict
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from statistics import median

import pandas as pd
import psutil

from analysis.cost import slot_timeline
from analysis.trials import read_experiment
from tests.benchmarks.speed.rows import Row, spread

ROOT = Path(__file__).parents[3]
GIVEN = ["--max-lr-range", "0.005", "0.06"]  # no range test: the first step is a trial's
QUICK = [*GIVEN, "--confirm-top", "0"]
ONE_SECOND = [
    *QUICK,
    *["--num-samples", "60", "--scheduler", "none", "--epochs", "4", "--startup-trials", "60"],
    *["--width", "0.0625", "--train-size", "500", "--val-size", "250"],
]
MEMORY = [
    *QUICK,
    *["--num-samples", "2", "--scheduler", "none", "--epochs", "2", "--width", "0.0625", "--val-size", "100"],
]
FEW, MANY = 1_000, 45_000  # images


@dataclass(frozen=True)
class Searched:
    """A finished search: when its command was given (Unix seconds), its epochs, and its trials' places in time."""

    started_at: float
    epochs: pd.DataFrame
    timeline: pd.DataFrame
    private: dict[str, int]  # the most bytes that each worker had for itself

    @property
    def start_up(self) -> float:
        """Seconds from the command to the first trial's first step."""
        return float((self.epochs["finished_at"] - self.epochs["seconds"]).min() - self.started_at)

    @property
    def gaps(self) -> list[float]:
        """Seconds from one trial's last epoch to the next one's first step, in the same slot."""
        of_slot = self.timeline.sort_values("start").groupby("slot")
        return (of_slot["start"].shift(-1) - self.timeline["end"]).dropna().tolist()

    @property
    def useful_share(self) -> float:
        """Seconds of epochs per second of slot, from the first step to the last."""
        slots = self.timeline["slot"].max() + 1
        return float(self.epochs["seconds"].sum() / (slots * self.timeline["end"].max()))


def search(*flags: str) -> Searched:
    """Run a search of the quick preset with these flags on top."""
    with tempfile.TemporaryDirectory() as storage:
        command = [sys.executable, str(ROOT / "tune_experiments/search.py"), "--storage", storage, "--name", "speed"]
        started_at = time.time()
        with (Path(storage) / "output").open("w") as output:
            process = subprocess.Popen([*command, *flags], stdout=output, stderr=output, cwd=ROOT)
            private = _watch_memory(process)
        assert process.returncode == 0, (Path(storage) / "output").read_text()
        experiment = read_experiment(f"{storage}/speed")
        return Searched(started_at, experiment.epochs, slot_timeline(experiment), private)


def _watch_memory(driver: "subprocess.Popen[bytes]") -> dict[str, int]:
    """The most private bytes of each Ray worker that trains, until the driver ends."""
    most: dict[str, int] = defaultdict(int)
    done = threading.Event()
    threading.Thread(target=lambda: (driver.wait(), done.set()), daemon=True).start()
    while not done.wait(1.0):
        with suppress(psutil.Error):
            for process in psutil.Process(driver.pid).children(recursive=True):
                with suppress(psutil.Error):
                    if "ray::" in " ".join(process.cmdline()):
                        pid = str(process.pid)
                        most[pid] = max(most[pid], process.memory_full_info().uss)
    return dict(most)


def search_rows(rounds: int) -> list[Row]:
    """Start-up, the gap between two trials, and the useful share, of searches that are not confirmed."""
    quick = [search(*QUICK) for _ in range(rounds)]
    short = [search(*ONE_SECOND) for _ in range(rounds)]
    gaps = [gap for one in (*quick, *short) for gap in one.gaps]
    lengths = [seconds for one in short for seconds in (one.timeline["end"] - one.timeline["start"])]
    return [
        Row(
            "from the command to the first trial's first step",
            "≤ 12 s on 2 cores",
            f"{spread([one.start_up for one in (*quick, *short)], '{:.1f}')} s",
            "Ray's processes, and torch imported by the driver and then by each worker",
        ),
        Row(
            "from a trial's end to the next one's first step in the same process",
            "≤ 0.3 s",
            f"{spread(gaps, '{:.3f}')} s; 95 % within {pd.Series(gaps).quantile(0.95):.2f} s",
            "one round through Tune, the ledger's fsync and the proposal",
            {"gaps": gaps},
        ),
        Row(
            "useful share of a search: the quick preset (12 trials)",
            "≥ 0.90",
            spread([one.useful_share for one in quick]),
            "the last trial runs alone",
        ),
        Row(
            f"useful share with trials of {median(lengths):.1f} s (60 trials)",
            "Ray's benchmark with 1 s: 0.87",
            spread([one.useful_share for one in short]),
            "the gap between two trials",
        ),
    ]


def memory_rows() -> list[Row]:
    """What a trial's process holds for itself of the data, by two searches that differ in the number of images."""
    few, many = (_private_mebibytes(images) for images in (FEW, MANY))
    data = MANY * 32 * 32 * 3 / 2**20
    return [
        Row(
            f"host memory of a trial for its data: {MANY:,} images ({data:.0f} MiB, shared) against {FEW:,}",
            "a few MB",
            f"{max(many) - max(few):+.1f} MiB of {max(many):.0f} MiB that are the process's own",
            "the order and the draws of an epoch",
            {"private MiB, few": few, "private MiB, many": many},
        )
    ]


def _private_mebibytes(images: int) -> list[float]:
    private = search(*MEMORY, "--train-size", str(images)).private
    return sorted(uss / 2**20 for uss in private.values())[-2:]  # both trials' workers
