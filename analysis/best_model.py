"""What the best trial's network gets wrong. The only module here that computes with torch."""

import tempfile
from dataclasses import replace
from pathlib import Path
from typing import Any

import pandas as pd
from matplotlib.figure import Figure

from analysis.trials import Experiment, folder_at
from analysis.words import count, percent
from cifar_core import checkpoint
from cifar_core.config import TrainConfig
from cifar_core.datasets import TrainingData, load_training_data
from cifar_core.errors import UserError
from cifar_core.options import from_mapping
from cifar_core.pictures import prediction_pictures
from cifar_core.predictions import Predictions, misclassified, per_class_accuracy, predict
from cifar_core.train import Trainer

CHECKPOINT = "best/checkpoint.pt"
CAPTIONS = {
    "misclassified": "The most confident mistakes.",
    "confusion_matrix": "Numbers of validation images by actual and predicted class.",
    "class_accuracy": "Accuracy of each class.",
    "grad_cam": "Grad-CAM: where each layer finds evidence for the class that was predicted.",
}


class BestModel:
    """The network of `best/checkpoint.pt` and its answers for the validation images, never for the test set.

    Args:
        location: the experiment's folder, a path or a URI.
        experiment: what was read from it.
        data_dir: where the images are, if not where the search found them.

    Raises:
        UserError: there is no checkpoint yet, or the images are not there or not those of the search.
    """

    def __init__(self, location: str, experiment: Experiment, data_dir: Path | None = None) -> None:
        content = _read_checkpoint(location)
        config = from_mapping(TrainConfig, content["config"], CHECKPOINT)
        config = replace(config, device="auto", precision="auto", threads=1, data_dir=data_dir or config.data_dir)
        data = _same_images(config, experiment)
        self.trainer = Trainer(config, data)
        self.trainer.model.load_state_dict(content["model"])
        self.data = data.val
        self.predictions: Predictions = predict(self.trainer.scored, data.val, self.trainer.compute)

    def figures(self) -> dict[str, tuple[Figure, str]]:
        """Misclassified images, confusion matrix, accuracy by class, Grad-CAM, each with what it shows."""
        pictures = prediction_pictures(self.trainer, self.data, self.predictions)
        return {name: (figure, CAPTIONS[name]) for name, figure in pictures.items()}

    def describe(self) -> str:
        """How many images are wrong, the weakest class and the commonest confusion."""
        wrong, classes = misclassified(self.predictions), per_class_accuracy(self.predictions)
        weakest = classes.sort_values("accuracy").iloc[0]
        text = (
            f"{len(wrong):,} of {count(len(self.data), 'validation image')} are wrong (accuracy "
            f"{percent(self.predictions.accuracy)}). Weakest class: {weakest['class_name']}, "
            f"{percent(weakest['accuracy'])} ({percent(weakest['low'])} to {percent(weakest['high'])})."
        )
        return text if wrong.empty else f"{text} {_commonest_confusion(wrong)}"


def _commonest_confusion(wrong: pd.DataFrame) -> str:
    pairs = wrong[["label_name", "predicted_name"]].value_counts(sort=True).reset_index(name="times")
    first = pairs.iloc[0]
    return (
        f"The commonest confusion: {first['label_name']} taken for {first['predicted_name']}, "
        f"{count(first['times'], 'time')}."
    )


def _read_checkpoint(location: str) -> dict[str, Any]:
    with tempfile.TemporaryDirectory() as temporary:
        file = Path(temporary) / "checkpoint.pt"
        if not folder_at(location).download(CHECKPOINT, file):
            raise UserError(f"there is no {CHECKPOINT} yet; it is written when a search ends or is interrupted")
        return checkpoint.read(file)


def _same_images(config: TrainConfig, experiment: Experiment) -> TrainingData:
    data = load_training_data(config)
    if data.fingerprint != experiment.plan["data_fingerprint"]:
        raise UserError(f"the images of data set {config.dataset} are not those that the search saw")
    return data
