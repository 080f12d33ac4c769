"""Between Ray Tune and what decides: a searcher and a scheduler that only pass on what is asked and told.

Tune starts trials, places them on nodes and GPUs, and starts a trial again when its worker dies. What is
proposed, stopped and remembered is a `TrialSource`'s, so that no restore of Tune's own state is ever needed.
"""

import logging
import signal
import sys
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from collections.abc import Set as AbstractSet
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any, Protocol

from ray import ObjectRef, tune
from ray.tune.execution.tune_controller import TuneController
from ray.tune.experiment import Trial as TuneTrial
from ray.tune.logger import CSVLoggerCallback, JsonLoggerCallback
from ray.tune.schedulers import FIFOScheduler
from ray.tune.search import Searcher
from tqdm import tqdm

from cifar_core.datasets import TrainingData
from cifar_core.history import EpochMetrics
from tune_experiments.config import Plan, SearchConfig
from tune_experiments.experiment import Experiment
from tune_experiments.forwarder import Forwarder, Logger
from tune_experiments.ledger import Trial
from tune_experiments.nodes import TrialNodes
from tune_experiments.publisher import Publisher
from tune_experiments.trainable import CifarTrial, trial_config

OnReport = Callable[[Trial], None]
OnSlots = Callable[[AbstractSet[str]], None]
CLOSED_NODES = "closed_nodes"  # in a trial's config: where it must not run


@dataclass(frozen=True)
class Site:
    """What all trials of an experiment share.

    Attributes:
        data: once on each node, mapped by every trial.
        images: that a trial trains on in an epoch.
        nodes: where the trials run, and how many at a time.
        publisher: uploads the experiment's files, where they are below a URI.
        loggers: hear of every epoch, too.
    """

    plan: Plan
    experiment: Experiment
    data: "ObjectRef[TrainingData]"
    images: int
    nodes: TrialNodes
    publisher: Publisher | None
    loggers: Sequence[Logger]


class TrialSource(Protocol):
    """Gives trials out, takes their epochs, and decides when they end: a search, or the confirmation after it.

    All but `give_back` raise `OSError` where the ledger cannot be written.
    """

    storage_error: OSError | None  # that ended it: what is not written did not happen

    @property
    def trials(self) -> Sequence[Trial]:
        """All trials so far."""

    def next_trial(self) -> Trial | None:
        """The trial to start or continue next; none when all have been given out."""

    def give_back(self, trial_id: str) -> None:
        """A trial that was given out and has not ended is to be given out again."""

    def report(self, trial_id: str, metrics: EpochMetrics, worker: str) -> Trial:
        """Take a finished epoch and decide. One that is known already is passed over."""

    def fail(self, trial_id: str, reason: str) -> Trial:
        """The trial will not go on."""


class StateSearcher(Searcher):
    """Asks the state for the next trial, while there is a slot for it."""

    def __init__(self, state: TrialSource, nodes: TrialNodes) -> None:
        super().__init__()
        self.state = state
        self.nodes = nodes
        self.running: dict[str, str] = {}  # Tune's trial ids to ours

    def __reduce__(self) -> tuple[type[Searcher], tuple[()]]:
        return Searcher, ()  # Tune pickles what it runs with, for a restore that never comes

    def set_max_concurrency(self, max_concurrent: int) -> bool:
        """Tune need not limit what runs at a time: it would go by the nodes that there were at the start."""
        return True

    def suggest(self, trial_id: str) -> dict[str, Any] | str | None:  # type: ignore[override]  # FINISHED is text
        """The next trial's config, under our own trial id.

        None for now while all slots are taken, a node that has joined is about to answer, or a running trial may be
        given back.
        """
        try:
            if len(self.running) >= self.nodes.slots() or self.nodes.is_asking():
                return None
            trial = self.state.next_trial()
        except OSError as error:
            self.state.storage_error = error
            return Searcher.FINISHED
        if trial is None:
            return None if self.running else Searcher.FINISHED
        self.running[trial_id] = trial.trial_id
        return {**trial_config(trial), CLOSED_NODES: self.nodes.closed()}

    def on_trial_complete(self, trial_id: str, result: dict[str, Any] | None = None, error: bool = False) -> None:
        """The scheduler has told the state how it ended. If it did not, another trial of Tune's goes on with it."""
        ours = self.running.pop(trial_id, None)
        if error and ours is not None:
            self.state.give_back(ours)

    def save(self, checkpoint_path: str) -> None:
        """The ledger holds everything."""

    def restore(self, checkpoint_path: str) -> None:
        """The ledger holds everything."""


class Restarts(tune.Callback):
    """Says in one line that a worker died, in place of Tune's traceback."""

    def on_trial_recover(self, iteration: int, trials: list[TuneTrial], trial: TuneTrial, **info: Any) -> None:
        """Tune is about to start the trial again."""
        tqdm.write(f"{trial.config['trial_id']}: its worker died; starting again from its checkpoint", file=sys.stderr)


class Slots(tune.Callback):
    """Tells which trials are in a slot, by our ids, whenever that changes."""

    def __init__(self, on_slots: OnSlots) -> None:
        self.on_slots = on_slots
        self.trial_ids: set[str] = set()

    def __reduce__(self) -> tuple[type[tune.Callback], tuple[()]]:
        return tune.Callback, ()  # Tune pickles what it runs with, for a restore that never comes

    def on_trial_start(self, iteration: int, trials: list[TuneTrial], trial: TuneTrial, **info: Any) -> None:
        """It has its worker."""
        self.trial_ids.add(trial.config["trial_id"])
        self.on_slots(self.trial_ids)

    def _free(self, iteration: int, trials: list[TuneTrial], trial: TuneTrial, **info: Any) -> None:
        self.trial_ids.discard(trial.config["trial_id"])
        self.on_slots(self.trial_ids)

    on_trial_complete = on_trial_error = on_trial_recover = _free


