import math
from collections.abc import Iterable, Iterator
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
import torch.nn.functional as F

from cifar_core import checkpoint
from cifar_core.augment import normalize
from cifar_core.datasets import TrainingData
from cifar_core.device import resolve_compute
from cifar_core.history import EpochMetrics
from cifar_core.image_data import ImageData
from cifar_core.model import ResNetC
from cifar_core.schedule import StepSetting, one_cycle
from cifar_core.train import Batch, Optimizer, Trainer, build_model, evaluate, fit, train_step
from tests.cifar_core.tiny import TINY, dark_and_bright, numbers, state, tiny_data, trained

COMPUTE = resolve_compute(TINY)


def model_and_optimizer(l1_factor: float = 0.3, nesterov: bool = False) -> tuple[ResNetC, Optimizer]:
    model = build_model(TINY, 10, COMPUTE)
    return model, Optimizer(model.parameters(), weight_decay=1e-2, l1_factor=l1_factor, nesterov=nesterov)


def test_same_seed_gives_the_same_bits() -> None:
    first, again = trained(), trained()
    assert numbers(first.history) == numbers(again.history)
    torch.testing.assert_close(state(first), state(again), rtol=0, atol=0)


@pytest.mark.parametrize(
    "changes",
    [
        {"seed": 1},
        {"max_lr": 0.0656},
        {"l1_factor": 0.2},
        {"peak_epoch": 2},
        {"augmentation": "none"},
        {"flip": True},
        {"label_smoothing": 0.1},
        {"nesterov": True},
    ],
)
def test_another_setting_does_not(changes: dict[str, object]) -> None:
    assert numbers(trained(1).history)[1] != numbers(trained(1, **changes).history)[1]


def test_a_run_saved_and_loaded_between_epochs_ends_in_the_same_bits(tmp_path: Path) -> None:
    uninterrupted = trained()
    path = tmp_path / "run.pt"
    for _ in range(TINY.epochs):
        trainer = Trainer(TINY, tiny_data())
        if path.exists():
            checkpoint.restore(trainer, path)
        trainer.run_epoch()
        checkpoint.save(trainer, path)
        torch.rand(3), np.random.rand(3)  # what else happens in the process plays no part
    assert trainer.done
    assert numbers(trainer.history) == numbers(uninterrupted.history)
    torch.testing.assert_close(state(trainer), state(uninterrupted), rtol=0, atol=0)


def test_global_random_state_is_neither_read_nor_moved() -> None:
    torch.manual_seed(1)
    np.random.seed(1)
    before = torch.get_rng_state(), np.random.get_state()[1].tolist()  # type: ignore[index]
    first = trained(1)
    assert torch.equal(torch.get_rng_state(), before[0])
    assert np.random.get_state()[1].tolist() == before[1]  # type: ignore[index]
    torch.manual_seed(2)
    np.random.seed(2)
    assert numbers(trained(1).history) == numbers(first.history)


def test_first_weights_are_a_function_of_the_seed() -> None:
    one, same, other = (list(build_model(replace(TINY, seed=seed), 10, COMPUTE).parameters()) for seed in (5, 5, 6))
    torch.testing.assert_close(one, same, rtol=0, atol=0)
    assert not torch.equal(one[0], other[0])


def test_the_recipes_schedule_is_what_the_steps_used() -> None:
    trainer = trained()
    schedule = one_cycle(TINY, steps_per_epoch=4)
    expected = np.array([schedule.at(step) for step in range(12)], np.float32)
    frame = trainer.history.step_frame()
    np.testing.assert_array_equal(frame[["lr", "momentum"]].to_numpy(), expected)
    np.testing.assert_array_equal(trainer.history.epoch_frame()[["lr", "momentum"]], expected[3::4])


