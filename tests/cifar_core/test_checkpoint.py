import os
import pickle
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch

from cifar_core import checkpoint
from cifar_core.errors import UserError
from cifar_core.train import Trainer
from tests.cifar_core.tiny import TINY, numbers, state, tiny_data, trained


class MakesAFile:
    """A pickle of this makes a file when it is loaded."""

    def __init__(self, path: Path) -> None:
        self.path = path

    def __reduce__(self) -> tuple[Any, ...]:
        return os.mkdir, (str(self.path),)


@pytest.fixture(scope="module")
def trainer() -> Trainer:
    return trained(2)


@pytest.fixture
def path(trainer: Trainer, tmp_path: Path) -> Path:
    path = tmp_path / "run.pt"
    checkpoint.save(trainer, path)
    return path


def changed(path: Path, **changes: Any) -> None:
    """Write the checkpoint again with other content."""
    torch.save(checkpoint.read(path) | changes, path)


def test_everything_comes_back(trainer: Trainer, path: Path) -> None:
    fresh = Trainer(TINY, tiny_data())
    checkpoint.restore(fresh, path)
    assert fresh.finished_epochs == 2
    assert numbers(fresh.history) == numbers(trainer.history)
    assert fresh.history.epochs == trainer.history.epochs
    torch.testing.assert_close(state(fresh), state(trainer), rtol=0, atol=0)


def test_a_diverged_run_comes_back_as_diverged(tmp_path: Path) -> None:
    lost = trained(1, max_lr=1e6)
    checkpoint.save(lost, tmp_path / "lost.pt")
    fresh = Trainer(replace(TINY, max_lr=1e6), tiny_data())
    checkpoint.restore(fresh, tmp_path / "lost.pt")
    assert lost.history.epochs[0].diverged and fresh.done


def test_config_and_class_names_are_in_the_file(path: Path) -> None:
    assert checkpoint.read_config(path) == TINY
    assert checkpoint.read(path)["class_names"] == list(tiny_data().train.class_names)


def test_saving_replaces_the_file_and_leaves_nothing_else(trainer: Trainer, path: Path) -> None:
    checkpoint.save(trained(1), path)
    assert len(checkpoint.read(path)["epochs"]) == 1
    checkpoint.save(trainer, path)
    assert len(checkpoint.read(path)["epochs"]) == 2
    assert [file.name for file in path.parent.iterdir()] == ["run.pt"]


def test_a_crash_while_saving_leaves_the_old_file(path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    before = path.read_bytes()

    def crash(fd: int) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr(os, "fsync", crash)
    with pytest.raises(KeyboardInterrupt):
        checkpoint.save(trained(1), path)
    assert path.read_bytes() == before


@pytest.mark.parametrize("share", [0.0, 0.0001, 0.001, 0.01, 0.1, 0.3, 0.5, 0.9, 0.99, 0.9999])
def test_one_line_for_a_file_that_was_cut(path: Path, share: float) -> None:
    content = path.read_bytes()
    path.write_bytes(content[: int(share * len(content))])
    assert_refused(path, "not a whole checkpoint")


@pytest.mark.parametrize("share", [0.2, 0.4, 0.6, 0.8])
def test_one_line_for_a_file_with_a_flipped_bit_among_the_weights(path: Path, share: float) -> None:
    content = bytearray(path.read_bytes())
    content[int(share * len(content))] ^= 16
    path.write_bytes(content)
    assert_refused(path, "not a whole checkpoint")


def assert_refused(path: Path, message: str) -> None:
    with pytest.raises(UserError, match=rf"run\.pt: {message}") as caught:
        checkpoint.read(path)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize(
    "content",
    [
        b"text",
        b"\x80\x02",
        b"\x80\x05\x95",
        bytes(1000),
        b"PK\x03\x04" + bytes(100),
        pickle.dumps({"a": 1}),
        pickle.dumps([1, 2]),
        b"\x80\x02}q\x00(X\x01\x00\x00\x00a",
        b"(lp0\n.",
        b"c__builtin__\nlist\n.",
        b"\x89PNG\r\n\x1a\n",
    ],
)
def test_one_line_for_a_file_that_is_something_else(path: Path, content: bytes) -> None:
    path.write_bytes(content)
    assert_refused(path, "not a")


@pytest.mark.filterwarnings("ignore:Detected pickle protocol")
@pytest.mark.parametrize("protocol", [0, 2, 5])
@pytest.mark.parametrize("wrapped", [True, False])
def test_no_code_from_the_file_is_run(path: Path, tmp_path: Path, protocol: int, wrapped: bool) -> None:
    marker = tmp_path / "marker"
    content = {"format": checkpoint.FORMAT, "config": MakesAFile(marker)}
    if wrapped:
        torch.save(content, path, pickle_protocol=protocol)
    else:
        path.write_bytes(pickle.dumps(content, protocol))
    assert_refused(path, "not a whole checkpoint")
    assert not marker.exists()
    if not wrapped:  # that it would have been
        pickle.loads(path.read_bytes())
        assert marker.exists()


@pytest.mark.parametrize("content", [[1, 2], {}, {"format": 0}, {"format": checkpoint.FORMAT + 1}, torch.zeros(3)])
def test_one_line_for_another_format(path: Path, content: object) -> None:
    torch.save(content, path)
    assert_refused(path, "not a checkpoint of this version")


@pytest.mark.parametrize(("name", "reason"), [("missing", "No such file"), ("", "Is a directory")])
def test_one_line_for_a_file_that_cannot_be_read(tmp_path: Path, name: str, reason: str) -> None:
    with pytest.raises(UserError, match=rf"cannot be read \({reason}"):
        checkpoint.read(tmp_path / name)


def test_another_runs_checkpoint_is_refused_and_the_difference_named(path: Path) -> None:
    other = Trainer(replace(TINY, max_lr=0.5, seed=3), tiny_data())
    before = numbers(other.history)
    with pytest.raises(UserError, match=r"run\.pt: saved by a run with another max_lr, seed$"):
        checkpoint.restore(other, path)
    assert numbers(other.history) == before


def test_a_config_that_is_none_is_refused(path: Path) -> None:
    changed(path, config={"max_lrr": 0.1})
    with pytest.raises(UserError, match=r"run\.pt: unknown key max_lrr; did you mean max_lr\?"):
        checkpoint.read_config(path)
