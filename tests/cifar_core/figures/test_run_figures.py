"""The figures of a run: none is empty, and each shows the numbers that it was given."""

import numpy as np
import pandas as pd
import pytest
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from cifar_core.config import TrainConfig
from cifar_core.figures.confusion import class_accuracies, confusion_heatmap
from cifar_core.figures.curves import learning_curves
from cifar_core.figures.grad_cam import grad_cam_maps
from cifar_core.figures.images import class_samples, mistakes
from cifar_core.figures.network import network_diagram
from cifar_core.figures.schedule import one_cycle_curve
from cifar_core.figures.seed_comparison import PANELS, seed_comparison_figure
from cifar_core.model import ResNetC
from cifar_core.schedule import one_cycle
from cifar_core.seed_comparison import compare, read_seed_run
from cifar_core.summary import blocks

RNG = np.random.default_rng(0)
NAMES = ("cat", "dog", "solid square")


def texts(owner: Figure | Axes) -> list[str]:
    return [text.get_text() for text in owner.findobj(match=lambda artist: hasattr(artist, "get_text"))]


def lines(axes: Axes) -> dict[str, np.ndarray]:
    return {str(line.get_label()): np.asarray(line.get_ydata(), float) for line in axes.get_lines()}


def assert_labelled(axes: Axes) -> None:
    assert axes.get_xlabel() and axes.get_ylabel()


def some_images(count: int) -> np.ndarray:
    return RNG.integers(0, 256, (count, 32, 32, 3), np.uint8)


def test_learning_curves_show_the_history() -> None:
    epochs = pd.DataFrame(RNG.random((4, 4)), columns=["train_loss", "val_loss", "train_accuracy", "val_accuracy"])
    figure = learning_curves(epochs.assign(epoch=[1, 2, 3, 4]), watched="test")
    loss, accuracy = figure.axes
    for axes, metric, factor in ((loss, "loss", 1), (accuracy, "accuracy", 100)):
        assert_labelled(axes)
        np.testing.assert_allclose(lines(axes)["training, augmented"], factor * epochs[f"train_{metric}"])
        np.testing.assert_allclose(lines(axes)["test"], factor * epochs[f"val_{metric}"])


@pytest.mark.parametrize("peak_epoch", [0.0, 5.0, 24.0])
def test_one_cycle_curve_shows_every_step_and_marks_the_peak(peak_epoch: float) -> None:
    schedule = one_cycle(TrainConfig(peak_epoch=peak_epoch), 98)
    figure = one_cycle_curve(schedule, 98)
    rate, momentum = figure.axes
    settings = np.array([schedule.at(step) for step in range(2352)])
    np.testing.assert_allclose(rate.get_lines()[0].get_ydata(), settings[:, 0])
    np.testing.assert_allclose(momentum.get_lines()[0].get_ydata(), settings[:, 1])
    (step,), (value,) = rate.get_lines()[1].get_data()
    assert value == settings[:, 0].max() and settings[int(step), 0] == value
    assert any(f"step {step}" in text for text in texts(rate))


def test_class_samples_show_each_classes_images_in_its_row() -> None:
    images, labels = some_images(7), np.array([0, 0, 0, 1, 1, 2, 2])
    figure = class_samples(images, labels, NAMES)
    shown = {axes.get_ylabel().replace("\n", " "): axes.get_images() for axes in figure.axes if axes.get_images()}
    assert tuple(shown) == ("cat", "solid square", "dog") or set(shown) == set(NAMES)
    for label, name in enumerate(NAMES):
        row = np.asarray(shown[name][0].get_array())
        assert row.shape == (34, 3 * 34, 3)
        for place, image in enumerate(images[labels == label]):
            np.testing.assert_array_equal(row[1:-1, 34 * place + 1 : 34 * place + 33], image)


def test_mistakes_show_image_prediction_and_truth() -> None:
    images = some_images(7)
    table = pd.DataFrame({"label_name": ["dog"] * 7, "predicted_name": ["cat"] * 7, "p_cat": np.linspace(0.9, 0.3, 7)})
    figure = mistakes(images, table)
    for axes, image, probability in zip(figure.axes, images, table["p_cat"], strict=False):
        np.testing.assert_array_equal(axes.get_images()[0].get_array(), image)
        assert (axes.get_title(), axes.get_xlabel()) == (f"cat {probability:.0%}", "dog")
    assert [len(axes.get_images()) for axes in figure.axes] == [1] * 7 + [0] * 3


