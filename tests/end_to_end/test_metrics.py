"""A search that is watched while it runs: by a real Prometheus, and through the dashboard's own interface."""

import json
import os
import re
import shutil
import signal
import socket
import subprocess
import tempfile
import time
import urllib.parse
import urllib.request
from collections.abc import Callable, Iterator
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TypeVar

import pytest

from tests.end_to_end.tiny_search import ROOT, TINY, search_command
from tune_experiments.exported_metrics import METRICS
from tune_experiments.ledger import Ledger, TrialState

DASHBOARDS = ROOT / "tune_experiments/dashboards"
PANELS: list[dict[str, Any]] = json.loads((DASHBOARDS / "grafana.json").read_text())["panels"]
PROMETHEUS = shutil.which("prometheus")
ENDLESS = ["--dashboard", "--num-samples", "10000", "--max-concurrent", "1", "--max-lr-range", "0.01", "0.1"]
Answer = TypeVar("Answer")


def until(question: Callable[[], Answer]) -> Answer:
    """The answer, once there is one."""
    deadline = time.monotonic() + 120
    while True:
        with suppress(OSError, KeyError, ValueError):  # it is not there, or not whole, yet
            if answer := question():
                return answer
        assert time.monotonic() < deadline, "it did not happen"
        time.sleep(0.2)


def fetch(url: str, **headers: str) -> str:
    with urllib.request.urlopen(urllib.request.Request(url, headers=headers), timeout=10) as response:
        return str(response.read().decode())


@dataclass
class Watched:
    """A search that runs until the tests have seen enough."""

    folder: Path
    output: Path
    ray_folder: Path
    token: str

    def ledger(self) -> Ledger:
        return Ledger(self.folder / "ledger.jsonl")

    def ended(self) -> int:
        return sum(trial.ended for trial in self.ledger().trials.values())

    def targets(self) -> list[str]:
        """Where there is something to scrape, as Ray tells Prometheus."""
        (discovered,) = json.loads((self.ray_folder / "session_latest/prom_metrics_service_discovery.json").read_text())
        return list(discovered["targets"])

    def ask(self, path: str) -> str:
        """What the dashboard's page would be told."""
        found = re.search(r"dashboard (http://\S+:\d+)", self.output.read_text())
        return fetch(f"{found[1]}{path}" if found else "", Authorization=f"Bearer {self.token}")

    def node(self) -> dict[str, Any]:
        (node,) = json.loads(self.ask("/nodes?view=summary"))["data"]["summary"]
        return dict(json.loads(self.ask(f"/nodes/{node['raylet']['nodeId']}"))["data"]["detail"])


@pytest.fixture(scope="module")
def watched(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Watched]:
    storage = tmp_path_factory.mktemp("watched")
    output = storage / "output.log"
    with tempfile.TemporaryDirectory(ignore_cleanup_errors=True) as short, output.open("w") as log, suppress(OSError):
        search = Watched(storage / "tiny", output, Path(short) / "ray", token="a-token-of-this-test-alone")
        environment = {
            **os.environ,
            "RAY_TMPDIR": short,  # pytest's own folders are too deep for Ray's sockets
            "RAY_AUTH_TOKEN": search.token,
            "RAY_metrics_report_interval_ms": "1000",  # Ray's own is 10 s
        }
        command = search_command(storage, "--name", "tiny", *TINY, *ENDLESS)
        with socket.socket() as other:  # another Ray's agent would be at this port
            with suppress(OSError):
                other.bind(("127.0.0.1", 52365))
                other.listen()
            process = subprocess.Popen(command, stdout=log, stderr=log, cwd=storage, env=environment)
            try:
                until(lambda: process.poll() is not None or search.ended() > 1)
                assert process.poll() is None, output.read_text()
                yield search
            finally:
                process.send_signal(signal.SIGINT)
                process.wait(timeout=60)


def test_the_agents_tell_every_metric(watched: Watched) -> None:
    def is_told() -> bool:
        text = "".join(fetch(f"http://{target}/metrics") for target in watched.targets())
        return all(f"\n{metric.prometheus_name}{{" in text for metric in METRICS)

    assert until(is_told)


def test_the_dashboard_shows_which_trial_runs_where(watched: Watched) -> None:
    def title() -> str:
        titles = [worker["cmdline"][0] for worker in watched.node()["workers"] if worker["cmdline"]]
        return next((title for title in titles if title.startswith("ray::CifarTrial ")), "")

    shown = re.fullmatch(r"ray::CifarTrial (\d{5}): (max_lr .*)", until(title))
    assert shown and str(watched.ledger().trials[shown[1]].setting) == shown[2]


def test_the_dashboard_has_the_log_of_every_trial_of_a_worker(watched: Watched) -> None:
    actors = json.loads(watched.ask("/logical/actors"))["data"]["actors"]
    (actor,) = [actor for actor in actors.values() if actor["actorClass"] == "CifarTrial"]
    assert actor["reprName"] == "tiny, first trial 00000"
    log = until(lambda: watched.ask(f"/api/v0/logs/file?actor_id={actor['actorId']}&suffix=err&lines=-1"))
    trials = watched.ledger().trials
    for trial_id in ("00000", "00001"):
        assert f"{trial_id}: {trials[trial_id].setting}, seed 3; from epoch 1 of 4\n" in log
        assert all(f"{trial_id}: epoch {epoch.epoch}/4: " in log for epoch in trials[trial_id].epochs)
    assert "00000: completed\n" in log


