import time
from pathlib import Path

import pytest

from cifar_core.errors import UserError
from tune_experiments.remote_folder import RemoteFolder, is_uri


@pytest.fixture
def folder(tmp_path: Path) -> RemoteFolder:
    return RemoteFolder.at(f"file://{tmp_path}/far")


@pytest.mark.parametrize(("location", "expected"), [("s3://bucket/x", True), ("runs/x", False), ("C:\\runs", False)])
def test_a_uri_has_a_scheme(location: str, expected: bool) -> None:
    assert is_uri(location) == expected


@pytest.mark.parametrize("uri", ["nosuch://x/y", "s3://", "file://nowhere"])
def test_one_line_for_a_uri_that_is_of_no_use(uri: str) -> None:
    with pytest.raises(UserError, match="cannot be used as storage") as caught:
        RemoteFolder.at(uri)
    assert "\n" not in str(caught.value)


def test_files_come_back_as_they_were_written(folder: RemoteFolder, tmp_path: Path) -> None:
    (tmp_path / "here").write_bytes(b"\0\1\2")
    folder.upload(tmp_path / "here", "deep/in/it")
    folder.write("text", b"old")
    folder.write("text", b"new")
    assert (folder.read("deep/in/it"), folder.read("text")) == (b"\0\1\2", b"new")
    assert (folder.size("deep/in/it"), folder.size("deep"), folder.size("nothing")) == (3, None, None)
    assert folder.download("text", tmp_path / "copy") and (tmp_path / "copy").read_text() == "new"
    assert folder.names() == ["text"] and folder.child("deep/in").names() == ["it"]


def test_what_is_not_there_is_none_and_can_be_deleted(folder: RemoteFolder, tmp_path: Path) -> None:
    assert folder.read("nothing") is None and folder.names() == [] and folder.modified() == {}
    assert not folder.download("nothing", tmp_path / "copy") and not (tmp_path / "copy").exists()
    folder.delete("nothing")
    folder.write("nothing", b"")
    folder.delete("nothing")
    assert folder.read("nothing") is None


def test_times_are_of_the_last_change(folder: RemoteFolder) -> None:
    folder.write("text", b"")
    assert abs(folder.modified()["text"] - time.time()) < 60


@pytest.mark.skipif(not Path("/dev/full").exists(), reason="wants a device that is always full")
def test_a_write_that_fails_leaves_the_old_file(folder: RemoteFolder, tmp_path: Path) -> None:
    folder.write("text", b"old")
    (tmp_path / "far/text.part").symlink_to("/dev/full")
    with pytest.raises(OSError, match="No space left"):
        folder.write("text", b"new")
    assert folder.read("text") == b"old"