def test_mistakes_of_a_network_without_any() -> None:
    figure = mistakes(some_images(0), pd.DataFrame({"label_name": [], "predicted_name": []}))
    assert not any(axes.get_images() for axes in figure.axes)


def test_grad_cam_lays_each_map_over_its_image() -> None:
    images = some_images(2)
    maps = {name: RNG.random((2, 32, 32), np.float32) for name in ("prep", "layer1")}
    figure = grad_cam_maps(images, maps, ["first", "second"])
    panels = np.array(figure.axes[:6]).reshape(2, 3)
    assert [axes.get_title() for axes in panels[0]] == ["image", "prep", "layer1"]
    for row, caption in enumerate(["first", "second"]):
        assert panels[row, 0].get_ylabel() == caption
        np.testing.assert_array_equal(panels[row, 0].get_images()[0].get_array(), images[row])
        for axes, heat in zip(panels[row, 1:], maps.values(), strict=True):
            np.testing.assert_array_equal(axes.get_images()[1].get_array(), heat[row])


def test_confusion_heatmap_writes_each_count() -> None:
    matrix = np.array([[8, 1, 1], [0, 5, 0], [0, 0, 0]])
    figure = confusion_heatmap(matrix, NAMES)
    axes = figure.axes[0]
    assert_labelled(axes)
    assert [text.get_text() for text in axes.texts] == [str(count) for count in matrix.ravel()]
    np.testing.assert_allclose(axes.get_images()[0].get_array(), [[80, 10, 10], [0, 100, 0], [0, 0, 0]])
    assert [label.get_text() for label in axes.get_yticklabels()] == list(NAMES)


def test_class_accuracies_are_sorted_bars_with_intervals() -> None:
    table = pd.DataFrame(
        {"class_name": NAMES, "accuracy": [0.9, 0.5, 0.7], "low": [0.85, 0.4, 0.6], "high": [0.93, 0.6, 0.8]}
    )
    axes = class_accuracies(table, overall=0.75).axes[0]
    assert [bar.get_width() for bar in axes.patches] == pytest.approx([50, 70, 90])
    assert [label.get_text() for label in axes.get_yticklabels()] == ["dog", "solid square", "cat"]
    (spans,) = (collection.get_segments() for collection in axes.collections)
    assert [span[:, 0].tolist() for span in spans] == [pytest.approx(pair) for pair in ([40, 60], [60, 80], [85, 93])]
    assert 75 in [line.get_xdata()[0] for line in axes.get_lines()]


def test_network_diagram_has_every_block_edge_and_the_totals() -> None:
    graph = blocks(ResNetC())
    axes = network_diagram(graph).axes[0]
    written = texts(axes)
    assert all(block.name in written for block in graph)
    assert "6,573,120" in written and "758.52" in written
    boxes = [patch for patch in axes.patches if "Bbox" in type(patch).__name__]
    arrows = [patch for patch in axes.patches if "Arrow" in type(patch).__name__]
    assert len(boxes) == len(graph) and len(arrows) == sum(len(block.inputs) for block in graph)


def test_seed_comparison_shows_both_runs() -> None:
    seed_run = read_seed_run()
    runs = [seed_run.assign(test_accuracy=seed_run["test_accuracy"] + gain) for gain in (0.01, 0.03)]
    for ours, bands in ((runs[:1], 0), (runs, 1)):
        comparison = compare(ours, seed_run)
        figure = seed_comparison_figure(comparison, "ours")
        for axes, (metric, (_, factor)) in zip(figure.axes, PANELS.items(), strict=False):
            assert_labelled(axes)
            np.testing.assert_allclose(lines(axes)["ours"], factor * comparison[metric])
            np.testing.assert_allclose(lines(axes)["original run"], factor * seed_run[metric])
            assert len(axes.collections) == bands
