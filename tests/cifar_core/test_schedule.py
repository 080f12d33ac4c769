import warnings

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from cifar_core.config import TrainConfig
from cifar_core.schedule import one_cycle


def torch_schedule(config: TrainConfig, steps_per_epoch: int) -> list[tuple[float, float]]:
    optimizer = torch.optim.SGD([torch.zeros(1, requires_grad=True)], lr=1.0, momentum=0.9)
    total = config.epochs * steps_per_epoch
    scheduler = torch.optim.lr_scheduler.OneCycleLR(
        optimizer,
        max_lr=config.max_lr,
        total_steps=total,
        pct_start=config.peak / config.epochs,
        anneal_strategy="linear",
        div_factor=config.div_factor,
        final_div_factor=config.final_div_factor,
    )
    settings = []
    for step in range(total):
        settings.append((optimizer.param_groups[0]["lr"], optimizer.param_groups[0]["momentum"]))
        if step < total - 1:
            with warnings.catch_warnings():
                warnings.simplefilter("ignore")  # stepping without an optimizer step is meant
                scheduler.step()
    return settings


@pytest.mark.parametrize("peak_epoch", [None, 7.25])
def test_equals_torch_at_every_step_of_the_recipe(peak_epoch: float | None) -> None:
    config = TrainConfig(peak_epoch=peak_epoch)
    ours = one_cycle(config, steps_per_epoch=98)
    theirs = torch_schedule(config, 98)
    assert len(theirs) == ours.total_steps == 2352
    np.testing.assert_allclose([ours.at(step) for step in range(2352)], theirs, rtol=1e-12)


def test_the_recipes_landmarks() -> None:
    schedule = one_cycle(TrainConfig(), steps_per_epoch=98)
    assert schedule.at(0) == pytest.approx((0.00655, 0.95))
    assert schedule.at(489) == pytest.approx((0.0655, 0.85))
    assert schedule.at(2351) == pytest.approx((0.00655, 0.95))


@given(epochs=st.integers(1, 30), steps=st.integers(1, 50), share=st.floats(0, 1), factor=st.floats(1.5, 100))
def test_rises_to_max_lr_and_falls_whatever_the_peak(epochs: int, steps: int, share: float, factor: float) -> None:
    config = TrainConfig(epochs=epochs, peak_epoch=share * epochs, div_factor=factor, final_div_factor=factor)
    schedule = one_cycle(config, steps)
    lrs = [schedule.at(step).lr for step in range(schedule.total_steps)]
    peak = lrs.index(max(lrs))
    assert max(lrs) <= config.max_lr * (1 + 1e-12)
    assert abs(peak - max(0, schedule.peak_step)) <= 1
    assert lrs[:peak] == sorted(lrs[:peak]) and lrs[peak:] == sorted(lrs[peak:], reverse=True)


@pytest.mark.parametrize("step", [-1, 2352])
def test_refuses_a_step_outside_the_schedule(step: int) -> None:
    with pytest.raises(ValueError, match="outside the schedule"):
        one_cycle(TrainConfig(), steps_per_epoch=98).at(step)
