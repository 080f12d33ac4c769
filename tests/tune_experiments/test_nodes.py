from pathlib import Path
from typing import Any

import pytest
import torch

from cifar_core.config import RangeTestConfig, TrainConfig
from cifar_core.device import resolve_compute
from tune_experiments.config import Plan, SearchConfig
from tune_experiments.nodes import common_precision, room, unfit, write_beside
from tune_experiments.run import on_cluster
from tune_experiments.runtime import Cluster


@pytest.mark.parametrize(
    ("cpus", "gpus", "search", "expected"),
    [
        (8, 0, SearchConfig(), 8),
        (0, 0, SearchConfig(), 0),  # a head that runs nothing
        (8, 0, SearchConfig(cpus_per_trial=3), 2),
        (3, 0, SearchConfig(cpus_per_trial=4), 0),
        (64, 4, SearchConfig(gpus_per_trial=1), 4),
        (64, 4, SearchConfig(gpus_per_trial=0), 64),
        (64, 4, SearchConfig(gpus_per_trial=2), 2),
        (64, 3, SearchConfig(gpus_per_trial=2), 1),
        (64, 1, SearchConfig(gpus_per_trial=2), 0),
        (64, 0, SearchConfig(gpus_per_trial=0.5), 0),
        (64, 2, SearchConfig(gpus_per_trial=0.5), 4),
        (64, 2, SearchConfig(gpus_per_trial=0.3), 6),  # three on each, as no trial has parts of two GPUs
        (64, 1, SearchConfig(gpus_per_trial=1 / 49), 49),
        (64, 10, SearchConfig(gpus_per_trial=0.1), 64),
        (3, 4, SearchConfig(gpus_per_trial=0.5), 3),
    ],
)
def test_as_many_trials_run_on_a_node_as_there_is_of_everything(
    cpus: float, gpus: float, search: SearchConfig, expected: int
) -> None:
    assert room({"CPU": cpus, "GPU": gpus} if gpus else {"CPU": cpus}, search) == expected


def test_a_folder_with_the_marker_can_be_used_and_is_left_as_it_was(tmp_path: Path) -> None:
    (tmp_path / "marker").touch()
    assert write_beside(tmp_path / "marker") == ""
    assert [file.name for file in tmp_path.iterdir()] == ["marker"]


def test_a_folder_without_the_marker_is_another_one(tmp_path: Path) -> None:
    for marker in (tmp_path / "marker", tmp_path / "gone/marker"):
        assert write_beside(marker) == "does not see"
    assert list(tmp_path.iterdir()) == []


@pytest.mark.skipif(not Path("/proc/self").exists(), reason="wants a folder that takes no files even from root")
def test_a_folder_that_takes_no_files_cannot_be_used() -> None:
    assert write_beside(Path("/proc/self")).startswith("cannot use (")


def test_a_node_is_fit_where_it_computes_as_planned_and_uses_the_folder(tmp_path: Path) -> None:
    here = TrainConfig(device="cpu")
    elsewhere = TrainConfig(device="cuda" if torch.backends.mps.is_available() else "mps")
    (tmp_path / "marker").touch()
    assert [unfit(here, marker) for marker in (None, tmp_path / "marker")] == ["", ""]
    assert unfit(here, tmp_path / "gone") == f"does not see {tmp_path}"
    assert unfit(elsewhere, None).startswith(f"cannot train (device is {elsewhere.device}, but torch finds none here")


@pytest.mark.parametrize("precision", ["bf16", "fp32"])
def test_a_precision_that_was_asked_for_is_every_nodes(precision: Any) -> None:
    assert common_precision(TrainConfig(precision=precision), SearchConfig(), nodes=9) == precision


def test_auto_is_what_the_only_node_computes_in() -> None:
    train = TrainConfig(device="cpu")
    assert common_precision(train, SearchConfig(), nodes=1) == resolve_compute(train).precision


def test_a_plan_says_what_auto_was_so_that_a_trial_and_its_rerun_are_alike() -> None:
    plan = Plan(TrainConfig(device="cpu"), SearchConfig(cpus_per_trial=2), RangeTestConfig())
    resolved = on_cluster(plan, Cluster(cpus=8, gpus=2, nodes=1, dashboard_url=None))
    assert (resolved.train.device, resolved.search.gpus_per_trial, resolved.train.threads) == ("cpu", 0, 2)
    assert resolved.train.precision == resolve_compute(plan.train).precision
    elsewhere = Cluster(cpus=4, gpus=0, nodes=3, dashboard_url=None)
    assert on_cluster(resolved, elsewhere) == resolved
