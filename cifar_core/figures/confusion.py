"""Which classes are mistaken for which, and how well each is recognised."""

from collections.abc import Sequence

import numpy as np
import pandas as pd
from matplotlib.colors import PowerNorm
from matplotlib.figure import Figure
from numpy.typing import NDArray

from cifar_core.figures.style import COLOURS, NEUTRAL, new_axes, style

MOST_CLASSES_WITH_NUMBERS = 20


@style()
def confusion_heatmap(matrix: NDArray[np.int64], class_names: Sequence[str]) -> Figure:
    """Numbers of images; the colour is the share of the actual class.

    Args:
        matrix: int64 (C, C), rows are the actual class, columns the predicted one.
        class_names: C names.
    """
    shares = 100 * matrix / np.maximum(matrix.sum(axis=1, keepdims=True), 1)
    side = 2.2 + 0.46 * len(class_names)
    figure, axes = new_axes(panel_size=(side + 0.9, side))
    # the errors are a few per cent beside a diagonal near 100: a square-root scale shows both
    image = axes.imshow(shares, cmap="Blues", norm=PowerNorm(0.5, 0, 100))
    axes.grid(False)
    axes.set(xlabel="predicted class", ylabel="actual class")
    axes.set_xticks(range(len(class_names)), class_names, rotation=45, ha="right", rotation_mode="anchor")
    axes.set_yticks(range(len(class_names)), class_names)
    if len(class_names) <= MOST_CLASSES_WITH_NUMBERS:
        for (row, column), count in np.ndenumerate(matrix):
            colour = "white" if shares[row, column] > 40 else "black"
            axes.text(column, row, str(count), ha="center", va="center", fontsize=9, color=colour)
    figure.colorbar(image, ax=axes, shrink=0.8, label="share of the actual class (%)", ticks=[0, 1, 5, 20, 50, 100])
    return figure


@style()
def class_accuracies(table: pd.DataFrame, overall: float) -> Figure:
    """A bar for each class, the best on top, with its 95 % interval, and the accuracy of all images as a line.

    Args:
        table: columns `class_name`, `accuracy`, `low`, `high` (shares of 1).
        overall: share of 1.
    """
    table = table.sort_values("accuracy")
    percent = 100 * table[["accuracy", "low", "high"]].to_numpy()
    figure, axes = new_axes(panel_size=(6.0, 1.2 + 0.32 * len(table)))
    reach = np.abs(percent[:, 1:] - percent[:, :1]).T
    axes.barh(table["class_name"], percent[:, 0], xerr=reach, color=COLOURS[5], error_kw={"capsize": 3})
    axes.axvline(100 * overall, color=NEUTRAL, linestyle="--")
    axes.set(xlabel="accuracy (%), with 95 % interval", xlim=(0, 100))
    axes.set_title(f"all images: {100 * overall:.1f} % (dashed)", color=NEUTRAL)
    axes.grid(False, axis="y")
    return figure
