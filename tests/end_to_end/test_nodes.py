"""A cluster whose nodes come and go, with GPUs in name only; one sees another folder where experiments are kept."""

import os
import re
import shutil
import signal
import subprocess
import sys
import time
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import suppress
from pathlib import Path
from typing import NamedTuple

import pytest
import ray
import torch
from moto.server import ThreadedMotoServer
from ray.cluster_utils import Cluster
from ray.util import placement_group_table, remove_placement_group
from ray.util.placement_group import PlacementGroup
from ray.util.scheduling_strategies import PlacementGroupSchedulingStrategy

from cifar_core.config import TrainConfig
from cifar_core.device import resolve_compute
from cifar_core.errors import UserError
from tests.benchmarks.fault_injection import trial_workers
from tests.end_to_end.test_bad_input import images
from tests.end_to_end.test_storage import objects, s3_server, uri
from tests.end_to_end.tiny_search import APART, ROOT, TINY, run_search, search_command
from tune_experiments.config import SearchConfig
from tune_experiments.ledger import Ledger, Trial, TrialState
from tune_experiments.nodes import common_precision, nodes_for_trials, require_shared_folder
from tune_experiments.runtime import ENVIRONMENT
from tune_experiments.tuning import placement

ANYWHERE = SearchConfig(gpus_per_trial=0)
SECOND_ONLY = SearchConfig(gpus_per_trial=0, cpus_per_trial=3)
RUN_ALL = [*TINY, "--scheduler", "none", "--max-lr-range", "0.01", "0.1", "--device", "cpu"]
Node = "subprocess.Popen[bytes]"


class Nodes(NamedTuple):
    """The first has 2 CPUs, the second 3 and an empty disk mounted where the first has `folder`; each has a GPU."""

    address: str
    folder: Path
    second: "subprocess.Popen[bytes]"


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[ThreadedMotoServer]:
    """S3. It is there before the nodes, which have its key in their environment."""
    with s3_server(tmp_path_factory.mktemp("local") / "cache") as server:
        yield server


@pytest.fixture(scope="module")
def two_nodes(server: ThreadedMotoServer, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Nodes]:
    if not shutil.which("unshare") or subprocess.run([*APART, "true"], capture_output=True).returncode:
        pytest.skip("no process can have mounts of its own here")
    folder = tmp_path_factory.mktemp("experiments")
    cluster = Cluster(initialize_head=True, head_node_args={"num_cpus": 2, "num_gpus": 1, "include_dashboard": False})
    second = start_node(cluster.address, cpus=3, without=folder)
    try:
        ray.init(address=cluster.address, log_to_driver=False)
        wait_until(lambda: nodes_alive() == 2)
        yield Nodes(cluster.address, folder, second)
    finally:
        ray.shutdown()
        cluster.shutdown()
        lose(second)


def start_node(address: str, cpus: int, gpus: int = 1, without: Path | None = None) -> "subprocess.Popen[bytes]":
    """A node of the cluster, with another, empty disk where the others have the folder `without`."""
    ray = Path(sys.executable).parent / "ray"
    ray_start = f"{ray} start --address {address} --num-cpus {cpus} --num-gpus {gpus} --block"
    on_a_busy_machine = f"until {ray_start}; do sleep 1; done"  # Ray gives a node 30 seconds
    hidden = [*APART, "sh", "-c", f"mount -t tmpfs none {without} && {on_a_busy_machine}"]
    return subprocess.Popen(
        hidden if without else ["sh", "-c", on_a_busy_machine],
        cwd=ROOT,
        env=os.environ | ENVIRONMENT,
        start_new_session=True,
        stdout=subprocess.DEVNULL,
    )


def nodes_alive() -> int:
    return sum(node["Alive"] for node in ray.nodes())


def wait_until(happened: Callable[[], object]) -> None:
    deadline = time.monotonic() + 90
    while not happened():
        assert time.monotonic() < deadline
        time.sleep(0.1)


def lose(node: "subprocess.Popen[bytes]", by: signal.Signals = signal.SIGKILL) -> None:
    """SIGTERM lets it say that it leaves; otherwise Ray notices after some 15 seconds."""
    if node.poll() is None:
        os.killpg(node.pid, by)
        node.wait()


