"""The recipe's augmentation: rotate, pad and crop, cutout, normalise.

Two implementations of the same distribution: `augment` does whole batches on the device, and
`albumentations_pipeline` one image at a time, as the recipe did. A test feeds both the same draws and finds
every pixel within half a grey level, which is Albumentations' rounding.
"""

import os
from collections.abc import Callable
from dataclasses import dataclass
from functools import cache
from typing import Any

import numpy as np
import torch
import torch.nn.functional as F
from numpy.typing import NDArray
from torch import Tensor

from cifar_core.image_data import IMAGE_SHAPE, SIZE

MEAN = (0.49139968, 0.48215841, 0.44653091)
STD = (0.24703223, 0.24348513, 0.26158784)
PAD = 4
HOLE = 16
MAX_ANGLE = 5
NO_HOLE = -HOLE  # a hole that ends where the image begins


@dataclass(frozen=True, eq=False)
class AugmentDraws:
    """What happens to each of N images. A slice of it holds the draws of those images.

    Attributes:
        angles: float32 (N,), degrees anticlockwise; 0 where the image is not rotated.
        shifts: int64 (N, 2), y and x of the crop's corner in the padded image, 0 to 2·PAD.
        holes: int64 (N, 2), y and x of the hole's corner in the crop; NO_HOLE twice where there is none.
    """

    angles: NDArray[np.float32]
    shifts: NDArray[np.int64]
    holes: NDArray[np.int64]

    def __len__(self) -> int:
        return len(self.angles)

    def __getitem__(self, part: slice) -> "AugmentDraws":
        return AugmentDraws(self.angles[part], self.shifts[part], self.holes[part])


def draw(count: int, rng: np.random.Generator) -> AugmentDraws:
    """Independent draws for `count` images: each is rotated, and has a hole, with probability ½."""
    angles = rng.uniform(-MAX_ANGLE, MAX_ANGLE, count).astype(np.float32)
    holes = rng.integers(0, SIZE - HOLE + 1, (count, 2))
    rotated, cut = rng.random((2, count)) < 0.5
    return AugmentDraws(
        angles=np.where(rotated, angles, np.float32(0)),
        shifts=rng.integers(0, 2 * PAD + 1, (count, 2)),
        holes=np.where(cut[:, None], holes, NO_HOLE),
    )


def augment(images: Tensor, angles: Tensor, shifts: Tensor, holes: Tensor) -> Tensor:
    """Augment and normalise a batch, each image by its own draws; see `AugmentDraws`.

    Rotation and crop are one bilinear sampling, its border reflected without repeating the edge. What lies in
    the padding or in the hole is the channel mean, which is 0 once normalised.

    Args:
        images: uint8 (B, 32, 32, 3).
        angles: float32 (B,).
        shifts: int64 (B, 2).
        holes: int64 (B, 2).

    Returns:
        float32 (B, 3, 32, 32) in channels_last memory, on the same device.
    """
    grid = _sampling_grid(angles, shifts)
    sampled = F.grid_sample(normalize(images), grid, padding_mode="reflection", align_corners=True)
    return sampled.mul_(_visible(shifts, holes)).contiguous(memory_format=torch.channels_last)


def normalize(images: Tensor) -> Tensor:
    """uint8 (B, 32, 32, 3) to normalised float32 (B, 3, 32, 32) in channels_last memory."""
    scale, offset = _normalisation(images.device)
    return torch.addcmul(offset, images.float(), scale).permute(0, 3, 1, 2)


def mirror(images: Tensor, chosen: Tensor) -> Tensor:
    """Images (B, 32, 32, 3) with left and right exchanged where `chosen`, bool (B,)."""
    return torch.where(chosen[:, None, None, None], images.flip(2), images)


def albumentations_pipeline(seed: int) -> Callable[..., dict[str, Any]]:
    """The same augmentation by Albumentations, seeded.

    `pipeline(image=image)["image"]` takes uint8 (32, 32, 3) and gives float32 (32, 32, 3). Rotated pixels and
    the mean that fills the gaps are rounded to whole grey levels.

    Raises:
        ValueError: the installed version does not know one of the arguments.
    """
    # without it the import asks the network for a newer version
    os.environ.setdefault("NO_ALBUMENTATIONS_UPDATE", "1")
    import albumentations
    import cv2

    fill = tuple(round(255 * mean) for mean in MEAN)  # CoarseDropout would cut the decimals off
    padded = SIZE + 2 * PAD
    steps = [
        albumentations.Rotate(limit=(-MAX_ANGLE, MAX_ANGLE), border_mode=cv2.BORDER_REFLECT_101, p=0.5),
        albumentations.PadIfNeeded(
            min_height=padded, min_width=padded, border_mode=cv2.BORDER_CONSTANT, fill=fill, p=1.0
        ),
        albumentations.RandomCrop(height=SIZE, width=SIZE, p=1.0),
        albumentations.CoarseDropout(
            num_holes_range=(1, 1),
            hole_height_range=(HOLE, HOLE),
            hole_width_range=(HOLE, HOLE),
            fill=fill,
            p=0.5,
        ),
        albumentations.Normalize(mean=MEAN, std=STD, max_pixel_value=255.0, p=1.0),
    ]
    # strict: an argument that this version does not know would otherwise be dropped with only a warning
    pipeline: Callable[..., dict[str, Any]] = albumentations.Compose(steps, seed=seed, strict=True)
    return pipeline


def _sampling_grid(angles: Tensor, shifts: Tensor) -> Tensor:
    """Where in the source each pixel of the crop is: (B, 32, 32, 2), x and y, −1 to 1 from edge to edge."""
    centre = (SIZE - 1) / 2
    pixel = torch.arange(SIZE, device=angles.device)
    y, x = ((pixel + shifts[..., None] - (PAD + centre)) / centre).unbind(1)
    radians = torch.deg2rad(angles)[:, None]
    cosine, sine = torch.cos(radians), torch.sin(radians)
    from_x = torch.stack([cosine * x, sine * x], dim=1)
    from_y = torch.stack([-sine * y, cosine * y], dim=1)
    return (from_x[:, :, None, :] + from_y[:, :, :, None]).permute(0, 2, 3, 1)


def _visible(shifts: Tensor, holes: Tensor) -> Tensor:
    """1 where the crop shows the image, 0 in the padding and in the hole: float32 (B, 1, 32, 32)."""
    pixel = torch.arange(SIZE, device=shifts.device)
    source = pixel + shifts[..., None] - PAD
    inside_y, inside_x = ((source >= 0) & (source < SIZE)).float().unbind(1)
    hole_y, hole_x = ((pixel >= holes[..., None]) & (pixel < holes[..., None] + HOLE)).float().unbind(1)
    return (_outer(inside_y, inside_x) * (1 - _outer(hole_y, hole_x)))[:, None]


def _outer(rows: Tensor, columns: Tensor) -> Tensor:
    return rows[:, :, None] * columns[:, None, :]


@cache
def _normalisation(device: torch.device) -> tuple[Tensor, Tensor]:
    """Scale and offset from 0…255 to normalised, (32, 32, 3).

    Kept, because copying them to the device would make every step wait; of an image's size, because the
    multiplication is much faster than with (3,).
    """
    mean, std = torch.tensor(MEAN), torch.tensor(STD)
    scale, offset = 1 / (255 * std), -mean / std
    return scale.expand(IMAGE_SHAPE).contiguous().to(device), offset.expand(IMAGE_SHAPE).contiguous().to(device)
