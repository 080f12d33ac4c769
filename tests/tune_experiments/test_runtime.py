import pytest

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
