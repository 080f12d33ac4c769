"""One search from its plan to its leaderboard. Each stage leaves its files in the experiment folder."""

import os
import sys
import time
from collections.abc import Sequence
from contextlib import suppress
from dataclasses import replace
from enum import IntEnum

import ray
import torch
from ray import ObjectRef

from cifar_core.datasets import TrainingData, check_test_data, load_training_data
from cifar_core.device import resolve_compute
from cifar_core.errors import UserError
from tune_experiments import runtime
from tune_experiments.config import EMA_EPOCHS, Plan
from tune_experiments.confirm import build_confirmation, confirm, settle
from tune_experiments.confirmation import ConfirmLedger
from tune_experiments.early_stopping import Audit, SuccessiveHalving, judges_by_average
from tune_experiments.experiment import Experiment, best_first
from tune_experiments.extension import searched_space
from tune_experiments.forwarder import Logger, catch_up
from tune_experiments.keeper import run_watched
from tune_experiments.ledger import CONFIRM_LEDGER, Ledger
from tune_experiments.loggers import Destinations
from tune_experiments.monitoring import Progress
from tune_experiments.nodes import TrialNodes, common_precision, require_shared_folder
from tune_experiments.publisher import Publisher
from tune_experiments.range_test import ensure_range_test
from tune_experiments.runtime import Cluster
from tune_experiments.search_space import SearchSpace, seed_setting
from tune_experiments.search_state import SearchState
from tune_experiments.searcher import OptunaProposer, Proposer, RandomProposer, StudyFile
from tune_experiments.summary import describe_end, describe_start
from tune_experiments.tuning import Site
from tune_experiments.verdict import Verdict


class ExitCode(IntEnum):
    """How a search ended."""

    DONE = 0  # as far as it was asked to go: all trials, or the time budget
    NOTHING_COMPLETED = 1
    INTERRUPTED = 130


def run_search(
    experiment: Experiment,
    plan: Plan,
    address: str | None,
    dashboard_host: str | None,
    destinations: Destinations = Destinations(),  # noqa: B008  # frozen
) -> ExitCode:
    """Run, or go on with, the search of an experiment folder: on the cluster at `address`, or on a Ray of its own.

    That has its dashboard at `dashboard_host`, or none.

    Raises:
        UserError: the data, the devices, the folder, the cluster or a logger are not what is needed.
    """
    destinations.check()
    if address:
        runtime.check_cluster(address)
    else:
        _check_devices_here(plan)
    data = load_training_data(plan.train)
    if plan.search.confirm_top:
        _check_test_data(plan)
    loggers = destinations.connect(experiment.path.name)
    experiment.make()
    with experiment.lock(), experiment.published() as publisher:
        ledgers = Ledger(experiment.ledger), ConfirmLedger(experiment.file(CONFIRM_LEDGER))
        experiment.write_plan(plan, data.fingerprint)  # before Ray, which takes seconds: from here on it can be resumed
        loggers += destinations.open_files(experiment)
        with runtime.ray_cluster(address, dashboard_host, experiment.how_to_resume) as cluster:
            return _run_on(cluster, experiment, plan, data, ledgers, publisher, loggers)


def _run_on(
    cluster: Cluster,
    experiment: Experiment,
    plan: Plan,
    data: TrainingData,
    ledgers: tuple[Ledger, ConfirmLedger],
    publisher: Publisher | None,
    loggers: Sequence[Logger],
) -> ExitCode:
    plan = on_cluster(plan, cluster)
    nodes = TrialNodes(plan, None if experiment.remote else experiment.path)
    if cluster.nodes > 1 and not experiment.remote:
        require_shared_folder(experiment.path, plan.search)
    experiment.write_plan(plan, data.fingerprint)
    print(describe_start(experiment, plan, data, cluster, nodes.slots()), flush=True)
    site = Site(plan, experiment, ray.put(data), len(data.train), nodes, publisher, loggers)
    space = _space(experiment, plan, site.data)
    study = StudyFile(experiment.study, space.including(seed_setting(plan.train)))
    state = build_state(ledgers[0], plan, space)
    budget = Budget(plan.search.time_budget)
    if state.remaining:
        _search(site, state, study, ledgers[1], budget)
    else:
        catch_up(loggers, experiment, state, plan.train.seed)
    finish(experiment, plan, state, study)
    verdict = _confirm(site, state, ledgers[1], budget)
    print(describe_end(experiment, plan, state, space, verdict))
    return exit_code(state, verdict, budget)


def on_cluster(plan: Plan, cluster: Cluster) -> Plan:
    """The plan with what `auto` and `none` mean on this cluster, so that a trial can be run again elsewhere alike."""
    gpus = cluster.gpus_per_trial(plan.search, plan.train.device)
    search = replace(plan.search, gpus_per_trial=gpus)
    train = replace(
        plan.train,
        device=plan.train.device if plan.train.device != "auto" else "cuda" if gpus else "cpu",
        threads=search.cpus_per_trial,
        ema_epochs=plan.train.ema_epochs or (EMA_EPOCHS if judges_by_average(plan.search.scheduler) else 0.0),
        data_dir=plan.train.data_dir.expanduser().resolve(),
    )
    precision = common_precision(train, search, cluster.nodes)
    return replace(plan, train=replace(train, precision=precision), search=search)


