import os
import platform
import re
from contextlib import suppress
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any

import pytest
import torch

from cifar_core import checkpoint
from cifar_core.train import fit
from tests.cifar_core.tiny import TINY, tiny_data
from tests.tune_experiments.made_up import ended_trial
from tune_experiments.experiment import Experiment
from tune_experiments.ledger import Trial, TrialState
from tune_experiments.search_space import Setting
from tune_experiments.trainable import CifarTrial, describe_error, trial_config

SETTING = Setting(0.2, 0.01, 1)
OTHER = Setting(0.01, 1e-4, 2)


@pytest.fixture
def experiment(tmp_path: Path) -> Experiment:
    experiment = Experiment.at(str(tmp_path), "mine")
    experiment.make()
    return experiment


@pytest.fixture(scope="module")
def alone() -> list[dict[str, Any]]:
    """The epochs of SETTING, trained without any of this."""
    return [timeless(asdict(epoch)) for epoch in fit(SETTING.applied_to(TINY), tiny_data()).history.epochs]


def timeless(result: dict[str, Any]) -> dict[str, Any]:
    return {key: value for key, value in result.items() if key not in ("seconds", "worker")}


def config(
    known_epochs: int = 0, trial_id: str = "00007", setting: Setting = SETTING, seed: int | None = None
) -> dict[str, Any]:
    return {"trial_id": trial_id, "known_epochs": known_epochs, **asdict(setting), "seed": seed}


def worker(experiment: Experiment, known_epochs: int = 0, setting: Setting = SETTING) -> CifarTrial:
    """A worker as Tune makes it, but in this process."""
    trial: CifarTrial = object.__new__(CifarTrial)
    trial.setup(config(known_epochs, setting=setting), TINY, tiny_data(), experiment, rungs=[])
    return trial


def steps(trial: CifarTrial, count: int) -> list[dict[str, Any]]:
    return [timeless(trial.step()) for _ in range(count)]


def test_a_worker_gets_the_setting_and_what_is_known() -> None:
    trial = ended_trial("00007", TrialState.RUNNING, 0.1, 0.2, setting=SETTING)
    assert trial_config(trial) == config(known_epochs=2)
    assert trial_config(Trial("00008", OTHER)) == config(0, "00008", OTHER)
    assert trial_config(Trial("00008-seed3", OTHER, seed=3)) == config(0, "00008-seed3", OTHER, seed=3)


def test_a_trial_with_a_seed_of_its_own_trains_with_it(experiment: Experiment, alone: list[dict[str, Any]]) -> None:
    trial = worker(experiment)
    trial.reset_config(config(trial_id="00007-seed3", seed=3))
    expected = fit(replace(SETTING.applied_to(TINY), seed=3), tiny_data()).history.epochs
    found = steps(trial, 3)
    assert found == [timeless(asdict(epoch)) for epoch in expected] and found != alone
    assert (experiment.file("checkpoints") / "00007-seed3.pt").exists()
    trial.reset_config(config())
    assert steps(trial, 3) == alone


def test_a_step_is_an_epoch_of_the_run(experiment: Experiment, alone: list[dict[str, Any]]) -> None:
    assert steps(worker(experiment), 3) == alone


def test_a_step_says_which_process_did_it(experiment: Experiment) -> None:
    assert worker(experiment).step()["worker"] == f"{platform.node()}:{os.getpid()}"


def test_the_last_epoch_is_always_in_the_checkpoint(experiment: Experiment) -> None:
    steps(worker(experiment), 3)
    assert len(checkpoint.read(experiment.file("checkpoints") / "00007.pt")["epochs"]) == 3


@pytest.mark.parametrize("finished", [1, 2])
def test_a_worker_that_died_is_taken_over(experiment: Experiment, alone: list[dict[str, Any]], finished: int) -> None:
    """Tune gives the new worker the old config, so it reports again from there."""
    steps(worker(experiment), finished)
    assert steps(worker(experiment), 3) == alone


@pytest.mark.parametrize("known", [1, 2])
def test_a_resumed_trial_reports_what_is_not_known(
    experiment: Experiment, alone: list[dict[str, Any]], known: int
) -> None:
    steps(worker(experiment), known)
    assert steps(worker(experiment, known), 3 - known) == alone[known:]


def test_epochs_in_the_checkpoint_are_not_trained_again(experiment: Experiment, alone: list[dict[str, Any]]) -> None:
    steps(worker(experiment), 3)
    resumed = worker(experiment, known_epochs=1)
    written = (experiment.file("checkpoints") / "00007.pt").stat().st_mtime_ns
    assert steps(resumed, 1) == alone[1:2]
    assert resumed.trainer is not None and resumed.trainer.finished_epochs == 3
    assert (experiment.file("checkpoints") / "00007.pt").stat().st_mtime_ns == written


