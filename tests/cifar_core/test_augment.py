from collections.abc import Iterator

import numpy as np
import pytest
import torch
from torch import Tensor

from cifar_core.augment import (
    HOLE,
    MAX_ANGLE,
    MEAN,
    NO_HOLE,
    PAD,
    STD,
    AugmentDraws,
    _normalisation,
    albumentations_pipeline,
    augment,
    draw,
    normalize,
)
from cifar_core.synthetic import make_images

GREY_LEVEL = 1 / (255 * np.array(STD))  # of normalised values, for each channel
IMAGES = make_images(400, seed=0, stream=0).images


@pytest.fixture(autouse=True)
def one_thread() -> Iterator[None]:
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(before)


def run(images: np.ndarray, draws: AugmentDraws) -> Tensor:
    return augment(torch.from_numpy(images), *map(torch.from_numpy, (draws.angles, draws.shifts, draws.holes)))


def grey_levels(normalised: Tensor | np.ndarray) -> np.ndarray:
    """Normalised (B, 3, 32, 32) back to (B, 32, 32, 3) of 0 to 255."""
    return (np.asarray(normalised).transpose(0, 2, 3, 1) * STD + MEAN) * 255


def still(count: int, angle: float = 0.0, shift: int = PAD, hole: int = NO_HOLE) -> AugmentDraws:
    """Draws that do nothing, but for what is given."""
    return AugmentDraws(np.full(count, angle, np.float32), np.full((count, 2), shift), np.full((count, 2), hole))


def applied(draws_of: dict[str, dict[str, np.ndarray]]) -> tuple[float, np.ndarray, np.ndarray]:
    """What Albumentations says that it did to an image, in our terms."""
    angle, hole = 0.0, np.array([NO_HOLE, NO_HOLE])
    if "Rotate" in draws_of:
        matrix = draws_of["Rotate"]["matrix"]
        angle = float(np.degrees(np.arctan2(matrix[0, 1], matrix[0, 0])))
    if "CoarseDropout" in draws_of:
        hole = np.asarray(draws_of["CoarseDropout"]["holes"])[0, 1::-1]
    return angle, np.asarray(draws_of["RandomCrop"]["crop_coords"])[1::-1], hole


@pytest.fixture(scope="module")
def albumentations_run() -> tuple[np.ndarray, AugmentDraws]:
    """What Albumentations made of `IMAGES`, (N, 3, 32, 32), and the draws it did so with."""
    pipeline = albumentations_pipeline(seed=0)
    pipeline.save_applied_params = True  # type: ignore[attr-defined]
    results = [pipeline(image=image) for image in IMAGES]
    angles, shifts, holes = zip(*(applied(dict(result["applied_transforms"])) for result in results), strict=True)
    draws = AugmentDraws(np.array(angles, np.float32), np.array(shifts), np.array(holes))
    return np.stack([result["image"] for result in results]).transpose(0, 3, 1, 2), draws


def test_every_pixel_is_that_of_albumentations(albumentations_run: tuple[np.ndarray, AugmentDraws]) -> None:
    """With equal draws they differ by Albumentations' rounding to whole grey levels, half of one, and no more."""
    theirs, draws = albumentations_run
    difference = np.abs(grey_levels(run(IMAGES, draws)) - grey_levels(theirs))
    assert difference.max() < 0.502
    assert (np.abs(draws.angles) > 0).mean() > 0.4 and (draws.holes != NO_HOLE).mean() > 0.4


def test_distribution_is_that_of_albumentations(albumentations_run: tuple[np.ndarray, AugmentDraws]) -> None:
    """Shares within 4 standard errors, the rest by Kolmogorov and Smirnov's distance at p = 1e-4."""
    theirs = albumentations_run[1]
    ours = draw(20_000, np.random.default_rng(0))
    n = len(theirs)
    for of in (lambda d: d.angles != 0, lambda d: (d.holes != NO_HOLE).all(1)):
        assert abs(of(theirs).mean() - 0.5) < 4 * np.sqrt(0.25 / n)
        assert abs(of(ours).mean() - 0.5) < 4 * np.sqrt(0.25 / len(ours))
    for of in (
        lambda d: d.angles[d.angles != 0],
        lambda d: d.shifts[:, 0],
        lambda d: d.shifts[:, 1],
        lambda d: d.holes[d.holes[:, 0] != NO_HOLE, 0],
        lambda d: d.holes[d.holes[:, 0] != NO_HOLE, 1],
    ):
        assert kolmogorov_smirnov(of(theirs), of(ours)) < 2.23 / np.sqrt(len(of(theirs)))


