import numpy as np
import pytest

from cifar_core.datasets import load_training_data
from cifar_core.predictions import Predictions, confusion_matrix, misclassified, per_class_accuracy, predict
from cifar_core.train import Trainer, evaluate
from tests.cifar_core.tiny import TINY

SHARES = np.array([[0.7, 0.2, 0.1], [0.6, 0.3, 0.1], [0.2, 0.3, 0.5], [0.1, 0.0, 0.9], [0.1, 0.8, 0.1]], np.float32)


@pytest.fixture
def five() -> Predictions:
    """Images 0 and 4 right; 1, 2 and 3 wrong with confidence 0.6, 0.5 and 0.9."""
    with np.errstate(divide="ignore"):
        return Predictions(np.log(SHARES), np.array([0, 1, 1, 0, 1]), ("cat", "dog", "ship"))


def test_accuracy_and_loss(five: Predictions) -> None:
    assert five.accuracy == pytest.approx(0.4)
    assert five.loss == pytest.approx(-np.log([0.7, 0.3, 0.3, 0.1, 0.8]).mean())


def test_misclassified_lists_the_most_confident_mistake_first(five: Predictions) -> None:
    table = misclassified(five)
    assert table["index"].tolist() == [3, 1, 2]
    assert table["label_name"].tolist() == ["cat", "dog", "dog"]
    assert table["predicted_name"].tolist() == ["ship", "cat", "ship"]
    np.testing.assert_allclose(table[["p_cat", "p_dog", "p_ship"]], SHARES[[3, 1, 2]], rtol=1e-6)


def test_nothing_misclassified_gives_an_empty_table() -> None:
    right = Predictions(np.log(SHARES[:1]), np.array([0]), ("cat", "dog", "ship"))
    assert len(misclassified(right)) == 0
    assert list(misclassified(right))[-3:] == ["p_cat", "p_dog", "p_ship"]


def test_confusion_matrix_has_actual_classes_as_rows(five: Predictions) -> None:
    assert confusion_matrix(five).tolist() == [[1, 0, 1], [1, 1, 1], [0, 0, 0]]


def test_per_class_accuracy(five: Predictions) -> None:
    table = per_class_accuracy(five)
    assert table["images"].tolist() == [2, 3, 0]
    np.testing.assert_allclose(table["accuracy"], [1 / 2, 1 / 3, np.nan])
    assert (table["low"] <= table["accuracy"].fillna(0.5)).all() and (
        table["high"] >= table["accuracy"].fillna(0.5)
    ).all()


def test_predict_agrees_with_the_training_loops_evaluation() -> None:
    trainer = Trainer(TINY, load_training_data(TINY))
    trainer.run_epoch()
    predictions = predict(trainer.model, trainer.data.val, trainer.compute)
    loss, accuracy = evaluate(trainer.model, trainer.data.val, trainer.compute)
    assert predictions.accuracy == accuracy == trainer.history.epochs[-1].val_accuracy
    assert predictions.loss == pytest.approx(loss, rel=1e-5)
    np.testing.assert_allclose(predictions.probabilities.sum(1), 1, rtol=1e-5)
