"""Kills searches at random moments, resumes them, and compares them with searches that were left alone.

    python tests/benchmarks/fault_injection.py --driver-kills 20 --trial-kills 20 --ray-kills 4 --seed 0

Small searches, one trial at a time, on embedded images; Linux only. Each search meets kills in a random order:

- driver: SIGKILL mostly, now and then SIGTERM or SIGINT, at a moment between its first second and some epochs
  after its start-up: in the imports, the range test, an epoch, between two trials, in the middle of a write;
- trial: SIGKILL of the process that trains, while its driver goes on;
- ray: SIGKILL of Ray's raylet or its gcs_server, after which the driver has to end by itself.

It is then resumed until it is finished. What is counted, and has to be zero (but for `epochs repeated`):

- lost: events that the ledger had at some kill and that it does not have, or has otherwise, at the end;
- duplicates: of trials and epochs, in the ledger, in the tables and in Optuna's study;
- differing: settings, states and metrics, clocks aside, that are not those of the search that was left alone;
- hung: drivers that had not ended by themselves 60 s after SIGTERM, SIGINT or the death of Ray;
- orphans: processes of a killed driver, Ray's included, that are there 60 s later;
- epochs repeated: finished epochs that the ledger had at a kill and the trial's checkpoint did not, so that they
  were trained a second time. The epoch that was under way at a kill comes on top, in part, each time.

Ends with exit code 1 where one of them is not zero, or where a trial that was asked for is missing.
"""

import argparse
import json
import os
import random
import re
import signal
import subprocess
import sys
import tempfile
import threading
import time
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from contextlib import suppress
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

import optuna
import pandas as pd
from tqdm import tqdm

from cifar_core import checkpoint
from cifar_core.errors import UserError
from tune_experiments.reaper import processes_of

SEARCH = Path(__file__).parents[2] / "tune_experiments/search.py"
TRIALS = 8
SMALL = (
    f"--num-samples {TRIALS} --epochs 9 --train-size 512 --val-size 120 --width 0.0625 --batch-size 64 "
    "--grace-period 1 --range-test-seeds 1 --max-concurrent 1 --max-failures 100 --no-dashboard"
).split()
NAME = "search"
TRIAL = r"ray::\S*(Cifar|Resource)"  # the names that Ray gives to the processes of trials
KILLS_A_SEARCH = 15
SIGNALS = [signal.SIGKILL] * 6 + [signal.SIGTERM, signal.SIGINT]  # to drivers
PATIENCE = 60.0  # seconds for a driver to end by itself, and for its processes to be gone
MUST_BE_ZERO = ["lost", "duplicates", "differing", "hung", "orphans"]


@dataclass
class Figures:
    """What is counted over one search."""

    seed: int
    asked: int
    delivered: int = 0
    driver_kills: int = 0
    trial_kills: int = 0
    ray_kills: int = 0
    epochs: int = 0
    epochs_repeated: int = 0
    lost: int = 0
    duplicates: int = 0
    differing: int = 0
    hung: int = 0
    orphans: int = 0
    slowest_end: float = 0.0  # seconds that a driver took to end by itself
    slowest_cleanup: float = 0.0  # seconds from a driver's end to that of its last process

    @property
    def flawless(self) -> bool:
        """Whether everything is as it has to be."""
        return self.delivered == self.asked and not any(getattr(self, name) for name in MUST_BE_ZERO)


# --- processes -------------------------------------------------------------------------------------------------


def descendants(root: int) -> dict[int, str]:
    """The processes below one, each with its command line."""
    children: dict[int, list[int]] = {}
    for entry in Path("/proc").iterdir():
        if entry.name.isdigit():
            with suppress(OSError):
                parent = int((entry / "stat").read_text().rpartition(")")[2].split()[1])
                children.setdefault(parent, []).append(int(entry.name))
    found: dict[int, str] = {}
    waiting = [root]
    while waiting:
        for process in children.get(waiting.pop(), []):
            waiting.append(process)
            with suppress(OSError):
                found[process] = (Path("/proc") / str(process) / "cmdline").read_bytes().replace(b"\0", b" ").decode()
    return found


def trial_workers(driver: int) -> list[int]:
    """The processes of a driver that train."""
    return [process for process, command in descendants(driver).items() if re.match(TRIAL, command)]


