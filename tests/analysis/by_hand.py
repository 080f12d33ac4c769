"""Experiments written down by hand, for numbers that can be checked by hand."""

from collections.abc import Sequence

from analysis.trials import Experiment
from cifar_core.options import to_mapping
from tests.analysis.folders import PLAN
from tests.tune_experiments.made_up import SPACE, ended_trial
from tune_experiments.ledger import Trial, TrialState
from tune_experiments.records import epochs_frame, trials_frame
from tune_experiments.search_space import Setting

COMPLETED, STOPPED, DIVERGED = TrialState.COMPLETED, TrialState.STOPPED, TrialState.DIVERGED


def experiment_of(trials: Sequence[Trial], epochs: int = 4, name: str = "by-hand") -> Experiment:
    """Rungs after epoch 2; 1,000 validation images; half a GPU a trial."""
    plan = {"train": to_mapping(PLAN.train) | {"epochs": epochs}, "search": to_mapping(PLAN.search)}
    return Experiment(name, trials_frame(trials), epochs_frame(trials), plan, SPACE)


def four_trials() -> Experiment:
    """The seed's setting at 70 %, a better one at 80 %, one stopped, one diverged; the rung ranks the best second."""
    return experiment_of(
        [
            ended_trial("00000", COMPLETED, 0.3, 0.6, 0.65, 0.7),
            ended_trial("00001", COMPLETED, 0.2, 0.5, 0.7, 0.8, setting=Setting(0.1, 0.01, 3)),
            ended_trial("00002", STOPPED, 0.1, 0.4, setting=Setting(0.002, 1.0, 1)),
            ended_trial("00003", DIVERGED, setting=Setting(0.9, 1.0, 2)),
        ]
    )
