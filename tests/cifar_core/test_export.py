from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image
from safetensors.torch import save_file

from cifar_core import checkpoint, classify
from cifar_core.datasets import load_test_data, load_training_data
from cifar_core.errors import UserError
from cifar_core.export import export_checkpoint, load_classifier, read_image
from cifar_core.predictions import predict
from cifar_core.run_folder import RunFolder
from cifar_core.train import Trainer
from tests.cifar_core.tiny import trained


@pytest.fixture
def image_file(tmp_path: Path) -> Path:
    pixels = np.random.default_rng(0).integers(0, 256, (32, 32, 3), np.uint8)
    Image.fromarray(pixels).save(tmp_path / "image.png")
    return tmp_path / "image.png"


def test_the_exported_network_answers_as_the_trained_one(finished_run: Path) -> None:
    folder = RunFolder(finished_run)
    config = folder.read_config()
    test = load_test_data(config)
    trainer = Trainer(config, load_training_data(config))
    checkpoint.restore(trainer, folder.checkpoint)
    trained = predict(trainer.model, test, trainer.compute).probabilities
    classifier = load_classifier(folder.model)
    assert classifier.class_names == test.class_names
    np.testing.assert_allclose(classifier.probabilities(test.images), trained, atol=1e-5)


def test_a_network_that_is_scored_with_mirror_images_classifies_with_them(tmp_path: Path) -> None:
    trainer = trained(1, test_time_flip=True)
    checkpoint.save(trainer, tmp_path / "checkpoint.pt")
    export_checkpoint(tmp_path / "checkpoint.pt", tmp_path / "model.safetensors")
    answers = load_classifier(tmp_path / "model.safetensors").probabilities(trainer.data.val.images)
    scored, plain = (predict(model, trainer.data.val, trainer.compute) for model in (trainer.scored, trainer.model))
    np.testing.assert_allclose(answers, scored.probabilities, atol=1e-5)
    assert np.abs(answers - plain.probabilities).max() > 1e-3


def test_an_image_file_gets_every_class_with_its_probability(finished_run: Path, image_file: Path) -> None:
    classifier = load_classifier(RunFolder(finished_run).model)
    answer = classifier.classify(image_file)
    expected = classifier.probabilities(np.asarray(Image.open(image_file))[None])[0]
    assert list(answer.values()) == sorted(expected.tolist(), reverse=True)
    assert next(iter(answer)) == classifier.class_names[int(expected.argmax())]


def test_the_classify_command_prints_a_line_for_each_image(
    finished_run: Path, image_file: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    model = RunFolder(finished_run).model
    classify.main([str(model), str(image_file), str(image_file)])
    name, probability = next(iter(load_classifier(model).classify(image_file).items()))
    assert capsys.readouterr().out.splitlines() == [f"{image_file}\t{name}\t{probability:.3f}"] * 2


def test_other_sizes_are_cropped_to_their_centre_and_scaled(tmp_path: Path) -> None:
    pixels = np.zeros((64, 128, 3), np.uint8)
    pixels[:, 32:96] = (200, 100, 50)
    Image.fromarray(pixels).save(tmp_path / "wide.png")
    assert np.abs(read_image(tmp_path / "wide.png")[:, 2:-2].astype(int) - (200, 100, 50)).max() <= 2


@pytest.mark.parametrize("content", [b"", b"no model", b"\x10\0\0\0\0\0\0\0{}"])
def test_a_broken_model_file_is_one_line(tmp_path: Path, content: bytes) -> None:
    path = tmp_path / "model.safetensors"
    path.write_bytes(content)
    with pytest.raises(UserError, match=r"model.safetensors: not a readable safetensors file") as error:
        load_classifier(path)
    assert "\n" not in str(error.value)


def test_somebody_elses_safetensors_file_is_refused(tmp_path: Path) -> None:
    save_file({"weight": torch.zeros(1)}, tmp_path / "other.safetensors")
    with pytest.raises(UserError, match="not exported by cifar_core"):
        load_classifier(tmp_path / "other.safetensors")


def test_the_classify_command_refuses_what_is_no_image(
    finished_run: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "text.png").write_text("no image")
    with pytest.raises(SystemExit) as exit_code:
        classify.main([str(RunFolder(finished_run).model), str(tmp_path / "text.png")])
    assert exit_code.value.code == 2
    assert capsys.readouterr().err.count("\n") == 1
