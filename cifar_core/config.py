"""`TrainConfig`: every knob of one training run, and `RangeTestConfig`: those of the LR range test before a search."""

from collections.abc import Iterator
from dataclasses import dataclass
from itertools import count
from pathlib import Path
from typing import Literal

from cifar_core.errors import UserError
from cifar_core.options import check_bounds, option

SEED_PEAK_SHARE = 5 / 24  # of the schedule: the seed's peak is at epoch 5 of 24
EXTENSION = 100.0  # a sweep that shows no edge goes on, at most to this multiple of `highest_lr`
MAX_SEED = 2**32 - 1  # torch takes no seed beyond 64 bits, and others none beyond 32


@dataclass(frozen=True)
class TrainConfig:
    """One training run. The defaults are the recipe: 24 epochs of ResNet-C on CIFAR-10."""

    dataset: Literal["cifar10", "images", "synthetic"] = option(
        "cifar10", "cifar10 downloads it, images reads train/<class>/* and test/<class>/*, synthetic needs no files"
    )
    data_dir: Path = option(Path("data"), "where the data set is, or is downloaded to")
    train_size: int | None = option(None, "images to train on; none means all but the validation images", at_least=1)
    val_size: int = option(
        5000, "images held out for validation; 0 watches the test set each epoch, as the seed did", at_least=0
    )
    data_seed: int = option(
        0, "seed of the validation split, the subset and the synthetic images", at_least=0, at_most=MAX_SEED
    )

    width: float = option(1.0, "width multiplier of the network (1 is 6,573,120 parameters)", above=0, at_most=16)
    head_scale: float = option(
        1.0, "scale of the head's initial weights; 0.1 helps narrow networks with few steps start", above=0
    )

    epochs: int = option(24, "epochs of the whole schedule", at_least=1)
    batch_size: int = option(512, "images a step; the last, short batch of an epoch is kept", at_least=2)
    max_lr: float = option(0.0655, "learning rate at the peak of OneCycle", above=0)
    peak_epoch: float | None = option(
        None,
        "epoch of the peak, counted from 0, may be fractional; none is the seed's 5/24 of the schedule",
        at_least=0,
    )
    l1_factor: float = option(5e-4, "weight of the L1 term, the sum over tensors of mean |p|", at_least=0)
    div_factor: float = option(10.0, "max_lr / first learning rate", at_least=1)
    final_div_factor: float = option(1.0, "first learning rate / last learning rate", above=0)
    momentum_low: float = option(0.85, "momentum at the peak of the learning rate", at_least=0, at_most=1)
    momentum_high: float = option(0.95, "momentum at both ends", at_least=0, at_most=1)
    weight_decay: float = option(1e-4, "SGD's weight decay", at_least=0)
    ema_epochs: float = option(
        0.0,
        "also score an exponential moving average of the weights over about this many epochs; 0 keeps none",
        at_least=0,
    )
    augmentation: Literal["batched", "albumentations", "none"] = option(
        "batched", "rotate, pad-and-crop, cutout: on whole batches, by Albumentations one image at a time, or none"
    )
    flip: bool = option(False, "also mirror half of the training images; not in the recipe")
    label_smoothing: float = option(
        0.0, "share of each label spread over all classes; not in the recipe", at_least=0, at_most=1
    )
    nesterov: bool = option(False, "Nesterov's momentum; not in the recipe")
    test_time_flip: bool = option(
        False, "score the mean logits of an image and its mirror image, twice the work; not in the recipe"
    )

    seed: int = option(
        0, "seed of the weights, the order of the images and the augmentation", at_least=0, at_most=MAX_SEED
    )
    device: Literal["auto", "cpu", "cuda", "mps"] = option("auto", "auto takes a GPU where there is one")
    precision: Literal["auto", "bf16", "fp32"] = option("auto", "auto takes bf16 where the device computes in it")
    threads: int = option(0, "CPU threads; 0 means one per core", at_least=0)

    def __post_init__(self) -> None:
        check_bounds(self)
        if self.peak > self.epochs:
            raise UserError(f"peak_epoch is {self.peak:g}; it must be at most epochs ({self.epochs})")
        if self.momentum_low > self.momentum_high:
            raise UserError(f"momentum_low ({self.momentum_low:g}) is above momentum_high ({self.momentum_high:g})")

    @property
    def peak(self) -> float:
        """The epoch of the peak."""
        return SEED_PEAK_SHARE * self.epochs if self.peak_epoch is None else self.peak_epoch


@dataclass(frozen=True)
class RangeTestConfig:
    """The LR range test before a search."""

    seeds: int = option(3, "sweeps, each from fresh weights", at_least=1)
    steps: int = option(100, "training steps from lowest_lr to highest_lr", at_least=100)
    lowest_lr: float = option(1e-3, "learning rate of a sweep's first step", above=0)
    highest_lr: float = option(1.0, "a sweep ends here, earlier if the loss explodes, later if it only falls", above=0)
    l1_factors: tuple[float, float] | None = option(
        None, "sweep at both of these l1_factors; none means at the training run's own", at_least=0
    )

    def __post_init__(self) -> None:
        check_bounds(self)
        if self.lowest_lr >= self.highest_lr:
            raise UserError(f"lowest_lr is {self.lowest_lr:g}; it must be below highest_lr ({self.highest_lr:g})")

    def learning_rates(self) -> Iterator[float]:
        """One for each step, each the same factor above the last; `highest_lr` is number `steps`, then it goes on."""
        growth = self.highest_lr / self.lowest_lr
        for step in count():
            lr = self.lowest_lr * growth ** (step / (self.steps - 1))
            if lr > self.highest_lr * EXTENSION:
                return
            yield lr
