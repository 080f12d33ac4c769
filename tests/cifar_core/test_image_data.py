import pickle

import numpy as np
import pytest

from cifar_core.errors import UserError
from cifar_core.image_data import ImageData


def make(count: int = 6, classes: int = 3) -> ImageData:
    rng = np.random.default_rng(0)
    images = rng.integers(0, 256, (count, 32, 32, 3), dtype=np.uint8)
    return ImageData(images, np.arange(count) % classes, tuple("abcdefgh"[:classes]))


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"images": np.zeros((6, 32, 32, 3), np.float32)}, "must be uint8"),
        ({"images": np.zeros((6, 28, 28, 3), np.uint8)}, r"must be uint8 \(N, 32, 32, 3\)"),
        ({"images": np.zeros((6, 32, 32), np.uint8)}, r"must be uint8 \(N, 32, 32, 3\)"),
        ({"labels": np.zeros(6, np.int32)}, r"must be int64 \(6,\)"),
        ({"labels": np.zeros(5, np.int64)}, r"must be int64 \(6,\)"),
        ({"labels": np.full(6, 3)}, "from 3 to 3; they must be 0 to 2"),
        ({"labels": np.full(6, -1)}, "from -1 to -1"),
        ({"class_names": ("only",)}, "1 classes; at least 2"),
        ({"images": np.zeros((0, 32, 32, 3), np.uint8), "labels": np.zeros(0, np.int64)}, "no images"),
    ],
)
def test_refuses_what_no_run_could_use(changes: dict[str, object], message: str) -> None:
    data = make()
    fields = {"images": data.images, "labels": data.labels, "class_names": data.class_names}
    with pytest.raises(UserError, match=message):
        ImageData(**(fields | changes))  # type: ignore[arg-type]


def test_subset_keeps_the_given_order() -> None:
    data = make()
    part = data.subset(np.array([4, 1]))
    np.testing.assert_array_equal(part.images, data.images[[4, 1]])
    np.testing.assert_array_equal(part.labels, [1, 1])
    assert len(part) == 2


def test_fingerprint_sees_every_pixel_label_and_name() -> None:
    data = make()
    images, labels = data.images.copy(), data.labels.copy()
    images[5, 31, 31, 2] ^= 1
    labels[0] = 2
    changed = [
        ImageData(images, data.labels, data.class_names),
        ImageData(data.images, labels, data.class_names),
        ImageData(data.images, data.labels, ("a", "b", "other")),
        data.subset(np.array([1, 0, 2, 3, 4, 5])),
    ]
    assert len({data.fingerprint, *(other.fingerprint for other in changed)}) == 5
    assert len(data.fingerprint) == 16
    assert data.fingerprint == make().fingerprint


def test_survives_pickling() -> None:
    data = make()
    assert pickle.loads(pickle.dumps(data)).fingerprint == data.fingerprint


def test_takes_read_only_arrays_as_they_are() -> None:
    data = make()
    data.images.flags.writeable = False
    again = ImageData(data.images, data.labels, data.class_names)
    assert again.images is data.images
    assert again.fingerprint == data.fingerprint