@pytest.mark.parametrize(("nesterov", "smoothing"), [(False, 0.0), (True, 0.0), (False, 0.2)])
def test_updates_equal_torchs_sgd_with_autograds_l1(nesterov: bool, smoothing: float) -> None:
    ours, optimizer = model_and_optimizer(nesterov=nesterov)
    theirs = build_model(TINY, 10, COMPUTE)
    sgd = torch.optim.SGD(theirs.parameters(), lr=1, momentum=0.5, weight_decay=1e-2, nesterov=nesterov)
    generator = torch.Generator().manual_seed(0)
    for lr, momentum in ((0.01, 0.95), (0.05, 0.9), (0.1, 0.85), (0.02, 0.9)):
        images = torch.randn(16, 3, 32, 32, generator=generator)
        labels = torch.arange(16) % 10
        result = train_step(ours.train(), optimizer, images, labels, StepSetting(lr, momentum), COMPUTE, smoothing)
        sgd.param_groups[0].update(lr=lr, momentum=momentum)
        cross_entropy = F.cross_entropy(theirs.train()(images), labels, label_smoothing=smoothing)
        l1 = 0.3 * torch.stack([parameter.abs().mean() for parameter in theirs.parameters()]).sum()
        sgd.zero_grad()
        (cross_entropy + l1).backward()  # type: ignore[no-untyped-call]
        sgd.step()
        torch.testing.assert_close(result.loss, cross_entropy.detach(), rtol=1e-4, atol=1e-5)
        torch.testing.assert_close(list(ours.parameters()), list(theirs.parameters()), rtol=1e-3, atol=1e-5)


def test_test_time_flip_scores_the_mean_logits_of_an_image_and_its_mirror_image() -> None:
    trainer = trained(1, test_time_flip=True)
    data = trainer.data.val
    images = normalize(torch.from_numpy(data.images))
    with torch.inference_mode():
        logits = [trainer.model.eval()(seen) for seen in (images, images.flip(3))]
    labels = torch.from_numpy(data.labels)
    last = trainer.history.epochs[-1]
    assert last.val_loss == pytest.approx(float(F.cross_entropy(sum(logits) / 2, labels)), rel=1e-4)
    assert last.val_accuracy == int((sum(logits).argmax(1) == labels).sum()) / len(labels)
    assert last.val_loss != pytest.approx(float(F.cross_entropy(logits[0], labels)), rel=1e-3)


def test_a_step_forgets_its_gradients() -> None:
    model, optimizer = model_and_optimizer()
    train_step(model, optimizer, torch.randn(4, 3, 32, 32), torch.arange(4), StepSetting(0.1, 0.9), COMPUTE)
    assert all(parameter.grad is None for parameter in model.parameters())


def test_hits_are_those_of_the_forward_pass() -> None:
    model, optimizer = model_and_optimizer()
    images, labels = torch.randn(32, 3, 32, 32), torch.arange(32) % 10
    before = build_model(TINY, 10, COMPUTE).train()(images).argmax(1)
    result = train_step(model.train(), optimizer, images, labels, StepSetting(0.1, 0.9), COMPUTE)
    assert int(result.hits) == int((before == labels).sum())


def test_strong_l1_shrinks_the_weights() -> None:
    def mean_sizes(l1_factor: float) -> float:
        return sum(float(p.detach().abs().mean()) for p in trained(l1_factor=l1_factor).model.parameters())

    assert mean_sizes(10.0) < 0.9 * mean_sizes(0.0)


def test_recorded_l1_is_that_of_the_weights_after_the_epoch() -> None:
    trainer = trained(2)
    expected = 0.1 * sum(float(parameter.detach().abs().mean()) for parameter in trainer.model.parameters())
    assert trainer.history.epochs[-1].l1 == pytest.approx(expected, rel=1e-5)


def test_epoch_means_are_per_image_although_the_last_batch_is_short() -> None:
    trainer = trained(1)
    (steps,) = trainer.history.steps
    expected = (32 * steps.loss[:3].astype(np.float64).sum() + 4 * float(steps.loss[3])) / 100
    assert trainer.history.epochs[0].train_loss == pytest.approx(expected, rel=1e-12)
    hits = 100 * trainer.history.epochs[0].train_accuracy
    assert hits == pytest.approx(round(hits), abs=1e-9)


