"""One search from its plan to its leaderboard. Each stage leaves its files in the experiment folder."""

import math
import os
import time
from contextlib import suppress
from dataclasses import replace
from enum import IntEnum

import ray
import torch
from ray import ObjectRef

from cifar_core.datasets import TrainingData, load_training_data
from cifar_core.device import resolve_compute
from cifar_core.errors import UserError
from tune_experiments import runtime
from tune_experiments.config import Plan
from tune_experiments.early_stopping import SuccessiveHalving, rungs
from tune_experiments.experiment import Experiment, best_first
from tune_experiments.ledger import Ledger, Trial
from tune_experiments.monitoring import Progress
from tune_experiments.range_test import find_max_lr_range
from tune_experiments.remote_folder import Publisher
from tune_experiments.runtime import Cluster
from tune_experiments.search_space import SearchSpace, default_peak_range, seed_setting
from tune_experiments.search_state import SearchState
from tune_experiments.searcher import OptunaProposer, Proposer, RandomProposer, StudyFile
from tune_experiments.summary import describe_end, describe_start
from tune_experiments.tuning import run_trials

TABLES_EVERY = 5.0  # seconds at least; the ledger has every epoch at once, the tables follow


class ExitCode(IntEnum):
    """How a search ended."""

    DONE = 0  # as far as it was asked to go: all trials, or the time budget
    NOTHING_COMPLETED = 1
    INTERRUPTED = 130


def run_search(experiment: Experiment, plan: Plan, address: str | None, dashboard: bool) -> ExitCode:
    """Run, or go on with, the search of an experiment folder.

    Raises:
        UserError: the data, the devices, the folder or the cluster are not what the plan needs.
    """
    if not address:
        _check_devices_here(plan)
    data = load_training_data(plan.train)
    experiment.make()
    with experiment.lock(), experiment.published() as publisher:
        experiment.write_plan(plan, data.fingerprint)  # before Ray, which takes seconds: from here on it can be resumed
        with runtime.ray_cluster(address, dashboard, experiment.how_to_resume) as cluster:
            return _run_on(cluster, experiment, plan, data, publisher)


def _run_on(
    cluster: Cluster, experiment: Experiment, plan: Plan, data: TrainingData, publisher: Publisher | None
) -> ExitCode:
    slots = cluster.slots(plan.search)
    plan = on_cluster(plan, cluster)
    experiment.write_plan(plan, data.fingerprint)
    print(describe_start(experiment, plan, data, cluster, slots), flush=True)
    shared = ray.put(data)  # once per node, mapped by every trial
    space = _space(experiment, plan, shared)
    study = StudyFile(experiment.study, space.including(seed_setting(plan.train)))
    state = build_state(Ledger(experiment.ledger), plan, space)
    started = time.monotonic()
    if state.remaining:
        keeper = Keeper(experiment, state, study, publisher)
        run_trials(plan, state, shared, experiment, slots, keeper.on_report)
        keeper.close()
    finish(experiment, plan, state, study)
    print(describe_end(experiment, plan, state))
    return _exit_code(plan, state, time.monotonic() - started)


def on_cluster(plan: Plan, cluster: Cluster) -> Plan:
    """The plan with what `auto` and `none` mean on this cluster, so that a trial can be run again elsewhere alike."""
    gpus = cluster.gpus_per_trial(plan.search)
    device = plan.train.device if plan.train.device != "auto" else "cuda" if gpus else "cpu"
    return replace(
        plan,
        train=replace(
            plan.train,
            device=device,
            threads=plan.search.cpus_per_trial,
            data_dir=plan.train.data_dir.expanduser().resolve(),
        ),
        search=replace(plan.search, gpus_per_trial=gpus),
    )


def build_state(ledger: Ledger, plan: Plan, space: SearchSpace) -> SearchState:
    """The search over a ledger, new or not."""
    search, epochs = plan.search, plan.train.epochs
    levels = rungs(search.grace_period, search.reduction_factor, epochs) if search.scheduler == "asha" else []
    halving = SuccessiveHalving(levels, search.reduction_factor)
    proposer: Proposer = RandomProposer(space, plan.train.seed)
    if search.searcher == "optuna":
        proposer = OptunaProposer(space, plan.train.seed, search.startup_trials)
    return SearchState(ledger, proposer, halving, seed_setting(plan.train), epochs, search.num_samples)


def _check_devices_here(plan: Plan) -> None:
    wants_gpu = bool(plan.search.gpus_per_trial) or plan.train.device == "cuda"
    if wants_gpu and not torch.cuda.is_available():
        raise UserError("trials want a GPU, but torch finds none here; use --gpus-per-trial 0 and --device cpu")
    cores = os.cpu_count() or 1
    if plan.search.cpus_per_trial > cores:
        raise UserError(f"cpus_per_trial is {plan.search.cpus_per_trial}, but there are {cores} CPU cores here")
    resolve_compute(plan.train)  # raises for any other device or precision that is not here


def _space(experiment: Experiment, plan: Plan, data: "ObjectRef[TrainingData]") -> SearchSpace:
    search = plan.search
    return SearchSpace(
        max_lr=search.max_lr_range or find_max_lr_range(experiment, plan, data),
        l1_factor=search.l1_factor_range,
        peak_epoch=search.peak_epoch_range or default_peak_range(plan.train.epochs),
    )


class Keeper:
    """Keeps the experiment's files and the terminal up with the trials."""

    def __init__(
        self, experiment: Experiment, state: SearchState, study: StudyFile, publisher: Publisher | None
    ) -> None:
        self.experiment = experiment
        self.state = state
        self.publisher = publisher
        self.progress = Progress(state)
        self.study = study
        self.written_at = -math.inf

    def on_report(self, trial: Trial) -> None:
        """A trial reported an epoch or ended; raises `OSError` where the storage is gone."""
        if self.publisher and self.publisher.error:
            raise self.publisher.error
        if trial.ended:
            with suppress(OSError):  # a view that is locked, a file that cannot go yet: a later trial's end will do
                self.study.add(trial)
                self.experiment.drop_checkpoints(self.state.trials)
        if time.monotonic() - self.written_at > TABLES_EVERY:
            self.experiment.write_tables(self.state.trials)
            self.written_at = time.monotonic()
        self.progress.update(trial)

    def close(self) -> None:
        """Leave the terminal as it is."""
        self.progress.close()


def finish(experiment: Experiment, plan: Plan, state: SearchState, study: StudyFile) -> None:
    """Bring every file up to the ledger."""
    for trial in state.trials:
        if trial.ended:
            study.add(trial)
    experiment.write_tables(state.trials)
    for best in best_first(state.trials)[:1]:
        experiment.write_best(best, plan)


def _exit_code(plan: Plan, state: SearchState, elapsed: float) -> ExitCode:
    if state.unfinished and not state.hopeless:
        budget = plan.search.time_budget
        return ExitCode.DONE if budget and elapsed >= budget else ExitCode.INTERRUPTED
    return ExitCode.DONE if best_first(state.trials) else ExitCode.NOTHING_COMPLETED
