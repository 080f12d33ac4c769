"""Storage that is far away, or that goes away: a search loses nothing by it, and says in one line what happened."""

import re
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import NamedTuple
from urllib.request import Request, urlopen

import boto3
import pandas as pd
import pytest
from moto.server import ThreadedMotoServer

from tests.end_to_end.test_resume import tables
from tests.end_to_end.tiny_search import APART, TINY, kill_search_when, run_search, search_command

SECRET = "notarealsecretbutlonger"
NEW = ["--name", "tiny", "--max-concurrent", "1", *TINY]
Finished = tuple[Path, str]


@pytest.fixture
def server(tmp_path: Path) -> Iterator[ThreadedMotoServer]:
    with s3_server(tmp_path / "cache") as server:
        yield server


@contextmanager
def s3_server(cache: Path) -> Iterator[ThreadedMotoServer]:
    """An S3 server with a bucket, and an environment that has its key and the folder of local copies."""
    environment = {"ACCESS_KEY_ID": "someone", "SECRET_ACCESS_KEY": SECRET, "DEFAULT_REGION": "us-east-1"}
    with pytest.MonkeyPatch.context() as monkeypatch:
        for name, value in environment.items():
            monkeypatch.setenv(f"AWS_{name}", value)
        monkeypatch.setenv("XDG_CACHE_HOME", str(cache))
        server = ThreadedMotoServer(ip_address="127.0.0.1", port=0, verbose=False)
        server.start()
        urlopen(Request(url(server) + "/moto-api/reset", method="POST")).close()  # its memory is the process's
        boto3.client("s3", endpoint_url=url(server)).create_bucket(Bucket="bucket")
        yield server
        server.stop()


def url(server: ThreadedMotoServer) -> str:
    return "http://{}:{}".format(*server.get_host_and_port())


def uri(server: ThreadedMotoServer) -> str:
    return f"s3://bucket/searches?endpoint_override={url(server)}&scheme=http"


def objects(server: ThreadedMotoServer) -> dict[str, bytes]:
    """Everything in the bucket, by its name in the experiment's folder."""
    client = boto3.client("s3", endpoint_url=url(server))
    pages = client.get_paginator("list_objects_v2").paginate(Bucket="bucket", Prefix="searches/tiny/")
    keys = [entry["Key"] for page in pages for entry in page.get("Contents", [])]
    return {
        key.removeprefix("searches/tiny/"): client.get_object(Bucket="bucket", Key=key)["Body"].read() for key in keys
    }


def leases(found: dict[str, bytes]) -> list[str]:
    return [name for name in found if name.startswith("leases/") and name != "leases/"]


def put(server: ThreadedMotoServer, name: str, content: bytes | None) -> None:
    """Write an object of the experiment's folder, or delete it."""
    client, where = boto3.client("s3", endpoint_url=url(server)), {"Bucket": "bucket", "Key": f"searches/tiny/{name}"}
    client.delete_object(**where) if content is None else client.put_object(**where, Body=content)


def epochs_in(tmp_path: Path, count: int) -> Callable[[], bool]:
    def enough() -> bool:
        ledgers = list(tmp_path.rglob("ledger.jsonl"))
        return bool(ledgers) and ledgers[0].read_text().count('"event": "epoch"') >= count

    return enough


def local_copy(tmp_path: Path) -> Path:
    return next(tmp_path.rglob("search.yaml")).parent


def assert_equal(folder: Path, finished: Finished) -> None:
    for expected, actual in zip(tables(finished[0]), tables(folder), strict=True):
        pd.testing.assert_frame_equal(actual, expected, check_exact=True)


def test_a_search_below_a_uri_goes_on_on_another_machine(
    server: ThreadedMotoServer, tmp_path: Path, finished: Finished
) -> None:
    storage = ["--storage", uri(server)]
    kill_search_when(tmp_path, epochs_in(tmp_path, 6), signal.SIGKILL, *storage, *NEW)
    before = objects(server)
    assert {"search.yaml", "ledger.jsonl", "checkpoints/00000.pt"} <= set(before)
    assert len(leases(before)) == 1
    shutil.rmtree(tmp_path / "cache")
    put(server, "leases/theirs.json", b'{"host": "elsewhere", "machine": "elsewhere", "pid": 1}')
    refused = run_search(tmp_path, *storage, "--resume", "tiny", "--no-dashboard")
    assert refused.returncode == 2 and len(refused.stdout.splitlines()) == 1, refused.stdout
    assert "bucket/searches/tiny: a search on elsewhere (process 1) is at work on this experiment" in refused.stdout
    put(server, "leases/theirs.json", None)
    resumed = run_search(tmp_path, *storage, "--resume", "tiny", "--no-dashboard")
    assert resumed.returncode == 0, resumed.stdout
    assert_equal(local_copy(tmp_path), finished)
    after = objects(server)
    assert after["ledger.jsonl"].startswith(before["ledger.jsonl"])
    for name in ("trials.parquet", "epochs.parquet", "leaderboard.csv", "optuna.db", "ledger.jsonl"):
        assert after[name] == (local_copy(tmp_path) / name).read_bytes()
    assert after["best/checkpoint.pt"] in [after[name] for name in after if name.startswith("checkpoints/")]
    assert [name for found in (before, after) for name in found if SECRET.encode() in found[name]] == []
    assert leases(after) == []


