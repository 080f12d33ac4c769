"""Who gets at a Ray that a search has started: tried without a token, with a wrong one and with the right one."""

import json
import os
import stat
import subprocess
import sys
from collections.abc import Iterator
from http.client import HTTPException
from pathlib import Path
from typing import Any, NamedTuple
from urllib.error import HTTPError
from urllib.request import Request, urlopen

import grpc
import psutil
import pytest
from grpc import StatusCode
from ray.util import get_node_ip_address as own_address

from tests.benchmarks.fault_injection import descendants
from tests.end_to_end.tiny_search import ROOT, TINY
from tune_experiments.ledger import Ledger, TrialState

SECRETS = {
    "AWS_SECRET_ACCESS_KEY": "notarealsecretforaws",
    "WANDB_API_KEY": "notarealkeyforwandb",
    "MLFLOW_TRACKING_PASSWORD": "notarealpasswordformlflow",
}
HOLD = """
import json, sys, ray
from tune_experiments.runtime import ray_cluster
with ray_cluster(None, sys.argv[1], "") as cluster:
    print(json.dumps([cluster.dashboard_url, ray.get_runtime_context().gcs_address]), flush=True)
    sys.stdin.read()
"""
JOIN = """
import sys, ray
ray.init(address=sys.argv[1], log_to_driver=False, logging_level="CRITICAL")
print("in:", *ray.cluster_resources())
"""
JOB_APIS = ["/api/jobs/", "/api/job_agent/jobs/"]  # of the dashboard and of each node
NO_HTTP = 0
CALLS = [
    f"/ray.rpc.{name}"
    for name in (
        "JobInfoGcsService/GetAllJobInfo",
        "InternalKVGcsService/InternalKVKeys",
        "NodeManagerService/GetNodeStats",
        "CoreWorkerService/GetCoreWorkerStats",
        "ReporterService/GetTraceback",
        "ObjectManagerService/Pull",
    )
]
OF_RAY_CLIENTS = "/ray.rpc.RayletDriver/ClusterInfo"
PORT_FOR_RAY_CLIENTS = 10001  # where Ray puts it unless told otherwise


class Held(NamedTuple):
    """A Ray as a search starts it, in a process of its own whose home is new."""

    process: "subprocess.Popen[str]"
    home: Path
    url: str  # of the dashboard
    gcs: str  # HOST:PORT where drivers join

    @property
    def token(self) -> str:
        return (self.home / ".ray/auth_token").read_text()

    def listening(self) -> set[tuple[str, int]]:
        """Host and port of everything that its processes listen on."""
        found = set()
        for process in (self.process.pid, *descendants(self.process.pid)):
            try:
                connections = psutil.Process(process).net_connections("inet")
            except psutil.NoSuchProcess:
                continue
            found |= {(c.laddr.ip.removeprefix("::ffff:"), c.laddr.port) for c in connections if c.status == "LISTEN"}
        return found


def environment(home: Path, **more: str) -> dict[str, str]:
    clean = {name: value for name, value in os.environ.items() if not name.startswith("RAY_")}
    return {**clean, "HOME": str(home), "PYTHONPATH": str(ROOT), **SECRETS, **more}


def hold(home: Path, dashboard_host: str) -> Iterator[Held]:
    home.mkdir()
    with (home / "log").open("w") as log:
        process = subprocess.Popen(
            [sys.executable, "-c", HOLD, dashboard_host],
            env=environment(home),
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=log,
            text=True,
        )
    with process:
        assert process.stdout and process.stdin
        line = process.stdout.readline()
        assert line, (home / "log").read_text()
        yield Held(process, home, *json.loads(line))
        process.stdin.close()


@pytest.fixture(scope="module")
def held(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Held]:
    yield from hold(tmp_path_factory.mktemp("held") / "home", "127.0.0.1")


