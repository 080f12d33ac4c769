import pytest
import torch

from cifar_core.model import ResNetC
from cifar_core.regularization import add_l1_gradient, l1_term


def test_closed_form_gradient_equals_autograds() -> None:
    parameters = [parameter.detach().double().requires_grad_() for parameter in ResNetC(0.125).parameters()]
    factor = 0.37
    value = factor * torch.stack([parameter.abs().mean() for parameter in parameters]).sum()
    expected = torch.autograd.grad(value, parameters)
    gradients = [torch.zeros_like(parameter) for parameter in parameters]
    add_l1_gradient([parameter.detach() for parameter in parameters], gradients, factor)
    torch.testing.assert_close(gradients, list(expected), rtol=1e-12, atol=1e-15)
    assert l1_term(parameters, factor).item() == pytest.approx(value.item(), rel=1e-12)


def test_gradient_of_a_weight_that_is_zero_is_zero() -> None:
    gradients = [torch.full((3,), 2.0)]
    add_l1_gradient([torch.tensor([-1.0, 0.0, 1.0])], gradients, 3.0)
    assert gradients[0].tolist() == [1.0, 2.0, 3.0]


def test_factor_zero_leaves_the_gradients_alone() -> None:
    gradients = [torch.ones(2)]
    add_l1_gradient([torch.ones(2)], gradients, 0.0)
    assert gradients[0].tolist() == [1.0, 1.0]
