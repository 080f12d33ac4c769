import math
from dataclasses import replace
from pathlib import Path

import pytest
import torch
from torch import nn

from cifar_core import checkpoint
from cifar_core.averaging import weight_average
from cifar_core.train import Trainer, evaluate
from tests.cifar_core.tiny import TINY, numbers, state, tiny_data, trained


def test_the_average_by_hand() -> None:
    model = nn.Linear(1, 1, bias=False)
    average = weight_average(model, steps=1 / math.log(2))  # each step weighs half as much as the next
    for weight in (8.0, 4.0, 0.0):
        nn.init.constant_(model.weight, weight)
        average.update_parameters(model)
    assert average.module.weight.item() == pytest.approx(((8 + 4) / 2 + 0) / 2)


def test_statistics_of_batchnorm_are_averaged_too_and_its_counter_is_the_models() -> None:
    model = nn.BatchNorm1d(1)
    average = weight_average(model, steps=1 / math.log(2))
    for step, mean in enumerate((8.0, 4.0), start=1):
        model.running_mean.fill_(mean)  # type: ignore[union-attr,operator]
        model.num_batches_tracked.fill_(step)  # type: ignore[union-attr,operator]
        average.update_parameters(model)
    assert average.module.running_mean.item() == pytest.approx(6.0)
    assert average.module.num_batches_tracked.dtype == torch.int64


def test_training_is_the_same_with_and_without_an_average() -> None:
    with_average, without = trained(2, ema_epochs=0.5), trained(2)
    torch.testing.assert_close(state(with_average), state(without), rtol=0, atol=0)
    for ours, theirs in zip(with_average.history.epochs, without.history.epochs, strict=True):
        assert replace(ours, seconds=0, ema_val_loss=None, ema_val_accuracy=None) == replace(theirs, seconds=0)
        assert ours.ema_val_accuracy is not None and theirs.ema_val_accuracy is None


def test_the_average_is_scored_on_the_validation_images_where_it_is_asked_for() -> None:
    trainer = trained(1, ema_epochs=0.5)
    assert trainer.average is not None
    last = trainer.history.epochs[-1]
    assert (last.ema_val_loss, last.ema_val_accuracy) == evaluate(trainer.average, trainer.data.val, trainer.compute)
    unasked = trainer.run_epoch(score_average=False)
    assert (unasked.ema_val_loss, unasked.ema_val_accuracy) == (None, None)


def test_a_diverged_run_has_no_average_to_score() -> None:
    last = trained(1, ema_epochs=0.5, max_lr=1e6).history.epochs[-1]
    assert last.diverged and last.ema_val_accuracy is None


def test_a_run_that_was_interrupted_goes_on_with_its_average(tmp_path: Path) -> None:
    whole = trained(3, ema_epochs=0.5)
    checkpoint.save(trained(1, ema_epochs=0.5), tmp_path / "run.pt")
    resumed = Trainer(replace(TINY, ema_epochs=0.5), tiny_data())
    checkpoint.restore(resumed, tmp_path / "run.pt")
    resumed.run_epoch()
    resumed.run_epoch()
    assert numbers(resumed.history) == numbers(whole.history)
    assert resumed.history.epochs[-1].ema_val_loss == whole.history.epochs[-1].ema_val_loss