def ask(url: str, token: str | None, body: dict[str, Any] | None = None) -> int:
    """The HTTP status of an answer; `NO_HTTP` where what answers speaks something else."""
    headers = {"Content-Type": "application/json"} | ({"Authorization": f"Bearer {token}"} if token else {})
    try:
        with urlopen(Request(url, json.dumps(body).encode() if body else None, headers), timeout=30) as answer:
            return int(answer.status)
    except HTTPError as error:
        return error.code
    except (OSError, HTTPException):
        return NO_HTTP


def call(address: tuple[str, int], method: str, token: str | None) -> StatusCode:
    """How a remote call with an empty message ends."""
    metadata = [("authorization", f"Bearer {token}")] if token else []
    with grpc.insecure_channel("{}:{}".format(*address)) as channel:
        try:
            channel.unary_unary(method)(b"", metadata=metadata, timeout=60)  # the machine may be busy
            return StatusCode.OK
        except grpc.RpcError as error:
            code: StatusCode = error.code()
            return code


def join(held: Held, **variables: str) -> "subprocess.Popen[str]":
    """Try to be a driver of it, from a home without its token."""
    on_loopback = {"RAY_ENABLE_WINDOWS_OR_OSX_CLUSTER": "0"}  # or Ray takes the machine's own address for 127.0.0.1
    nowhere = environment(held.home / "nowhere", **on_loopback, **variables)
    pipe = subprocess.PIPE
    return subprocess.Popen([sys.executable, "-c", JOIN, held.gcs], env=nowhere, stdout=pipe, stderr=pipe, text=True)


@pytest.fixture(scope="module", autouse=True)
def strangers(held: Held) -> "list[subprocess.Popen[str]]":
    """Drivers that try to join with no token and with a wrong one, for the 20 s that they do, while the tests run."""
    return [join(held, RAY_AUTH_MODE="disabled"), join(held, RAY_AUTH_MODE="token", RAY_AUTH_TOKEN="wrong" * 8)]


def test_everything_listens_on_the_loopback(held: Held) -> None:
    listening = held.listening()
    assert len(listening) > 8
    assert {host for host, _ in listening} == {"127.0.0.1"}
    assert {held.url.removeprefix("http://"), held.gcs} <= {f"{host}:{port}" for host, port in listening}


def test_there_is_no_port_for_ray_clients(held: Held) -> None:
    listening = held.listening()
    assert PORT_FOR_RAY_CLIENTS not in {port for _, port in listening}
    answers = {call(address, OF_RAY_CLIENTS, token) for address in listening for token in (held.token, None)}
    assert answers <= {StatusCode.UNIMPLEMENTED, StatusCode.UNAVAILABLE}  # gRPC without that service; no gRPC


def test_the_token_is_in_a_file_that_only_its_owner_reads(held: Held) -> None:
    assert stat.S_IMODE((held.home / ".ray/auth_token").stat().st_mode) == 0o600
    assert len(held.token) == 64


@pytest.mark.parametrize(("token", "status"), [(None, 401), ("wrong", 403)])
@pytest.mark.parametrize(
    "path",
    ["/api/version", "/nodes?view=summary", "/api/v0/actors", "/api/v0/logs", "/api/cluster_status", "/api/jobs/",
     "/api/serve/applications/", "/logical/actors", "/worker/traceback?pid=1&ip=127.0.0.1"],
)  # fmt: skip
def test_the_dashboard_tells_nothing_without_its_token(held: Held, path: str, token: str | None, status: int) -> None:
    assert ask(held.url + path, token) == status


def test_the_dashboard_tells_who_has_the_token(held: Held) -> None:
    paths = ["/api/version", "/nodes?view=summary", "/api/v0/actors", "/api/jobs/"]
    assert [ask(held.url + path, held.token) for path in paths] == [200] * len(paths)


