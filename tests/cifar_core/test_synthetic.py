import numpy as np
import pytest

from cifar_core.synthetic import CLASS_NAMES, make_images


def test_pure_function_of_its_arguments() -> None:
    first, again = make_images(130, seed=3, stream=1), make_images(130, seed=3, stream=1)
    assert first.fingerprint == again.fingerprint
    for seed, stream in ((4, 1), (3, 2)):
        assert make_images(130, seed, stream).fingerprint != first.fingerprint


def test_global_random_state_plays_no_part() -> None:
    np.random.seed(0)
    before = make_images(20, 0, 0).fingerprint
    np.random.seed(1)
    assert make_images(20, 0, 0).fingerprint == before


@pytest.mark.parametrize("count", [1, 10, 64, 65, 203])
def test_classes_are_equally_many(count: int) -> None:
    data = make_images(count, 0, 0)
    counts = np.bincount(data.labels, minlength=len(CLASS_NAMES))
    assert len(data) == count
    assert counts.max() - counts.min() <= 1


def test_label_noise_changes_only_labels_and_always_to_another_class() -> None:
    clean, noisy = make_images(1000, 0, 0), make_images(1000, 0, 0, label_noise=0.2)
    np.testing.assert_array_equal(clean.images, noisy.images)
    changed = np.mean(clean.labels != noisy.labels)
    assert abs(changed - 0.2) < 4 * np.sqrt(0.2 * 0.8 / 1000)
    all_wrong = make_images(200, 0, 0, label_noise=1.0)
    assert (all_wrong.labels != make_images(200, 0, 0).labels).all()


def test_images_are_varied_and_use_the_range_of_grey_levels() -> None:
    images = make_images(200, 0, 0).images
    assert len({image.tobytes() for image in images}) == 200
    assert 90 < images.mean() < 165
    assert images.std() > 30


def test_no_class_is_told_apart_by_its_mean_colour() -> None:
    """A nearest-mean classifier, the simplest there is, stays far from what a network reaches."""
    train, test = make_images(1000, 0, 0), make_images(500, 0, 1)
    means = np.stack([train.images[train.labels == c].mean(0).ravel() for c in range(len(CLASS_NAMES))])
    pixels = test.images.reshape(len(test), -1).astype(np.float64)
    nearest = np.argmin(((means**2).sum(1) - 2 * pixels @ means.T), axis=1)
    assert 0.1 < np.mean(nearest == test.labels) < 0.4
