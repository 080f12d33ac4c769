"""A search without training: what an epoch measures is a made-up, pure function of the setting and the epoch."""

import math
from collections.abc import Callable
from typing import Any

from cifar_core.history import EpochMetrics
from tune_experiments.early_stopping import SuccessiveHalving, rungs
from tune_experiments.ledger import Ledger, Trial, TrialState
from tune_experiments.search_space import SearchSpace, Setting
from tune_experiments.search_state import SearchState
from tune_experiments.searcher import OptunaProposer, Proposer, RandomProposer

EPOCHS = 9
SPACE = SearchSpace(max_lr=(1e-3, 1.0), l1_factor=(1e-5, 10.0), peak_epoch=(1, 7))
REFERENCE = Setting(0.0655, 5e-4, 2)
PROPOSERS: dict[str, Callable[[], Proposer]] = {
    "optuna": lambda: OptunaProposer(SPACE, seed=1, startup_trials=4),
    "random": lambda: RandomProposer(SPACE, seed=1),
}


def metrics(epoch: int = 1, val_accuracy: float = 0.5, **others: Any) -> EpochMetrics:
    """An epoch in which everything went well, but for what is given."""
    usual: dict[str, Any] = {
        "train_loss": 1.2, "train_accuracy": 0.4, "val_loss": 1.1, "lr": 0.01, "momentum": 0.9, "l1": 0.02,
        "seconds": 2.0,
    }  # fmt: skip
    return EpochMetrics(epoch=epoch, val_accuracy=val_accuracy, **(usual | others))


def made_up_epoch(setting: Setting, epoch: int) -> EpochMetrics:
    """Best near max_lr 0.1 and l1_factor 0.01; diverges where max_lr is high."""
    if setting.max_lr > 0.3 and epoch >= 2:
        return metrics(epoch, math.nan, train_loss=math.nan, val_loss=math.nan)
    lost = 0.15 * abs(math.log10(setting.max_lr / 0.1)) + 0.05 * abs(math.log10(setting.l1_factor / 0.01))
    return metrics(epoch, (0.95 - lost) * (1 - math.exp(-epoch / (1 + setting.peak_epoch))), lr=setting.max_lr / epoch)


def fails(setting: Setting, epoch: int) -> bool:
    """Whether the workers of this setting die for good in this epoch."""
    return epoch == 2 and 0.02 < setting.l1_factor < 0.3 and setting != REFERENCE


def made_up_state(ledger: Ledger, proposer: Proposer, num_samples: int, epochs: int = EPOCHS) -> SearchState:
    """A search of grace period 2 and reduction factor 2 over the ledger."""
    return SearchState(
        ledger, proposer, SuccessiveHalving(rungs("stock-asha", 2, 2, epochs), 2), REFERENCE, epochs, num_samples
    )


def run_one_at_a_time(state: SearchState) -> list[Trial]:
    """Go on until no trial is left, each one to its end before the next begins."""
    while (trial := state.next_trial()) is not None:
        while not trial.ended:
            epoch = len(trial.epochs) + 1
            if fails(trial.setting, epoch):
                state.fail(trial.trial_id, "worker died")
            else:
                state.report(trial.trial_id, made_up_epoch(trial.setting, epoch), "host:1")
    return state.trials


def ended_trial(trial_id: str, state: TrialState, *accuracies: float, setting: Setting = REFERENCE) -> Trial:
    """A trial with these validation accuracies behind it; a diverged one has a last epoch that is not finite."""
    epochs = [metrics(epoch, accuracy) for epoch, accuracy in enumerate(accuracies, start=1)]
    if state is TrialState.DIVERGED:
        epochs.append(metrics(len(epochs) + 1, math.nan, train_loss=math.nan, val_loss=math.nan))
    clock = [1000.0 + 10 * epoch.epoch for epoch in epochs]
    trial = Trial(
        trial_id, setting, state, epochs, ["host:1"] * len(epochs), clock, "" if state == "completed" else "why"
    )
    trial.stopped_at = len(epochs) if state is TrialState.STOPPED else None
    return trial
