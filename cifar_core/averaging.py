"""An exponential moving average of a network's weights, scored beside the weights themselves.

While the learning rate is high the weights jump about their mean: the mean tells settings apart earlier than they do
(arXiv 2411.18704). Training never sees it.
"""

import math

from torch import nn
from torch.optim.swa_utils import AveragedModel, get_ema_multi_avg_fn


def weight_average(model: nn.Module, steps: float) -> AveragedModel:
    """The average of `model` over about the last `steps` updates, BatchNorm statistics included.

    It starts with the first weights that it is given by `update_parameters`.
    """
    follow = get_ema_multi_avg_fn(math.exp(-1 / steps))  # type: ignore[no-untyped-call]
    return AveragedModel(model, multi_avg_fn=follow, use_buffers=True)
