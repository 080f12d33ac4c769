"""A cluster of two nodes, one of which sees another folder where the experiment is kept."""

import os
import re
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

import pytest
import ray
from ray.cluster_utils import Cluster

from cifar_core.config import TrainConfig
from cifar_core.device import resolve_compute
from cifar_core.errors import UserError
from tests.benchmarks.fault_injection import trial_workers
from tests.end_to_end.tiny_search import APART, ROOT, TINY, run_search, search_command
from tune_experiments.config import SearchConfig
from tune_experiments.ledger import Ledger, TrialState
from tune_experiments.nodes import common_precision, nodes_for_trials, require_shared_folder
from tune_experiments.runtime import ENVIRONMENT

ANYWHERE, SECOND_ONLY = SearchConfig(gpus_per_trial=0), SearchConfig(gpus_per_trial=0, cpus_per_trial=2)


class TwoNodes(NamedTuple):
    """The first has 1 CPU, the second 2, and an empty disk mounted where the first has `folder`."""

    address: str
    folder: Path
    second: "subprocess.Popen[bytes]"


@pytest.fixture(scope="module")
def two_nodes(tmp_path_factory: pytest.TempPathFactory) -> Iterator[TwoNodes]:
    if not shutil.which("unshare") or subprocess.run([*APART, "true"], capture_output=True).returncode:
        pytest.skip("no process can have mounts of its own here")
    folder = tmp_path_factory.mktemp("experiments")
    cluster = Cluster(initialize_head=True, head_node_args={"num_cpus": 1, "include_dashboard": False})
    ray_start = f"{Path(sys.executable).parent}/ray start --address {cluster.address} --num-cpus 2 --block"
    second = subprocess.Popen(
        [*APART, "sh", "-c", f"mount -t tmpfs none {folder} && exec {ray_start}"],
        cwd=ROOT,
        env=os.environ | ENVIRONMENT,
        start_new_session=True,
        stdout=subprocess.DEVNULL,
    )
    try:
        ray.init(address=cluster.address, log_to_driver=False)
        deadline = time.monotonic() + 60
        while len(ray.nodes()) < 2:
            assert time.monotonic() < deadline and second.poll() is None
            time.sleep(0.1)
        yield TwoNodes(cluster.address, folder, second)
    finally:
        ray.shutdown()
        cluster.shutdown()
        if second.poll() is None:
            lose(second)


def lose(node: "subprocess.Popen[bytes]") -> None:
    os.killpg(node.pid, signal.SIGKILL)
    node.wait()


def test_a_search_in_a_folder_that_a_node_does_not_see_is_refused_in_one_line(two_nodes: TwoNodes) -> None:
    done = run_search(two_nodes.folder, "--address", two_nodes.address, "--name", "tiny", *TINY)
    assert done.returncode == 2, done.stdout
    assert len(done.stdout.splitlines()) == 1 and done.stdout.startswith("error: node ")
    assert f"does not see {two_nodes.folder / 'tiny'}; give a --storage that all nodes share" in done.stdout
    assert [file.name for file in (two_nodes.folder / "tiny").iterdir() if file.suffix == ".part"] == []


def test_a_folder_that_all_nodes_see_is_used_and_left_as_it_was(two_nodes: TwoNodes, tmp_path: Path) -> None:
    require_shared_folder(tmp_path, ANYWHERE)
    assert list(tmp_path.iterdir()) == []


def test_only_nodes_that_a_trial_fits_on_are_asked(two_nodes: TwoNodes) -> None:
    assert [len(nodes_for_trials(search)) for search in (ANYWHERE, SECOND_ONLY)] == [2, 1]
    with pytest.raises(UserError, match="a trial wants 3 CPUs and 0 GPUs; none of Ray's 2 nodes has them"):
        nodes_for_trials(SearchConfig(cpus_per_trial=3))
    with pytest.raises(UserError, match=rf"does not see {two_nodes.folder}; give"):
        require_shared_folder(two_nodes.folder, SECOND_ONLY)


def test_two_nodes_like_this_one_compute_as_this_one_does(two_nodes: TwoNodes) -> None:
    train = TrainConfig(device="cpu")
    assert common_precision(train, ANYWHERE, nodes=2) == resolve_compute(train).precision


def test_trials_of_a_node_that_is_lost_go_on_on_another(two_nodes: TwoNodes, tmp_path: Path) -> None:
    """The last one here, as the second node is gone after it."""
    longer = ["--num-samples", "2", "--epochs", "9", "--train-size", "2000", "--scheduler", "none"]
    flags = [*TINY, *longer, "--max-lr-range", "0.01", "0.1"]
    command = search_command(tmp_path, "--address", two_nodes.address, "--name", "tiny", *flags)
    ledger, log = tmp_path / "tiny/ledger.jsonl", tmp_path / "output.log"

    def trains_there() -> set[str]:
        workers = re.findall(r'"worker": "[^"]*:(\d+)"', ledger.read_text()) if ledger.exists() else []
        return set(workers) & set(map(str, trial_workers(two_nodes.second.pid)))

    with log.open("w") as output:
        driver = subprocess.Popen(command, stdout=output, stderr=output, cwd=tmp_path)
        while not trains_there():
            assert driver.poll() is None, log.read_text()
            time.sleep(0.1)
        lose(two_nodes.second)
        assert driver.wait(timeout=200) == 0, log.read_text()
    trials = list(Ledger(ledger).trials.values())
    assert [(trial.state, len(trial.epochs)) for trial in trials] == [(TrialState.COMPLETED, 9)] * 2
    assert any(len(set(trial.workers)) > 1 for trial in trials)
    assert "its worker died; starting again from its checkpoint" in log.read_text()
