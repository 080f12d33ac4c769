from collections.abc import Callable
from dataclasses import replace
from typing import Any

import pytest
import torch

from cifar_core.config import TrainConfig
from cifar_core.device import Compute, computes_in_bf16, resolve_compute
from cifar_core.errors import UserError

CPU = TrainConfig(device="cpu")


@pytest.fixture
def machine(monkeypatch: pytest.MonkeyPatch) -> Callable[..., None]:
    """Pretend which devices torch finds and whether they multiply matrices in bf16."""

    def pretend(cuda: bool = False, mps: bool = False, bf16: bool = False, avx512_bf16: bool = False) -> None:
        monkeypatch.setattr(torch.cuda, "is_available", lambda: cuda)
        monkeypatch.setattr(torch.backends.mps, "is_available", lambda: mps)
        monkeypatch.setattr(torch.cuda, "is_bf16_supported", lambda including_emulation: bf16)
        monkeypatch.setattr(torch.cpu, "_is_avx512_bf16_supported", lambda: avx512_bf16)
        monkeypatch.setattr(torch.cpu, "_is_amx_tile_supported", lambda: bf16)

    return pretend


@pytest.mark.parametrize(
    ("cuda", "mps", "expected"),
    [(True, False, "cuda"), (False, True, "mps"), (False, False, "cpu"), (True, True, "cuda")],
)
def test_auto_takes_a_gpu_where_there_is_one(
    machine: Callable[..., None], cuda: bool, mps: bool, expected: str
) -> None:
    machine(cuda=cuda, mps=mps)
    assert resolve_compute(TrainConfig()).device.type == expected


@pytest.mark.parametrize("device", ["cuda", "mps"])
def test_one_line_for_a_device_that_is_not_there(machine: Callable[..., None], device: Any) -> None:
    machine()
    with pytest.raises(UserError, match=rf"device is {device}, but torch finds none here; use --device cpu$"):
        resolve_compute(replace(CPU, device=device))


@pytest.mark.parametrize("device", ["cpu", "cuda"])
@pytest.mark.parametrize("native", [True, False])
def test_auto_precision_is_bf16_where_that_is_native(machine: Callable[..., None], device: Any, native: bool) -> None:
    machine(cuda=True, bf16=native)
    compute = resolve_compute(replace(CPU, device=device))
    assert compute.dtype == (torch.bfloat16 if native else torch.float32)
    assert compute.precision == ("bf16" if native else "fp32")


def test_auto_precision_is_fp32_on_a_cpu_with_bf16_vectors_but_no_tiles(machine: Callable[..., None]) -> None:
    machine(avx512_bf16=True)
    assert resolve_compute(CPU).dtype == torch.float32


@pytest.mark.parametrize("precision", ["fp32", "bf16"])
def test_a_precision_that_was_asked_for_stays(machine: Callable[..., None], precision: Any) -> None:
    machine()
    assert resolve_compute(replace(CPU, precision=precision)).precision == precision


def test_fp32_is_fp32_wherever(machine: Callable[..., None]) -> None:
    machine(cuda=True, bf16=True)
    assert resolve_compute(TrainConfig(precision="fp32")).dtype == torch.float32


def test_bf16_may_be_emulated_on_a_cpu_but_not_on_a_gpu(machine: Callable[..., None]) -> None:
    machine(cuda=True)
    assert resolve_compute(replace(CPU, precision="bf16")).dtype == torch.bfloat16
    with pytest.raises(UserError, match="precision is bf16, but cuda here cannot compute in it; use --precision fp32"):
        resolve_compute(TrainConfig(device="cuda", precision="bf16"))


def test_this_cpu_answers_whether_it_computes_in_bf16() -> None:
    assert isinstance(computes_in_bf16(torch.device("cpu")), bool)


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
def test_forward_passes_compute_in_the_type_that_was_resolved(dtype: torch.dtype) -> None:
    weights = torch.ones(2, 2)
    with Compute(torch.device("cpu"), dtype).autocast():
        assert (weights @ weights).dtype == dtype