def test_easy_images_are_learned() -> None:
    data = TrainingData(dark_and_bright(64), dark_and_bright(40))
    config = replace(TINY, batch_size=16, epochs=4, max_lr=0.1, l1_factor=0.0)
    epochs = fit(config, data).history.epochs
    assert epochs[-1].train_loss < 0.3 * epochs[0].train_loss
    assert epochs[-1].val_accuracy >= 0.95


def test_a_run_that_diverges_says_so_and_ends() -> None:
    trainer = fit(replace(TINY, max_lr=1e6, epochs=6), tiny_data())
    last = trainer.history.epochs[-1]
    assert last.diverged and trainer.done
    assert not any(epoch.diverged for epoch in trainer.history.epochs[:-1])
    assert trainer.finished_epochs < 6
    assert not math.isfinite(last.val_loss) and math.isnan(last.val_accuracy)


def test_evaluation_equals_a_plain_loop() -> None:
    rng = np.random.default_rng(0)
    images = rng.integers(0, 256, (2050, 32, 32, 3), dtype=np.uint8)  # more than a batch
    data = ImageData(images, rng.integers(0, 10, 2050), tuple("abcdefghij"))
    model = trained(1).model
    before = [tensor.clone() for tensor in model.state_dict().values()]
    loss, accuracy = evaluate(model, data, COMPUTE)
    losses, hits = 0.0, 0
    with torch.no_grad():
        for start in range(0, 2050, 205):
            logits = model.eval()(normalize(torch.from_numpy(images[start : start + 205])))
            labels = torch.from_numpy(data.labels[start : start + 205])
            losses += float(F.cross_entropy(logits.double(), labels, reduction="sum"))
            hits += int((logits.argmax(1) == labels).sum())
    assert loss == pytest.approx(losses / 2050, rel=1e-5)
    assert accuracy == hits / 2050
    torch.testing.assert_close(before, list(model.state_dict().values()), rtol=0, atol=0)


def test_validation_images_have_no_say_in_training() -> None:
    other = Trainer(TINY, TrainingData(tiny_data().train, tiny_data().train))
    other.run_epoch()
    other.run_epoch()
    torch.testing.assert_close(state(other), state(trained(2)), rtol=0, atol=0)


def test_epochs_are_reported_as_they_finish() -> None:
    reported: list[EpochMetrics] = []
    trainer = fit(TINY, tiny_data(), reported.append)
    assert [epoch.epoch for epoch in reported] == [1, 2, 3]
    assert reported == trainer.history.epochs
    assert all(epoch.seconds > 0 for epoch in reported)


def test_done_only_at_the_end_of_the_schedule() -> None:
    trainer = trained(0)
    done = [trainer.done]
    for _ in range(TINY.epochs):
        trainer.run_epoch()
        done.append(trainer.done)
    assert done == [False, False, False, True]


def test_batches_can_be_watched() -> None:
    sizes: list[int] = []

    def watch(batches: Iterable[Batch]) -> Iterator[Batch]:
        for images, labels in batches:
            sizes.append(len(labels))
            yield images, labels

    trainer = Trainer(TINY, tiny_data())
    trainer.run_epoch(watch)
    assert sizes == [32, 32, 32, 4]
    assert numbers(trainer.history) == numbers(trained(1).history)


def test_bf16_keeps_weights_and_momentum_in_fp32() -> None:
    trainer = trained(1, precision="bf16")
    assert all(tensor.dtype in (torch.float32, torch.int64) for tensor in state(trainer))
    assert math.isfinite(trainer.history.epochs[0].val_loss)
    assert trainer.history.epochs[0].train_loss == pytest.approx(trained(1).history.epochs[0].train_loss, rel=0.1)


def test_head_has_an_output_per_class_of_the_data() -> None:
    data = TrainingData(dark_and_bright(8), dark_and_bright(8))
    assert Trainer(TINY, data).model.head.out_channels == 2


def test_threads_are_set() -> None:
    before = torch.get_num_threads()
    try:
        torch.set_num_threads(2)
        Trainer(replace(TINY, threads=0), tiny_data())
        assert torch.get_num_threads() == 2
        Trainer(TINY, tiny_data())
        assert torch.get_num_threads() == 1
    finally:
        torch.set_num_threads(before)