class Running:
    """A search on the cluster, in a process of its own, and what was seen of it."""

    def __init__(self, command: list[str], folder: Path) -> None:
        self.log = folder / "output.log"
        with self.log.open("w") as output:
            self.driver = subprocess.Popen(command, stdout=output, stderr=output, cwd=folder)
        self.most: Counter[str] = Counter()  # trials at a time, by the id of their node
        self.most_in_all = 0

    def wait_for(self, happened: Callable[[], object], seconds: float = 200.0) -> None:
        deadline = time.monotonic() + seconds
        while not happened():
            if time.monotonic() > deadline:
                self.driver.kill()
                self.driver.wait()
            assert self.driver.poll() is None, self.log.read_text()
            self.look()
            time.sleep(0.3)

    def wait(self) -> int:
        while self.driver.poll() is None:
            self.look()
            time.sleep(0.1)
        return self.driver.returncode

    def look(self) -> None:
        held = [group for group in placement_group_table().values() if group["state"] == "CREATED"]
        now = Counter(group["bundles_to_node_id"][0] for group in held)
        self.most |= now
        self.most_in_all = max(self.most_in_all, now.total())


def pids(trial: Trial) -> list[int]:
    """The process that reported each of the trial's epochs."""
    return [int(worker.rpartition(":")[2]) for worker in trial.workers]


def test_a_search_in_a_folder_that_a_node_does_not_see_is_refused_in_one_line(two_nodes: Nodes) -> None:
    done = run_search(two_nodes.folder, "--address", two_nodes.address, "--name", "tiny", *TINY)
    assert done.returncode == 2, done.stdout
    assert len(done.stdout.splitlines()) == 1 and done.stdout.startswith("error: node ")
    assert f"does not see {two_nodes.folder / 'tiny'}; give a --storage that all nodes share" in done.stdout
    assert [file.name for file in (two_nodes.folder / "tiny").iterdir() if file.suffix == ".part"] == []


def test_a_folder_that_all_nodes_see_is_used_and_left_as_it_was(two_nodes: Nodes, tmp_path: Path) -> None:
    require_shared_folder(tmp_path, ANYWHERE)
    assert list(tmp_path.iterdir()) == []


def test_only_nodes_that_a_trial_fits_on_are_asked(two_nodes: Nodes) -> None:
    assert [len(nodes_for_trials(search)) for search in (ANYWHERE, SECOND_ONLY)] == [2, 1]
    with pytest.raises(UserError, match="a trial wants 4 CPUs and 0 GPUs; none of Ray's 2 nodes has them"):
        nodes_for_trials(SearchConfig(cpus_per_trial=4))
    with pytest.raises(UserError, match=rf"does not see {two_nodes.folder}; give"):
        require_shared_folder(two_nodes.folder, SECOND_ONLY)


def test_two_nodes_like_this_one_compute_as_this_one_does(two_nodes: Nodes) -> None:
    train = TrainConfig(device="cpu")
    assert common_precision(train, ANYWHERE, nodes=2) == resolve_compute(train).precision


def test_halves_of_gpus_on_all_nodes_without_a_disk_that_they_share(
    two_nodes: Nodes, server: ThreadedMotoServer, tmp_path: Path
) -> None:
    """Images come through the object store to a node that has no folder of them; checkpoints go to S3."""
    images(two_nodes.folder)
    data = ["--dataset", "images", "--data-dir", str(two_nodes.folder / "images"), "--train-size", "36"]
    flags = [*RUN_ALL, *data, "--val-size", "4", "--batch-size", "8", "--gpus-per-trial", "0.5", "--name", "tiny"]
    flags += ["--num-samples", "99", "--epochs", "2000"]  # longer than it takes to start a process on the other node
    search = Running(
        [*search_command(tmp_path, "--address", two_nodes.address, *flags), "--storage", uri(server)], tmp_path
    )
    cache = Path(os.environ["XDG_CACHE_HOME"])

    def trained_on(node: "subprocess.Popen[bytes]") -> list[str]:
        there = set(trial_workers(node.pid))
        trials = [trial for ledger in cache.rglob("ledger.jsonl") for trial in Ledger(ledger).trials.values()]
        return [trial.trial_id for trial in trials if there.intersection(pids(trial))]

    search.wait_for(lambda: "trials at a time" in search.log.read_text())
    no_torch = start_node(two_nodes.address, cpus=2, without=Path(torch.__file__).parent)
    try:
        search.wait_for(lambda: trained_on(two_nodes.second) and search.most_in_all == 4)
        search.wait_for(lambda: re.search(r"node .* cannot train \(.*\): it gets no trials", search.log.read_text()))
        kept = trained_on(two_nodes.second)[0]
        search.driver.send_signal(signal.SIGINT)
        assert search.wait() == 130, search.log.read_text()
    finally:
        lose(no_torch, by=signal.SIGTERM)
    assert "5 CPUs and 2 GPUs on 2 node(s): 4 trials at a time" in search.log.read_text()
    assert sorted(search.most.values()) == [2, 2] and search.most_in_all == 4
    assert f"checkpoints/{kept}.pt" in objects(server)