def ray_process(driver: int, name: str) -> int | None:
    """One of the processes that Ray itself consists of; None where Ray is not there yet."""
    return next((process for process, command in descendants(driver).items() if f"/{name} " in command), None)


def kill(process: int, with_signal: signal.Signals) -> None:
    """Send a signal to a process, which may be gone."""
    with suppress(ProcessLookupError):
        os.kill(process, with_signal)


def ray_sessions(processes: dict[int, str]) -> set[str]:
    """The folders of the Ray sessions that the processes belong to."""
    return {found for command in processes.values() for found in re.findall(r"\S*?(/\S*/session_[0-9_-]+)/", command)}


class Cleanup(threading.Thread):
    """Waits for everything that a driver started to be gone, at most `PATIENCE` seconds."""

    def __init__(self, family: dict[int, str]) -> None:
        super().__init__(daemon=True)
        self.family = family
        self.sessions = ray_sessions(family)
        self.left: set[int] = set()
        self.seconds = 0.0
        self.start()

    def run(self) -> None:
        start = time.monotonic()
        while self._look() and self.seconds < PATIENCE:
            time.sleep(0.5)
            self.seconds = time.monotonic() - start

    def _look(self) -> bool:
        known = {process for process, command in self.family.items() if _command(process) == command}
        self.left = known.union(*(processes_of(session) for session in self.sessions))
        return bool(self.left)


def _command(process: int) -> str:
    with suppress(OSError):
        return (Path("/proc") / str(process) / "cmdline").read_bytes().replace(b"\0", b" ").decode()
    return ""


# --- one search ------------------------------------------------------------------------------------------------


@dataclass
class Search:
    """A search in a folder of its own, started or resumed as often as needed."""

    storage: Path
    flags: list[str]
    driver: subprocess.Popen[bytes] | None = None
    seen: set[str] = field(default_factory=set)  # lines of the ledger
    started_at: float = 0.0

    @property
    def folder(self) -> Path:
        """The experiment's."""
        return self.storage / NAME

    def start(self) -> "subprocess.Popen[bytes]":
        """A new driver: the search begins, or goes on."""
        self.storage.mkdir(parents=True, exist_ok=True)
        begun = (self.folder / "search.yaml").exists()
        what = ["--resume", NAME, "--no-dashboard"] if begun else ["--name", NAME, *self.flags]
        command = [sys.executable, str(SEARCH), "--storage", str(self.storage), *what]
        with (self.storage / "output.log").open("a") as log:
            self.driver = subprocess.Popen(command, stdout=log, stderr=log, cwd=self.storage)
        self.started_at = time.monotonic()
        return self.driver

    def lines(self) -> list[str]:
        """The whole lines of the ledger."""
        try:
            content = (self.folder / "ledger.jsonl").read_text()
        except FileNotFoundError:
            return []
        return content[: content.rfind("\n") + 1].splitlines()

    def events(self) -> list[dict[str, Any]]:
        """The ledger."""
        return [json.loads(line) for line in self.lines()]

    def look(self) -> None:
        """Remember what the ledger has: it must still have it at the end."""
        self.seen |= set(self.lines())

    def epochs_without_checkpoint(self) -> int:
        """Finished epochs of unfinished trials that their checkpoints do not have."""
        known = Counter(event["trial_id"] for event in self.events() if event["event"] == "epoch")
        ended = {event["trial_id"] for event in self.events() if event.get("state", "running") != "running"}
        return sum(max(0, known[trial] - self._checkpointed(trial)) for trial in set(known) - ended)

    def _checkpointed(self, trial_id: str) -> int:
        try:
            return len(checkpoint.read(self.folder / f"checkpoints/{trial_id}.pt")["epochs"])
        except UserError:
            return 0

    def log(self) -> str:
        """The end of what the drivers printed."""
        return (self.storage / "output.log").read_text()[-3000:]


@dataclass(frozen=True)
class Pace:
    """How long the search takes that is left alone: seconds to the first epoch, and from there to the end."""

    startup: float
    work: float


def run_reference(search: Search) -> Pace:
    """Run a search that nobody kills."""
    driver = search.start()
    while not any('"epoch"' in line for line in search.lines()) and driver.poll() is None:
        time.sleep(0.1)
    startup = time.monotonic() - search.started_at
    if driver.wait() != 0:
        raise SystemExit(f"the reference search failed:\n{search.log()}")
    return Pace(startup, time.monotonic() - search.started_at - startup)


