import pytest
import torch

from cifar_core.model import ResNetC


def test_the_recipes_network_has_exactly_its_parameters() -> None:
    assert sum(parameter.numel() for parameter in ResNetC().parameters()) == 6_573_120


def test_only_batch_norm_has_biases() -> None:
    biases = [name for name, _ in ResNetC(0.125).named_parameters() if name.endswith("bias")]
    modules = dict(ResNetC(0.125).named_modules())
    assert biases and all(isinstance(modules[name[:-5]], torch.nn.BatchNorm2d) for name in biases)


@pytest.mark.parametrize(("width", "classes"), [(1 / 64, 2), (0.125, 10), (0.3, 7)])
def test_any_width_gives_one_logit_per_class(width: float, classes: int) -> None:
    assert ResNetC(width, classes)(torch.randn(2, 3, 32, 32)).shape == (2, classes)


def test_head_scale_scales_the_first_logits() -> None:
    logits = []
    for scale in (1.0, 0.1):
        torch.manual_seed(0)
        logits.append(ResNetC(0.125, head_scale=scale).eval()(torch.ones(1, 3, 32, 32)))
    torch.testing.assert_close(logits[1], 0.1 * logits[0])


def test_residual_blocks_add_their_input() -> None:
    network = ResNetC(0.125).eval()
    residual = network.layer1[1]
    for parameter in residual.parameters():
        torch.nn.init.zeros_(parameter)
    x = torch.randn(2, 16, 16, 16)
    torch.testing.assert_close(residual(x), x)
