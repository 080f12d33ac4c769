"""Loss and accuracy against the epoch."""

from typing import TypeAlias

import pandas as pd
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import MaxNLocator

from cifar_core.figures.style import COLOURS, new_figure, style

Column: TypeAlias = "pd.Series[float]"

TRAIN, WATCHED = COLOURS[0], COLOURS[3]


@style()
def learning_curves(epochs: pd.DataFrame, watched: str = "validation") -> Figure:
    """Two panels, loss and accuracy, for training and `watched` images.

    Args:
        epochs: columns `epoch`, `train_loss`, `val_loss`, `train_accuracy`, `val_accuracy` (shares of 1).
        watched: what the `val_` columns were measured on.
    """
    figure, axes = new_figure(columns=2)
    loss, accuracy = axes[0]
    _pair(loss, epochs["epoch"], epochs["train_loss"], epochs["val_loss"], watched)
    _pair(accuracy, epochs["epoch"], 100 * epochs["train_accuracy"], 100 * epochs["val_accuracy"], watched)
    loss.set(ylabel="mean cross-entropy (nat)", title="Loss")
    accuracy.set(ylabel="accuracy (%)", title="Accuracy")
    loss.legend()
    return figure


def _pair(axes: Axes, epoch: Column, train: Column, val: Column, watched: str) -> None:
    axes.plot(epoch, train, color=TRAIN, marker="o", markersize=4, label="training, augmented")
    axes.plot(epoch, val, color=WATCHED, marker="s", markersize=4, label=watched)
    axes.set_xlabel("epoch")
    axes.xaxis.set_major_locator(MaxNLocator(integer=True))
