import os
import shlex
import stat
import subprocess
import sys
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


class Entrypoint:
    """The RayJob's command, with a folder as its bucket and searches that only write down their flags."""

    def __init__(self, folder: Path) -> None:
        shell, script, storage, *self.flags = shlex.split(read("rayjob.yaml")["spec"]["entrypoint"])
        in_image = Path("/home/ray/cifar-search")  # where the Dockerfile copies the checkout to
        assert f"COPY --chown=ray . {in_image}" in (FILES / "Dockerfile").read_text()
        self.command = [shell, str(FILES.parents[1] / Path(script).relative_to(in_image))]
        assert storage == "s3://BUCKET/searches"
        self.bucket, self.log, self.codes, programs = (folder / name for name in ("bucket", "log", "codes", "bin"))
        python = f"""
            [ "$1" = -c ] && exec {sys.executable} "$@"
            echo "$@" >> {self.log}
            code=$(head -n 1 {self.codes}) && sed -i 1d {self.codes} && exit $code
        """
        programs.mkdir()
        for name, text in (("python", python), ("sleep", "")):
            (programs / name).write_text(f"#!/bin/sh\n{text}")
            (programs / name).chmod(stat.S_IRWXU)
        self.environment = os.environ | {"PATH": f"{programs}:{os.environ['PATH']}"}

    def run(self, *codes: int) -> tuple[int, list[dict[str, Any]]]:
        """Its exit code and what each search was asked for, of which one after another ends with one of the codes."""
        self.log.write_text("")
        self.codes.write_text("".join(f"{code}\n" for code in codes))
        arguments = [f"file://{self.bucket}", *self.flags]
        done = subprocess.run([*self.command, *arguments], env=self.environment, cwd=FILES.parents[1], timeout=200)
        asked = [shlex.split(line) for line in self.log.read_text().splitlines()]
        assert all(words[:2] == ["-m", "tune_experiments.search"] for words in asked)
        given = [vars(build_parser().parse(words[2:])) for words in asked]
        assert all((flags["address"], flags["storage"]) == ("auto", f"file://{self.bucket}") for flags in given)
        return done.returncode, given


def test_the_rayjob_begins_a_search_and_goes_on_with_one_that_has_a_plan(tmp_path: Path) -> None:
    job = Entrypoint(tmp_path)
    code, (first,) = job.run(1)
    assert code == 1 and (first["preset"], first["name"], first["resume"]) == ("cifar10", "cifar10", None)
    plan = job.bucket / "cifar10/search.yaml"
    plan.parent.mkdir(parents=True)
    plan.write_text("written")
    code, (second,) = job.run(0)
    assert code == 0 and (second["preset"], second["name"], second["resume"]) == (None, None, "cifar10")


def test_the_rayjob_waits_while_it_is_refused_but_not_for_ever(tmp_path: Path) -> None:
    job = Entrypoint(tmp_path)
    assert [len(flags) for _, flags in [job.run(2, 2, 0)]] == [3]
    code, flags = job.run(*[2] * 9)
    assert code == 2 and len(flags) == 6


def test_an_image_has_nothing_that_machines_do_not_get() -> None:
    ignored = (FILES.parents[1] / ".dockerignore").read_text().splitlines()
    for name in LAUNCHED:
        assert set(read(name)["rsync_exclude"]) <= set(ignored)


def test_images_have_the_ray_that_the_tests_ran_with() -> None:
    assert f":{version('ray')}-py311" in read("aws.yaml")["docker"]["image"]
    assert f":{version('ray')}-py311" in (FILES / "Dockerfile").read_text()
    assert read("rayjob.yaml")["spec"]["rayClusterSpec"]["rayVersion"] == version("ray")