class Killer:
    """Meets one search with kills until they are used up or it is finished."""

    def __init__(self, search: Search, pace: Pace, figures: Figures, rng: random.Random) -> None:
        self.search = search
        self.figures = figures
        self.rng = rng
        self.startup = pace.startup
        self.stride = 2 * pace.work / KILLS_A_SEARCH  # seconds: twice what a kill's share of the search takes
        self.cleanups: list[Cleanup] = []
        self.killed: subprocess.Popen[bytes] | None = None  # the last driver that we ended

    def run(self, kills: list[str], on_kill: Callable[[], object]) -> None:
        """Take kills from the list, the last first, and leave those that there was no time for."""
        ways = {"driver": self._kill_driver, "trial": self._kill_trial, "ray": self._kill_ray}
        while True:
            driver = self.search.start()
            while kills and driver.poll() is None:
                if ways[kills[-1]](driver):
                    setattr(self.figures, f"{kills[-1]}_kills", getattr(self.figures, f"{kills.pop()}_kills") + 1)
                    on_kill()
            code = driver.wait()
            self.search.look()
            if code == 0:
                break
            if driver is not self.killed:
                raise SystemExit(f"a resumed search failed:\n{self.search.log()}")
        for cleanup in self.cleanups:
            cleanup.join()
        self.figures.orphans = sum(len(cleanup.left) for cleanup in self.cleanups)
        self.figures.slowest_cleanup = max((cleanup.seconds for cleanup in self.cleanups), default=0.0)

    def _kill_driver(self, driver: "subprocess.Popen[bytes]") -> bool:
        if not self._wait(driver, self.rng.uniform(0.5, self.startup + self.stride)):
            return False
        with_signal = self.rng.choice(SIGNALS)
        family = descendants(driver.pid)
        kill(driver.pid, with_signal)
        self._driver_ends(driver, family)
        return True

    def _kill_trial(self, driver: "subprocess.Popen[bytes]") -> bool:
        while driver.poll() is None and not trial_workers(driver.pid):
            time.sleep(0.2)
        if self.rng.random() < 0.7:  # while it trains; otherwise most likely while it starts
            known = len(self.search.lines())
            while driver.poll() is None and len(self.search.lines()) == known:
                time.sleep(0.05)
        self._wait(driver, self.rng.uniform(0, self.stride))
        workers = trial_workers(driver.pid)
        if not workers:
            return False
        kill(self.rng.choice(workers), signal.SIGKILL)
        time.sleep(0.3)  # what it had reported arrives; the next worker takes seconds to start
        self._note()
        return True

    def _kill_ray(self, driver: "subprocess.Popen[bytes]") -> bool:
        if not self._wait(driver, self.rng.uniform(0.8 * self.startup, self.startup + self.stride)):
            return False
        process = ray_process(driver.pid, self.rng.choice(["raylet", "gcs_server"]))
        if process is None:
            return False
        family = descendants(driver.pid)
        kill(process, signal.SIGKILL)
        self._driver_ends(driver, family)
        return True

    def _wait(self, driver: "subprocess.Popen[bytes]", seconds: float) -> bool:
        """Wait while the driver runs; whether it still does."""
        with suppress(subprocess.TimeoutExpired):
            driver.wait(timeout=seconds)
        return driver.poll() is None

    def _driver_ends(self, driver: "subprocess.Popen[bytes]", family: dict[int, str]) -> None:
        start = time.monotonic()
        self.killed = driver
        if self._wait(driver, PATIENCE):
            self.figures.hung += 1
            driver.kill()
            driver.wait()
        self.figures.slowest_end = max(self.figures.slowest_end, time.monotonic() - start)
        self.cleanups.append(Cleanup(family))
        self._note()

    def _note(self) -> None:
        self.search.look()
        self.figures.epochs_repeated += self.search.epochs_without_checkpoint()


# --- the comparison --------------------------------------------------------------------------------------------


