"""Kills searches at random moments, resumes them, and compares them with searches that were left alone.

    python tests/benchmarks/fault_injection.py --driver-kills 20 --trial-kills 20 --ray-kills 4 --seed 0

Small searches with a confirmation, one trial at a time, on embedded images; Linux only. About 16 minutes on 2 quiet
cores. Each search meets kills in a random order:

- driver: SIGKILL mostly, in eight one SIGINT and one SIGTERM; a third of them in its start-up (the imports, Ray, the
  range test), the others some time after it has recorded something: in an epoch, between two trials, in a write;
- trial: SIGKILL of the process that trains, while its driver goes on;
- ray: SIGKILL of Ray's raylet or its gcs_server, after which the driver has to end by itself.

It is then resumed until it is finished. What is counted, and has to be zero (but for `epochs repeated`):

- lost: events that the ledgers had at some kill and that they do not have, or have otherwise, at the end;
- duplicates: of trials and epochs, in the ledgers, in the tables and in Optuna's study;
- differing: settings, states, metrics and what the confirmation found, clocks aside, that are not those of the search
  that was left alone;
- hung: drivers that had not ended by themselves 60 s after SIGTERM, SIGINT or the death of Ray, or that recorded
  nothing for five minutes;
- orphans: processes of a killed driver, Ray's included, that are there 60 s later;
- epochs repeated: finished epochs that a ledger had at a kill and the trial's checkpoint did not, so that they
  were trained a second time. The epoch that was under way at a kill comes on top, in part, each time.

Ends with exit code 1 where one of them is not zero, or where a trial or a run of the confirmation is missing. The
figures so far are in `--output` after every kill. The searches are kept in `--folder` where one is given; there, one
that was left alone serves the next time too. Empty the folder when the code has changed.
"""

import argparse
import json
import os
import random
import re
import shutil
import signal
import subprocess
import sys
import tempfile
import threading
import time
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager, suppress
from dataclasses import asdict, dataclass, field
from datetime import datetime
from itertools import cycle, islice
from pathlib import Path
from typing import Any, Literal, NamedTuple

import optuna
import pandas as pd

from cifar_core import checkpoint
from cifar_core.errors import UserError
from cifar_core.options import read_yaml
from tune_experiments.reaper import processes_of

SEARCH = Path(__file__).parents[2] / "tune_experiments/search.py"
TRIALS = 8
SMALL = (
    f"--num-samples {TRIALS} --epochs 9 --train-size 512 --val-size 120 --width 0.0625 --batch-size 64 "
    "--grace-period 1 --range-test-seeds 1 --confirm-top 1 --confirm-seeds 2 "
    "--max-concurrent 1 --max-failures 100 --no-dashboard"
).split()
NAME = "search"
LEDGERS = ("ledger.jsonl", "confirm.jsonl")
TRIAL = r"ray::\S*(Cifar|Resource)"  # the names that Ray gives to the processes of trials
KILLS_A_SEARCH = 15
SIGNALS = ("KILL", "INT", "KILL", "TERM", "KILL", "KILL", "KILL", "KILL")  # to drivers, over and over
IN_STARTUP = 1 / 3  # of the kills of drivers and of Ray
PATIENCE = 60.0  # seconds for a driver to end by itself, and for its processes to be gone
STUCK = 300.0  # seconds in which a driver records nothing
MUST_BE_ZERO = ["lost", "duplicates", "differing", "hung", "orphans"]


class Kill(NamedTuple):
    """What is ended, and how."""

    what: Literal["driver", "trial", "ray"]
    with_signal: signal.Signals = signal.SIGKILL


