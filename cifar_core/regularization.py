"""The recipe's L1 term: `l1_factor · Σ_tensors mean(|p|)`, a mean per tensor and then a sum.

Its gradient is `l1_factor · sign(p) / numel(p)`: a large tensor is pulled far less than a small one.
"""

from collections.abc import Sequence

import torch
from torch import Tensor


@torch.no_grad()
def l1_term(parameters: Sequence[Tensor], l1_factor: float) -> Tensor:
    """The value of the term, a scalar on the parameters' device."""
    return l1_factor * torch.stack([parameter.abs().mean() for parameter in parameters]).sum()


@torch.no_grad()
def add_l1_gradient(parameters: Sequence[Tensor], gradients: Sequence[Tensor], l1_factor: float) -> None:
    """Add the term's closed-form gradient to `gradients` in place: what autograd would give, without its graph."""
    if l1_factor:
        for parameter, gradient in zip(parameters, gradients, strict=True):
            gradient.add_(parameter.sign(), alpha=l1_factor / parameter.numel())
