"""W&B's own processes on a real Ray, offline."""

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from tests.wandb_file import points, read_records
from tune_experiments.forwarder import LoggedTrial
from tune_experiments.runtime import ray_cluster

pytest.importorskip("wandb")


@pytest.fixture(scope="module", autouse=True)
def offline() -> Iterator[None]:
    with pytest.MonkeyPatch.context() as environment:
        environment.setenv("WANDB_MODE", "offline")  # W&B's processes have it from here
        with ray_cluster(None, None, ""):
            yield


def new_logger() -> Any:
    from tune_experiments.wandb_logger import WandbLogger

    return WandbLogger("a-project", "mine")


def trial_in(folder: Path, run_id: str = "search-00000") -> LoggedTrial:
    return LoggedTrial(run_id, "00000", {"max_lr": 0.1}, folder.name, str(folder))


def log(logger: Any, trial: LoggedTrial, epochs: int) -> None:
    logger.log_trial_start(trial)
    for epoch in range(1, epochs + 1):
        logger.log_trial_result(epoch, trial, {"val_accuracy": epoch / 10, "training_iteration": epoch})


def test_a_trial_that_goes_on_at_once_after_its_end_loses_no_epoch(tmp_path: Path) -> None:
    logger = new_logger()
    for epochs in (1, 3):
        log(logger, trial_in(tmp_path), epochs)
        logger.log_trial_end(trial_in(tmp_path))
    logger.on_experiment_end([])
    files = (tmp_path / "wandb").glob("offline-run-*/*.wandb")
    found = sorted(points(read_records(file)) for file in files)
    assert found == [[(1, 0.1)], [(1, 0.1), (2, 0.2), (3, 0.3)]]


def test_what_wandb_refuses_in_its_own_process_is_raised_here(tmp_path: Path) -> None:
    logger, trial = new_logger(), trial_in(tmp_path, "no/id")
    with pytest.raises(Exception, match="Run ID cannot contain"):
        log(logger, trial, 1)
        logger.log_trial_end(trial)
        logger.on_experiment_end([])
