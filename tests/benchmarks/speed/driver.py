"""How much one driver can take: a real search whose trials only wait.

    python -m tests.benchmarks.speed.driver --slots 1000 --trials 100000 --seconds 120

Everything of the search is real: Ray, its placement groups and calls, Tune, the searcher, the rungs, the ledger on the
disk, the tables. Only the workers are not a process each, as a thousand of those do not fit on one machine: a few
processes host all trials, each of which answers after `--epoch-seconds` with made-up metrics.
"""

import argparse
import asyncio
import cProfile
import json
import os
import pstats
import tempfile
import threading
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, redirect_stdout
from dataclasses import asdict, dataclass, replace
from io import StringIO
from itertools import count, cycle, pairwise
from typing import Any
from unittest.mock import patch

import numpy as np
import psutil
import ray
from ray import tune
from ray.cluster_utils import Cluster
from ray.tune.execution.class_cache import _ActorClassCache

from cifar_core.history import EpochMetrics
from tests.benchmarks.speed.rows import Row
from tune_experiments import tuning
from tune_experiments.background import in_background
from tune_experiments.config import Plan, read_preset
from tune_experiments.experiment import Experiment
from tune_experiments.ledger import Trial, TrialState
from tune_experiments.run import run_search
from tune_experiments.runtime import ENVIRONMENT
from tune_experiments.search_space import SearchSpace
from tune_experiments.searcher import OptunaProposer, RandomProposer
from tune_experiments.trainable import CifarTrial

HOSTS = 2
CONCURRENT, LOAD_SECONDS = 1000, 150.0  # trials at a time; the seconds that they are given
MANY_TRIALS, FEW_SLOTS = 10_000, 32
KNOWN = (1_000, 10_000)  # trials that the searcher has been told of
ASKED = 10
NO_PRESTART = {"RAY_prestart_worker_first_driver": "0"}  # or Ray starts a process for each of the made-up CPUs


def made_up_epoch(epoch: int, accuracy: float) -> EpochMetrics:
    """An epoch of no training."""
    loss = 2.3 * (1 - accuracy)
    return EpochMetrics(epoch, loss, accuracy, loss, accuracy, 0.01, 0.9, 0.0, 0.01, loss, accuracy)


class WaitingTrial(CifarTrial):
    """Reports made-up epochs: the curve of a trial that is as good as its `max_lr` is near to 0.03."""

    def step(self) -> dict[str, Any]:
        """The next epoch."""
        self.reported += 1
        progress = self.reported / self.train_config.epochs
        miss = abs(np.log10(self.trial.setting.max_lr / 0.03))
        metrics = made_up_epoch(self.reported, float(max(0.1, 0.1 + 0.8 * progress**0.5 - 0.2 * miss)))
        return {**asdict(metrics), "worker": "host:1"}


class Host:
    """A process that holds many trials; an async actor."""

    def __init__(self, epoch_seconds: float) -> None:
        self.epoch_seconds = epoch_seconds
        self.trials: dict[int, tune.Trainable] = {}

    async def start(self, number: int, trainable: type[tune.Trainable], kwargs: dict[str, Any]) -> None:
        """What `trainable.remote(**kwargs)` would do in a process of its own."""
        self.trials[number] = trainable(**kwargs)

    async def call(self, number: int, method: str, args: tuple[Any, ...], kwargs: dict[str, Any]) -> Any:
        """Call a method of a trial; an epoch takes its time."""
        if method == "train":
            await asyncio.sleep(self.epoch_seconds)
        return getattr(self.trials[number], method)(*args, **kwargs)


class HostedClass(ray.actor.ActorClass):
    """Stands where Tune has `ray.remote(trainable)`, and makes `HostedActor`s."""

    def __init__(self, hosts: Sequence[Any], trainable: type[tune.Trainable]) -> None:
        self.hosts = cycle(hosts)
        self.trainable = ray.put(trainable)
        self.numbers = count()

    def options(self, **options: Any) -> "HostedClass":
        """The placement group stays reserved for the trial."""
        return self

    def remote(self, **kwargs: Any) -> "HostedActor":
        """A new trial on the next host."""
        return HostedActor(next(self.hosts), next(self.numbers), self.trainable, kwargs)


class HostedActor:
    """Stands where Tune has the handle of a trial's actor."""

    def __init__(self, host: Any, number: int, trainable: Any, kwargs: dict[str, Any]) -> None:
        self.host, self.number = host, number
        self.started = host.start.remote(number, trainable, kwargs)

    def __getattr__(self, method: str) -> "HostedMethod":
        return HostedMethod(self, method)


