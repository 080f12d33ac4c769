import os
import sys
from pathlib import Path

import pytest
import yaml

from cifar_core.config import RangeTestConfig, TrainConfig
from tune_experiments.config import Plan, SearchConfig
from tune_experiments.credentials import credentials_to_environment, holds_secret, without_secrets
from tune_experiments.experiment import Experiment


@pytest.mark.parametrize(
    ("text", "shown"),
    [
        ("https://ann:hunter2@host:5000/path", "https://***@host:5000/path"),
        ("no route to postgresql://ann:hunter2@host/db at all", "no route to postgresql://***@host/db at all"),
        ("mysql://host/db?password=hunter2&charset=utf8", "mysql://host/db?password=***&charset=utf8"),
        ("s3://host/bucket?endpoint_override=127.0.0.1:9", "s3://host/bucket?endpoint_override=127.0.0.1:9"),
        ("s3://AKIA:a/b+c@bucket/x", "s3://***@bucket/x"),
        ("hdfs://host:8020/of/ann@work", "hdfs://host:8020/of/ann@work"),
        ("host=db passwd=hunter2 pwd=hunter2 sig=hunter2", "host=db passwd=*** pwd=*** sig=***"),
        ("--num-samples", "--num-samples"),
        ("sqlite:////home/ann@work/mlflow.db", "sqlite:////home/ann@work/mlflow.db"),
    ],
)
def test_secrets_are_left_out_and_nothing_else(text: str, shown: str) -> None:
    assert without_secrets(text) == shown


@pytest.mark.parametrize(
    ("uri", "expected"),
    [
        ("s3://AKIA:hunter2@bucket/x", True),
        ("s3://AKIA:hun/ter2@bucket/x", True),
        ("gs://bucket/x?access_token=hunter2", True),
        ("gs://bucket/x?passwd=hunter2", True),
        ("abfs://container@account.dfs.core.windows.net/x", False),
        ("hdfs://ann@host:8020/of/ann@work", False),
        ("s3://bucket/x?endpoint_override=http://127.0.0.1:9&scheme=http", False),
    ],
)
def test_a_password_or_an_option_of_such_a_name_is_a_secret(uri: str, expected: bool) -> None:
    assert holds_secret(uri) == expected


def test_a_servers_credentials_go_where_mlflow_looks_for_them(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("MLFLOW_TRACKING_USERNAME", "")
    monkeypatch.setenv("MLFLOW_TRACKING_PASSWORD", "")
    assert credentials_to_environment("https://ann:hun%40ter2@host:5000/path") == "https://host:5000/path"
    assert (os.environ["MLFLOW_TRACKING_USERNAME"], os.environ["MLFLOW_TRACKING_PASSWORD"]) == ("ann", "hun@ter2")
    for uri in ("https://host:5000", "sqlite:////data/mlflow.db", "databricks"):
        assert credentials_to_environment(uri) == uri


def test_the_plan_file_has_the_command_without_secrets(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    command = ["search.py", "--mlflow", "https://ann:hunter2@host", "--mlflow=x://host?PWD=hunter2", "--seed", "1"]
    monkeypatch.setattr(sys, "argv", command)
    experiment = Experiment(tmp_path)
    experiment.write_plan(Plan(TrainConfig(), SearchConfig(), RangeTestConfig()), "fingerprint")
    text = experiment.plan_file.read_text()
    assert yaml.safe_load(text)["command"] == ["search.py", "--mlflow", "***", "--mlflow=***", "--seed", "1"]
