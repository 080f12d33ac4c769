import warnings
from collections.abc import Iterator
from dataclasses import replace

import numpy as np
import pytest
import torch
from torch import Tensor

from cifar_core.augment import augment, draw, normalize
from cifar_core.config import TrainConfig
from cifar_core.image_data import ImageData
from cifar_core.loader import TrainLoader, epoch_rng, eval_batches
from cifar_core.synthetic import make_images

CPU = torch.device("cpu")
DATA = make_images(70, seed=0, stream=0)
CONFIG = TrainConfig(dataset="synthetic", batch_size=32)
PLAIN = replace(CONFIG, augmentation="none")


@pytest.fixture(autouse=True)
def one_thread() -> Iterator[None]:
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(before)


def epoch_of(config: TrainConfig, epoch: int, data: ImageData = DATA) -> tuple[Tensor, Tensor]:
    images, labels = zip(*TrainLoader(data, config, CPU).batches(epoch), strict=True)
    return torch.cat(images), torch.cat(labels)


def keys(images: Tensor) -> list[bytes]:
    return [image.numpy().tobytes() for image in images]


@pytest.mark.parametrize(("count", "sizes"), [(64, [32, 32]), (65, [32, 32, 1]), (70, [32, 32, 6]), (20, [20])])
def test_the_last_short_batch_is_kept(count: int, sizes: list[int]) -> None:
    loader = TrainLoader(DATA.subset(np.arange(count)), CONFIG, CPU)
    assert [len(labels) for _, labels in loader.batches(0)] == sizes
    assert loader.steps_per_epoch == len(sizes)


@pytest.mark.parametrize("augmentation", ["batched", "albumentations", "none"])
def test_batches_are_what_the_network_takes(augmentation: str) -> None:
    for images, labels in TrainLoader(DATA, replace(CONFIG, augmentation=augmentation), CPU).batches(0):
        assert images.shape[1:] == (3, 32, 32) and labels.shape == images.shape[:1]
        assert (images.dtype, labels.dtype) == (torch.float32, torch.int64)
        assert images.is_contiguous(memory_format=torch.channels_last)


def test_an_epoch_has_every_image_once_with_its_label() -> None:
    images, labels = epoch_of(PLAIN, 0)
    expected = dict(zip(keys(normalize(torch.from_numpy(DATA.images))), DATA.labels.tolist(), strict=True))
    assert dict(zip(keys(images), labels.tolist(), strict=True)) == expected
    assert labels.tolist() != DATA.labels.tolist()


@pytest.mark.parametrize("augmentation", ["batched", "albumentations", "none"])
def test_pure_function_of_seed_and_epoch(augmentation: str) -> None:
    config = replace(CONFIG, augmentation=augmentation)
    third, _ = epoch_of(config, 3)
    loader = TrainLoader(DATA, config, CPU)
    for epoch in (0, 3):  # after another epoch, and with the global generators somewhere else
        torch.manual_seed(epoch)
        again = torch.cat([images for images, _ in loader.batches(epoch)])
    torch.testing.assert_close(third, again, rtol=0, atol=0)
    for other in (epoch_of(config, 4), epoch_of(replace(config, seed=1), 3)):
        assert not torch.equal(third, other[0])


def test_order_is_the_same_for_every_augmentation() -> None:
    orders = [epoch_of(replace(CONFIG, augmentation=kind), 2)[1] for kind in ("batched", "albumentations", "none")]
    assert torch.equal(orders[0], orders[1]) and torch.equal(orders[0], orders[2])


def test_batched_augmentation_is_that_of_the_epochs_draws() -> None:
    """Each image gets its own draws, also in the later batches."""
    rng = epoch_rng(CONFIG.seed, 5)
    order, draws = rng.permutation(len(DATA)), draw(len(DATA), rng)
    tensors = map(torch.from_numpy, (DATA.images[order], draws.angles, draws.shifts, draws.holes))
    torch.testing.assert_close(epoch_of(CONFIG, 5)[0], augment(*tensors), rtol=0, atol=0)


def test_flip_mirrors_half_of_the_images_and_moves_no_other_draw() -> None:
    plain, _ = epoch_of(replace(CONFIG, augmentation="none"), 5)
    flipped, _ = epoch_of(replace(CONFIG, augmentation="none", flip=True), 5)
    kept = (plain == flipped).flatten(1).all(1)
    mirrored = (plain.flip(3) == flipped).flatten(1).all(1)
    assert (kept ^ mirrored).all()
    assert 0.2 < mirrored.float().mean() < 0.8
    rng = epoch_rng(CONFIG.seed, 5)
    order, draws, chosen = rng.permutation(len(DATA)), draw(len(DATA), rng), rng.random(len(DATA)) < 0.5
    images = np.where(chosen[:, None, None, None], DATA.images[order][:, :, ::-1], DATA.images[order])
    tensors = map(torch.from_numpy, (images, draws.angles, draws.shifts, draws.holes))
    torch.testing.assert_close(epoch_of(replace(CONFIG, flip=True), 5)[0], augment(*tensors), rtol=0, atol=0)


def test_epochs_do_not_repeat_the_data_splits_stream() -> None:
    assert epoch_rng(0, 0).integers(2**60) != np.random.default_rng((0, 0)).integers(2**60)
    assert len({int(epoch_rng(seed, epoch).integers(2**60)) for seed in range(8) for epoch in range(8)}) == 64


def test_cpu_images_are_shared_not_copied_and_never_written() -> None:
    data = make_images(70, seed=0, stream=0)
    data.images.flags.writeable = data.labels.flags.writeable = False
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        loader = TrainLoader(data, CONFIG, CPU)
    assert loader.images.data_ptr() == data.images.ctypes.data
    for images, labels in loader.batches(0):
        images.zero_()
        labels.zero_()
    assert data.fingerprint == DATA.fingerprint


@pytest.mark.parametrize("batch_size", [1, 32, 70, 2000])
def test_evaluation_has_all_images_in_order(batch_size: int) -> None:
    images, labels = zip(*eval_batches(DATA, CPU, batch_size), strict=True)
    assert torch.equal(torch.cat(images), normalize(torch.from_numpy(DATA.images)))
    assert torch.equal(torch.cat(labels), torch.from_numpy(DATA.labels))


@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a CUDA device")
def test_on_a_gpu_no_step_waits_and_the_batches_are_the_same() -> None:
    loader = TrainLoader(DATA, CONFIG, torch.device("cuda"))
    list(loader.batches(0))
    batches = loader.batches(1)
    collected = [next(batches)]  # the epoch's order and draws are copied here
    torch.cuda.set_sync_debug_mode("error")
    try:
        collected += list(batches)
    finally:
        torch.cuda.set_sync_debug_mode("default")
    images, labels = epoch_of(CONFIG, 1)
    torch.testing.assert_close(torch.cat([batch for batch, _ in collected]).cpu(), images, rtol=0, atol=1e-4)
    assert torch.equal(torch.cat([batch for _, batch in collected]).cpu(), labels)
