"""Augmentation on the CPU, by one thread: batched against Albumentations image by image, fresh draws for both."""

import time

import numpy as np
import torch

from cifar_core.augment import albumentations_pipeline, augment, draw
from cifar_core.synthetic import make_images
from tests.benchmarks.speed.rows import Row, spread

IMAGES = 4000
BATCH = 500


def augmentation_rows(rounds: int) -> list[Row]:
    """Images a second of both, in turn."""
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    images = make_images(IMAGES, seed=0, stream=0).images
    pipeline = albumentations_pipeline(seed=0)
    speeds: dict[str, list[float]] = {"batched": [], "albumentations": []}
    for number in range(rounds + 1):
        start = time.perf_counter()
        _batched(images, np.random.default_rng(number))
        middle = time.perf_counter()
        np.stack([pipeline(image=image)["image"] for image in images])
        end = time.perf_counter()
        if number:  # the first warms up
            speeds["batched"].append(IMAGES / (middle - start))
            speeds["albumentations"].append(IMAGES / (end - middle))
    torch.set_num_threads(before)
    ratios = [ours / theirs for ours, theirs in zip(speeds["batched"], speeds["albumentations"], strict=True)]
    medians = {name: np.median(values) for name, values in speeds.items()}
    return [
        Row(
            "augmentation on one core, against Albumentations",
            "≥ 10×",
            f"{spread(ratios)}×: {medians['batched']:,.0f} against {medians['albumentations']:,.0f} images/s",
            "bilinear sampling of every image, rotated or not",
            dict(speeds),
        )
    ]


def _batched(images: np.ndarray, rng: np.random.Generator) -> None:
    draws = draw(len(images), rng)
    tensors = [torch.from_numpy(array) for array in (images, draws.angles, draws.shifts, draws.holes)]
    for start in range(0, len(images), BATCH):
        augment(*(tensor[start : start + BATCH] for tensor in tensors))
