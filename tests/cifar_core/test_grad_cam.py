import numpy as np
import torch
import torch.nn.functional as F

from cifar_core.grad_cam import LAYERS, grad_cam
from cifar_core.model import ResNetC


def test_maps_are_those_of_the_paper() -> None:
    torch.manual_seed(0)
    model = ResNetC(1 / 16).eval()
    images, targets = torch.randn(3, 3, 32, 32), torch.tensor([4, 0, 9])
    maps = grad_cam(model, images, targets)

    features = model.layer2(model.layer1(model.prep(images)))
    logits = model.head(model.pool(model.layer3(features))).flatten(1)
    (gradient,) = torch.autograd.grad(logits.gather(1, targets[:, None]).sum(), features)
    expected = F.relu((gradient.mean((2, 3), keepdim=True) * features).sum(1, keepdim=True))
    expected = F.interpolate(expected, (32, 32), mode="bilinear")[:, 0].detach()
    peaks = expected.amax((1, 2), keepdim=True)
    np.testing.assert_allclose(maps["layer2"], expected / peaks.where(peaks > 0, 1), atol=1e-5)


def test_every_layer_has_a_map_from_0_to_1_and_the_weights_get_no_gradient() -> None:
    torch.manual_seed(1)
    model = ResNetC(1 / 16)
    maps = grad_cam(model, torch.randn(2, 3, 32, 32), torch.tensor([1, 2]))
    assert tuple(maps) == LAYERS
    for heat in maps.values():
        assert heat.shape == (2, 32, 32) and heat.dtype == np.float32
        assert heat.min() >= 0 and set(heat.max(axis=(1, 2))) <= {0.0, 1.0}
    assert any(heat.any() for heat in maps.values())
    assert all(parameter.grad is None for parameter in model.parameters())