def test_a_server_that_vanishes_ends_the_search_with_a_line(
    server: ThreadedMotoServer, tmp_path: Path, finished: Finished
) -> None:
    soon = "from tune_experiments import publisher, search; publisher.GIVE_UP_AFTER = 3.0; import sys; "
    arguments = ["--storage", uri(server), *NEW]
    command = [sys.executable, "-c", soon + "sys.exit(search.main(sys.argv[1:]))", *arguments]
    with (tmp_path / "output.log").open("w") as output:
        process = subprocess.Popen(command, stdout=output, stderr=output, cwd=tmp_path)
        while not epochs_in(tmp_path, 3)():
            assert process.poll() is None, (tmp_path / "output.log").read_text()
            time.sleep(0.05)
        port = server.get_host_and_port()[1]
        server.stop()
        code = process.wait(timeout=300)
    text = (tmp_path / "output.log").read_text()
    assert code == 1, text
    assert text.count("error:") == 1 and "Traceback" not in text, text
    assert "s3://bucket/searches/tiny: cannot be written" in text and "--resume tiny" in text
    back = ThreadedMotoServer(ip_address="127.0.0.1", port=port, verbose=False)
    back.start()
    try:
        resumed = run_search(tmp_path, "--storage", uri(back), "--resume", "tiny", "--no-dashboard")
        assert resumed.returncode == 0, resumed.stdout
        assert_equal(local_copy(tmp_path), finished)
        assert objects(back)["ledger.jsonl"] == (local_copy(tmp_path) / "ledger.jsonl").read_bytes()
    finally:
        back.stop()


def test_a_folder_that_vanishes_ends_the_search_with_a_line(tmp_path: Path, finished: Finished) -> None:
    folder, elsewhere = tmp_path / "tiny", tmp_path / "elsewhere"
    command = search_command(tmp_path, *NEW)
    with (tmp_path / "output.log").open("w") as output:
        process = subprocess.Popen(command, stdout=output, stderr=output, cwd=tmp_path)
        while not epochs_in(tmp_path, 3)():
            assert process.poll() is None, (tmp_path / "output.log").read_text()
            time.sleep(0.05)
        folder.rename(elsewhere)
        code = process.wait(timeout=300)
    text = (tmp_path / "output.log").read_text()
    assert code == 1, text
    assert text.count("error:") == 1 and "Traceback" not in text, text
    assert f"{folder}: cannot be written (No such file or directory)" in text and f"--resume {folder}" in text
    shutil.rmtree(folder, ignore_errors=True)  # what Tune has left there
    elsewhere.rename(folder)
    resumed = run_search(tmp_path, "--resume", "tiny", "--no-dashboard")
    assert resumed.returncode == 0, resumed.stdout
    assert_equal(folder, finished)


class SmallDisk(NamedTuple):
    """A disk of 320 MB that only processes of one namespace see."""

    path: Path  # there
    from_here: Path
    inside: list[str]  # how to run a command there


@pytest.fixture
def small_disk(tmp_path: Path) -> Iterator[SmallDisk]:
    disk = tmp_path / "disk"
    disk.mkdir()
    hold = f"mount -t tmpfs -o size=320m none {disk} && echo there && exec sleep 1000"
    try:
        holder = subprocess.Popen([*APART, "sh", "-c", hold], stdout=subprocess.PIPE, stderr=subprocess.DEVNULL)
    except FileNotFoundError:
        pytest.skip("unshare is not there")
    with holder:
        assert holder.stdout is not None
        if holder.stdout.readline() != b"there\n":
            pytest.skip("no process can have mounts of its own here")
        inside = ["nsenter", f"--target={holder.pid}", "--user", "--mount", "--preserve-credentials"]
        yield SmallDisk(disk, Path(f"/proc/{holder.pid}/root{disk}"), inside)
        holder.kill()


def fill(disk: Path) -> Path:
    """Leave not one byte free."""
    filler = disk / "filler"
    with pytest.raises(OSError, match="No space left"), filler.open("wb", buffering=0) as file:
        while file.write(bytes(1 << 16)) == 1 << 16:
            pass
        while file.write(b"0"):
            pass
    return filler


@pytest.mark.slow
def test_a_full_disk_ends_the_search_with_a_line(small_disk: SmallDisk, tmp_path: Path, finished: Finished) -> None:
    command = [*small_disk.inside, *search_command(small_disk.path, *NEW)]
    with (tmp_path / "output.log").open("w") as output:
        process = subprocess.Popen(command, stdout=output, stderr=output, cwd=tmp_path)
        while not epochs_in(small_disk.from_here, 3)():
            assert process.poll() is None, (tmp_path / "output.log").read_text()
            time.sleep(0.05)
        filler = fill(small_disk.from_here)
        code = process.wait(timeout=120)
    text = (tmp_path / "output.log").read_text()
    assert code == 1, text
    assert text.count("error:") == 1 and "Traceback" not in text, text
    assert re.search(r"cannot be written \(.*(No space left on device|database or disk is full)", text), text
    filler.unlink()
    with (tmp_path / "resumed.log").open("w") as output:
        command = [*small_disk.inside, *search_command(small_disk.path, "--resume", "tiny", "--no-dashboard")]
        resumed = subprocess.run(command, stdout=output, stderr=output, cwd=tmp_path, timeout=400)
    assert resumed.returncode == 0, (tmp_path / "resumed.log").read_text()
    assert_equal(small_disk.from_here / "tiny", finished)


@pytest.mark.parametrize(
    "secretive",
    ["s3://someone:notsosecret@bucket/x", "abfs://me:notsosecret@files/x", "s3://bucket/x?secret_key=notsosecret"],
)
def test_a_secret_in_the_uri_is_refused(secretive: str, tmp_path: Path) -> None:
    done = run_search(tmp_path, "--storage", secretive)
    assert done.returncode == 2
    assert "the storage URI holds a secret" in done.stdout and "notsosecret" not in done.stdout
    assert [path.name for path in tmp_path.iterdir()] == ["output.log"]