@pytest.mark.parametrize(("token", "status"), [(None, 401), ("wrong", 403)])
def test_no_port_runs_a_job_without_the_token(held: Held, token: str | None, status: int, tmp_path: Path) -> None:
    job = {"entrypoint": f"touch {tmp_path / 'was_here'}"}
    answers = {ask(f"http://{host}:{port}{api}", token, job) for host, port in held.listening() for api in JOB_APIS}
    assert status in answers and not answers & {200, 500}
    assert ask(held.url + JOB_APIS[0], token, job) == status
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("token", [None, "wrong"])
def test_no_port_answers_a_remote_call_without_the_token(held: Held, token: str | None) -> None:
    """GCS, raylet, workers and agents talk gRPC, each with some of these services."""
    answers = [(method, call(address, method, token)) for address in held.listening() for method in CALLS]
    assert {code for _, code in answers} == {
        StatusCode.UNAUTHENTICATED,
        StatusCode.UNIMPLEMENTED,
        StatusCode.UNAVAILABLE,
    }
    assert {method for method, code in answers if code is StatusCode.UNAUTHENTICATED} == set(CALLS)


def test_a_port_answers_a_remote_call_with_the_token(held: Held) -> None:
    host, _, port = held.gcs.rpartition(":")
    assert call((host, int(port)), CALLS[0], held.token) is StatusCode.OK


def test_a_search_is_submitted_with_the_token_and_leaves_no_secret_in_its_folder(held: Held, tmp_path: Path) -> None:
    """`--address auto` in a job joins the cluster that runs it."""
    flags = [*TINY, "--num-samples", "2", "--epochs", "2", "--max-lr-range", "0.01", "0.1"]
    search = [sys.executable, str(ROOT / "tune_experiments/search.py"), "--address", "auto", "--storage", str(tmp_path)]
    this_ray = ["env", f"RAY_ADDRESS={held.gcs}"]  # which Ray says itself where there is no other on the machine
    ray = [str(Path(sys.executable).parent / "ray"), "job", "submit", "--address", held.url]
    submit = [*ray, "--", *this_ray, *search, *flags]
    with_token = environment(held.home / "nowhere", RAY_AUTH_MODE="token", RAY_AUTH_TOKEN=held.token)
    command = [*submit, "--name", "submitted"]
    done = subprocess.run(command, env=with_token, capture_output=True, text=True, timeout=300)
    assert done.returncode == 0 and "succeeded" in done.stdout, done.stdout + done.stderr
    ends = [trial.state for trial in Ledger(tmp_path / "submitted/ledger.jsonl").trials.values()]
    assert len(ends) == 2 and TrialState.COMPLETED in ends
    files = [file for file in tmp_path.rglob("*") if file.is_file()]
    assert len(files) > 10
    found = [(file, name) for file in files for name, secret in SECRETS.items() if secret.encode() in file.read_bytes()]
    assert found == [] and [file for file in files if held.token.encode() in file.read_bytes()] == []


def test_opened_up_nothing_but_the_dashboard_is_open_and_it_asks_for_the_token(tmp_path: Path) -> None:
    for held in hold(tmp_path / "home", "0.0.0.0"):
        open_ports = [port for host, port in held.listening() if host != "127.0.0.1"]
        assert held.url == f"http://127.0.0.1:{open_ports[0]}" and len(open_ports) == 1
        elsewhere = f"http://{own_address()}:{open_ports[0]}/api/version"
        assert [ask(elsewhere, token) for token in (None, "wrong", held.token)] == [401, 403, 200]


def test_nobody_joins_without_the_token(held: Held, strangers: "list[subprocess.Popen[str]]") -> None:
    with_token = join(held, RAY_AUTH_MODE="token", RAY_AUTH_TOKEN=held.token)
    assert with_token.communicate(timeout=100)[0].startswith("in: ")
    for stranger in strangers:
        output, errors = stranger.communicate(timeout=100)
        assert (stranger.returncode, output) == (1, "") and "Failed to connect to Ray cluster" in errors
