"""Where the network looks: Grad-CAM by Captum (Selvaraju et al., arXiv 1610.02391)."""

import numpy as np
from numpy.typing import NDArray
from torch import Tensor, nn

from cifar_core.image_data import SIZE

LAYERS = ("prep", "layer1", "layer2", "layer3")


def grad_cam(model: nn.Module, images: Tensor, targets: Tensor) -> dict[str, NDArray[np.float32]]:
    """How strongly each place of an image speaks for a class, seen by each of `LAYERS`.

    Args:
        model: the network; it is left in evaluation mode.
        images: normalised (B, 3, 32, 32), on the model's device.
        targets: int64 (B,), the class to explain for each image.

    Returns:
        For each layer float32 (B, 32, 32), from 0 to 1, the strongest place of each map being 1 (a map that finds
        nothing is all 0).
    """
    from captum.attr import LayerAttribution, LayerGradCam

    model.eval()
    maps = {}
    for name in LAYERS:
        cam = LayerGradCam(model, model.get_submodule(name))
        coarse = cam.attribute(images, target=targets, relu_attributions=True)
        fine = LayerAttribution.interpolate(coarse, (SIZE, SIZE), "bilinear")
        maps[name] = _scaled(fine[:, 0].detach().float().cpu().numpy())
    return maps


def _scaled(maps: NDArray[np.float32]) -> NDArray[np.float32]:
    peak = maps.max(axis=(1, 2), keepdims=True)
    return np.asarray(maps / np.where(peak > 0, peak, 1), np.float32)
