"""Pictures of the images themselves."""

from collections.abc import Sequence
from math import ceil

import numpy as np
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from numpy.typing import NDArray

from cifar_core.figures.style import BAD, NEUTRAL, new_figure, style

CLASS_COLUMNS = 2
MISTAKE_COLUMNS = 5


@style()
def class_samples(images: NDArray[np.uint8], labels: NDArray[np.int64], class_names: Sequence[str]) -> Figure:
    """The images of each class in a row, the classes in two columns.

    Args:
        images: uint8 (N, 32, 32, 3).
        labels: int64 (N,).
        class_names: one name for each class.
    """
    per_class = int(np.bincount(labels).max())
    rows = ceil(len(class_names) / CLASS_COLUMNS)
    figure, axes = new_figure(rows, CLASS_COLUMNS, panel_size=(1.3 + 0.8 * per_class, 0.95))
    figure.set_layout_engine("compressed")  # for panels of fixed proportions
    for label, panel in enumerate(axes.T.ravel()):
        _bare(panel)
        if label < len(class_names):
            panel.imshow(_row(images[labels == label], per_class), interpolation="nearest")
            panel.set_ylabel(class_names[label].replace(" ", "\n"), rotation=0, ha="right", va="center")
    return figure


@style()
def mistakes(images: NDArray[np.uint8], table: pd.DataFrame) -> Figure:
    """Misclassified images with the predicted class, its probability, and the actual class.

    Args:
        images: uint8 (N, 32, 32, 3).
        table: N rows with `label_name`, `predicted_name` and the probabilities `p_<class name>`.
    """
    rows = max(1, ceil(len(images) / MISTAKE_COLUMNS))
    figure, axes = new_figure(rows, MISTAKE_COLUMNS, panel_size=(1.7, 2.25))
    figure.set_layout_engine("compressed")
    figure.suptitle("predicted class and its probability above, actual class below", fontsize=11, color=NEUTRAL)
    for panel in axes.ravel():
        _bare(panel)
    for panel, image, (_, row) in zip(axes.ravel(), images, table.iterrows(), strict=False):
        panel.imshow(image, interpolation="nearest")
        panel.set_title(f"{row['predicted_name']} {row['p_' + row['predicted_name']]:.0%}", fontsize=11, color=BAD)
        panel.set_xlabel(row["label_name"])
    return figure


def _bare(axes: Axes) -> None:
    """Only the picture and its labels."""
    axes.set(xticks=[], yticks=[])
    axes.spines[:].set_visible(False)


def _row(images: NDArray[np.uint8], places: int) -> NDArray[np.uint8]:
    """Images side by side in white frames, empty places at the right white: (34, 34·places, 3)."""
    frame = ((0, places - len(images)), (1, 1), (1, 1), (0, 0))
    return np.hstack(list(np.pad(images, frame, constant_values=255)))