def kolmogorov_smirnov(first: np.ndarray, second: np.ndarray) -> float:
    """The greatest distance between two empirical distribution functions."""
    at = np.union1d(first, second)
    cumulative = [np.searchsorted(np.sort(sample), at, side="right") / len(sample) for sample in (first, second)]
    return float(np.abs(cumulative[0] - cumulative[1]).max())


def test_pixel_statistics_are_those_of_albumentations(
    albumentations_run: tuple[np.ndarray, AugmentDraws],
) -> None:
    """Mean and sd over the images of each pixel, from other draws than Albumentations'."""
    theirs = albumentations_run[0]
    ours = run(np.repeat(IMAGES, 5, axis=0), draw(5 * len(IMAGES), np.random.default_rng(1))).numpy()
    standard_error = theirs.std(0) / np.sqrt(len(theirs))
    assert (np.abs(ours.mean(0) - theirs.mean(0)) / standard_error).max() < 6
    assert np.abs(ours.std(0) / theirs.std(0) - 1).mean() < 0.05
    assert np.mean(ours == 0) == pytest.approx(np.mean(np.abs(theirs) < 0.4 * GREY_LEVEL.min()), abs=0.02)


def test_draws_are_those_of_the_recipe() -> None:
    draws = draw(20_000, np.random.default_rng(0))
    rotated, cut = draws.angles != 0, draws.holes[:, 0] != NO_HOLE
    assert np.abs(draws.angles).max() <= MAX_ANGLE and np.abs(draws.angles).max() > 0.99 * MAX_ANGLE
    np.testing.assert_array_equal(np.unique(draws.shifts), np.arange(2 * PAD + 1))
    np.testing.assert_array_equal(np.unique(draws.holes[cut]), np.arange(32 - HOLE + 1))
    assert (draws.holes[~cut] == NO_HOLE).all()
    columns = np.column_stack([rotated, cut, draws.shifts]).astype(float)
    correlation = np.corrcoef(columns.T) - np.eye(4)
    assert np.abs(correlation).max() < 5 / np.sqrt(len(draws))
    assert (draws.angles.dtype, draws.shifts.dtype, draws.holes.dtype) == (np.float32, np.int64, np.int64)


def test_a_slice_of_the_draws_holds_the_draws_of_those_images() -> None:
    draws = draw(10, np.random.default_rng(0))
    assert len(draws[7:12]) == 3
    np.testing.assert_array_equal(run(IMAGES[:10], draws)[7:], run(IMAGES[7:10], draws[7:]))


def test_doing_nothing_is_normalising() -> None:
    torch.testing.assert_close(run(IMAGES, still(len(IMAGES))), normalize(torch.from_numpy(IMAGES)), rtol=0, atol=2e-5)


@pytest.mark.parametrize("shift_y", range(2 * PAD + 1))
@pytest.mark.parametrize("shift_x", [0, 3, 8])
def test_crop_without_rotation_moves_whole_pixels(shift_y: int, shift_x: int) -> None:
    """To the rounding of float32, a thousandth of a grey level, and exactly 0 in the padding."""
    draws = AugmentDraws(np.zeros(50, np.float32), np.tile([shift_y, shift_x], (50, 1)), still(50).holes)
    padded = np.pad(normalize(torch.from_numpy(IMAGES[:50])).numpy(), ((0, 0), (0, 0), (PAD, PAD), (PAD, PAD)))
    expected = padded[:, :, shift_y : shift_y + 32, shift_x : shift_x + 32]
    actual = run(IMAGES[:50], draws).numpy()
    assert (np.abs(actual - expected) / GREY_LEVEL[:, None, None]).max() < 2e-3
    assert (actual[expected == 0] == 0).all()


