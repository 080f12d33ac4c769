"""The pictures that a training run leaves behind: which data goes into which figure."""

from dataclasses import replace
from math import ceil

import numpy as np
import torch
from matplotlib.figure import Figure
from numpy.typing import NDArray

from cifar_core import summary
from cifar_core.augment import MEAN, STD, normalize
from cifar_core.figures.confusion import class_accuracies, confusion_heatmap
from cifar_core.figures.curves import learning_curves
from cifar_core.figures.grad_cam import grad_cam_maps
from cifar_core.figures.images import class_samples, mistakes
from cifar_core.figures.network import network_diagram
from cifar_core.figures.schedule import one_cycle_curve
from cifar_core.grad_cam import grad_cam
from cifar_core.image_data import ImageData
from cifar_core.loader import TrainLoader
from cifar_core.predictions import Predictions, confusion_matrix, misclassified, per_class_accuracy
from cifar_core.train import Trainer

SAMPLES_PER_CLASS = 5
MISTAKES = 20
GRAD_CAM_IMAGES = 5


def training_pictures(trainer: Trainer) -> dict[str, Figure]:
    """What needs no trained weights: they are drawn for a run that diverged as well."""
    samples = augmented_samples(trainer)
    watched = "test" if trainer.config.val_size == 0 else "validation"
    return {
        "augmented_images": class_samples(samples.images, samples.labels, samples.class_names),
        "network": network_diagram(summary.blocks(trainer.model)),
        "one_cycle": one_cycle_curve(trainer.schedule, trainer.loader.steps_per_epoch),
        "curves": learning_curves(trainer.history.epoch_frame(), watched),
    }


def prediction_pictures(trainer: Trainer, data: ImageData, predictions: Predictions) -> dict[str, Figure]:
    """What the trained network makes of images that it did not learn from."""
    wrong = misclassified(predictions).head(MISTAKES)
    return {
        "misclassified": mistakes(data.images[wrong["index"]], wrong),
        "confusion_matrix": confusion_heatmap(confusion_matrix(predictions), data.class_names),
        "class_accuracy": class_accuracies(per_class_accuracy(predictions), predictions.accuracy),
        "grad_cam": _grad_cam_picture(trainer, data, predictions),
    }


def augmented_samples(trainer: Trainer) -> ImageData:
    """`SAMPLES_PER_CLASS` training images of each class (fewer where a class has fewer), as the network sees them."""
    data = trainer.data.train
    some = data.subset(first_of_each_class(data.labels, SAMPLES_PER_CLASS))
    loader = TrainLoader(some, replace(trainer.config, batch_size=max(2, len(some))), torch.device("cpu"))
    images, labels = next(loader.batches(epoch=0))
    pixels = 255 * (images.permute(0, 2, 3, 1) * torch.tensor(STD) + torch.tensor(MEAN))
    return ImageData(pixels.round().clamp(0, 255).byte().numpy(), labels.numpy(), data.class_names)


def first_of_each_class(labels: NDArray[np.int64], count: int) -> NDArray[np.int64]:
    """Indices of the first `count` images of each class, the classes in order."""
    return np.concatenate([np.flatnonzero(labels == label)[:count] for label in range(labels.max() + 1)])


def _grad_cam_picture(trainer: Trainer, data: ImageData, predictions: Predictions) -> Figure:
    """Of the first images of the first classes, for the class that was predicted."""
    per_class = ceil(GRAD_CAM_IMAGES / len(data.class_names))
    chosen = first_of_each_class(data.labels, per_class)[:GRAD_CAM_IMAGES]
    some, predicted = data.subset(chosen), predictions.predicted[chosen]
    device = trainer.compute.device
    maps = grad_cam(
        trainer.model,
        normalize(torch.from_numpy(some.images).to(device)),
        torch.from_numpy(predicted).to(device),
    )
    names = np.array(data.class_names)
    pairs = zip(names[some.labels], names[predicted], strict=True)
    captions = [f"{actual}\nseen as\n{answer}" for actual, answer in pairs]
    return grad_cam_maps(some.images, maps, captions)
