"""What a trained network says about each image, and the tables made from it."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property
from typing import TYPE_CHECKING

import numpy as np
import torch
import torch.nn.functional as F
from numpy.typing import NDArray
from torch import nn

from cifar_core.device import Compute
from cifar_core.image_data import ImageData
from cifar_core.intervals import wilson_interval
from cifar_core.loader import eval_batches

if TYPE_CHECKING:
    import pandas as pd


@dataclass(frozen=True, eq=False)
class Predictions:
    """A network's answer for N images of C classes.

    Attributes:
        log_probabilities: float32 (N, C).
        labels: int64 (N,), the images' own classes.
        class_names: C names.
    """

    log_probabilities: NDArray[np.float32]
    labels: NDArray[np.int64]
    class_names: tuple[str, ...]

    @cached_property
    def probabilities(self) -> NDArray[np.float32]:
        """float32 (N, C); rows sum to 1."""
        return np.exp(self.log_probabilities)

    @cached_property
    def predicted(self) -> NDArray[np.int64]:
        """int64 (N,): the most probable class."""
        best: NDArray[np.int64] = self.log_probabilities.argmax(1)
        return best

    @property
    def accuracy(self) -> float:
        """Share of the images whose class is the most probable one."""
        return float((self.predicted == self.labels).mean())

    @property
    def loss(self) -> float:
        """Mean cross-entropy per image."""
        return -float(np.take_along_axis(self.log_probabilities, self.labels[:, None], 1).mean(dtype=np.float64))


@torch.inference_mode()
def predict(model: nn.Module, data: ImageData, compute: Compute) -> Predictions:
    """Run the network over all images, not augmented."""
    model.eval()
    parts = []
    for images, _ in eval_batches(data, compute.device):
        with compute.autocast():
            logits = model(images)
        parts.append(F.log_softmax(logits.float(), dim=1))
    return Predictions(torch.cat(parts).cpu().numpy(), data.labels, data.class_names)


def misclassified(predictions: Predictions) -> pd.DataFrame:
    """One row per wrong image, the most confident mistake first.

    Columns: `index` (in the data set that was predicted), `label` and `predicted` (class numbers), `label_name`,
    `predicted_name`, and one probability per class, `p_<class name>`.
    """
    import pandas as pd

    wrong = np.flatnonzero(predictions.predicted != predictions.labels)
    confidence = predictions.probabilities[wrong].max(1, initial=0)
    wrong = wrong[np.argsort(-confidence, kind="stable")]
    names = np.array(predictions.class_names)
    label, predicted = predictions.labels[wrong], predictions.predicted[wrong]
    columns = {
        "index": wrong,
        "label": label,
        "predicted": predicted,
        "label_name": names[label],
        "predicted_name": names[predicted],
    }
    probabilities = dict(zip((f"p_{name}" for name in names), predictions.probabilities[wrong].T, strict=True))
    return pd.DataFrame(columns | probabilities)


def confusion_matrix(predictions: Predictions) -> NDArray[np.int64]:
    """Counts of images, int64 (C, C): rows are the actual class, columns the predicted one."""
    classes = len(predictions.class_names)
    cells = np.bincount(predictions.labels * classes + predictions.predicted, minlength=classes**2)
    return cells.reshape(classes, classes)


def per_class_accuracy(predictions: Predictions) -> pd.DataFrame:
    """One row per class: `class_name`, `images`, `accuracy` and its 95 % interval, `low` to `high` (shares of 1)."""
    import pandas as pd

    matrix = confusion_matrix(predictions)
    images, hits = matrix.sum(1), matrix.diagonal()
    low, high = wilson_interval(hits, images)
    with np.errstate(invalid="ignore"):  # a class without images has no accuracy: NaN
        accuracy = hits / images
    columns = {"class_name": predictions.class_names, "images": images, "accuracy": accuracy, "low": low, "high": high}
    return pd.DataFrame(columns)