@pytest.mark.parametrize("angle", [-5.0, 0.7, 5.0])
def test_rotation_is_the_rotation_by_hand(angle: float) -> None:
    """Bilinear interpolation in float64, its border reflected without repeating the edge."""
    images = IMAGES[:4].astype(np.float64)
    y, x = np.mgrid[:32, :32] - 15.5
    cosine, sine = np.cos(np.radians(angle)), np.sin(np.radians(angle))
    source_y, source_x = (31 - np.abs(31 - np.abs(at + 15.5)) for at in (sine * x + cosine * y, cosine * x - sine * y))
    top, left = (np.minimum(np.floor(at).astype(int), 30) for at in (source_y, source_x))
    down, right = (source_y - top)[..., None], (source_x - left)[..., None]
    upper = (1 - right) * images[:, top, left] + right * images[:, top, left + 1]
    lower = (1 - right) * images[:, top + 1, left] + right * images[:, top + 1, left + 1]
    expected = (1 - down) * upper + down * lower
    assert np.abs(grey_levels(run(IMAGES[:4], still(4, angle=angle))) - expected).max() < 5e-3


def test_positive_angles_turn_anticlockwise() -> None:
    image = np.zeros((1, 32, 32, 3), np.uint8)
    image[0, 15:17, 28:31] = 255  # right of the centre
    turned = grey_levels(run(image, still(1, angle=5)))[0, ..., 0]
    assert np.average(np.arange(32), weights=turned.clip(0).sum(1)) < 15


@pytest.mark.parametrize("hole", [0, 7, 16])
def test_a_hole_is_16_pixels_square_and_exactly_0(hole: int) -> None:
    actual = run(IMAGES[:9], still(9, hole=hole)).numpy()
    inside = np.zeros((32, 32), bool)
    inside[hole : hole + HOLE, hole : hole + HOLE] = True
    assert (actual[:, :, inside] == 0).all()
    expected = normalize(torch.from_numpy(IMAGES[:9])).numpy()
    np.testing.assert_allclose(actual[:, :, ~inside], expected[:, :, ~inside], atol=2e-5)


def test_images_are_augmented_independently() -> None:
    draws = draw(64, np.random.default_rng(0))
    alone = torch.cat([run(IMAGES[i : i + 1], draws[i : i + 1]) for i in range(64)])
    np.testing.assert_array_equal(run(IMAGES[:64], draws), alone)


@pytest.mark.parametrize("count", [1, 5])
def test_layout_and_type(count: int) -> None:
    for batch in (normalize(torch.from_numpy(IMAGES[:count])), run(IMAGES[:count], still(count))):
        assert batch.shape == (count, 3, 32, 32)
        assert batch.dtype == torch.float32
        assert batch.is_contiguous(memory_format=torch.channels_last)


def test_normalize_is_the_definition() -> None:
    expected = (torch.from_numpy(IMAGES).double() / 255 - torch.tensor(MEAN)) / torch.tensor(STD)
    actual = normalize(torch.from_numpy(IMAGES)).permute(0, 2, 3, 1).double()
    torch.testing.assert_close(actual, expected, rtol=0, atol=1e-6)


def test_a_process_that_evaluates_first_can_still_train() -> None:
    """What normalisation keeps was then made in inference mode."""
    _normalisation.cache_clear()
    with torch.inference_mode():
        normalize(torch.from_numpy(IMAGES[:2]))
    weight = torch.ones(1, requires_grad=True)
    (run(IMAGES[:2], still(2)) * weight).sum().backward()
    assert weight.grad is not None


def test_albumentations_is_a_function_of_its_seed() -> None:
    first, again, other = (
        np.stack([pipeline(image=image)["image"] for image in IMAGES[:8]])
        for pipeline in map(albumentations_pipeline, (0, 0, 1))
    )
    np.testing.assert_array_equal(first, again)
    assert (first != other).any()


def test_albumentations_refuses_an_argument_it_does_not_know(monkeypatch: pytest.MonkeyPatch) -> None:
    """As a version with other argument names would: the augmentation must not silently change."""
    import albumentations
    from albumentations.core.transforms_interface import BaseTransformInitSchema

    class Renamed(albumentations.CoarseDropout):  # type: ignore[misc]
        class InitSchema(BaseTransformInitSchema):  # type: ignore[misc]
            max_holes: int

        def __init__(self, max_holes: int = 1, p: float = 0.5) -> None:
            super().__init__(p=p)

    monkeypatch.setattr(albumentations, "CoarseDropout", Renamed)
    with pytest.raises(ValueError, match="hole_height_range"), pytest.warns(UserWarning):
        albumentations_pipeline(seed=0)
