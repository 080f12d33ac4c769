from dataclasses import replace
from pathlib import Path

import pytest

from cifar_core.config import RangeTestConfig, TrainConfig
from cifar_core.datasets import TrainingData
from tests.cifar_core.tiny import dark_and_bright
from tests.tune_experiments.made_up import PROPOSERS, ended_trial, made_up_state
from tune_experiments.config import Plan, SearchConfig
from tune_experiments.experiment import Experiment
from tune_experiments.ledger import Ledger, Trial, TrialState
from tune_experiments.runtime import Cluster
from tune_experiments.search_space import Setting
from tune_experiments.search_state import SearchState
from tune_experiments.summary import SHOWN, describe_end, describe_start

PLAN = Plan(
    TrainConfig(dataset="synthetic", epochs=8, width=0.125),
    SearchConfig(num_samples=3, grace_period=2, reduction_factor=2, gpus_per_trial=0),
    RangeTestConfig(),
)
EXPERIMENT = Experiment(Path("/experiments/mine"))
CLUSTER = Cluster(cpus=8, gpus=0, nodes=1, dashboard_url="http://127.0.0.1:8265")
SEED = Setting(0.0655, 5e-4, 2)
OTHER = Setting(0.25, 1e-7, 3)


def start(plan: Plan = PLAN, cluster: Cluster = CLUSTER) -> str:
    data = TrainingData(dark_and_bright(1200), dark_and_bright(40))
    return describe_start(EXPERIMENT, plan, data, cluster, slots=5)


def end(path: Path, *trials: Trial, num_samples: int | None = None, plan: Plan = PLAN) -> str:
    """What is said about a search with these trials."""
    state: SearchState = made_up_state(Ledger(path / "ledger"), PROPOSERS["random"](), num_samples or len(trials))
    state.ledger.trials.update({trial.trial_id: trial for trial in trials})
    return describe_end(EXPERIMENT, plan, state)


def test_start_says_what_will_run_on_what_and_where() -> None:
    text = start()
    for words in (
        "Search mine",
        "3, of 8 epochs each, the first with the seed's setting",
        "synthetic: 1,200 training and 40 validation images, 2 classes",
        "width 0.125, batches of 512",
        "max_lr from the LR range test, l1_factor 1e-05 to 10, peak_epoch 1 to 6",
        "searcher optuna, scheduler asha, rungs after epochs 2, 4",
        "8 CPUs and 0 GPUs on 1 node(s): 5 trials at a time, each on 1 CPU(s) and 0 GPU(s)",
        "/experiments/mine",
        "http://127.0.0.1:8265",
    ):
        assert words in text


def test_start_says_what_was_chosen() -> None:
    search = replace(PLAN.search, scheduler="none", max_lr_range=(0.01, 0.5), peak_epoch_range=(2, 3))
    text = start(replace(PLAN, search=search), replace(CLUSTER, dashboard_url=None))
    assert "max_lr 0.01 to 0.5" in text and "peak_epoch 2 to 3" in text
    assert "scheduler none" in text and "rungs" not in text
    assert text.endswith("dashboard off")


def test_end_shows_the_best_beside_the_seeds_setting(tmp_path: Path) -> None:
    text = end(
        tmp_path,
        ended_trial("00000", TrialState.COMPLETED, 0.5, 0.600, setting=SEED),
        ended_trial("00001", TrialState.COMPLETED, 0.5, 0.625, setting=OTHER),
    )
    assert "Best setting:   max_lr 0.25, l1_factor 1e-07, peak_epoch 3: 62.5% (trial 00001)" in text
    assert "Seed's setting: max_lr 0.0655, l1_factor 0.0005, peak_epoch 2: 60.0%" in text
    assert "Difference: +2.5 points, one run each." in text
    assert "python -m cifar_core --config /experiments/mine/best/config.yaml" in text
    assert "python tune_experiments/search.py --preset cifar10" in text
    assert "nan" not in text.lower() and "--resume" not in text


def test_end_where_nothing_beat_the_seed(tmp_path: Path) -> None:
    text = end(
        tmp_path,
        ended_trial("00000", TrialState.COMPLETED, 0.6, setting=SEED),
        ended_trial("00001", TrialState.COMPLETED, 0.5, setting=OTHER),
    )
    assert "It is the seed's own: nothing better was found." in text
    assert "Difference" not in text


@pytest.mark.parametrize("state", [TrialState.DIVERGED, TrialState.FAILED])
def test_end_where_the_seeds_setting_has_no_score(tmp_path: Path, state: TrialState) -> None:
    text = end(
        tmp_path,
        ended_trial("00000", state, 0.9, setting=SEED),
        ended_trial("00001", TrialState.COMPLETED, 0.5, setting=OTHER),
    )
    assert f"peak_epoch 2: {state.value}" in text
    assert "Difference" not in text


def test_end_where_nothing_completed(tmp_path: Path) -> None:
    text = end(
        tmp_path, ended_trial("00000", TrialState.DIVERGED, setting=SEED), ended_trial("00001", TrialState.FAILED)
    )
    assert "Leaderboard" in text and "diverged" in text and "failed" in text
    assert "Best setting" not in text and "nan" not in text.lower()


def test_end_before_anything_began(tmp_path: Path) -> None:
    text = end(tmp_path, num_samples=3)
    assert "--resume /experiments/mine" in text


@pytest.mark.parametrize("state", [TrialState.RUNNING, TrialState.PENDING])
def test_end_of_an_interrupted_search_says_how_to_go_on(tmp_path: Path, state: TrialState) -> None:
    first = ended_trial("00000", TrialState.COMPLETED, 0.6, setting=SEED)
    text = end(tmp_path, first, ended_trial("00001", state, 0.5, setting=OTHER))
    assert "python tune_experiments/search.py --resume /experiments/mine" in text
    assert "The real thing" not in text


def test_the_terminal_gets_the_best_of_many_trials(tmp_path: Path) -> None:
    trials = [ended_trial(f"{n:05d}", TrialState.COMPLETED, 0.5 + n / 1000, setting=SEED) for n in range(SHOWN + 5)]
    text = end(tmp_path, *trials)
    assert "… and 5 more in leaderboard.csv" in text
    assert f"{SHOWN + 4:05d} " in text and "00004 " not in text


def test_the_real_thing_is_not_told_who_ran_it(tmp_path: Path) -> None:
    plan = replace(PLAN, train=replace(PLAN.train, dataset="cifar10"))
    assert "The real thing" not in end(tmp_path, ended_trial("00000", TrialState.COMPLETED, 0.6), plan=plan)
