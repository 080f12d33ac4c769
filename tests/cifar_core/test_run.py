import json
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import torch
import yaml
from PIL import Image
from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

from cifar_core import checkpoint
from cifar_core.__main__ import main
from cifar_core.datasets import load_test_data, load_training_data
from cifar_core.errors import UserError
from cifar_core.options import to_mapping
from cifar_core.predictions import misclassified, predict
from cifar_core.run import run
from cifar_core.run_folder import RunFolder
from cifar_core.tensorboard import STEP_TAGS, TEST_TAGS, RunWriter
from cifar_core.train import Trainer
from tests.cifar_core.tiny import TINY

TRAINING_PICTURES = {"augmented_images", "curves", "network", "one_cycle"}
PICTURES = TRAINING_PICTURES | {"class_accuracy", "confusion_matrix", "grad_cam", "misclassified"}


@pytest.fixture(scope="module")
def trained(finished_run: Path) -> Trainer:
    """The finished run's trainer, from its folder."""
    folder = RunFolder(finished_run)
    config = folder.read_config()
    trainer = Trainer(config, load_training_data(config))
    checkpoint.restore(trainer, folder.checkpoint)
    return trainer


def read_events(root: Path) -> EventAccumulator:
    events = EventAccumulator(str(RunFolder(root).tensorboard), size_guidance={"scalars": 0, "images": 0})
    events.Reload()
    return events


def test_the_history_is_a_table_that_pandas_reads(finished_run: Path, trained: Trainer) -> None:
    folder = RunFolder(finished_run)
    pd.testing.assert_frame_equal(pd.read_parquet(folder.history), trained.history.epoch_frame())
    pd.testing.assert_frame_equal(pd.read_parquet(folder.steps), trained.history.step_frame())


def test_the_metrics_agree_with_the_history_and_the_network(finished_run: Path, trained: Trainer) -> None:
    metrics = json.loads(RunFolder(finished_run).metrics.read_text())
    last = trained.history.epochs[-1]
    assert metrics["state"] == "completed" and metrics["epochs"] == TINY.epochs
    for name in ("train_loss", "train_accuracy", "val_loss", "val_accuracy"):
        assert metrics[name] == getattr(last, name)
    test = predict(trained.model, load_test_data(trained.config), trained.compute)
    assert (metrics["test_accuracy"], metrics["test_loss"]) == (test.accuracy, pytest.approx(test.loss))
    assert metrics["parameters"] == sum(parameter.numel() for parameter in trained.model.parameters())
    assert metrics["versions"]["torch"] in torch.__version__


def test_the_misclassified_table_holds_every_mistake(finished_run: Path, trained: Trainer) -> None:
    table = pd.read_csv(RunFolder(finished_run).misclassified)
    expected = misclassified(predict(trained.model, load_test_data(trained.config), trained.compute))
    pd.testing.assert_frame_equal(table, expected, check_dtype=False, rtol=1e-5)
    metrics = json.loads(RunFolder(finished_run).metrics.read_text())
    assert len(table) == round((1 - metrics["test_accuracy"]) * metrics["test_images"])


def test_every_picture_is_there_and_shows_something(finished_run: Path) -> None:
    files = {path.stem: path for path in RunFolder(finished_run).figures.glob("*.png")}
    assert files.keys() == PICTURES
    for path in files.values():
        pixels = np.asarray(Image.open(path).convert("L"))
        assert min(pixels.shape) > 400 and (pixels < 128).mean() > 0.001, path


def test_tensorboard_has_the_scalars_the_pictures_and_the_graph(finished_run: Path, trained: Trainer) -> None:
    events = read_events(finished_run)
    losses = [event.value for event in events.Scalars(STEP_TAGS["loss"])]
    np.testing.assert_allclose(losses, trained.history.step_frame()["loss"], rtol=1e-6)
    assert {tag.removeprefix("figures/") for tag in events.Tags()["images"]} == PICTURES
    metrics = json.loads(RunFolder(finished_run).metrics.read_text())
    assert events.Scalars(TEST_TAGS["accuracy"])[0].value == pytest.approx(metrics["test_accuracy"])
    assert sum(node.op == "aten::_convolution" for node in events.Graph().node) == 9


