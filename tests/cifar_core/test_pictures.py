from dataclasses import replace

import numpy as np

from cifar_core.augment import MEAN
from cifar_core.datasets import load_training_data
from cifar_core.pictures import SAMPLES_PER_CLASS, augmented_samples, first_of_each_class, training_pictures
from cifar_core.train import Trainer
from tests.cifar_core.tiny import TINY


def test_the_samples_are_five_augmented_training_images_of_each_class() -> None:
    samples = augmented_samples(Trainer(TINY, load_training_data(TINY)))
    assert np.bincount(samples.labels).tolist() == [SAMPLES_PER_CLASS] * 10
    filled = (samples.images == np.round(255 * np.array(MEAN)).astype(np.uint8)).all(axis=3)
    share = filled.mean(axis=(1, 2))
    assert 0.3 < (share >= 0.24).mean() < 0.9, "about half of them have a 16×16 hole of the channel mean"


def test_without_augmentation_the_samples_are_the_images_themselves() -> None:
    config = replace(TINY, augmentation="none")
    data = load_training_data(config)
    samples = augmented_samples(Trainer(config, data))
    originals = {image.tobytes(): label for image, label in zip(data.train.images, data.train.labels, strict=True)}
    assert all(originals[image.tobytes()] == label for image, label in zip(samples.images, samples.labels, strict=True))


def test_first_of_each_class() -> None:
    labels = np.array([2, 0, 0, 2, 0, 2])
    assert first_of_each_class(labels, 2).tolist() == [1, 2, 0, 3]


def test_curves_that_watched_the_test_set_say_so() -> None:
    config = replace(TINY, val_size=0, epochs=1)
    trainer = Trainer(config, load_training_data(config))
    trainer.run_epoch()
    legend = training_pictures(trainer)["curves"].axes[0].get_legend()
    assert [text.get_text() for text in legend.get_texts()] == ["training, augmented", "test"]