def test_a_trial_gets_its_share_of_one_gpu_and_as_many_fit_as_there_is_room_for(two_nodes: Nodes) -> None:
    search = SearchConfig(gpus_per_trial=0.3)
    two_gpus = start_node(two_nodes.address, cpus=7, gpus=2)
    groups: list[PlacementGroup] = []

    def made() -> list[PlacementGroup]:
        return [group for group in groups if placement_group_table(group)["state"] == "CREATED"]

    try:
        wait_until(lambda: max(node.room for node in nodes_for_trials(search)) == 6)
        node = max(nodes_for_trials(search), key=lambda node: node.room)
        others = [other["NodeID"] for other in ray.nodes() if other["NodeID"] != node.node_id]
        groups = [placement(search, others).to_placement_group() for _ in range(node.room + 1)]
        wait_until(lambda: len(made()) == node.room)
        one = ray.remote(num_cpus=1, num_gpus=0.3)(ray.get_gpu_ids)
        gpus = [
            ray.get(one.options(scheduling_strategy=PlacementGroupSchedulingStrategy(group)).remote())
            for group in made()
        ]
        assert Counter(map(tuple, gpus)) == {(0,): 3, (1,): 3}
        assert len(made()) == node.room  # and one more waits
    finally:
        for group in groups:
            remove_placement_group(group)
        lose(two_gpus, by=signal.SIGTERM)


def test_nodes_that_join_are_used_where_they_see_the_folder_and_one_that_is_lost_costs_little(
    two_nodes: Nodes, tmp_path: Path
) -> None:
    """The last one here, as the second node is gone after it."""
    wait_until(lambda: nodes_alive() == 2)  # those of the tests before are seen to be gone
    longer = ["--num-samples", "99", "--epochs", "200", "--train-size", "1000"]
    flags = [*RUN_ALL, *longer, "--gpus-per-trial", "1", "--max-concurrent", "3", "--name", "tiny"]
    search = Running(search_command(tmp_path, "--address", two_nodes.address, *flags), tmp_path)
    ledger = tmp_path / "tiny/ledger.jsonl"

    def under_way_on(node: "subprocess.Popen[bytes]") -> list[Trial]:
        trials = Ledger(ledger).trials.values() if ledger.exists() else []
        there = set(trial_workers(node.pid))
        return [trial for trial in trials if not trial.ended and there.intersection(pids(trial))]

    def three_at_a_time() -> bool:
        running = [trial for trial in Ledger(ledger).trials.values() if trial.state is TrialState.RUNNING]
        return len(running) == 3 and bool(under_way_on(third)) and bool(under_way_on(two_nodes.second))

    def workers_of(trial_id: str) -> int:
        return len(set(Ledger(ledger).trials[trial_id].workers))

    def blind_is_refused() -> bool:
        on_blind.update(trial_workers(blind.pid))
        return f"does not see {tmp_path / 'tiny'}: it gets no trials" in search.log.read_text()

    search.wait_for(lambda: under_way_on(two_nodes.second))
    on_blind: set[int] = set()
    others = [blind := start_node(two_nodes.address, cpus=1, without=tmp_path)]
    try:
        search.wait_for(blind_is_refused)
        others += [third := start_node(two_nodes.address, cpus=2, gpus=2)]
        search.wait_for(three_at_a_time)
        lost = under_way_on(two_nodes.second)[0].trial_id
        lose(two_nodes.second)
        search.wait_for(lambda: blind_is_refused() and workers_of(lost) > 1)
        with suppress(ProcessLookupError):
            os.kill(pids(Ledger(ledger).trials[lost])[-1], signal.SIGKILL)  # a second time, as max_failures allows
        search.wait_for(lambda: Ledger(ledger).trials[lost].ended or workers_of(lost) > 2)
        search.driver.send_signal(signal.SIGINT)
        assert search.wait() == 130, search.log.read_text()
    finally:
        for node in others:
            lose(node)
    assert "2 trials at a time" in search.log.read_text()
    assert on_blind == set()
    assert f"{lost}: its worker died; starting again from its checkpoint" in search.log.read_text()
    assert TrialState.FAILED not in [trial.state for trial in Ledger(ledger).trials.values()]
    assert list((tmp_path / "tiny").glob(".*.part")) == []
