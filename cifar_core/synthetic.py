"""An embedded data set of ten procedural classes of 32×32 images, for searches without any download.

A class is one of five shapes, solid or hollow. Place, size, angle and colour vary, small objects clutter the
image, and noise covers it. Texture and hue give the class away too, sooner but less surely than the shape: so a
run that learns well goes on to gain where one that learns badly stays. Hyperparameters matter, and by more than
the seed does. Validation accuracy of the network at width 1/8, 3,000 images, 8 epochs in batches of 128:

    max_lr   mean %   sd     n
    0.001    28.6     1.0    3
    0.0056   60.1     3.3    3
    0.032    73.1     0.6    3
    0.18     53.1     8.2    3
    1        10.0     0.0    3

made by `python tests/benchmarks/synthetic_difficulty.py` (torch 2.15, CPU, fp32).
"""

from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from cifar_core.image_data import SIZE, ImageData

SHAPES = ("disk", "triangle", "square", "star", "flower")
CLASS_NAMES = tuple(f"{fill} {shape}" for shape in SHAPES for fill in ("solid", "hollow"))

# Two cues that are quicker to learn than the shape, but can mislead.
TEXTURE_RIGHT = 0.8
HUE_RIGHT = 0.5

# Brightness patterns: waves along and across the object, radians a pixel.
TEXTURES = np.array([[0, 0], [1.6, 0], [0.8, 0], [1.6, 1.6], [0.9, 0.9]], np.float32)
TEXTURE_CONTRAST = 0.25
NOISE_SD = 0.04
MAX_CLUTTER = 3

_CHUNK = 64  # images drawn at a time: the arrays stay in the cache

Floats = NDArray[np.float32]
Integers = NDArray[np.int64]


class _Objects(NamedTuple):
    """One object for each of n images; every array is (n,) unless noted."""

    shape: Integers
    hollow: NDArray[np.bool_]
    texture: Integers
    centre: Floats  # (2, n): y and x, pixels
    radius: Floats  # pixels
    angle: Floats  # radians
    colour: Floats  # (n, 3), 0 to 1


def make_images(count: int, seed: int, stream: int, label_noise: float = 0.0) -> ImageData:
    """Draw images, equally many of each class (give or take one): a pure function of the arguments.

    Args:
        count: number of images.
        seed: seed of everything random.
        stream: images of different streams are independent: one each for training, validation and test.
        label_noise: share of the images that get the label of another class.
    """
    rng = np.random.default_rng((seed, stream))
    classes = rng.permutation(np.arange(count) % len(CLASS_NAMES))
    images = np.empty((count, SIZE, SIZE, 3), np.uint8)
    for start in range(0, count, _CHUNK):
        part = slice(start, start + _CHUNK)
        images[part] = _draw_images(classes[part], rng)
    mislabelled = rng.random(count) < label_noise
    others = (classes + rng.integers(1, len(CLASS_NAMES), count)) % len(CLASS_NAMES)
    return ImageData(images, np.where(mislabelled, others, classes), CLASS_NAMES)


def _draw_images(classes: Integers, rng: np.random.Generator) -> NDArray[np.uint8]:
    """One uint8 (n, 32, 32, 3) image of each class."""
    canvas = _backgrounds(len(classes), rng)
    clutter = rng.integers(0, MAX_CLUTTER + 1, len(classes))
    for layer in range(MAX_CLUTTER):
        here = np.flatnonzero(clutter > layer)
        canvas[here] = _paint(canvas[here], _clutter(len(here), rng))
    canvas = _paint(canvas, _class_objects(classes, rng))
    canvas += np.float32(NOISE_SD) * rng.standard_normal(canvas.shape, np.float32)
    return (255 * canvas.clip(0, 1)).astype(np.uint8).transpose(0, 2, 3, 1)


def _backgrounds(count: int, rng: np.random.Generator) -> Floats:
    """Tinted grey ramps in a random direction, (n, 3, 32, 32)."""
    colour = _uniform(rng, 0.25, 0.75, (count, 1, 1, 1)) + _uniform(rng, -0.12, 0.12, (count, 3, 1, 1))
    slope_y, slope_x = _uniform(rng, -0.3, 0.3, (2, count, 1, 1, 1))
    ramp = np.linspace(-0.5, 0.5, SIZE, dtype=np.float32)
    background: Floats = colour + slope_y * ramp[:, None] + slope_x * ramp
    return background