class StateScheduler(FIFOScheduler):
    """Gives each result to the state, and stops the trial when the state says that it has ended."""

    def __init__(self, site: Site, state: TrialSource, on_report: OnReport) -> None:
        super().__init__()  # type: ignore[no-untyped-call]
        self.site = site
        self.state = state
        self.on_report = on_report
        self.deaths: Counter[str] = Counter()  # of a trial's workers

    def __reduce__(self) -> tuple[type[FIFOScheduler], tuple[()]]:
        return FIFOScheduler, ()

    def on_trial_result(self, tune_controller: TuneController, trial: TuneTrial, result: dict[str, Any]) -> str:
        """Record an epoch, or the error that there was instead. What cannot be written down ends the search."""
        with self._storage_needed(tune_controller):
            ours = self._record(trial.config["trial_id"], result)
            self.on_report(ours)
            return self.STOP if ours.ended else self.CONTINUE
        return self.STOP

    @contextmanager
    def _storage_needed(self, tune_controller: TuneController) -> Iterator[None]:
        try:
            yield
        except OSError as error:
            self.state.storage_error = error
            tune_controller.request_stop_experiment()

    def _record(self, trial_id: str, result: dict[str, Any]) -> Trial:
        if self.state.storage_error:  # the search is about to end: nothing more happens
            raise self.state.storage_error
        if "error" in result:
            return self.state.fail(trial_id, result["error"])
        return self.state.report(trial_id, EpochMetrics.of(result), result["worker"])

    def on_trial_error(self, tune_controller: TuneController, trial: TuneTrial) -> None:
        """Record that a trial's workers died too often, or say where it may go on.

        Tune also gives up where a worker dies before its first step, however often that may still happen. Then
        nothing is recorded, and `StateSearcher` gives the trial back.
        """
        if trial.status == TuneTrial.ERROR:  # Tune is about to queue it again, under what it wants by then
            trial.update_resources(placement(self.site.plan.search, self.site.nodes.closed()))
            return
        self.deaths[trial.config["trial_id"]] += trial.run_metadata.num_failures
        if self.deaths[trial.config["trial_id"]] <= self.site.plan.search.max_failures:
            return
        reason = "its worker died more often than max_failures"
        if "low on memory" in str(trial.get_pickled_error()):  # Ray has no type for an actor that it killed for this
            reason = "the host is out of memory; lower --max-concurrent or --batch-size"
        with self._storage_needed(tune_controller):
            self.on_report(self._record(trial.config["trial_id"], {"error": reason}))


def placement(search: SearchConfig, closed_nodes: list[str]) -> tune.PlacementGroupFactory:
    """What a trial asks Ray for: its share of a node, which is none of the closed ones."""
    share = {"CPU": float(search.cpus_per_trial), "GPU": search.gpus_per_trial or 0.0}
    elsewhere = {"ray.io/node-id": f"!in({','.join(closed_nodes)})"} if closed_nodes else {}
    return tune.PlacementGroupFactory([share], bundle_label_selector=[elsewhere])


def run_trials(site: Site, state: TrialSource, on_report: OnReport, on_slots: OnSlots, seconds: float | None) -> None:
    """Run the trials that remain, for at most so many `seconds`.

    Returns when they ended, time is up, or a signal asked to stop.

    Raises:
        OSError: the experiment's folder can no longer be written.
    """
    plan, experiment, search = site.plan, site.experiment, site.plan.search
    with_data = tune.with_parameters(
        CifarTrial, train=plan.train, data=site.data, experiment=experiment, rungs=plan.rungs
    )
    trainable = tune.with_resources(with_data, lambda config: placement(search, config[CLOSED_NODES]))
    trainable.__name__ = trainable.__qualname__ = CifarTrial.__name__  # in the dashboard; Tune's are of no use there
    tuner = tune.Tuner(
        trainable,
        tune_config=tune.TuneConfig(
            search_alg=StateSearcher(state, site.nodes),
            scheduler=StateScheduler(site, state, on_report),
            num_samples=-1,  # until the searcher says that it has finished
            max_concurrent_trials=site.nodes.slots(),  # that are being started; how many run: see StateSearcher
            time_budget_s=seconds,
            reuse_actors=True,
            trial_name_creator=lambda trial: trial.config["trial_id"],
            trial_dirname_creator=lambda trial: trial.config["trial_id"],
        ),
        run_config=tune.RunConfig(
            name=experiment.path.name,
            storage_path=experiment.remote.parent if experiment.remote else str(experiment.path.parent),
            storage_filesystem=experiment.remote and experiment.remote.file_system,
            callbacks=[
                *(JsonLoggerCallback(), CSVLoggerCallback()),  # the trials write TensorBoard's files
                *(Forwarder(logger, experiment, state, plan.train.seed) for logger in site.loggers),
                *(Restarts(), Slots(on_slots)),
            ],
            checkpoint_config=tune.CheckpointConfig(checkpoint_at_end=False),  # trials write their own
            failure_config=tune.FailureConfig(max_failures=search.max_failures),
            verbose=0,
        ),
    )
    for name in ("ray.tune", "ray.train"):  # whose tracebacks are of what has a line here
        logging.getLogger(name).setLevel(logging.CRITICAL)
    # Tune ends cleanly on SIGUSR1; left alone, SIGTERM aborts Ray in the middle of its work.
    previous = signal.signal(signal.SIGTERM, lambda *_: signal.raise_signal(signal.SIGUSR1))
    try:
        tuner.fit()
    finally:
        signal.signal(signal.SIGTERM, previous)
        if state.storage_error:
            raise state.storage_error