@dataclass
class Figures:
    """What is counted over one search."""

    seed: int
    asked: int  # trials, and runs of the confirmation
    delivered: int = 0
    driver_kills: int = 0
    trial_kills: int = 0
    ray_kills: int = 0
    kills_in_confirmation: int = 0  # those of them that came after it had begun
    epochs: int = 0
    epochs_repeated: int = 0
    lost: int = 0
    duplicates: int = 0
    differing: int = 0
    hung: int = 0
    orphans: int = 0
    slowest_end: float = 0.0  # seconds that a driver took to end by itself
    slowest_cleanup: float = 0.0  # seconds from a driver's end to that of its last process
    finished: bool = False

    @property
    def kills(self) -> int:
        """Of all kinds."""
        return self.driver_kills + self.trial_kills + self.ray_kills

    @property
    def flawless(self) -> bool:
        """Whether everything is as it has to be."""
        as_asked = self.finished and self.delivered == self.asked
        return as_asked and not any(getattr(self, name) for name in MUST_BE_ZERO)


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

    @property
    def age(self) -> float:
        """Seconds since the last driver was started."""
        return time.monotonic() - self.started_at

    def size(self) -> int:
        """Bytes of the ledgers, which only grow."""
        files = [self.folder / name for name in LEDGERS]
        return sum(file.stat().st_size for file in files if file.exists())

    def lines(self, ledgers: Sequence[str] = LEDGERS) -> list[str]:
        """The whole lines of the ledgers."""
        contents = [(self.folder / name).read_text() for name in ledgers if (self.folder / name).exists()]
        return [line for content in contents for line in content[: content.rfind("\n") + 1].splitlines()]

    def events(self, ledgers: Sequence[str] = LEDGERS) -> list[dict[str, Any]]:
        """What the ledgers tell."""
        return [json.loads(line) for line in self.lines(ledgers)]

    def look(self) -> None:
        """Remember what the ledgers have: they must still have it at the end."""
        self.seen |= set(self.lines())

    def epochs_without_checkpoint(self) -> int:
        """Finished epochs of unfinished trials that their checkpoints do not have."""
        known = Counter(event["trial_id"] for event in self.events() if event["event"] == "epoch")
        states = {
            event["trial_id"]: event.get("state", event["event"]) for event in self.events() if "trial_id" in event
        }
        under_way = {trial for trial, state in states.items() if state in ("running", "audited", "second chance")}
        return sum(max(0, known[trial] - self._checkpointed(trial)) for trial in under_way)

    def _checkpointed(self, trial_id: str) -> int:
        try:
            return len(checkpoint.read(self.folder / f"checkpoints/{trial_id}.pt")["epochs"])
        except UserError:
            return 0

    def log(self) -> str:
        """The end of what the drivers printed."""
        return (self.storage / "output.log").read_text()[-3000:]

    @contextmanager
    def stopped_after(self) -> Iterator[None]:
        """No driver outlives the block, however it is left."""
        try:
            yield
        finally:
            if self.driver and self.driver.poll() is None:
                self.driver.kill()
                self.driver.wait()


@dataclass(frozen=True)
class Pace:
    """How long the search takes that is left alone: seconds to the first epoch, and from there to the end."""

    startup: float
    work: float


def run_reference(search: Search) -> Pace:
    """Run a search that nobody kills, where that was not done before."""
    done = search.storage / "done.json"
    if done.exists() and (known := json.loads(done.read_text()))["flags"] == search.flags:
        return Pace(**known["pace"])
    shutil.rmtree(search.storage, ignore_errors=True)
    with search.stopped_after():
        driver = search.start()
        while not search.size() and driver.poll() is None:
            time.sleep(0.1)
        startup = search.age
        if driver.wait() != 0:
            raise SystemExit(f"the reference search failed:\n{search.log()}")
    pace = Pace(startup, search.age - startup)
    done.write_text(json.dumps({"flags": search.flags, "pace": asdict(pace)}))
    return pace


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

    def run(self, kills: list[Kill], on_kill: Callable[[Kill], object]) -> None:
        """Take kills from the list, the last first, and leave those that there was no time for."""
        ways = {"driver": self._kill_driver, "trial": self._kill_trial, "ray": self._kill_ray}
        code = None
        while code != 0:
            driver = self.search.start()
            while kills and driver.poll() is None:
                if ways[kills[-1].what](driver, kills[-1].with_signal):
                    name = f"{kills[-1].what}_kills"
                    setattr(self.figures, name, getattr(self.figures, name) + 1)
                    on_kill(kills.pop())
            while self._records(driver):
                pass
            code = driver.wait()
            self.search.look()
            if code != 0 and driver is not self.killed:
                raise SystemExit(f"a resumed search failed:\n{self.search.log()}")
        for cleanup in self.cleanups:
            cleanup.join()
        self.figures.orphans = sum(len(cleanup.left) for cleanup in self.cleanups)
        self.figures.slowest_cleanup = max((cleanup.seconds for cleanup in self.cleanups), default=0.0)

    def _kill_driver(self, driver: "subprocess.Popen[bytes]", with_signal: signal.Signals) -> bool:
        if not self._moment_comes(driver, earliest=0.5):
            return False
        family = descendants(driver.pid)
        kill(driver.pid, with_signal)
        self._driver_ends(driver, family)
        return True

    def _kill_trial(self, driver: "subprocess.Popen[bytes]", with_signal: signal.Signals) -> bool:
        self._until(driver, lambda: trial_workers(driver.pid))
        if self.rng.random() < 0.7:  # while it trains; otherwise most likely while it starts
            self._records(driver)
        self._wait(driver, self.rng.uniform(0, self.stride))
        workers = trial_workers(driver.pid)
        if not workers:
            return False
        kill(self.rng.choice(workers), with_signal)
        time.sleep(0.3)  # what it had reported arrives; the next worker takes seconds to start
        self._note()
        return True

    def _kill_ray(self, driver: "subprocess.Popen[bytes]", with_signal: signal.Signals) -> bool:
        if not self._moment_comes(driver, earliest=0.8 * self.startup):
            return False
        process = ray_process(driver.pid, self.rng.choice(["raylet", "gcs_server"]))
        if process is None:
            return False
        family = descendants(driver.pid)
        kill(process, with_signal)
        self._driver_ends(driver, family)
        return True

    def _moment_comes(self, driver: "subprocess.Popen[bytes]", earliest: float) -> bool:
        """Wait for a moment of the start-up, from `earliest` seconds on, or of the work; whether the driver got there.

        A driver that is resumed starts up faster than the first, so that some of the former are of the latter.
        """
        if self.rng.random() < IN_STARTUP:
            return self._wait(driver, self.rng.uniform(earliest, self.startup))
        return self._records(driver) and self._wait(driver, self.rng.uniform(0, self.stride))

    def _records(self, driver: "subprocess.Popen[bytes]") -> bool:
        """Wait for the next event in a ledger; False where the driver ended without."""
        known = self.search.size()
        return self._until(driver, lambda: self.search.size() > known)

    def _until(self, driver: "subprocess.Popen[bytes]", condition: Callable[[], object]) -> bool:
        """Wait until something holds; False where the driver ended without, or had to be ended."""
        deadline = time.monotonic() + STUCK
        while driver.poll() is None and not condition():
            if time.monotonic() > deadline:
                self.figures.hung += 1
                self.killed = driver
                driver.kill()
                driver.wait()
            time.sleep(0.05)
        return driver.poll() is None

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
        self.figures.kills_in_confirmation += (self.search.folder / LEDGERS[1]).exists()
        self.figures.epochs_repeated += self.search.epochs_without_checkpoint()


