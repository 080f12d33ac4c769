"""The nodes of a Ray cluster that run trials: how many fit on each, and what they have to have in common."""

import math
import secrets
import sys
import time
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any, Literal, NamedTuple, TypeVar

import ray
from ray import ObjectRef
from ray.exceptions import RayError, RayTaskError
from ray.util.scheduling_strategies import NodeAffinitySchedulingStrategy
from tqdm import tqdm

from cifar_core.config import TrainConfig
from cifar_core.device import resolve_compute
from cifar_core.errors import UserError
from cifar_core.whole_file import PART
from tune_experiments.config import Plan, SearchConfig

Answer = TypeVar("Answer")
LOOK_EVERY = 2.0  # seconds between two looks at which nodes there are
ANSWER_WITHIN = 30.0  # seconds that new trials wait for what a node that has joined answers


class Node(NamedTuple):
    """A node by Ray's id and by the name that a user knows, and how many trials it runs at a time."""

    node_id: str
    name: str
    room: int


def nodes_for_trials(search: SearchConfig) -> list[Node]:
    """The nodes on which a trial fits, `gpus_per_trial` resolved; raises `UserError` where it fits on none."""
    return _fitting(ray.nodes(), search)


def _fitting(described: Sequence[Mapping[str, Any]], search: SearchConfig) -> list[Node]:
    found = _with_room(described, search)
    if not found:
        raise UserError(
            f"a trial wants {search.cpus_per_trial} CPUs and {search.gpus_per_trial or 0:g} GPUs; "
            f"none of Ray's {sum(node['Alive'] for node in described)} nodes has them"
        )
    return found


def _with_room(described: Sequence[Mapping[str, Any]], search: SearchConfig) -> list[Node]:
    nodes = [_node(node, search) for node in described if node["Alive"]]
    return [node for node in nodes if node.room]


def _node(described: Mapping[str, Any], search: SearchConfig) -> Node:
    name = f"{described['NodeManagerHostname']} ({described['NodeManagerAddress']})"
    return Node(described["NodeID"], name, room(described["Resources"], search))


def room(resources: Mapping[str, float], search: SearchConfig) -> int:
    """How many trials run at a time on a node that has these resources; none of them has parts of two GPUs."""
    gpus = search.gpus_per_trial or 0.0
    of_cpus = int(resources.get("CPU", 0) // search.cpus_per_trial)
    if not gpus:
        return of_cpus
    there = int(resources.get("GPU", 0))
    return min(of_cpus, int(there // gpus) if gpus >= 1 else there * int(1 / gpus + 1e-9))


class Question(NamedTuple):
    """What a node that has joined was asked, and the file that it has to see; none where no folder is shared."""

    answer: "ObjectRef[str]"
    marker: Path | None

    def close(self) -> None:
        """Nobody waits for the answer any more."""
        if self.marker:
            self.marker.unlink(missing_ok=True)


class TrialNodes:
    """The nodes that run trials, as they come and go.

    One that joins after this is made is asked whether it can train as planned and sees the experiment's folder. There
    are no slots on it before it has answered, and where it cannot, it is closed to trials.

    Args:
        plan: what trials do and want, `gpus_per_trial` resolved.
        folder: what the nodes have to share; none where the experiment is below a URI.

    Raises:
        UserError: a trial fits on no node.
    """

    def __init__(self, plan: Plan, folder: Path | None) -> None:
        self.train, self.search = plan.train, plan.search
        self.folder = folder
        there = ray.nodes()  # once: a node that joins between two calls would be taken for one that was asked
        self.places = sum(node.room for node in _fitting(there, self.search))
        self.trouble = {node["NodeID"]: "" for node in there}  # that it has with trials, by node
        self.asked: dict[str, Question] = {}
        self.unanswered: dict[str, float] = {}  # nodes that have joined: when they were first seen
        self.looked_at = -math.inf

    def slots(self) -> int:
        """How many trials run at a time now: at least one, for which Tune waits where there is no node left."""
        if time.monotonic() - self.looked_at > LOOK_EVERY:
            self._look()
            self.looked_at = time.monotonic()
        return self.slots_seen()

    def slots_seen(self) -> int:
        """The same without looking, for other threads."""
        return max(1, min(self.places, self.search.max_concurrent or self.places))

    def is_asking(self) -> bool:
        """Whether a new trial should wait, as it could come to a node that is about to answer.

        Trials wait `ANSWER_WITHIN` at most for each node that joins, so one that never answers stalls nothing.
        """
        return any(time.monotonic() - since < ANSWER_WITHIN for since in self.unanswered.values())

    def closed(self) -> list[str]:
        """The ids of the nodes that may not get a trial.

        Not of those that have yet to answer: a trial that asks for another place gets another process, too.
        """
        return sorted(node_id for node_id, trouble in self.trouble.items() if trouble)

    def _look(self) -> None:
        nodes = _with_room(ray.nodes(), self.search)
        for gone in self.asked.keys() - {node.node_id for node in nodes}:
            self.asked.pop(gone).close()
        for node in nodes:
            if node.node_id not in self.trouble:
                self._ask_or_hear(node)
        now = time.monotonic()
        new = [node.node_id for node in nodes if node.node_id not in self.trouble]
        self.unanswered = {node_id: self.unanswered.get(node_id, now) for node_id in new}
        self.places = sum(node.room for node in nodes if self.trouble.get(node.node_id) == "")

    def _ask_or_hear(self, node: Node) -> None:
        if node.node_id not in self.asked:
            marker = _mark(self.folder) if self.folder else None
            gpus = self.search.gpus_per_trial or 0
            self.asked[node.node_id] = Question(_question(node, unfit, self.train, marker, gpus=gpus), marker)
        elif ray.wait([self.asked[node.node_id].answer], timeout=0)[0]:
            self._take_answer(node, self.asked.pop(node.node_id))

    def _take_answer(self, node: Node, question: Question) -> None:
        question.close()
        try:
            trouble = ray.get(question.answer)
        except RayTaskError as error:  # it lacks a package, for example
            trouble = f"cannot train ({str(error).strip().splitlines()[-1]})"
        except RayError:  # it was gone again: asked anew where it is not
            return
        self.trouble[node.node_id] = trouble
        if trouble:
            tqdm.write(f"node {node.name} {trouble}: it gets no trials", file=sys.stderr)


def unfit(train: TrainConfig, marker: Path | None) -> str:
    """What keeps this process from being a trial's: it cannot train so, or use the folder that `marker` is in.

    Nothing where it can.
    """
    try:
        resolve_compute(train)
    except UserError as error:
        return f"cannot train ({error})"
    trouble = write_beside(marker) if marker else ""
    return f"{trouble} {marker.parent}" if marker and trouble else ""


def _mark(folder: Path) -> Path:
    marker = folder / f".{secrets.token_hex(8)}{PART}"  # a new name, as file systems may remember what was not there
    marker.touch()
    return marker


def require_shared_folder(folder: Path, search: SearchConfig) -> None:
    """Raise `UserError` where a node that may run trials cannot write into `folder`."""
    marker = _mark(folder)
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
    answers: list[Answer] = ray.get([_question(node, question, argument, gpus=gpus) for node in nodes])
    return dict(zip(nodes, answers, strict=True))


def _question(node: Node, question: Callable[..., Answer], *arguments: object, gpus: float) -> "ObjectRef[Answer]":
    task: Any = ray.remote(question)
    there = NodeAffinitySchedulingStrategy(node.node_id, soft=False)
    answer: ObjectRef[Answer] = task.options(num_cpus=0, num_gpus=gpus, scheduling_strategy=there).remote(*arguments)
    return answer
