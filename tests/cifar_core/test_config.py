from dataclasses import fields, replace
from pathlib import Path
from typing import Any

import pytest
import yaml
from hypothesis import given
from hypothesis import strategies as st

from cifar_core.config import TrainConfig
from cifar_core.errors import UserError
from cifar_core.options import from_mapping, option_names, to_mapping

configs = st.builds(
    TrainConfig,
    dataset=st.sampled_from(["cifar10", "images", "synthetic"]),
    data_dir=st.text("abc./", min_size=1).map(Path),
    train_size=st.none() | st.integers(1, 10**6),
    seed=st.integers(0, 2**32 - 1),
    width=st.floats(1e-3, 16),
    epochs=st.integers(20, 1000),
    max_lr=st.floats(1e-10, 1e10),
    peak_epoch=st.none() | st.floats(0, 20),
    momentum_low=st.floats(0, 0.5),
    momentum_high=st.floats(0.5, 1),
    device=st.sampled_from(["auto", "cpu", "cuda", "mps"]),
)


def test_defaults_are_the_recipe() -> None:
    config = TrainConfig()
    expected = {
        "dataset": "cifar10", "train_size": None, "val_size": 5000, "width": 1.0, "head_scale": 1.0, "epochs": 24,
        "batch_size": 512, "max_lr": 0.0655, "l1_factor": 0.0005, "div_factor": 10.0, "final_div_factor": 1.0,
        "momentum_low": 0.85, "momentum_high": 0.95, "weight_decay": 1e-4, "augmentation": "batched",
    }  # fmt: skip
    assert {name: getattr(config, name) for name in expected} == expected
    assert config.peak == pytest.approx(5)


def test_every_field_is_an_option() -> None:
    assert option_names(TrainConfig) == [field.name for field in fields(TrainConfig)]


@given(configs)
def test_yaml_gives_an_equal_config_back(config: TrainConfig) -> None:
    assert from_mapping(TrainConfig, yaml.safe_load(yaml.safe_dump(to_mapping(config))), "") == config


@pytest.mark.parametrize(("epochs", "peak_epoch", "peak"), [(24, None, 5), (48, None, 10), (24, 7.5, 7.5), (3, 0, 0)])
def test_peak_is_at_the_seeds_share_unless_it_is_given(epochs: int, peak_epoch: float | None, peak: float) -> None:
    assert TrainConfig(epochs=epochs, peak_epoch=peak_epoch).peak == pytest.approx(peak)


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"peak_epoch": 25}, "peak_epoch is 25; it must be at most epochs (24)"),
        ({"epochs": 2, "peak_epoch": 2.5}, "peak_epoch is 2.5; it must be at most epochs (2)"),
        ({"peak_epoch": -1}, "peak_epoch is -1; it must be at least 0"),
        ({"momentum_low": 0.9, "momentum_high": 0.8}, "momentum_low (0.9) is above momentum_high (0.8)"),
        ({"momentum_high": 1.1}, "momentum_high is 1.1; it must be at least 0 and at most 1"),
        ({"train_size": 0}, "train_size is 0; it must be at least 1"),
        ({"val_size": -1}, "val_size is -1; it must be at least 0"),
        ({"width": 0.0}, "width is 0; it must be above 0 and at most 16"),
        ({"width": 17.0}, "width is 17; it must be above 0 and at most 16"),
        ({"head_scale": 0.0}, "head_scale is 0; it must be above 0"),
        ({"epochs": 0}, "epochs is 0; it must be at least 1"),
        ({"batch_size": 1}, "batch_size is 1; it must be at least 2"),
        ({"max_lr": 0.0}, "max_lr is 0; it must be above 0"),
        ({"max_lr": float("nan")}, "max_lr is nan; it must be above 0"),
        ({"l1_factor": -1.0}, "l1_factor is -1; it must be at least 0"),
        ({"div_factor": 0.5}, "div_factor is 0.5; it must be at least 1"),
        ({"final_div_factor": 0.0}, "final_div_factor is 0; it must be above 0"),
        ({"weight_decay": -1e-4}, "weight_decay is -0.0001; it must be at least 0"),
        ({"seed": -1}, "seed is -1; it must be at least 0 and at most 4294967295"),
        ({"data_seed": 2**32}, "data_seed is 4294967296; it must be at least 0 and at most 4294967295"),
        ({"threads": -1}, "threads is -1; it must be at least 0"),
    ],
)
def test_one_exact_line_for_a_run_that_cannot_be(changes: dict[str, Any], message: str) -> None:
    with pytest.raises(UserError) as caught:
        replace(TrainConfig(), **changes)
    assert str(caught.value) == message
    with pytest.raises(UserError) as caught:
        from_mapping(TrainConfig, changes, "run.yaml")
    assert str(caught.value) == f"run.yaml: {message}"


def test_a_config_does_not_change() -> None:
    with pytest.raises(AttributeError):
        TrainConfig().epochs = 3  # type: ignore[misc]