@dataclass
class HostedMethod:
    """Stands where Tune has a method of the handle."""

    actor: HostedActor
    name: str

    def remote(self, *args: Any, **kwargs: Any) -> Any:
        """The reference of the answer."""
        if self.name in ("__ray_ready__", "__ray_terminate__"):
            return self.actor.started
        return self.actor.host.call.remote(self.actor.number, self.name, args, kwargs)


@contextmanager
def hosted_trials(epoch_seconds: float) -> Iterator[None]:
    """Within the block, searches run `WaitingTrial`s, all of them in `HOSTS` processes."""
    made: dict[type[tune.Trainable], HostedClass] = {}

    def get(cache: object, trainable: type[tune.Trainable]) -> HostedClass:
        if trainable not in made:
            host = ray.remote(Host).options(num_cpus=0, max_concurrency=100_000)
            made[trainable] = HostedClass([host.remote(epoch_seconds) for _ in range(HOSTS)], trainable)
        return made[trainable]

    with (
        patch.object(_ActorClassCache, "get", get),
        patch.object(tuning, "CifarTrial", WaitingTrial),
        patch.object(ray, "kill", lambda actor: None),
    ):
        yield


@dataclass(frozen=True)
class Sample:
    """The driver at a moment: Unix seconds, resident MiB, CPU seconds so far."""

    time: float
    memory: float
    cpu: float


@contextmanager
def sampled(every: float = 1.0) -> Iterator[list[Sample]]:
    """Watch this process while the block runs."""
    samples: list[Sample] = []
    me = psutil.Process()

    def watch(left: threading.Event) -> None:
        while not left.wait(every):
            samples.append(Sample(time.time(), me.memory_info().rss / 2**20, sum(me.cpu_times()[:2])))

    with in_background(watch, "samples"):
        yield samples


def plan(trials: int, epochs: int, **search: Any) -> Plan:
    """A search of the quick preset with made-up trials, and without a range test or a confirmation."""
    quick = Plan.from_mapping(read_preset("quick"), {}, "preset quick")
    return replace(
        quick,
        train=replace(quick.train, epochs=epochs, train_size=100, val_size=50),
        search=replace(quick.search, num_samples=trials, max_lr_range=(0.003, 0.3), confirm_top=0, **search),
    )


@dataclass(frozen=True)
class Span:
    """A driver between two moments; rates are a second."""

    seconds: float
    results: float
    ended: float
    proposed: float
    memory: float  # MiB at the end
    cores: float


@dataclass(frozen=True)
class Load:
    """What a driver did: its ledger's epochs, ends of trials and proposals, in Unix seconds, and its samples."""

    epochs: list[float]
    ends: list[float]
    proposals: list[float]
    samples: list[Sample]

    def between(self, start: float, end: float) -> Span:
        """The driver from one moment to another."""
        first, last = (min(self.samples, key=lambda sample: abs(sample.time - at)) for at in (start, end))

        def rate(times: list[float]) -> float:
            return sum(start < at <= end for at in times) / (end - start)

        cores = (last.cpu - first.cpu) / max(1e-9, last.time - first.time)
        return Span(end - start, rate(self.epochs), rate(self.ends), rate(self.proposals), last.memory, cores)

    def by_time(self, parts: int) -> list[Span]:
        """Parts of equal length, from the first epoch to the last."""
        return [self.between(*ends) for ends in pairwise(np.linspace(self.epochs[0], self.epochs[-1], parts + 1))]

    def by_trials(self, trials: int) -> list[Span]:
        """A part for every so many trials that ended."""
        return [self.between(*ends) for ends in pairwise([self.epochs[0], *self.ends[trials - 1 :: trials]])]


def describe(span: Span) -> str:
    """One line."""
    return (
        f"{span.seconds:6.1f} s: {span.results:6.0f} results/s, {span.ended:5.1f} trials ended/s, "
        f"{span.proposed:5.1f} proposed/s, driver {span.memory:5.0f} MiB, {span.cores:.0%} of a core"
    )


def run_load(slots: int, search: Plan, epoch_seconds: float) -> Load:
    """Run the search on so many made-up CPUs."""
    os.environ.update(ENVIRONMENT | NO_PRESTART)
    with tempfile.TemporaryDirectory() as folder, sampled() as samples:
        head = {"num_cpus": slots, "include_dashboard": False, "temp_dir": f"{folder}/ray"}
        cluster = Cluster(initialize_head=True, head_node_args=head)
        experiment = Experiment.at(folder, "load")
        try:
            with hosted_trials(epoch_seconds), redirect_stdout(StringIO()):
                run_search(experiment, search, cluster.address, None)
        finally:
            cluster.shutdown()
        events = [json.loads(line) for line in experiment.ledger.read_text().splitlines()]
    return Load(
        epochs=[event["time"] for event in events if event["event"] == "epoch"],
        ends=[event["time"] for event in events if event.get("state") in ("completed", "stopped")],
        proposals=[event["time"] for event in events if event["event"] == "proposed"],
        samples=samples,
    )


