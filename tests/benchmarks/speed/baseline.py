"""What a user would write from the recipe: the training loop that ours is compared with.

torchvision's data set, Albumentations one image at a time in the workers of a `DataLoader`, fp32, torch's SGD and
OneCycleLR, the L1 term by a Python loop through autograd, loss and accuracy read in every step.
"""

import time
from typing import Any

import numpy as np
import torch
import torch.nn.functional as F
from numpy.typing import NDArray
from PIL.Image import Image
from torch import Tensor
from torch.utils.data import DataLoader
from torchvision.datasets import CIFAR10

from cifar_core.augment import albumentations_pipeline
from cifar_core.config import TrainConfig
from cifar_core.image_data import ImageData
from cifar_core.model import ResNetC

WORKERS = 2


class PerImage:
    """Albumentations as a torchvision transform."""

    def __init__(self) -> None:
        self.pipeline = albumentations_pipeline(seed=0)

    def __call__(self, image: Image) -> Tensor:
        """A PIL image to normalised float32 (3, 32, 32)."""
        augmented: NDArray[np.float32] = self.pipeline(image=np.array(image))["image"]
        return torch.from_numpy(augmented.transpose(2, 0, 1).copy())


class InMemory(CIFAR10):  # type: ignore[misc]
    """torchvision's CIFAR-10 over images that are there already."""

    def __init__(self, data: ImageData) -> None:
        self.data, self.targets = data.images, data.labels.tolist()
        self.transform, self.target_transform = PerImage(), None


class BaselineRun:
    """The recipe, epoch by epoch."""

    def __init__(self, config: TrainConfig, data: ImageData) -> None:
        self.config = config
        self.loader: DataLoader[Any] = DataLoader(
            InMemory(data), config.batch_size, shuffle=True, num_workers=WORKERS, persistent_workers=True
        )
        self.model = ResNetC(config.width, 10, config.head_scale)
        self.optimizer = torch.optim.SGD(self.model.parameters(), lr=config.max_lr, momentum=0.9, weight_decay=1e-4)
        self.scheduler = torch.optim.lr_scheduler.OneCycleLR(
            self.optimizer, config.max_lr, epochs=config.epochs, steps_per_epoch=len(self.loader), pct_start=5 / 24
        )

    def train_epoch(self) -> float:
        """Train one epoch; returns its seconds."""
        start, correct, seen = time.perf_counter(), 0, 0
        self.model.train()
        for images, labels in self.loader:
            self.optimizer.zero_grad()
            log_probabilities = F.log_softmax(self.model(images), dim=1)
            loss = F.nll_loss(log_probabilities, labels)
            for parameter in self.model.parameters():
                loss = loss + self.config.l1_factor * parameter.abs().mean()
            loss.backward()  # type: ignore[no-untyped-call]
            self.optimizer.step()
            self.scheduler.step()
            correct += int((log_probabilities.argmax(1) == labels).sum().item())
            seen += len(labels)
            _ = f"loss {loss.item():.4f}, accuracy {correct / seen:.2%}"  # a progress bar's
        return time.perf_counter() - start
