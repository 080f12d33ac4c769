from dataclasses import replace
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import yaml

from cifar_core import checkpoint
from cifar_core.config import RangeTestConfig, TrainConfig
from cifar_core.datasets import load_test_data
from cifar_core.image_data import ImageData
from cifar_core.options import from_mapping
from cifar_core.train import Trainer, evaluate, fit
from tests.cifar_core.tiny import TINY, tiny_data
from tests.tune_experiments.made_up import ended_trial, metrics
from tune_experiments.config import Plan, SearchConfig
from tune_experiments.confirm import build_confirmation, describe, evaluate_run, settle
from tune_experiments.confirmation import Confirmation, ConfirmLedger
from tune_experiments.experiment import Experiment
from tune_experiments.ledger import Ledger, Trial, TrialState
from tune_experiments.search_space import Setting

PLAN = Plan(replace(TINY, seed=10), SearchConfig(confirm_top=2, confirm_seeds=2, gpus_per_trial=0), RangeTestConfig())
TRIALS = [
    ended_trial(f"{number:05d}", state, accuracy, setting=Setting(0.1, 0.1, number % 3))
    for number, (state, accuracy) in enumerate(
        [
            (TrialState.COMPLETED, 0.3),
            (TrialState.STOPPED, 0.9),
            (TrialState.COMPLETED, 0.5),
            (TrialState.COMPLETED, 0.7),
            (TrialState.COMPLETED, 0.6),
            (TrialState.COMPLETED, 0.1),
        ]
    )
]


@pytest.fixture
def experiment(tmp_path: Path) -> Experiment:
    experiment = Experiment.at(str(tmp_path), "mine")
    experiment.make()
    return experiment


def build(experiment: Experiment, trials: list[Trial] = TRIALS, top: int = 2) -> Confirmation:
    plan = replace(PLAN, search=replace(PLAN.search, confirm_top=top))
    return build_confirmation(ConfirmLedger(experiment.file("confirm.jsonl")), plan, trials)


def finished(experiment: Experiment, **accuracies: float) -> Confirmation:
    """Each run scores as its trial is given here; the others 0."""
    confirmation = build(experiment)
    while (run := confirmation.next_trial()) is not None:
        accuracy = accuracies.get(f"trial_{run.trial_id[:5]}", 0.0)
        for epoch in range(1, TINY.epochs + 1):
            confirmation.report(run.trial_id, metrics(epoch, accuracy), "w")
    return confirmation


def touch_checkpoints(experiment: Experiment, *trial_ids: str) -> None:
    for trial_id in trial_ids:
        (experiment.file("checkpoints") / f"{trial_id}.pt").write_text(trial_id)


def best(experiment: Experiment) -> tuple[TrainConfig, str | None]:
    config = from_mapping(TrainConfig, yaml.safe_load((experiment.path / "best/config.yaml").read_text()), "")
    weights = experiment.path / "best/checkpoint.pt"
    return config, weights.read_text() if weights.exists() else None


def kept(experiment: Experiment) -> set[str]:
    return {file.stem for file in experiment.file("checkpoints").iterdir()}


@pytest.mark.parametrize(
    ("top", "expected"),
    [
        (1, ["00003", "00000"]),
        (2, ["00003", "00004", "00000"]),
        (4, ["00003", "00004", "00002", "00000"]),
        (9, ["00003", "00004", "00002", "00000", "00005"]),
    ],
)
def test_finalists_are_the_best_and_the_seeds_setting(experiment: Experiment, top: int, expected: list[str]) -> None:
    confirmation = build(experiment, top=top)
    assert [finalist.trial.trial_id for finalist in confirmation.finalists] == expected
    assert [finalist.is_seed_setting for finalist in confirmation.finalists] == [each == "00000" for each in expected]


@pytest.mark.parametrize("state", [TrialState.DIVERGED, TrialState.FAILED])
def test_the_seeds_setting_is_a_finalist_whatever_became_of_it(experiment: Experiment, state: TrialState) -> None:
    trials = [ended_trial("00000", state, 0.9), *TRIALS[1:]]
    confirmation = build(experiment, trials, top=1)
    assert [finalist.trial.trial_id for finalist in confirmation.finalists] == ["00003", "00000"]


def test_seeds_are_those_after_the_searchs_own(experiment: Experiment) -> None:
    confirmation = build(experiment)
    assert confirmation.seeds == [11, 12]
    assert confirmation.num_samples == confirmation.remaining == 6
    assert describe(confirmation) == (
        "Confirmation: trials 00003, 00004, 00000 again, each with the seeds 11, 12; 6 runs to go"
    )


