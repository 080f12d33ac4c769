import re
import shlex
from importlib.metadata import version
from pathlib import Path
from typing import Any

import jsonschema
import pytest
import yaml
from ray.autoscaler._private.kuberay.autoscaling_config import _derive_autoscaling_config_from_ray_cr
from ray.autoscaler._private.util import prepare_config, validate_config

import tune_experiments
from tune_experiments.search import build_parser

FILES = Path(tune_experiments.__file__).parent / "cluster"
SCHEMA = yaml.safe_load((Path(__file__).parent / "rayjob_schema.yaml").read_text())
LAUNCHED = ["on_premise.yaml", "aws.yaml"]


def read(name: str) -> dict[str, Any]:
    content: dict[str, Any] = yaml.safe_load((FILES / name).read_text())
    return content


@pytest.mark.parametrize("name", LAUNCHED)
def test_ray_up_takes_the_file(name: str) -> None:
    whole = prepare_config(read(name))
    validate_config(whole)
    head = whole["head_node_type"]
    trains = [kind for kind in whole["available_node_types"].values() if kind.get("min_workers")]
    assert [kind["min_workers"] for kind in trains] == [2] and head in whole["available_node_types"]


@pytest.mark.parametrize("name", LAUNCHED)
def test_every_ray_start_asks_for_the_token_and_opens_no_dashboard(name: str) -> None:
    config = read(name)
    starts = [
        command
        for command in config["head_start_ray_commands"] + config["worker_start_ray_commands"]
        if "ray start" in command
    ]
    assert len(starts) == 2 and all("RAY_AUTH_MODE=token" in command for command in starts)
    assert not any("--dashboard-host" in command for command in starts)
    assert [to for to in config["file_mounts"] if to.endswith(".ray/auth_token")]


def test_the_rayjob_is_valid() -> None:
    jsonschema.Draft202012Validator.check_schema(SCHEMA)
    jsonschema.validate(read("rayjob.yaml"), SCHEMA)


@pytest.mark.parametrize(
    ("where", "value"),
    [
        (["spec", "entryPoint"], "python x.py"),
        (["spec", "ttlSecondsAfterFinished"], "600"),
        (["spec", "rayClusterSpec", "authOptions", "mode"], "tokens"),
        (["spec", "rayClusterSpec", "headGroupSpec", "rayStartParams", "num-cpus"], 0),
        (["spec", "rayClusterSpec", "workerGroupSpecs", 0, "replicas"], "2"),
    ],
)
def test_the_schema_refuses_what_kubernetes_would(where: list[str | int], value: object) -> None:
    job: Any = read("rayjob.yaml")
    inner = job
    for key in where[:-1]:
        inner = inner[key]
    inner[where[-1]] = value
    with pytest.raises(jsonschema.ValidationError):
        jsonschema.validate(job, SCHEMA)


def test_ray_reads_the_resources_off_the_rayjob() -> None:
    """By the code with which its autoscaler reads a RayCluster; it validates what it makes of it."""
    cluster = read("rayjob.yaml")["spec"]["rayClusterSpec"]
    read_off = _derive_autoscaling_config_from_ray_cr({"metadata": {"name": "x", "namespace": "y"}, "spec": cluster})
    kinds = read_off["available_node_types"]
    assert kinds[read_off["head_node_type"]]["resources"]["CPU"] == 0
    assert (kinds["gpu"]["resources"]["CPU"], kinds["gpu"]["resources"]["GPU"], kinds["gpu"]["max_workers"]) == (
        4,
        1,
        2,
    )


def test_the_rayjob_asks_for_the_token() -> None:
    assert read("rayjob.yaml")["spec"]["rayClusterSpec"]["authOptions"] == {"mode": "token"}


def test_the_commands_are_ones_that_the_search_takes() -> None:
    shell = shlex.split(read("rayjob.yaml")["spec"]["entrypoint"])[2]
    common, first, second = re.fullmatch(r'search="(.*)";\s+\$search (.*) \|\| \$search (.*)', shell).groups()  # type: ignore[union-attr]
    assert common.startswith("python -m tune_experiments.search --")
    for flags in (first, second):
        given = vars(build_parser().parse([*common.split()[3:], *flags.split()]))
        assert given["address"] == "auto" and given["storage"] == "s3://BUCKET/searches"


def test_images_have_the_ray_that_the_tests_ran_with() -> None:
    assert f":{version('ray')}-py311" in read("aws.yaml")["docker"]["image"]
    assert f":{version('ray')}-py311" in (FILES / "Dockerfile").read_text()
    assert read("rayjob.yaml")["spec"]["rayClusterSpec"]["rayVersion"] == version("ray")