def compare(search: Search, reference: Search, figures: Figures) -> None:
    """Fill in what the finished search has, lacks, and has otherwise than the reference."""
    lines, events = search.lines(), search.events()
    figures.lost = len(search.seen - set(lines))
    figures.epochs = sum(event["event"] == "epoch" for event in events)
    figures.differing = differing(outcome(events), outcome(reference.events()))
    trials = pd.read_parquet(search.folder / "trials.parquet")
    epochs = pd.read_parquet(search.folder / "epochs.parquet")
    study = optuna.load_study(study_name="search", storage=f"sqlite:///{search.folder}/optuna.db")
    told = pd.Series([trial.user_attrs["trial_id"] for trial in study.trials])
    happened = pd.Series(list(map(repr, map(_key, events))))
    tables = (happened, trials["trial_id"], epochs[["trial_id", "epoch"]], told)
    figures.duplicates = sum(int(table.duplicated().sum()) for table in tables)
    ended = set(trials.loc[~trials["state"].isin(["running", "pending"]), "trial_id"])
    figures.delivered = len(ended & set(told))
    figures.lost += abs(len(epochs) - figures.epochs)


def _key(event: dict[str, Any]) -> tuple[Any, ...]:
    return event["event"], event["trial_id"], event.get("metrics", {}).get("epoch")


def outcome(events: Sequence[dict[str, Any]]) -> dict[tuple[Any, ...], str]:
    """Everything in a ledger that no clock and no process number decides, as exact text."""
    values: dict[tuple[Any, ...], str] = {}
    for event in events:
        parts = {**event.get("setting", {}), **event.get("metrics", {}), "state": event.get("state")}
        parts["reason"] = event.get("reason")
        values |= {(*_key(event), name): repr(value) for name, value in parts.items() if name != "seconds"}
    return values


def differing(ours: dict[tuple[Any, ...], str], theirs: dict[tuple[Any, ...], str]) -> int:
    """How many values are not in both, and alike."""
    return sum(ours.get(key) != theirs.get(key) for key in ours.keys() | theirs.keys())


# --- the command -----------------------------------------------------------------------------------------------


def inject_faults(kills: list[str], seed: int, folder: Path) -> Iterator[Figures]:
    """Run searches until all kills have been met; figures for each of them, once it is finished."""
    rng = random.Random(seed)
    kills = rng.sample(kills, len(kills))
    number = seed
    with tqdm(total=len(kills), unit="kill") as bar:
        while kills:
            flags = [*SMALL, "--seed", str(number)]
            bar.set_description(f"search of seed {number}, left alone")
            reference = Search(folder / f"{number}-alone", flags)
            pace = run_reference(reference)
            bar.set_description(f"search of seed {number}, killed")
            search = Search(folder / f"{number}-killed", flags)
            figures = Figures(number, asked=TRIALS)
            ours = [kills.pop() for _ in range(min(KILLS_A_SEARCH, len(kills)))]
            Killer(search, pace, figures, rng).run(ours, lambda: bar.update())
            kills += ours
            compare(search, reference, figures)
            yield figures
            number += 1


def as_table(done: Sequence[Figures]) -> str:
    """A row for each search, and their sum; of seconds the most."""
    table = pd.DataFrame([asdict(figures) for figures in done]).set_index("seed").round(1)
    of_all = {name: max(table[name]) if name.startswith("slowest") else sum(table[name]) for name in table.columns}
    table.loc["all"] = pd.Series(of_all)
    return str(table.T.to_string(float_format="{:g}".format))


def main(arguments: Sequence[str]) -> int:
    """Kill, resume, compare, report."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    for name, count in (("driver", 20), ("trial", 20), ("ray", 4)):
        parser.add_argument(f"--{name}-kills", type=int, default=count, help="(default: %(default)s)")
    parser.add_argument("--seed", type=int, default=0, help="of the searches and of the kills (default: 0)")
    parser.add_argument("--output", type=Path, default=Path("fault_injection.json"), help="(default: %(default)s)")
    given = parser.parse_args(arguments)
    signal.signal(signal.SIGINT, signal.default_int_handler)  # where it is ignored, as under nohup, drivers would too
    kills = ["driver"] * given.driver_kills + ["trial"] * given.trial_kills + ["ray"] * given.ray_kills
    done: list[Figures] = []
    with tempfile.TemporaryDirectory(prefix="faults-", ignore_cleanup_errors=True) as folder:
        for figures in inject_faults(kills, given.seed, Path(folder)):
            done.append(figures)
            given.output.write_text(json.dumps([asdict(figures) for figures in done], indent=2) + "\n")
    print(as_table(done))
    return 0 if all(figures.flawless for figures in done) else 1


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
