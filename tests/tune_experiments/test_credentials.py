import os
import sys
from pathlib import Path

import pytest

from cifar_core.config import RangeTestConfig, TrainConfig
from tune_experiments.config import Plan, SearchConfig
from tune_experiments.credentials import credentials_to_environment, without_secrets
from tune_experiments.experiment import Experiment


@pytest.mark.parametrize(
    ("text", "shown"),
    [
        ("https://ann:hunter2@host:5000/path", "https://***@host:5000/path"),
        ("no route to postgresql://ann:hunter2@host/db at all", "no route to postgresql://***@host/db at all"),
        ("mysql://host/db?password=hunter2&charset=utf8", "mysql://host/db?password=***&charset=utf8"),
        ("s3://host/bucket?endpoint_override=127.0.0.1:9", "s3://host/bucket?endpoint_override=127.0.0.1:9"),
        ("--num-samples", "--num-samples"),
        ("sqlite:////home/ann@work/mlflow.db", "sqlite:////home/ann@work/mlflow.db"),
    ],
)
def test_secrets_are_left_out_and_nothing_else(text: str, shown: str) -> None:
    assert without_secrets(text) == shown


def test_a_servers_credentials_go_where_mlflow_looks_for_them(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("MLFLOW_TRACKING_USERNAME", "")
    monkeypatch.setenv("MLFLOW_TRACKING_PASSWORD", "")
    assert credentials_to_environment("https://ann:hun%40ter2@host:5000/path") == "https://host:5000/path"
    assert (os.environ["MLFLOW_TRACKING_USERNAME"], os.environ["MLFLOW_TRACKING_PASSWORD"]) == ("ann", "hun@ter2")
    for uri in ("https://host:5000", "sqlite:////data/mlflow.db", "databricks"):
        assert credentials_to_environment(uri) == uri


def test_the_plan_file_has_the_command_without_secrets(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sys, "argv", ["search.py", "--mlflow", "https://ann:hunter2@host", "--seed", "1"])
    experiment = Experiment(tmp_path)
    experiment.write_plan(Plan(TrainConfig(), SearchConfig(), RangeTestConfig()), "fingerprint")
    text = experiment.plan_file.read_text()
    assert "hunter2" not in text and "https://***@host" in text and "--seed" in text
