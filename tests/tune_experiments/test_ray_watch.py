import socket
import subprocess
import sys
from collections.abc import Iterator

import pytest

from cifar_core.errors import UserError
from tune_experiments import ray_watch
from tune_experiments.ray_watch import ends_with_ray, knock, silence_of
from tune_experiments.runtime import check_cluster


@pytest.fixture
def server() -> Iterator[socket.socket]:
    with socket.create_server(("", 0)) as server:
        yield server


def address(server: socket.socket) -> str:
    return f"127.0.0.1:{server.getsockname()[1]}"


def test_a_node_that_answers_is_no_trouble_and_one_that_does_not_is_after_a_while(
    server: socket.socket, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(ray_watch, "ASK_EVERY", 0.0)
    where = address(server)
    patient, strict = silence_of("head", where, 60.0), silence_of("head", where, 0.0)
    assert patient() == ""
    server.close()
    assert patient() == ""
    assert strict() == f"head at {where} does not answer"


@pytest.mark.parametrize("wrong", ["127.0.0.1:9", "127.0.0.1:99999", "no.such.host.invalid:1", "a:b", "nonsense", ""])
def test_one_line_where_no_cluster_is(wrong: str) -> None:
    with pytest.raises(
        UserError, match=f"address is {wrong}: no Ray cluster there .*; give auto or HOST:PORT"
    ) as caught:
        check_cluster(wrong)
    assert "\n" not in str(caught.value)


def test_where_something_answers_there_may_be_a_cluster(server: socket.socket) -> None:
    knock(address(server))
    check_cluster(address(server))


def test_nothing_happens_while_there_is_no_trouble() -> None:
    with ends_with_ray(lambda: "", "--resume x"):
        pass


def test_the_process_ends_with_a_line_when_there_is_trouble() -> None:
    code = (
        "import time; from tune_experiments.ray_watch import *\n"
        "with ends_with_ray(lambda: 'raylet died', '--resume x'): time.sleep(60)"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=50)
    assert (done.returncode, done.stderr) == (1, "\nerror: Ray's raylet died; go on with --resume x\n")
