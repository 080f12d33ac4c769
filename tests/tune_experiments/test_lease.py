import json
import os
import re
import subprocess
import sys
import time
from pathlib import Path

import pytest

from cifar_core.errors import UserError
from tune_experiments.lease import STALE_AFTER, Lease, LeaseLostError
from tune_experiments.publisher import Publisher
from tune_experiments.remote_folder import RemoteFolder


@pytest.fixture
def remote(tmp_path: Path) -> RemoteFolder:
    return RemoteFolder.at(f"file://{tmp_path}/far")


def leases(tmp_path: Path) -> list[Path]:
    return list((tmp_path / "far/leases").iterdir())


def of_another_machine(remote: RemoteFolder, tmp_path: Path, age: float) -> Path:
    holder = {"host": "elsewhere", "machine": "elsewhere 1", "pid": 77}
    remote.write("leases/theirs.json", json.dumps(holder).encode())
    file = tmp_path / "far/leases/theirs.json"
    os.utime(file, (time.time() - age,) * 2)
    return file


def test_a_second_search_is_refused_until_the_first_ends(remote: RemoteFolder, tmp_path: Path) -> None:
    with Lease(remote):
        first = leases(tmp_path)
        with (
            pytest.raises(UserError, match=rf"far: a search on \S+ \(process {os.getpid()}\) is at work"),
            Lease(remote),
        ):
            pass
        assert leases(tmp_path) == first
    assert leases(tmp_path) == []
    with Lease(remote):
        assert len(leases(tmp_path)) == 1


def test_a_search_of_this_machine_that_was_killed_holds_nothing(remote: RemoteFolder, tmp_path: Path) -> None:
    code = (
        "import os; from tune_experiments.lease import *; "
        f"Lease(RemoteFolder.at('file://{tmp_path}/far')).__enter__(); os._exit(0)"
    )
    subprocess.run([sys.executable, "-c", code], check=True)
    killed = leases(tmp_path)
    with Lease(remote):
        assert len(leases(tmp_path)) == 1 and leases(tmp_path) != killed


def test_a_search_of_another_machine_holds_it_until_that_is_stale(remote: RemoteFolder, tmp_path: Path) -> None:
    theirs = of_another_machine(remote, tmp_path, age=STALE_AFTER - 50)
    with pytest.raises(UserError, match=r"a search on elsewhere \(process 77\) .*was killed, for (50|49) seconds"):
        Lease(remote).__enter__()
    assert leases(tmp_path) == [theirs]
    theirs = of_another_machine(remote, tmp_path, age=STALE_AFTER + 1)
    with Lease(remote):
        assert len(leases(tmp_path)) == 1 and not theirs.exists()


@pytest.mark.parametrize("content", [b"", b"{}", b"[1]", b'"text"', b"\xff", b'{"machine": 1, "host": "x"}'])
def test_a_lease_that_cannot_be_read_holds_too(remote: RemoteFolder, content: bytes) -> None:
    remote.write("leases/theirs.json", content)
    with pytest.raises(UserError, match="a search of another version is at work"):
        Lease(remote).__enter__()


def test_one_line_where_nothing_can_be_written(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    with pytest.raises(UserError, match=r"file/far: cannot be written \(.*\)$") as caught:
        Lease(RemoteFolder.at(f"file://{tmp_path}/file/far")).__enter__()
    assert "\n" not in str(caught.value)


def test_renewing_makes_it_young_again_but_not_each_time(remote: RemoteFolder, tmp_path: Path) -> None:
    with Lease(remote) as lease:
        [file] = leases(tmp_path)
        os.utime(file, (0, 0))
        lease.renew()
        assert file.stat().st_mtime == 0
        lease.renewed_at = 0.0
        lease.renew()
        assert file.stat().st_mtime > time.time() - 60


def test_who_was_away_for_too_long_uploads_nothing_more(remote: RemoteFolder, tmp_path: Path) -> None:
    here = tmp_path / "here"
    here.mkdir()
    (here / "ledger.jsonl").write_text("old")
    away = Lease(remote)
    away.__enter__()
    publisher = Publisher(here, remote, away)
    publisher.publish()
    os.utime(leases(tmp_path)[0], (0, 0))
    with Lease(remote):
        remote.write("ledger.jsonl", b"new")
        (here / "ledger.jsonl").write_text("older")
        away.looked_at = 0.0
        with pytest.raises(LeaseLostError, match="another search has taken this one over"):
            publisher.publish()
        assert remote.read("ledger.jsonl") == b"new"
        away.__exit__(None, None, None)
        assert len(leases(tmp_path)) == 1


def test_a_publisher_uploads_what_changed_and_ends_when_it_is_overtaken(remote: RemoteFolder, tmp_path: Path) -> None:
    here = tmp_path / "here"
    (here / "deep").mkdir(parents=True)
    for name in ("deep/a", "b", "c.part", ".lock"):
        (here / name).write_text("1")
    with Lease(remote) as lease:
        with Publisher(here, remote, lease) as publisher:
            publisher.publish()
            remote.write("b", b"untouched")
            (here / "deep/a").write_text("22")
        assert (remote.read("deep/a"), remote.read("b")) == (b"22", b"untouched")
        assert remote.names() == ["b"]
        with pytest.raises(LeaseLostError), Publisher(here, remote, lease) as publisher:
            leases(tmp_path)[0].unlink()
            lease.looked_at = 0.0
            publisher.thread.join(timeout=60)
            assert isinstance(publisher.error, LeaseLostError)


def test_machines_are_told_apart_by_more_than_their_name(remote: RemoteFolder, tmp_path: Path) -> None:
    with Lease(remote):
        holder = json.loads(leases(tmp_path)[0].read_bytes())
    assert holder["pid"] == os.getpid() and holder["machine"].startswith(holder["host"])
    if Path("/proc").exists():
        assert re.search(r" [0-9a-f-]{36} pid:\[\d+\]$", holder["machine"])