@pytest.mark.parametrize(
    "damage", [lambda file: file.unlink(), lambda file: file.write_bytes(file.read_bytes()[:5000])]
)
def test_a_lost_checkpoint_costs_time_only(experiment: Experiment, alone: list[dict[str, Any]], damage: Any) -> None:
    steps(worker(experiment), 2)
    damage(experiment.file("checkpoints") / "00007.pt")
    assert steps(worker(experiment, known_epochs=2), 1) == alone[2:]


def test_another_settings_checkpoint_is_not_taken(
    experiment: Experiment, alone: list[dict[str, Any]], capsys: pytest.CaptureFixture[str]
) -> None:
    steps(worker(experiment, setting=OTHER), 2)
    assert steps(worker(experiment), 3) == alone
    assert "saved by a run with another max_lr, peak_epoch, l1_factor; the trial starts over" in capsys.readouterr().err


def test_a_process_goes_from_trial_to_trial(experiment: Experiment, alone: list[dict[str, Any]]) -> None:
    trial = worker(experiment, setting=OTHER)
    steps(trial, 2)
    assert trial.reset_config(config(trial_id="00008"))
    assert steps(trial, 3) == alone
    assert sorted(file.name for file in experiment.file("checkpoints").iterdir()) == ["00007.pt", "00008.pt"]
    trial.cleanup()


def test_a_worker_says_which_trial_it_has_each_epoch_and_how_it_ended(
    experiment: Experiment, capsys: pytest.CaptureFixture[str]
) -> None:
    trial = worker(experiment)
    steps(trial, 3)
    trial.reset_config(config(1, "00008", OTHER))
    steps(trial, 1)
    trial.reset_config(config(trial_id="00009", setting=Setting(1e10, 0.01, 1), seed=5))
    steps(trial, 1)
    trial.reset_config(config(trial_id="00010", setting=Setting(0.1, 0.1, 99)))
    steps(trial, 1)
    trial.cleanup()
    lines = [re.sub(r"(: epoch .*?:).*", r"\1", line) for line in capsys.readouterr().err.splitlines()]
    assert lines == [
        "00007: max_lr 0.2, l1_factor 0.01, peak_epoch 1, seed 0; from epoch 1 of 3",
        "00007: epoch 1/3:",
        "00007: epoch 2/3:",
        "00007: epoch 3/3:",
        "00007: completed",
        "00008: max_lr 0.01, l1_factor 0.0001, peak_epoch 2, seed 0; from epoch 2 of 3",
        "00008: epoch 2/3:",
        "00008: ended by the search after epoch 2 of 3",
        "00009: max_lr 1e+10, l1_factor 0.01, peak_epoch 1, seed 5; from epoch 1 of 3",
        "00009: epoch 1/3:",
        "00009: diverged: the loss is not finite at epoch 1",
        "00010: max_lr 0.1, l1_factor 0.1, peak_epoch 99, seed 0; from epoch 1 of 3",
        "00010: failed: UserError: peak_epoch is 99; it must be at most epochs (3)",
    ]


def test_a_trial_goes_on_where_its_log_is_full(
    experiment: Experiment, alone: list[dict[str, Any]], monkeypatch: pytest.MonkeyPatch
) -> None:
    with suppress(OSError), open("/dev/full", "w") as full, monkeypatch.context() as patched:  # noqa: PTH123
        patched.setattr("sys.stderr", full)
        found = steps(worker(experiment), 3)
    assert found == alone


def test_a_worker_is_called_after_the_experiment(experiment: Experiment) -> None:
    trial = worker(experiment)
    trial.reset_config(config(trial_id="00008"))
    assert repr(trial) == "mine, first trial 00007"


def test_an_error_is_a_result(experiment: Experiment) -> None:
    trial = worker(experiment, setting=Setting(0.1, 0.1, 99))
    for _ in range(2):
        result = trial.step()
        assert result["error"] == "UserError: peak_epoch is 99; it must be at most epochs (3)"
        assert "epoch" not in result
    trial.reset_config(config())
    assert trial.step()["epoch"] == 1


@pytest.mark.parametrize(
    ("error", "line"),
    [
        (ValueError("first\nsecond"), "ValueError: first"),
        (ValueError(), "ValueError"),
        (torch.OutOfMemoryError("CUDA out of memory.\nTried"), "the GPU is out of memory; raise --gpus-per-trial"),
        (MemoryError(), "the host is out of memory; lower --max-concurrent or --batch-size (MemoryError)"),
    ],
)
def test_errors_are_described_in_one_line(error: Exception, line: str) -> None:
    assert describe_error(error).startswith(line)
    assert "\n" not in describe_error(error)


def test_the_average_is_scored_at_rungs_alone(experiment: Experiment) -> None:
    trial: CifarTrial = object.__new__(CifarTrial)
    trial.setup(config(), replace(TINY, ema_epochs=0.5), tiny_data(), experiment, rungs=[2])
    assert [step["ema_val_accuracy"] is None for step in steps(trial, 3)] == [True, False, True]
