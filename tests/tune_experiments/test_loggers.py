from pathlib import Path

import pytest

from cifar_core.errors import UserError
from tune_experiments import loggers
from tune_experiments.experiment import Experiment
from tune_experiments.loggers import Destinations


@pytest.mark.parametrize(
    ("uri", "words"),
    [
        ("http://ann:hunter2@127.0.0.1:9", "127.0.0.1"),
        ("./mlruns", "The filesystem tracking backend"),
        ("nonsense://host", "unsupported URI 'nonsense://host'"),
    ],
)
def test_a_place_that_cannot_be_used_is_refused(uri: str, words: str, monkeypatch: pytest.MonkeyPatch) -> None:
    pytest.importorskip("mlflow")
    monkeypatch.setenv("MLFLOW_HTTP_REQUEST_MAX_RETRIES", "0")
    for name in ("MLFLOW_TRACKING_USERNAME", "MLFLOW_TRACKING_PASSWORD"):
        monkeypatch.setenv(name, "")
    with pytest.raises(UserError, match="mlflow cannot be used: ") as caught:
        Destinations(mlflow=uri).connect("mine")
    assert words in str(caught.value)
    assert "hunter2" not in str(caught.value)


def test_only_a_file_in_the_folder_needs_the_folder(tmp_path: Path) -> None:
    pytest.importorskip("mlflow")
    assert Destinations(mlflow="").connect("mine") == []
    experiment = Experiment(tmp_path / "mine")
    experiment.make()
    (logger,) = Destinations(mlflow="").open_files(experiment)
    assert logger.title == "MLflow" and experiment.file("mlflow.db").exists()
    assert Destinations().open_files(experiment) == Destinations(mlflow="https://host").open_files(experiment) == []


def test_wandb_wants_a_key_unless_it_is_offline(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    pytest.importorskip("wandb")
    for name in ("WANDB_API_KEY", "WANDB_MODE", "NETRC"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("HOME", str(tmp_path))
    with pytest.raises(UserError, match="wandb has no API key: set WANDB_API_KEY"):
        Destinations(wandb="mine").connect("mine")
    monkeypatch.setenv("WANDB_MODE", "offline")
    with pytest.raises(UserError, match="wandb: Invalid project name 'my/project'"):
        Destinations(wandb="my/project").connect("mine")
    (logger,) = Destinations(wandb="mine").connect("mine")
    assert logger.title == "W&B"
    assert capsys.readouterr().err == ""


def test_a_missing_package_is_named_with_its_command(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(loggers, "find_spec", lambda name: None)
    Destinations().check()
    with pytest.raises(UserError, match=r"--wandb needs a package that is not installed: pip install -e '\.\[wandb\]'"):
        Destinations(wandb="mine").check()
    with pytest.raises(UserError, match=r"pip install -e '\.\[mlflow\]'"):
        Destinations(mlflow="").check()
