"""Grad-CAM maps over their images."""

from collections.abc import Mapping, Sequence

import numpy as np
from matplotlib.cm import ScalarMappable
from matplotlib.figure import Figure
from numpy.typing import NDArray

from cifar_core.figures.style import new_figure, style

HEAT = "inferno"


@style()
def grad_cam_maps(
    images: NDArray[np.uint8], maps: Mapping[str, NDArray[np.float32]], captions: Sequence[str]
) -> Figure:
    """One row per image: the image, then its map of each layer over the image in grey.

    Args:
        images: uint8 (N, 32, 32, 3).
        maps: for each layer float32 (N, 32, 32), 0 to 1.
        captions: N, at the left of the rows.
    """
    figure, axes = new_figure(len(images), 1 + len(maps), panel_size=(1.75, 1.28))
    figure.set_layout_engine("compressed")  # for panels of fixed proportions
    grey = images.mean(axis=3)
    for row, caption in enumerate(captions):
        axes[row, 0].imshow(images[row], interpolation="nearest")
        axes[row, 0].set_ylabel(caption, rotation=0, ha="right", va="center")
        for panel, heat in zip(axes[row, 1:], maps.values(), strict=True):
            panel.imshow(grey[row], cmap="gray", vmin=0, vmax=255, interpolation="nearest")
            panel.imshow(heat[row], cmap=HEAT, vmin=0, vmax=1, alpha=0.65, interpolation="nearest")
    for panel, title in zip(axes[0], ("image", *maps), strict=True):
        panel.set_title(title)
    for panel in axes.ravel():
        panel.set(xticks=[], yticks=[])
        panel.spines[:].set_visible(False)
    heat_scale = ScalarMappable(cmap=HEAT)
    figure.colorbar(heat_scale, ax=axes, shrink=0.6, label="evidence for the class seen (1: peak)")
    return figure
