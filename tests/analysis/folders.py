"""Experiment folders without Ray: the real state machine, ledger and files over made-up epochs."""

import math
from dataclasses import replace
from pathlib import Path

import pytest

from cifar_core.config import TrainConfig
from cifar_core.history import EpochMetrics
from cifar_core.lr_range_test import RangeTestConfig
from tests.tune_experiments.made_up import EPOCHS, REFERENCE, SPACE, made_up_epoch
from tune_experiments import ledger as ledger_module
from tune_experiments.config import Plan, SearchConfig
from tune_experiments.early_stopping import SuccessiveHalving, rungs
from tune_experiments.experiment import Experiment
from tune_experiments.ledger import Ledger, Trial
from tune_experiments.search_space import Setting
from tune_experiments.search_state import SearchState
from tune_experiments.searcher import RandomProposer

SLOTS = 2
PLAN = Plan(
    TrainConfig(dataset="synthetic", epochs=EPOCHS, val_size=1000, train_size=500, width=0.0625, seed=1),
    SearchConfig(
        num_samples=80,
        searcher="random",
        grace_period=2,
        reduction_factor=2.0,
        max_lr_range=SPACE.max_lr,
        l1_factor_range=SPACE.l1_factor,
        peak_epoch_range=SPACE.peak_epoch,
        gpus_per_trial=0.5,
    ),
    RangeTestConfig(),
)


def noisy_epoch(setting: Setting, epoch: int) -> EpochMetrics:
    """As `made_up_epoch`, with noise that is a function of setting and epoch."""
    clean = made_up_epoch(setting, epoch)
    noise = 0.01 * math.sin(1e5 * setting.max_lr + 17 * epoch + 1e3 * setting.l1_factor)
    return replace(clean, val_accuracy=clean.val_accuracy + noise)


class Clock:
    """Stands in for the module `time` in the ledger."""

    def __init__(self) -> None:
        self.now = 1.7e9

    def time(self) -> float:
        return self.now


def run_in_slots(state: SearchState, clock: Clock, epochs_at_most: float = math.inf) -> None:
    """Go on with up to `SLOTS` trials at a time, an epoch of each in turn, until done or so many epochs are over."""
    slots: list[Trial | None] = [None] * SLOTS
    begin, done = clock.now, 0
    while done < epochs_at_most:
        for number in range(SLOTS):
            trial = slots[number]
            if trial is None or trial.ended:
                slots[number] = state.next_trial()
        running = [(number, trial) for number, trial in enumerate(slots) if trial is not None]
        if not running:
            return
        begin += 2.0  # what an epoch takes
        for number, trial in running:
            clock.now = begin + 0.001 * number
            metrics = noisy_epoch(trial.setting, len(trial.epochs) + 1)
            state.report(trial.trial_id, metrics, f"host{number % 2}:{number}")
            done += 1


def make_experiment(
    folder: Path,
    plan: Plan = PLAN,
    epochs_at_most: float = math.inf,
    failing: tuple[str, ...] = (),
    fingerprint: str = "made-up",
) -> Experiment:
    """A folder as a search leaves it; after `epochs_at_most` epochs in all it was interrupted."""
    experiment = Experiment(folder)
    experiment.make()
    experiment.write_plan(plan, fingerprint)
    clock = Clock()
    levels = rungs(2, 2, plan.train.epochs) if plan.search.scheduler == "asha" else []
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(ledger_module, "time", clock)
        patch.setattr(ledger_module.os, "fsync", lambda descriptor: None)
        state = SearchState(
            Ledger(experiment.ledger),
            RandomProposer(SPACE, plan.train.seed),
            SuccessiveHalving(levels, 2),
            REFERENCE,
            plan.train.epochs,
            plan.search.num_samples,
        )
        run_in_slots(state, clock, epochs_at_most)
        for trial_id in failing:
            state.ledger.fail(trial_id, "worker died")
    experiment.write_tables(state.trials)
    return experiment
