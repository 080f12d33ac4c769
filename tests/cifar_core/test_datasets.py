import pickle
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image

from cifar_core.config import TrainConfig
from cifar_core.datasets import (
    SYNTHETIC_TEST_SIZE,
    ImageData,
    load_test_data,
    load_training_data,
    stratified_split,
)
from cifar_core.errors import UserError

SYNTHETIC = TrainConfig(dataset="synthetic", train_size=60, val_size=40)


@pytest.fixture
def images(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> TrainConfig:
    """Three classes, 12 training and 2 test images each; every image has a grey level of its own."""
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    grey = iter(range(256))
    for half, count in (("train", 12), ("test", 2)):
        for name in ("ant", "bee", "cow"):
            folder = tmp_path / "images" / half / name
            folder.mkdir(parents=True)
            for index in range(count):
                Image.new("RGB", (32, 32), (next(grey),) * 3).save(folder / f"{index:02d}.png")
    return TrainConfig(dataset="images", data_dir=tmp_path / "images", val_size=6)


def greys(data: ImageData) -> list[int]:
    return data.images[:, 0, 0, 0].tolist()


@settings(max_examples=60, deadline=None)
@given(
    counts=st.lists(st.integers(1, 60), min_size=2, max_size=8),
    share=st.floats(0.01, 0.99),
    seed=st.integers(0, 2**40),
)
def test_split_is_a_partition_within_one_of_proportional(counts: list[int], share: float, seed: int) -> None:
    labels = np.random.default_rng(seed).permutation(np.repeat(np.arange(len(counts)), counts))
    val_size = min(max(len(counts), int(share * len(labels))), len(labels) - 1)
    if val_size < len(counts):
        return
    train, val = stratified_split(labels, val_size, seed)
    np.testing.assert_array_equal(np.sort(np.concatenate([train, val])), np.arange(len(labels)))
    assert len(val) == val_size
    assert (np.diff(train) > 0).all() and (np.diff(val) > 0).all()
    proportional = val_size * np.array(counts) / len(labels)
    assert (np.abs(np.bincount(labels[val], minlength=len(counts)) - proportional) < 1).all()


def test_split_depends_on_the_seed_and_nothing_else() -> None:
    labels = np.arange(200) % 10
    first, again, other = (stratified_split(labels, 50, seed)[1] for seed in (0, 0, 1))
    np.testing.assert_array_equal(first, again)
    assert (first != other).any()


def test_split_of_nothing() -> None:
    train, val = stratified_split(np.arange(20) % 10, 0, seed=0)
    np.testing.assert_array_equal(train, np.arange(20))
    assert len(val) == 0


@pytest.mark.parametrize(
    ("val_size", "message"),
    [
        (36, r"val_size is 36; it must be below the number of training images \(36\)"),
        (2, r"val_size is 2; it must be 0 or at least the number of classes \(3\)"),
    ],
)
def test_one_line_for_a_val_size_that_cannot_be(images: TrainConfig, val_size: int, message: str) -> None:
    with pytest.raises(UserError, match=message):
        load_training_data(replace(images, val_size=val_size))


@pytest.mark.parametrize(
    ("train_size", "message"),
    [
        (31, "train_size is 31; there are 30 images besides the validation images"),
        (2, r"train_size is 2; it must be at least the number of classes \(3\)"),
    ],
)
def test_one_line_for_a_train_size_that_cannot_be(images: TrainConfig, train_size: int, message: str) -> None:
    with pytest.raises(UserError, match=message):
        load_training_data(replace(images, train_size=train_size))


def test_folder_is_split_by_class(images: TrainConfig) -> None:
    data = load_training_data(images)
    assert sorted(greys(data.train) + greys(data.val)) == list(range(36))
    np.testing.assert_array_equal(np.bincount(data.val.labels), [2, 2, 2])
    np.testing.assert_array_equal(np.array(greys(data.train)) // 12, data.train.labels)


def test_train_size_takes_a_stratified_part_and_leaves_validation_alone(images: TrainConfig) -> None:
    whole, part = load_training_data(images), load_training_data(replace(images, train_size=15))
    assert whole.val.fingerprint == part.val.fingerprint
    assert set(greys(part.train)) < set(greys(whole.train))
    np.testing.assert_array_equal(np.bincount(part.train.labels), [5, 5, 5])
    other = load_training_data(replace(images, train_size=15, data_seed=1))
    assert greys(other.train) != greys(part.train)


def test_training_seed_does_not_change_the_data(images: TrainConfig) -> None:
    first, other = load_training_data(images), load_training_data(replace(images, seed=7))
    assert (first.train.fingerprint, first.val.fingerprint) == (other.train.fingerprint, other.val.fingerprint)


def test_val_size_0_validates_on_the_test_set(images: TrainConfig) -> None:
    data = load_training_data(replace(images, val_size=0))
    assert greys(data.train) == list(range(36))
    assert greys(data.val) == greys(load_test_data(images)) == list(range(36, 42))


def test_the_test_half_is_not_opened_while_training(images: TrainConfig) -> None:
    for file in (images.data_dir / "test").glob("*/*"):
        file.write_bytes(b"broken")
    assert len(load_training_data(images).train) == 30
    with pytest.raises(UserError, match="not a readable image"):
        load_test_data(images)


@pytest.mark.parametrize(("missing", "named"), [("", "images"), ("train", "train"), ("test", "test")])
def test_one_line_for_a_missing_folder(images: TrainConfig, missing: str, named: str) -> None:
    folder = images.data_dir / missing
    folder.rename(folder.with_name("elsewhere"))
    with pytest.raises(UserError, match=f"{named}: no such folder"):
        load_test_data(images)


def test_one_line_for_test_classes_that_differ(images: TrainConfig) -> None:
    (images.data_dir / "test" / "cow").rename(images.data_dir / "test" / "dog")
    with pytest.raises(UserError, match=r"different classes \(only in one: cow, dog\)"):
        load_test_data(images)


def test_synthetic_sizes_are_exact_and_only_training_labels_are_noisy() -> None:
    data = load_training_data(SYNTHETIC)
    assert (len(data.train), len(data.val)) == (60, 40)
    assert data.train.class_names == data.val.class_names
    np.testing.assert_array_equal(np.bincount(data.val.labels), np.full(10, 4))


def test_synthetic_parts_share_no_image() -> None:
    data = load_training_data(SYNTHETIC)
    everything = np.concatenate([data.train.images, data.val.images, load_test_data(SYNTHETIC).images])
    assert len({image.tobytes() for image in everything}) == len(everything) == 100 + SYNTHETIC_TEST_SIZE


def test_synthetic_needs_an_image_of_each_class() -> None:
    with pytest.raises(UserError, match="train_size is 9"):
        load_training_data(replace(SYNTHETIC, train_size=9))
    with pytest.raises(UserError, match="val_size is 9"):
        load_training_data(replace(SYNTHETIC, val_size=9))


class Bomb:
    """Unpickling it writes a file."""

    def __init__(self, path: Path) -> None:
        self.path = path

    def __reduce__(self) -> tuple[Any, ...]:
        return Path.touch, (self.path,)


def test_cifar10_is_not_unpickled_before_its_md5_is_right(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    from torchvision.datasets import CIFAR10

    monkeypatch.setattr(CIFAR10, "url", "http://127.0.0.1:9/cifar-10-python.tar.gz")  # refuses the connection
    batches = tmp_path / "data" / CIFAR10.base_folder
    batches.mkdir(parents=True)
    for name, _ in (*CIFAR10.train_list, *CIFAR10.test_list, (CIFAR10.meta["filename"], "")):
        (batches / name).write_bytes(pickle.dumps(Bomb(tmp_path / "exploded")))
    with pytest.raises(UserError, match=r"put cifar-10-python\.tar\.gz there, or use --dataset images") as caught:
        load_training_data(TrainConfig(dataset="cifar10", data_dir=tmp_path / "data"))
    assert "\n" not in str(caught.value)
    assert not (tmp_path / "exploded").exists()


def test_cifar10_arrays(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A small stand-in in CIFAR-10's own file format: planes of red, green, blue, row by row."""
    import hashlib

    from torchvision.datasets import CIFAR10

    batches = tmp_path / CIFAR10.base_folder
    batches.mkdir()
    names = [f"class{index}" for index in range(10)]

    def write(name: str, content: dict[str, Any]) -> list[str]:
        encoded = pickle.dumps(content)
        (batches / name).write_bytes(encoded)
        return [name, hashlib.md5(encoded).hexdigest()]

    planes = np.zeros((20, 3, 32, 32), np.uint8)
    planes[:, 0], planes[:, 2, 5, 7] = np.arange(20)[:, None, None], 99
    batch = {"data": planes.reshape(20, -1), "labels": [index % 10 for index in range(20)]}
    monkeypatch.setattr(CIFAR10, "train_list", [write("data_batch_1", batch)])
    monkeypatch.setattr(CIFAR10, "test_list", [write("test_batch", batch)])
    meta = write("batches.meta", {"label_names": names})
    monkeypatch.setattr(CIFAR10, "meta", {"filename": meta[0], "key": "label_names", "md5": meta[1]})
    data = load_test_data(TrainConfig(dataset="cifar10", data_dir=tmp_path))
    assert data.class_names == tuple(names)
    np.testing.assert_array_equal(data.images[:, 0, 0, 0], np.arange(20))
    assert (data.images[:, 5, 7, 2] == 99).all() and data.images[..., 2].sum() == 20 * 99
    assert data.images.flags.c_contiguous
