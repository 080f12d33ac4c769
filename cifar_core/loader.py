"""Batches on the device: order and augmentation are a pure function of (seed, epoch), whatever the device."""

import math
import warnings
from collections.abc import Callable, Iterator

import numpy as np
import torch
from torch import Tensor

from cifar_core.augment import albumentations_pipeline, augment, draw, mirror, normalize
from cifar_core.config import TrainConfig
from cifar_core.image_data import ImageData

EVAL_BATCH_SIZE = 2000
CPU_EVAL_BATCH_SIZE = 250  # larger activations come from the kernel page by page: 2,000 takes 1.6 times as long

Transform = Callable[[Tensor, slice], Tensor]  # uint8 images and their place in the epoch to normalised images

_EPOCH_STREAM = 1  # not 0, which numpy's seeding ignores at the end


def epoch_rng(seed: int, epoch: int) -> np.random.Generator:
    """The generator of everything random about one epoch's batches; epochs count from 0."""
    return np.random.default_rng((seed, epoch, _EPOCH_STREAM))


class TrainLoader:
    """Shuffled, augmented, normalised batches. The last batch of an epoch is kept, however short."""

    def __init__(self, data: ImageData, config: TrainConfig, device: torch.device) -> None:
        self.images, self.labels = _resident(data, device)
        self.config = config

    @property
    def steps_per_epoch(self) -> int:
        """Batches in an epoch."""
        return math.ceil(len(self.labels) / self.config.batch_size)

    def batches(self, epoch: int) -> Iterator[tuple[Tensor, Tensor]]:
        """One epoch of float32 (B, 3, 32, 32) images in channels_last memory and int64 (B,) labels."""
        rng = epoch_rng(self.config.seed, epoch)
        order = torch.from_numpy(rng.permutation(len(self.labels))).to(self.labels.device)
        transform = self._transform(rng)
        if self.config.flip:
            transform = self._mirrored(transform, rng)
        for start in range(0, len(order), self.config.batch_size):
            part = slice(start, start + self.config.batch_size)
            chosen = order[part]
            yield transform(self.images.index_select(0, chosen), part), self.labels.index_select(0, chosen)

    def _transform(self, rng: np.random.Generator) -> Transform:
        match self.config.augmentation:
            case "batched":
                draws = draw(len(self.labels), rng)
                device = self.labels.device
                tensors = [torch.from_numpy(a).to(device) for a in (draws.angles, draws.shifts, draws.holes)]
                return lambda images, part: augment(images, *(tensor[part] for tensor in tensors))
            case "albumentations":
                pipeline = albumentations_pipeline(int(rng.integers(2**32)))
                return lambda images, part: _one_by_one(images, pipeline)
            case "none":
                return lambda images, part: normalize(images)

    def _mirrored(self, transform: Transform, rng: np.random.Generator) -> Transform:
        """The transform of images of which half are mirrored first."""
        chosen = torch.from_numpy(rng.random(len(self.labels)) < 0.5).to(self.labels.device)
        return lambda images, part: transform(mirror(images, chosen[part]), part)


def eval_batches(
    data: ImageData, device: torch.device, batch_size: int | None = None
) -> Iterator[tuple[Tensor, Tensor]]:
    """All images in order, not augmented: batches as `TrainLoader.batches` gives them, sized for the device."""
    batch_size = batch_size or (CPU_EVAL_BATCH_SIZE if device.type == "cpu" else EVAL_BATCH_SIZE)
    images, labels = _resident(data, device)
    for start in range(0, len(labels), batch_size):
        part = slice(start, start + batch_size)
        yield normalize(images[part]), labels[part]


def _resident(data: ImageData, device: torch.device) -> tuple[Tensor, Tensor]:
    """The images and labels on the device; on a CPU without a copy."""
    with warnings.catch_warnings():  # the arrays may be shared and read-only: nothing here writes to them
        warnings.filterwarnings("ignore", "The given NumPy array is not writ")
        return torch.from_numpy(data.images).to(device), torch.from_numpy(data.labels).to(device)


def _one_by_one(images: Tensor, pipeline: Callable[..., dict[str, np.ndarray]]) -> Tensor:
    batch = np.stack([pipeline(image=image)["image"] for image in images.cpu().numpy()])
    return torch.from_numpy(batch).to(images.device).permute(0, 3, 1, 2)
