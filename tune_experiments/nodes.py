"""What the nodes of a Ray cluster that would run trials have in common, asked of each before the first trial."""

import secrets
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any, Literal, NamedTuple, TypeVar

import ray
from ray.util.scheduling_strategies import NodeAffinitySchedulingStrategy

from cifar_core.config import TrainConfig
from cifar_core.device import resolve_compute
from cifar_core.errors import UserError
from cifar_core.whole_file import PART
from tune_experiments.config import SearchConfig

Answer = TypeVar("Answer")


class Node(NamedTuple):
    """A node by Ray's id and by the name that a user knows."""

    node_id: str
    name: str


def nodes_for_trials(search: SearchConfig) -> list[Node]:
    """The nodes on which a trial fits, `gpus_per_trial` resolved; raises `UserError` where it fits on none."""
    alive = [node for node in ray.nodes() if node["Alive"]]
    found = [
        Node(node["NodeID"], f"{node['NodeManagerHostname']} ({node['NodeManagerAddress']})")
        for node in alive
        if fits(node["Resources"], search)
    ]
    if not found:
        raise UserError(
            f"a trial wants {search.cpus_per_trial} CPUs and {search.gpus_per_trial or 0:g} GPUs; "
            f"none of Ray's {len(alive)} nodes has them"
        )
    return found


def fits(resources: Mapping[str, float], search: SearchConfig) -> bool:
    """Whether a trial fits on a node that has these resources."""
    enough_cpus = resources.get("CPU", 0) >= search.cpus_per_trial
    return enough_cpus and resources.get("GPU", 0) >= (search.gpus_per_trial or 0)


def require_shared_folder(folder: Path, search: SearchConfig) -> None:
    """Raise `UserError` where a node that may run trials cannot write into `folder`.

    Nodes that join later are not asked. On one that cannot see the folder a trial runs without checkpoints.
    """
    marker = folder / f".{secrets.token_hex(8)}{PART}"  # a new name, as file systems may remember what was not there
    marker.touch()
    try:
        answers = _ask(nodes_for_trials(search), write_beside, marker)
    finally:
        marker.unlink(missing_ok=True)
    unable = [f"node {node.name} {trouble}" for node, trouble in answers.items() if trouble]
    if unable:
        more = f" (and {len(unable) - 1} more nodes)" if unable[1:] else ""
        raise UserError(
            f"{unable[0]} {folder}{more}; give a --storage that all nodes share: a network folder, or a URI such as "
            "s3://bucket/path"
        )


def write_beside(marker: Path) -> str:
    """What keeps this process from using the folder that another has put `marker` into; nothing where it can."""
    try:
        if not marker.exists():
            return "does not see"
        mine = marker.with_name(f".{secrets.token_hex(8)}{PART}")
        mine.touch()
        mine.unlink()
    except OSError as error:
        return f"cannot use ({error.strerror})"
    return ""


def common_precision(train: TrainConfig, search: SearchConfig, nodes: int) -> Literal["bf16", "fp32"]:
    """What `precision: auto` means on a cluster, for all trials alike: bf16 where every node computes in it.

    This process answers for the only node that there is.
    """
    if train.precision != "auto":
        return train.precision
    if nodes == 1:
        return _precision_here(train)
    answers = _ask(nodes_for_trials(search), _precision_here, train, gpus=search.gpus_per_trial or 0)
    return "bf16" if set(answers.values()) == {"bf16"} else "fp32"


def _precision_here(train: TrainConfig) -> Literal["bf16", "fp32"]:
    return resolve_compute(train).precision


def _ask(nodes: list[Node], question: Callable[..., Answer], argument: object, gpus: float = 0) -> dict[Node, Answer]:
    """Call a function in a process on each of the nodes, at the same time."""
    task: Any = ray.remote(question)

    def on(node: Node) -> Any:
        strategy = NodeAffinitySchedulingStrategy(node.node_id, soft=False)
        return task.options(num_cpus=0, num_gpus=gpus, scheduling_strategy=strategy).remote(argument)

    answers: list[Answer] = ray.get([on(node) for node in nodes])
    return dict(zip(nodes, answers, strict=True))
