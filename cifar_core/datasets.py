"""The three data sets a run can use, and their split into training and validation images."""

from dataclasses import dataclass
from enum import IntEnum
from pathlib import Path
from typing import Literal

import numpy as np
from numpy.typing import NDArray

from cifar_core.config import TrainConfig
from cifar_core.errors import UserError
from cifar_core.image_data import ImageData
from cifar_core.image_folder import class_folders, load_image_folder
from cifar_core.synthetic import CLASS_NAMES, make_images

__all__ = ["ImageData", "TrainingData", "check_test_data", "load_test_data", "load_training_data", "stratified_split"]

SYNTHETIC_TRAIN_SIZE = 4000
SYNTHETIC_TEST_SIZE = 2000
SYNTHETIC_LABEL_NOISE = 0.05


class Stream(IntEnum):
    """What a random stream is for: `default_rng((config.data_seed, stream))`."""

    SPLIT = 0
    SUBSET = 1
    TRAIN_IMAGES = 2
    VAL_IMAGES = 3
    TEST_IMAGES = 4


@dataclass(frozen=True, eq=False)
class TrainingData:
    """What a run may see while it trains: images to learn from and images to be scored on."""

    train: ImageData
    val: ImageData

    @property
    def fingerprint(self) -> str:
        """Changes with any image, label or class name of either part."""
        return f"{self.train.fingerprint}-{self.val.fingerprint}"


def load_training_data(config: TrainConfig) -> TrainingData:
    """Training images, at most `train_size`, and `val_size` validation images (0: the test set).

    Raises:
        UserError: the data set cannot be read, or is too small for `val_size` and `train_size`.
    """
    if config.dataset == "synthetic":
        return _make_training_data(config)
    data = _read(config, "train")
    train_indices, val_indices = stratified_split(data.labels, config.val_size, config.data_seed)
    if config.train_size is not None:
        _check_train_size(config.train_size, len(train_indices), len(data.class_names))
        rng = np.random.default_rng((config.data_seed, Stream.SUBSET))
        train_indices = train_indices[_stratified_choice(data.labels[train_indices], config.train_size, rng)]
    val = data.subset(val_indices) if config.val_size else load_test_data(config)
    return TrainingData(data if len(train_indices) == len(data) else data.subset(train_indices), val)


def load_test_data(config: TrainConfig) -> ImageData:
    """The test images, which no decision of a search may look at.

    Raises:
        UserError: the data set cannot be read, or its test classes differ from the training classes.
    """
    if config.dataset == "synthetic":
        return make_images(SYNTHETIC_TEST_SIZE, config.data_seed, Stream.TEST_IMAGES)
    return _read(config, "test")


def check_test_data(config: TrainConfig) -> None:
    """Look whether there are test images, without looking at one; raises `UserError` where folders of them miss."""
    if config.dataset == "images":
        _check_folders(config.data_dir, "test")


def stratified_split(
    labels: NDArray[np.int64], val_size: int, seed: int
) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    """Split images into training and validation indices, both sorted.

    Each class's number of validation images is within one of its proportional share.

    Args:
        labels: int64 (N,).
        val_size: number of validation images; 0 gives an empty validation part.
        seed: seed of the choice.

    Raises:
        UserError: `val_size` leaves nothing to train on, or is smaller than the number of classes.
    """
    classes = len(np.unique(labels))
    if val_size >= len(labels):
        raise UserError(f"val_size is {val_size}; it must be below the number of training images ({len(labels)})")
    _check_val_size(val_size, classes)
    val = _stratified_choice(labels, val_size, np.random.default_rng((seed, Stream.SPLIT)))
    return np.setdiff1d(np.arange(len(labels)), val, assume_unique=True), val


def _stratified_choice(labels: NDArray[np.int64], size: int, rng: np.random.Generator) -> NDArray[np.int64]:
    """Sorted indices of `size` images, shared among the classes by the largest remainder method."""
    take, remainder = np.divmod(size * np.bincount(labels), len(labels))
    most_short = np.argsort(-remainder, kind="stable")[: size - take.sum()]
    take[most_short] += 1
    order = rng.permutation(len(labels))
    chosen = [order[labels[order] == label][:count] for label, count in enumerate(take)]
    return np.sort(np.concatenate(chosen))


def _check_val_size(val_size: int, classes: int) -> None:
    if 0 < val_size < classes:
        raise UserError(f"val_size is {val_size}; it must be 0 or at least the number of classes ({classes})")


def _check_train_size(train_size: int, available: int, classes: int) -> None:
    if train_size > available:
        raise UserError(f"train_size is {train_size}; there are {available} images besides the validation images")
    if train_size < classes:
        raise UserError(f"train_size is {train_size}; it must be at least the number of classes ({classes})")


def _make_training_data(config: TrainConfig) -> TrainingData:
    train_size = SYNTHETIC_TRAIN_SIZE if config.train_size is None else config.train_size
    _check_train_size(train_size, train_size, len(CLASS_NAMES))
    _check_val_size(config.val_size, len(CLASS_NAMES))
    train = make_images(train_size, config.data_seed, Stream.TRAIN_IMAGES, SYNTHETIC_LABEL_NOISE)
    if config.val_size == 0:
        return TrainingData(train, load_test_data(config))
    return TrainingData(train, make_images(config.val_size, config.data_seed, Stream.VAL_IMAGES))


def _read(config: TrainConfig, half: Literal["train", "test"]) -> ImageData:
    if config.dataset == "cifar10":
        return _read_cifar10(config.data_dir, half)
    return _read_images(config.data_dir, half)


def _read_cifar10(data_dir: Path, half: Literal["train", "test"]) -> ImageData:
    """CIFAR-10 by torchvision, which unpickles a file only after its MD5 is right."""
    from torchvision.datasets import CIFAR10  # takes seconds to import

    try:
        cifar10 = CIFAR10(data_dir, train=half == "train", download=True)
    except (OSError, RuntimeError, EOFError) as error:
        reason = " ".join(str(error).split())
        raise UserError(
            f"{data_dir}: CIFAR-10 is not there and cannot be downloaded ({reason}); "
            f"put {CIFAR10.filename} there, or use --dataset images or --dataset synthetic"
        ) from None
    return ImageData(np.ascontiguousarray(cifar10.data), np.array(cifar10.targets, np.int64), tuple(cifar10.classes))


def _read_images(data_dir: Path, half: Literal["train", "test"]) -> ImageData:
    _check_folders(data_dir, half)
    return load_image_folder(data_dir / half)


def _check_folders(data_dir: Path, half: Literal["train", "test"]) -> None:
    for folder in (data_dir, data_dir / "train", data_dir / half):
        if not folder.is_dir():
            raise UserError(f"{folder}: no such folder; --dataset images reads DATA_DIR/train/<class>/* and test/")
    if half == "test":
        _check_same_classes(data_dir)


def _check_same_classes(data_dir: Path) -> None:
    train, test = (class_folders(data_dir / half) for half in ("train", "test"))
    if train != test:
        difference = sorted(set(train) ^ set(test))
        raise UserError(f"{data_dir}: train and test have different classes (only in one: {', '.join(difference)})")