# --- the comparison --------------------------------------------------------------------------------------------


def compare(search: Search, reference: Search, figures: Figures) -> None:
    """Fill in what the finished search has, lacks, and has otherwise than the reference."""
    lines, events = search.lines(), search.events()
    figures.lost = len(search.seen - set(lines))
    figures.epochs = sum(event["event"] == "epoch" for event in events)
    figures.differing = differing(outcome(search), outcome(reference))
    trials = pd.read_parquet(search.folder / "trials.parquet")
    epochs = pd.read_parquet(search.folder / "epochs.parquet")
    study = optuna.load_study(study_name="search", storage=f"sqlite:///{search.folder}/optuna.db")
    told = pd.Series([trial.user_attrs["trial_id"] for trial in study.trials])
    happened = pd.Series([repr(key) for key, _ in keyed(events)])
    tables = (happened, trials["trial_id"], epochs[["trial_id", "epoch"]], told)
    figures.duplicates = sum(int(table.duplicated().sum()) for table in tables)
    ended = set(trials.loc[~trials["state"].isin(["running", "pending"]), "trial_id"])
    figures.delivered = len(ended & set(told)) + len(_confirmed_runs(search))
    figures.asked = TRIALS + len(_confirmed_runs(reference))
    figures.lost += abs(len(epochs) - sum(event["event"] == "epoch" for event in search.events(LEDGERS[:1])))
    figures.finished = True


def _confirmed_runs(search: Search) -> set[str]:
    ends = [event for event in search.events(LEDGERS[1:]) if event.get("state", "running") != "running"]
    return {event["trial_id"] for event in ends}


def keyed(events: Sequence[dict[str, Any]]) -> list[tuple[tuple[Any, ...], dict[str, Any]]]:
    """The events, each with what happened, to which trial, after how many of its epochs: that is once in a search."""
    epochs: Counter[str | None] = Counter()
    pairs = []
    for event in events:
        trial_id = event.get("trial_id")
        epochs[trial_id] = event.get("metrics", {}).get("epoch", epochs[trial_id])
        pairs.append(((event["event"], trial_id, epochs[trial_id]), event))
    return pairs


def outcome(search: Search) -> dict[tuple[Any, ...], str]:
    """Everything in a folder that no clock and no process number decides, as exact text."""
    values: dict[tuple[Any, ...], str] = {}
    for key, event in keyed(search.events()):
        parts = {name: event.get(name) for name in ("state", "reason", "seed", "results")}
        parts |= event.get("setting", {}) | event.get("metrics", {})
        values |= {(*key, name): repr(value) for name, value in parts.items() if name != "seconds"}
    verdict = json.loads((search.folder / "confirm.json").read_text())
    del verdict["test"]["opened"]
    values |= {("confirm.json", name): repr(value) for name, value in verdict.items()}
    best = read_yaml(search.folder / "best/config.yaml")
    return values | {("best", name): repr(value) for name, value in best.items() if name != "data_dir"}


