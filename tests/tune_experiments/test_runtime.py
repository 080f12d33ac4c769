import pytest

from cifar_core.errors import UserError
from tune_experiments.config import SearchConfig
from tune_experiments.runtime import Cluster


def cluster(cpus: int = 8, gpus: int = 0) -> Cluster:
    return Cluster(cpus, gpus, nodes=1, dashboard_url=None)


@pytest.mark.parametrize(("gpus", "asked", "expected"), [(0, None, 0), (2, None, 1), (2, 0.25, 0.25), (2, 0, 0)])
@pytest.mark.parametrize("device", ["auto", "cuda"])
def test_gpus_per_trial_is_what_was_asked_or_one_where_there_are_some(
    gpus: int, asked: float | None, expected: float, device: str
) -> None:
    assert cluster(gpus=gpus).gpus_per_trial(SearchConfig(gpus_per_trial=asked), device) == expected


@pytest.mark.parametrize("device", ["cpu", "mps"])
def test_trials_that_run_elsewhere_ask_for_no_gpu_unless_told_to(device: str) -> None:
    assert cluster(gpus=2).gpus_per_trial(SearchConfig(), device) == 0
    assert cluster(gpus=2).gpus_per_trial(SearchConfig(gpus_per_trial=1), device) == 1


@pytest.mark.parametrize(
    ("cpus", "gpus", "search", "slots"),
    [
        (8, 0, SearchConfig(), 8),
        (8, 0, SearchConfig(cpus_per_trial=3), 2),
        (8, 0, SearchConfig(max_concurrent=3), 3),
        (2, 0, SearchConfig(max_concurrent=3), 2),
        (64, 4, SearchConfig(gpus_per_trial=1), 4),
        (64, 4, SearchConfig(gpus_per_trial=0), 64),
        (64, 4, SearchConfig(gpus_per_trial=2), 2),
        (64, 3, SearchConfig(gpus_per_trial=2), 1),
        (64, 2, SearchConfig(gpus_per_trial=0.5), 4),
        (64, 2, SearchConfig(gpus_per_trial=0.3), 6),  # three on each, as no trial has parts of two GPUs
        (64, 1, SearchConfig(gpus_per_trial=1 / 49), 49),
        (64, 10, SearchConfig(gpus_per_trial=0.1), 64),
        (3, 4, SearchConfig(gpus_per_trial=0.5), 3),
    ],
)
def test_slots_are_what_fits(cpus: int, gpus: int, search: SearchConfig, slots: int) -> None:
    assert cluster(cpus, gpus).slots(search) == slots


@pytest.mark.parametrize(
    ("search", "message"),
    [
        (SearchConfig(cpus_per_trial=9), "a trial wants 9 CPUs and 0 GPUs; Ray has 8 and 0"),
        (SearchConfig(gpus_per_trial=0.5), "a trial wants 1 CPUs and 0.5 GPUs; Ray has 8 and 0"),
        (SearchConfig(gpus_per_trial=2), "a trial wants 1 CPUs and 2 GPUs; Ray has 8 and 0"),
    ],
)
def test_one_line_where_not_one_trial_fits(search: SearchConfig, message: str) -> None:
    with pytest.raises(UserError, match=message):
        cluster().slots(search)