def test_best_is_the_searchs_own_trial_of_the_winner(experiment: Experiment) -> None:
    confirmation = finished(experiment, trial_00004=0.8, trial_00003=0.6)
    touch_checkpoints(experiment, "00002", "00003", "00004", "00003-seed11", "00004-seed11", "00004-seed12")
    settle(confirmation, experiment, PLAN, TRIALS)
    assert best(experiment) == (TRIALS[4].setting.applied_to(PLAN.train), "00004")
    assert kept(experiment) == {"00002", "00003", "00004"}
    board = pd.read_csv(experiment.file("leaderboard.csv"), dtype={"trial_id": str})
    assert board["trial_id"][0] == "00004" and board["confirmed_mean"][0] == pytest.approx(0.8)


def test_best_is_a_confirmed_run_where_the_searchs_checkpoint_is_gone(experiment: Experiment) -> None:
    """As of the seed's setting, which is not among the best of the search."""
    confirmation = finished(experiment, trial_00000=0.8)
    touch_checkpoints(experiment, "00003", "00003-seed11", "00000-seed12", "00000-seed11")
    for _ in range(2):  # a second time as after a resume with nothing to do
        settle(confirmation, experiment, PLAN, TRIALS)
        expected = replace(TRIALS[0].setting.applied_to(PLAN.train), seed=11)
        assert best(experiment) == (expected, "00000-seed11")
        assert kept(experiment) == {"00003", "00000-seed11"}


def test_best_is_a_config_where_all_checkpoints_are_gone(experiment: Experiment) -> None:
    settle(finished(experiment, trial_00000=0.8), experiment, PLAN, TRIALS)
    assert best(experiment) == (TRIALS[0].setting.applied_to(PLAN.train), None)


def test_best_stays_where_there_is_no_winner(experiment: Experiment) -> None:
    confirmation = build(experiment)
    while (run := confirmation.next_trial()) is not None:
        confirmation.fail(run.trial_id, "died")
    touch_checkpoints(experiment, "00003", "00003-seed11")
    experiment.write_best(TRIALS[3], PLAN)
    settle(confirmation, experiment, PLAN, TRIALS)
    assert best(experiment)[1] == "00003"
    assert kept(experiment) == {"00003"}


def test_a_resumed_search_keeps_the_checkpoints_of_a_confirmation(experiment: Experiment) -> None:
    confirmation = build(experiment)
    run = confirmation.next_trial()
    assert run is not None
    touch_checkpoints(experiment, "00003", "00005", run.trial_id, "00003-seed99")
    experiment.drop_checkpoints(TRIALS, ConfirmLedger(experiment.file("confirm.jsonl")).trials)
    assert kept(experiment) == {"00003", run.trial_id}


@pytest.fixture(scope="module")
def unseen() -> ImageData:
    return load_test_data(TINY).subset(np.arange(100))


def test_a_run_is_evaluated_at_the_end_of_its_schedule(experiment: Experiment, unseen: ImageData) -> None:
    """From its last checkpoint, from an earlier one, from none and from a broken one alike."""
    run = Trial("00003-seed11", Setting(0.2, 0.01, 1), seed=11)
    whole = fit(replace(run.setting.applied_to(TINY), seed=11), tiny_data())
    expected = evaluate(whole.model, unseen, whole.compute)
    file = experiment.file("checkpoints") / "00003-seed11.pt"
    checkpoint.save(whole, file)
    whole_file = file.read_bytes()
    half = Trainer(whole.config, tiny_data())
    half.run_epoch()
    checkpoint.save(half, file)
    for content in (file.read_bytes(), whole_file[:5000], whole_file):
        file.write_bytes(content)
        assert evaluate_run(run, TINY, tiny_data(), unseen, experiment) == expected
    file.unlink()
    assert evaluate_run(run, TINY, tiny_data(), unseen, experiment) == expected


def test_a_confirmation_that_went_on_elsewhere_is_gone_on_with(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The search's ledger is the same in both places; that of the confirmation is longer below the URI."""
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    storage = f"file://{tmp_path}/remote"
    here, there = Experiment.at(storage, "mine"), Experiment(tmp_path / "remote/mine")
    for experiment in (here, there):
        experiment.make()
        experiment.write_plan(PLAN, "abc")
        Ledger(experiment.ledger).propose(TRIALS[0].setting)
        build(experiment).next_trial()
    there.ledger.write_bytes(here.ledger.read_bytes())
    finished(there, trial_00003=0.7)
    touch_checkpoints(there, "00003-seed11")
    opened = Experiment.open(storage, "mine")
    assert build(opened).remaining == 0 and build(opened).verdict.winner == "00003"
    assert opened.checkpoints.has("00003-seed11") and not opened.checkpoints.has("00004-seed11")
    build(opened).ledger.add_opening(100, {})
    longer = opened.file("confirm.jsonl").read_bytes()
    assert Experiment.open(storage, "mine").file("confirm.jsonl").read_bytes() == longer