@pytest.fixture(scope="module")
def continued_run(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """TINY, killed after its second epoch went to TensorBoard and before its checkpoint, then continued."""
    folder = RunFolder(tmp_path_factory.mktemp("continued"))
    folder.create(TINY)
    trainer = Trainer(TINY, load_training_data(TINY))
    trainer.run_epoch()
    checkpoint.save(trainer, folder.checkpoint)
    trainer.run_epoch()
    RunWriter(folder.tensorboard, TINY, trainer.history).close()

    command = [sys.executable, "-m", "cifar_core", "--output", str(folder.root)]
    done = subprocess.run(command, capture_output=True, text=True, timeout=300)
    assert done.returncode == 0, done.stderr
    assert not done.stderr, "a warning, or a bar where there is no terminal"
    assert [line.split()[:2] for line in done.stdout.splitlines()] == [
        ["epoch", "2/3"],
        ["epoch", "3/3"],
        ["test", "accuracy"],
    ]
    return folder.root


def test_an_interrupted_run_goes_on_to_the_same_bits(finished_run: Path, continued_run: Path) -> None:
    folder = RunFolder(continued_run)
    whole = RunFolder(finished_run)
    pd.testing.assert_frame_equal(pd.read_parquet(folder.steps), pd.read_parquet(whole.steps), check_exact=True)
    pd.testing.assert_frame_equal(
        pd.read_parquet(folder.history).drop(columns="seconds"),
        pd.read_parquet(whole.history).drop(columns="seconds"),
        check_exact=True,
    )
    assert folder.misclassified.read_bytes() == whole.misclassified.read_bytes()
    theirs, ours = checkpoint.read(whole.checkpoint)["model"], checkpoint.read(folder.checkpoint)["model"]
    assert all(torch.equal(theirs[name], ours[name]) for name in theirs)
    steps = [event.step for event in read_events(continued_run).Scalars(STEP_TAGS["loss"])]
    assert steps == list(range(len(pd.read_parquet(whole.steps))))


def test_the_config_runs_the_same_run_again(finished_run: Path) -> None:
    assert RunFolder(finished_run).read_config() == TINY
    assert yaml.safe_load(RunFolder(finished_run).config.read_text()) == to_mapping(TINY)


def test_a_diverged_run_says_so_and_leaves_what_it_knows(
    finished_run: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    folder = RunFolder(tmp_path / "run")
    config = str(RunFolder(finished_run).config)
    assert main(["--config", config, "--max-lr", "1e30", "--output", str(folder.root)]) == 1
    assert "diverged in epoch 1" in capsys.readouterr().err
    metrics = json.loads(folder.metrics.read_text(), parse_constant=lambda word: pytest.fail(f"{word} is no JSON"))
    assert (metrics["state"], metrics["epochs"], metrics["val_loss"]) == ("diverged", 1, None)
    assert "test_accuracy" not in metrics
    assert {path.stem for path in folder.figures.iterdir()} == TRAINING_PICTURES
    assert len(pd.read_parquet(folder.history)) == 1


def test_a_finished_run_is_not_overwritten(finished_run: Path) -> None:
    before = {path: path.stat().st_mtime_ns for path in finished_run.rglob("*")}
    with pytest.raises(UserError, match="holds a finished run; give another --output"):
        run(TINY, finished_run)
    assert before == {path: path.stat().st_mtime_ns for path in finished_run.rglob("*")}


def test_another_runs_folder_is_refused_and_names_the_difference(tmp_path: Path) -> None:
    RunFolder(tmp_path).create(replace(TINY, max_lr=0.5))
    with pytest.raises(UserError, match=r"holds an unfinished run with max_lr 0.5; give another --output"):
        run(TINY, tmp_path)


def test_a_foreign_folder_is_refused_untouched(tmp_path: Path) -> None:
    (tmp_path / "thesis.tex").write_text("mine")
    with pytest.raises(UserError, match="exists and is not the folder of a run"):
        run(TINY, tmp_path)
    assert [path.name for path in tmp_path.iterdir()] == ["thesis.tex"]


def test_a_run_that_cannot_start_leaves_no_folder(tmp_path: Path) -> None:
    with pytest.raises(UserError, match="no such folder"):
        run(replace(TINY, dataset="images", data_dir=tmp_path / "nowhere"), tmp_path / "run")
    assert not (tmp_path / "run").exists()