def _class_objects(classes: Integers, rng: np.random.Generator) -> _Objects:
    """Objects whose shape is that of their class, and whose texture and hue often are."""
    n = len(classes)
    texture = np.where(rng.random(n) < TEXTURE_RIGHT, classes, rng.integers(0, len(TEXTURES), n))
    hue = np.where(rng.random(n) < HUE_RIGHT, classes / len(CLASS_NAMES), rng.random(n))
    return _Objects(
        shape=classes // 2,
        hollow=classes % 2 == 1,
        texture=texture % len(TEXTURES),
        centre=_uniform(rng, 12, 19, (2, n)),
        radius=_uniform(rng, 8, 12, n),
        angle=_uniform(rng, 0, 2 * np.pi, n),
        colour=_colours(hue, rng),
    )


def _clutter(n: int, rng: np.random.Generator) -> _Objects:
    """Small objects of any kind, anywhere."""
    return _Objects(
        shape=rng.integers(0, len(SHAPES), n),
        hollow=rng.random(n) < 0.5,
        texture=rng.integers(0, len(TEXTURES), n),
        centre=_uniform(rng, 0, SIZE - 1, (2, n)),
        radius=_uniform(rng, 2, 5, n),
        angle=_uniform(rng, 0, 2 * np.pi, n),
        colour=_colours(rng.random(n), rng),
    )


def _colours(hue: NDArray[np.float64], rng: np.random.Generator) -> Floats:
    """Colours of these hues (0 to 1, cyclic) in random strength and brightness, (n, 3)."""
    phase = 2 * np.pi * (hue[:, None] + np.arange(3) / 3)
    brightness, strength = _uniform(rng, 0.25, 0.75, (len(hue), 1)), _uniform(rng, 0.15, 0.3, (len(hue), 1))
    return (brightness + strength * np.cos(phase)).astype(np.float32)


def _paint(canvas: Floats, objects: _Objects) -> Floats:
    """The canvas (n, 3, 32, 32) with one object in each image."""
    pixel = np.arange(SIZE, dtype=np.float32)
    y = pixel[:, None] - objects.centre[0, :, None, None]
    x = pixel - objects.centre[1, :, None, None]
    cosine, sine = np.cos(objects.angle)[:, None, None], np.sin(objects.angle)[:, None, None]
    along, across = cosine * x + sine * y, cosine * y - sine * x
    waves = TEXTURES[objects.texture, :, None, None]
    pattern = np.cos(waves[:, 0] * along) * np.cos(waves[:, 1] * across) * np.float32(TEXTURE_CONTRAST)
    colour = objects.colour[:, :, None, None] + pattern[:, None]
    painted: Floats = canvas + _coverage(objects, along, across)[:, None] * (colour - canvas)
    return painted


def _coverage(objects: _Objects, along: Floats, across: Floats) -> Floats:
    """Share of each pixel that the object covers, (n, 32, 32), from its coordinates in the object's frame."""
    outlines = _outlines()
    direction = (np.arctan2(across, along) * np.float32(outlines.shape[1] / (2 * np.pi))).astype(np.intp)
    edge = outlines[objects.shape[:, None, None], direction] * objects.radius[:, None, None]
    distance = np.hypot(along, across)
    inner_edge = edge * np.where(objects.hollow, np.float32(0.55), np.float32(-1))[:, None, None]
    cover: Floats = (edge - distance + 0.5).clip(0, 1) - (inner_edge - distance + 0.5).clip(0, 1)
    return cover


def _outlines() -> Floats:
    """The shapes, in the order of `SHAPES`, as their radius in each of 256 directions: (5, 256)."""
    angle = np.arange(256) * 2 * np.pi / 256

    def polygon(corners: int) -> NDArray[np.float64]:
        sector = 2 * np.pi / corners
        radius: NDArray[np.float64] = np.cos(sector / 2) / np.cos(angle % sector - sector / 2)
        return radius

    disk = np.full_like(angle, 0.85)
    star = 1.2 / (1 + 2.4 * np.abs(angle * 5 / (2 * np.pi) % 1 - 0.5))
    flower = 0.75 + 0.25 * np.cos(4 * angle)
    return np.stack([disk, 1.15 * polygon(3), polygon(4), star, flower]).astype(np.float32)


def _uniform(rng: np.random.Generator, low: float, high: float, shape: int | tuple[int, ...]) -> Floats:
    return np.float32(low) + np.float32(high - low) * rng.random(shape, np.float32)
