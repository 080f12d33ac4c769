"""`ImageData`: labelled 32×32 images in memory, checked when built."""

import hashlib
from dataclasses import dataclass
from functools import cached_property

import numpy as np
from numpy.typing import NDArray

from cifar_core.errors import UserError

SIZE = 32  # pixels
IMAGE_SHAPE = (SIZE, SIZE, 3)


@dataclass(frozen=True, eq=False)
class ImageData:
    """Labelled images.

    The arrays may be read-only (memory shared between processes): nobody writes to them.

    Attributes:
        images: uint8 (N, 32, 32, 3), RGB.
        labels: int64 (N,), each an index into `class_names`.
        class_names: at least two.

    Raises:
        UserError: a wrong dtype or shape, no images, fewer than two classes, or a label that names no class.
    """

    images: NDArray[np.uint8]
    labels: NDArray[np.int64]
    class_names: tuple[str, ...]

    def __post_init__(self) -> None:
        images, labels = self.images, self.labels
        if images.dtype != np.uint8 or images.ndim != 4 or images.shape[1:] != IMAGE_SHAPE:
            raise UserError(f"images are {images.dtype} {images.shape}; they must be uint8 (N, 32, 32, 3)")
        if labels.dtype != np.int64 or labels.shape != images.shape[:1]:
            raise UserError(f"labels are {labels.dtype} {labels.shape}; they must be int64 ({len(images)},)")
        if len(images) == 0:
            raise UserError("there are no images; at least one is needed")
        if len(self.class_names) < 2:
            raise UserError(f"there are {len(self.class_names)} classes; at least 2 are needed")
        if labels.min() < 0 or labels.max() >= len(self.class_names):
            raise UserError(
                f"labels run from {labels.min()} to {labels.max()}; "
                f"they must be 0 to {len(self.class_names) - 1}, one for each class"
            )

    def __len__(self) -> int:
        return len(self.images)

    def subset(self, indices: NDArray[np.int64]) -> "ImageData":
        """A copy of the images at `indices`, in that order."""
        return ImageData(self.images[indices], self.labels[indices], self.class_names)

    @cached_property
    def fingerprint(self) -> str:
        """16 hexadecimal digits that change with any pixel, label, class name or their order."""
        digest = hashlib.sha256(repr(self.class_names).encode())
        digest.update(np.ascontiguousarray(self.images).data)
        digest.update(np.ascontiguousarray(self.labels).data)
        return digest.hexdigest()[:16]