@dataclass
class Prometheus:
    """A server of our own, with the configuration of the repository."""

    url: str
    started_at: float

    def values(self, query: str) -> list[tuple[dict[str, str], list[float]]]:
        """All that a query gave since the start: labels and values, one series each."""
        span = {"start": self.started_at, "end": time.time(), "step": 1}
        answer = json.loads(fetch(f"{self.url}/api/v1/query_range?{urllib.parse.urlencode({'query': query, **span})}"))
        return [
            (series["metric"], [float(value) for _, value in series["values"]]) for series in answer["data"]["result"]
        ]

    def now(self, query: str) -> list[float]:
        answer = json.loads(fetch(f"{self.url}/api/v1/query?{urllib.parse.urlencode({'query': query})}"))
        return [float(series["value"][1]) for series in answer["data"]["result"]]


@pytest.fixture(scope="module")
def prometheus(watched: Watched, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Prometheus]:
    if PROMETHEUS is None:
        pytest.skip("no prometheus here (apt: prometheus)")
    folder = tmp_path_factory.mktemp("prometheus")
    config = (DASHBOARDS / "prometheus.yaml").read_text()
    config = config.replace("/tmp/ray/", f"{watched.ray_folder}/").replace(": 10s", ": 1s")
    (folder / "prometheus.yaml").write_text(config)
    with socket.create_server(("127.0.0.1", 0)) as free:
        address = f"127.0.0.1:{free.getsockname()[1]}"
    flags = ["--config.file=prometheus.yaml", "--storage.tsdb.path=data", f"--web.listen-address={address}"]
    with (folder / "output.log").open("w") as log:
        process = subprocess.Popen([PROMETHEUS, *flags], cwd=folder, stdout=log, stderr=log)
        try:
            server = Prometheus(f"http://{address}", time.time())
            at_work = watched.ended()
            until(lambda: watched.ended() > at_work + 3 and server.now("ray_cifar_best_score"))
            yield server
        finally:
            process.terminate()
            process.wait(timeout=30)


@pytest.mark.parametrize("panel", PANELS, ids=lambda panel: panel["title"])
def test_every_query_of_the_board_gives_something(prometheus: Prometheus, panel: dict[str, Any]) -> None:
    if panel["title"].startswith("GPU"):
        pytest.skip("wants a GPU")
    for target in panel["targets"]:
        query = target["expr"].replace("$experiment", "tiny")
        assert until(lambda query=query: prometheus.values(query))


def test_prometheus_has_what_the_ledger_has(watched: Watched, prometheus: Prometheus) -> None:
    columns = {"epoch": "epoch", "val_accuracy": "val_accuracy", "val_loss": "val_loss", "train_loss": "train_loss"}
    for name, column in (columns | {"lr": "lr"}).items():
        series = prometheus.values(f"ray_cifar_trial_{name}")
        trials = watched.ledger().trials
        assert len(series) > 2
        for labels, values in series:
            assert (labels["experiment"], labels["stage"]) == ("tiny", "search")
            assert set(values) <= {getattr(epoch, column) for epoch in trials[labels["trial"]].epochs}


def test_prometheus_has_the_speed_of_an_epoch(watched: Watched, prometheus: Prometheus) -> None:
    for labels, values in prometheus.values("ray_cifar_trial_images_per_second"):
        epochs = watched.ledger().trials[labels["trial"]].epochs
        assert set(values) <= {256 / epoch.seconds for epoch in epochs}


def test_prometheus_has_the_states_and_the_best(watched: Watched, prometheus: Prometheus) -> None:
    (_, best), (_, busy), (_, slots), (_, all_trials) = (
        prometheus.values(query)[0]
        for query in ("ray_cifar_best_score", "ray_cifar_slots_busy", "ray_cifar_slots", "sum(ray_cifar_trials)")
    )
    counted = prometheus.values('ray_cifar_trials{state="completed"}')[0][1]
    completed = [trial for trial in watched.ledger().trials.values() if trial.state is TrialState.COMPLETED]
    assert best == sorted(best) and set(best) <= {trial.score for trial in completed}
    assert counted == sorted(counted) and 0 < counted[-1] <= len(completed)
    assert set(slots) == {1} and set(busy) <= {0, 1} and 1 in busy
    assert set(all_trials) == {10000}


def test_the_series_of_trials_that_ended_go(watched: Watched, prometheus: Prometheus) -> None:
    assert len(prometheus.values("ray_cifar_trial_epoch")) > 2
    gone = '(count(ray_cifar_trial_epoch{trial=~"00000|00001"}) or vector(0)) == 0'
    assert until(lambda: prometheus.now(gone) == [0.0])