def differing(ours: dict[tuple[Any, ...], str], theirs: dict[tuple[Any, ...], str]) -> int:
    """How many values are not in both, and alike."""
    return sum(ours.get(key) != theirs.get(key) for key in ours.keys() | theirs.keys())


# --- the command -----------------------------------------------------------------------------------------------


class Report:
    """The figures of all searches, on the terminal and in a file, from the first kill on."""

    def __init__(self, output: Path) -> None:
        self.output = output
        self.searches: list[Figures] = []

    def update(self, news: str) -> None:
        """Say what happened, and write the figures so far."""
        print(f"{datetime.now():%H:%M:%S} {news}", flush=True)
        text = json.dumps([asdict(figures) for figures in self.searches], indent=2)
        self.output.write_text(text + "\n")


def inject_faults(kills: list[Kill], seed: int, folder: Path, report: Report) -> None:
    """Run searches until all kills have been met."""
    rng = random.Random(seed)
    asked = len(kills)
    kills = rng.sample(kills, asked)
    while kills:
        flags = [*SMALL, "--seed", str(seed)]
        report.update(f"search {seed}, left alone")
        reference = Search(folder / f"{seed}-alone", flags)
        pace = run_reference(reference)
        report.update(f"search {seed}, left alone: {pace.startup:.0f} s to its first event, {pace.work:.0f} s more")
        search = Search(folder / f"{seed}-killed", flags)
        shutil.rmtree(search.storage, ignore_errors=True)
        figures = Figures(seed, asked=TRIALS)
        report.searches.append(figures)

        def on_kill(met: Kill, search: Search = search, figures: Figures = figures) -> None:
            figures.epochs = sum(event["event"] == "epoch" for event in search.events())
            number = sum(figures.kills for figures in report.searches)
            report.update(
                f"kill {number} of {asked}: {met.with_signal.name} to {met.what} after {search.age:.0f} s; "
                f"{figures.epochs} epochs so far, {figures.epochs_repeated} repeated, {figures.hung} hung"
            )

        ours = [kills.pop() for _ in range(min(KILLS_A_SEARCH, len(kills)))]
        with search.stopped_after():
            Killer(search, pace, figures, rng).run(ours, on_kill)
        kills += ours
        compare(search, reference, figures)
        report.update(f"search {seed} is finished\n{as_table(report.searches)}")
        seed += 1


def as_table(done: Sequence[Figures]) -> str:
    """A row for each search, and their sum; of seconds the most."""
    table = pd.DataFrame([asdict(figures) for figures in done]).set_index("seed").astype({"finished": int}).round(1)
    of_all = {name: max(table[name]) if name.startswith("slowest") else sum(table[name]) for name in table.columns}
    table.loc["all"] = pd.Series(of_all)
    return str(table.T.to_string(float_format="{:g}".format))


def main(arguments: Sequence[str]) -> int:
    """Kill, resume, compare, report."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    for name, count in (("driver", 20), ("trial", 20), ("ray", 4)):
        parser.add_argument(f"--{name}-kills", type=int, default=count, help="(default: %(default)s)")
    parser.add_argument("--seed", type=int, default=0, help="of the searches and of the kills (default: 0)")
    parser.add_argument("--folder", type=Path, help="keep the searches here (default: nowhere)")
    parser.add_argument("--output", type=Path, default=Path("fault_injection.json"), help="(default: %(default)s)")
    given = parser.parse_args(arguments)
    signals = (signal.Signals[f"SIG{name}"] for name in islice(cycle(SIGNALS), given.driver_kills))
    kills = [Kill("driver", with_signal) for with_signal in signals]
    kills += [Kill("trial")] * given.trial_kills + [Kill("ray")] * given.ray_kills
    report = Report(given.output)
    try:
        with _kept(given.folder) as folder:
            inject_faults(kills, given.seed, folder, report)
    except KeyboardInterrupt:
        report.update(f"interrupted; the figures so far are in {given.output}")
        return 130
    return 0 if all(figures.flawless for figures in report.searches) else 1


@contextmanager
def _kept(folder: Path | None) -> Iterator[Path]:
    """The folder that was given, or one that is gone after the block."""
    if folder:
        yield folder.resolve()
    else:
        with tempfile.TemporaryDirectory(prefix="faults-", ignore_cleanup_errors=True) as temporary:
            yield Path(temporary)


if __name__ == "__main__":
    for number in (signal.SIGINT, signal.SIGTERM):  # the first is ignored under nohup, and drivers would ignore it too
        signal.signal(number, signal.default_int_handler)
    sys.exit(main(sys.argv[1:]))