def driver_rows() -> list[Row]:
    """A thousand trials at a time, ten thousand in all, and the searcher's own time."""
    return [_concurrent_row(), _growth_row(), _proposal_row()]


def _concurrent_row() -> Row:
    load = run_load(CONCURRENT, plan(100_000, 24, searcher="random", time_budget=LOAD_SECONDS), epoch_seconds=0)
    spans = load.by_time(4)
    last = spans[-1]
    return Row(
        f"driver with {CONCURRENT:,} trials at a time, as fast as it can",
        "stated",
        f"{last.results:.0f} results/s, {last.ended:.0f} trials ended and {last.proposed:.0f} proposed/s (at random), "
        f"{last.memory:.0f} MiB, {last.cores:.0%} of a core: enough for epochs of {CONCURRENT / last.results:.0f} s",
        "Tune takes one result at a time, in one thread",
        {"quarters": [asdict(span) for span in spans]},
    )


def _growth_row() -> Row:
    search = plan(MANY_TRIALS, 2, searcher="random", scheduler="none")
    spans = run_load(FEW_SLOTS, search, epoch_seconds=0).by_trials(1000)
    memory = (spans[-1].memory - spans[0].memory) / (len(spans) - 1)
    return Row(
        f"driver over {MANY_TRIALS:,} trials of 2 epochs, {FEW_SLOTS} at a time",
        "flat, or the cause",
        f"{spans[0].seconds:.0f} ms a trial in the first thousand, {spans[-1].seconds:.0f} ms in the last; "
        f"{spans[0].memory:.0f} and {spans[-1].memory:.0f} MiB after these: {1.024 * memory:.0f} KiB a trial",
        "Tune keeps every trial",
        {"thousands": [asdict(span) for span in spans]},
    )


def _proposal_row() -> Row:
    seconds = {known: _proposal_seconds(known) for known in KNOWN}
    text = ", ".join(f"{value * 1000:.0f} ms with {known:,} trials known" for known, value in seconds.items())
    return Row(
        "a proposal of Optuna's multivariate TPE", "stated", text, "TPE weighs every trial", {"seconds": seconds}
    )


def _proposal_seconds(known: int) -> float:
    """Of each of the next `ASKED` proposals."""
    space = SearchSpace((0.003, 0.3), (1e-5, 10.0), (1, 18))
    proposer = OptunaProposer(space, seed=0, startup_trials=10)
    random = RandomProposer(space, seed=0)
    for number in range(known):
        trial = Trial(f"{number:05d}", random.propose(number))
        score = 0.9 - abs(np.log10(trial.setting.max_lr / 0.03)) / 5
        trial.epochs, trial.state = [made_up_epoch(1, score)], TrialState.COMPLETED
        proposer.follow(trial)
        proposer.tell(trial)
    start = time.perf_counter()
    for number in range(known, known + ASKED):
        proposer.propose(number)
    return (time.perf_counter() - start) / ASKED


def main() -> None:
    """Run one load and print what the driver did."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--slots", type=int, default=1000, help="trials at a time (default: %(default)s)")
    parser.add_argument("--trials", type=int, default=100_000, help="in all (default: %(default)s)")
    parser.add_argument("--seconds", type=float, default=120, help="time budget (default: %(default)s)")
    parser.add_argument("--epoch-seconds", type=float, default=0, help="0: as fast as the driver can (default)")
    parser.add_argument("--epochs", type=int, default=24, help="of a whole trial (default: %(default)s)")
    parser.add_argument("--searcher", choices=("optuna", "random"), default="random")
    parser.add_argument("--profile", action="store_true", help="say in which functions the driver's time goes")
    given = parser.parse_args()
    search = plan(given.trials, given.epochs, searcher=given.searcher, time_budget=given.seconds)
    profiler = cProfile.Profile()
    if given.profile:
        profiler.enable()
    load = run_load(given.slots, search, given.epoch_seconds)
    profiler.disable()
    print("\n".join(map(describe, load.by_trials(1000) or load.by_time(5))))
    if given.profile:
        pstats.Stats(profiler).sort_stats("cumulative").print_stats(60)


if __name__ == "__main__":
    main()