def build_state(ledger: Ledger, plan: Plan, space: SearchSpace) -> SearchState:
    """The search over a ledger, new or not."""
    search, epochs = plan.search, plan.train.epochs
    halving = SuccessiveHalving(plan.rungs, search.reduction_factor)
    proposer: Proposer = RandomProposer(space, plan.train.seed)
    if search.searcher == "optuna":
        proposer = OptunaProposer(space, plan.train.seed, search.startup_trials)
    audit = Audit(search.audit, plan.train.seed)
    reference = seed_setting(plan.train)
    return SearchState(ledger, proposer, halving, reference, epochs, search.num_samples, search.scheduler, audit)


def _check_devices_here(plan: Plan) -> None:
    wants_gpu = bool(plan.search.gpus_per_trial) or plan.train.device == "cuda"
    if wants_gpu and not torch.cuda.is_available():
        raise UserError("trials want a GPU, but torch finds none here; use --gpus-per-trial 0 and --device cpu")
    cores = os.cpu_count() or 1
    if plan.search.cpus_per_trial > cores:
        raise UserError(f"cpus_per_trial is {plan.search.cpus_per_trial}, but there are {cores} CPU cores here")
    resolve_compute(plan.train)  # raises for any other device or precision that is not here


def _check_test_data(plan: Plan) -> None:
    try:
        check_test_data(plan.train)
    except UserError as error:
        raise UserError(f"{error}; --confirm-top 0 goes without") from None


def _space(experiment: Experiment, plan: Plan, data: "ObjectRef[TrainingData]") -> SearchSpace:
    if not plan.search.max_lr_range:
        ensure_range_test(experiment, plan, data)
    return searched_space(experiment, plan)


class Budget:
    """The seconds that a search may take, its confirmation included, from when this is made."""

    def __init__(self, seconds: float | None) -> None:
        self.seconds = seconds
        self.started_at = time.monotonic()

    @property
    def left(self) -> float | None:
        """What is left of them, below 0 once they are over; none where there is no limit."""
        return None if self.seconds is None else self.seconds - (time.monotonic() - self.started_at)

    @property
    def is_spent(self) -> bool:
        """Whether nothing is left."""
        return self.left is not None and self.left <= 0


def _search(site: Site, state: SearchState, study: StudyFile, runs: ConfirmLedger, budget: Budget) -> None:
    experiment = site.experiment

    def drop_checkpoints() -> None:
        waiting = [trial.trial_id for trial in state.candidates()]
        experiment.drop_checkpoints(state.trials, [*runs.trials, *waiting])  # a confirmation may go on, too

    def write_views() -> None:
        experiment.write_tables(state.trials)
        with suppress(OSError):
            drop_checkpoints()
        with suppress(OSError):  # such as a study that another program keeps locked: the next time, then
            for trial in filter(lambda trial: trial.ended, state.trials):
                study.add(trial)

    seconds = budget.left
    run_watched(site, state, "search", Progress(state, site.nodes.slots, time_budget=seconds), write_views, seconds)
    with suppress(OSError):
        drop_checkpoints()


def _confirm(site: Site, state: SearchState, runs: ConfirmLedger, budget: Budget) -> Verdict | None:
    """None where there is nothing to confirm, or the search is not at its end."""
    if not site.plan.search.confirm_top or state.unfinished or not best_first(state.trials):
        return None
    confirmation = build_confirmation(runs, site.plan, state.trials)
    if not confirmation.remaining:
        catch_up(site.loggers, site.experiment, confirmation, site.plan.train.seed)
    verdict = confirm(confirmation, site, budget.left)
    if verdict.finished:
        settle(confirmation, site.experiment, site.plan, state.trials)
    return verdict


def finish(experiment: Experiment, plan: Plan, state: SearchState, study: StudyFile) -> None:
    """Bring every file up to the ledger; the study, which another program may keep locked, where that can be done."""
    try:
        study.bring_up_to([trial for trial in state.trials if trial.ended])
    except OSError as error:
        print(f"{experiment.study} lacks trials ({error}); --resume brings it up to date", file=sys.stderr)
    experiment.write_tables(state.trials)
    for best in best_first(state.trials)[:1]:
        experiment.write_best(best, plan)


def exit_code(state: SearchState, verdict: Verdict | None, budget: Budget) -> ExitCode:
    """How a search ended; one that its time budget cut short went as far as it was asked to."""
    cut_short = not verdict.finished if verdict else state.unfinished and not state.hopeless
    if cut_short:
        return ExitCode.DONE if budget.is_spent else ExitCode.INTERRUPTED
    return ExitCode.DONE if best_first(state.trials) else ExitCode.NOTHING_COMPLETED
