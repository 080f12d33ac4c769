"""Experiment folders without Ray: the real state machine, ledger and files over made-up epochs."""

import math
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from cifar_core.config import TrainConfig
from cifar_core.history import EpochMetrics
from cifar_core.lr_range_test import Curve, RangeTest, RangeTestConfig, suggest_range
from tests.tune_experiments.made_up import EPOCHS, REFERENCE, SPACE, made_up_epoch
from tune_experiments import ledger as ledger_module
from tune_experiments.config import Plan, SearchConfig
from tune_experiments.confirmation import Confirmation, ConfirmLedger
from tune_experiments.early_stopping import SuccessiveHalving
from tune_experiments.experiment import Experiment, best_first
from tune_experiments.ledger import CONFIRM_LEDGER, Ledger, Trial
from tune_experiments.search_space import Setting
from tune_experiments.search_state import SearchState
from tune_experiments.searcher import RandomProposer
from tune_experiments.verdict import CONFIRM_FILE

SLOTS = 2
PLAN = Plan(
    TrainConfig(dataset="synthetic", epochs=EPOCHS, val_size=1000, train_size=500, width=0.0625, seed=1),
    SearchConfig(
        num_samples=80,
        searcher="random",
        grace_period=2,
        reduction_factor=2.0,
        scheduler="stock-asha",
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


@contextmanager
def made_up_clock() -> Iterator[Clock]:
    """Ledgers take their times from it, and do not wait for the disk."""
    clock = Clock()
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(ledger_module, "time", clock)
        patch.setattr(ledger_module.os, "fsync", lambda descriptor: None)
        yield clock


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
    levels = plan.rungs
    with made_up_clock() as clock:
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


def add_confirmation(
    folder: Path, top: int = 3, seeds: Sequence[int] = (2, 3, 4), runs_at_most: float = math.inf
) -> None:
    """The best trials and the seed's setting with fresh seeds, then the test set; or cut short after some runs."""
    trials = list(Ledger(folder / "ledger.jsonl").trials.values())
    finalists = best_first(trials)[:top]
    finalists += [trials[0]] * (trials[0] not in finalists)
    with made_up_clock():
        ledger = ConfirmLedger(folder / CONFIRM_LEDGER)
        epochs = len(finalists[0].epochs)
        confirmation = Confirmation(ledger, finalists, trials[0].trial_id, seeds, epochs, PLAN.train.val_size)
        while len(ledger.trials) < runs_at_most and (run := confirmation.next_trial()):
            while not run.ended:
                confirmation.report(run.trial_id, seeded_epoch(run, len(run.epochs) + 1), "host:1")
        if runs := confirmation.runs_to_test():
            ledger.add_opening(10_000, {run.trial_id: (1.0, (run.score or 0.0) - 0.01 + luck(run, 2)) for run in runs})
    (folder / CONFIRM_FILE).write_text(confirmation.verdict.to_json())


def seeded_epoch(run: Trial, epoch: int) -> EpochMetrics:
    clean = made_up_epoch(run.setting, epoch)
    return replace(clean, val_accuracy=clean.val_accuracy + luck(run, 0))


def luck(run: Trial, draw: int) -> float:
    """What a seed does to all settings alike, and what it does to this one."""
    assert run.seed is not None
    number = int(run.trial_id.partition("-")[0])
    alike, alone = (
        np.random.default_rng((run.seed, draw)).normal(),
        np.random.default_rng((run.seed, draw, number)).normal(),
    )
    return float(0.006 * alike + 0.004 * alone)


def add_range_test(folder: Path) -> None:
    """Three sweeps whose loss falls from 0.005 on and rises beyond 0.4."""
    lr = np.geomspace(1e-4, 3.0, 120)
    falls = 2.3 - 1.1 / (1 + (0.02 / lr) ** 1.5) + 3.0 / (1 + (0.8 / lr) ** 4)
    noise = [0.04 * np.random.default_rng(seed).normal(size=len(lr)) for seed in range(3)]
    curves = tuple(Curve(lr, falls + noise[seed], seed, 5e-4) for seed in range(3))
    (folder / "lr_range_test.json").write_text(RangeTest(curves, suggest_range(curves)).to_json())
