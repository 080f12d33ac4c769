"""The LR range test as Ray tasks, one sweep each, on the resources of a trial."""

from collections.abc import Iterator

import ray
from ray import ObjectRef
from tqdm import tqdm

from cifar_core.config import RangeTestConfig, TrainConfig
from cifar_core.datasets import TrainingData
from cifar_core.figures.lr_range import lr_range
from cifar_core.lr_range_test import Curve, RangeTest, suggest_range, sweep, sweep_configs
from tune_experiments.config import Plan
from tune_experiments.experiment import Experiment, write_whole


def find_max_lr_range(experiment: Experiment, plan: Plan, data: "ObjectRef[TrainingData]") -> tuple[float, float]:
    """The range that the experiment's range test suggests; runs the test where its result is not there yet."""
    result_file = experiment.range_test
    if result_file.exists():
        result = RangeTest.from_json(result_file.read_text(encoding="utf-8"))
    else:
        result = _run(plan, data)
        figure = lr_range(result)
        write_whole(experiment.file("lr_range_test.png"), lambda path: figure.savefig(path, format="png"))
        write_whole(result_file, lambda path: path.write_text(result.to_json(), encoding="utf-8"))
        print(_describe(result), flush=True)
    return result.suggestion.max_lr_range


def _run(plan: Plan, data: "ObjectRef[TrainingData]") -> RangeTest:
    task = ray.remote(num_cpus=plan.search.cpus_per_trial, num_gpus=plan.search.gpus_per_trial or 0)(_sweep)
    sweeps = [task.remote(config, data, plan.range_test) for config in sweep_configs(plan.train, plan.range_test)]
    for _ in tqdm(_as_they_finish(sweeps), total=len(sweeps), desc="LR range test", unit="sweep", disable=None):
        pass
    curves: list[Curve] = ray.get(sweeps)
    return RangeTest(tuple(curves), suggest_range(curves))


def _sweep(config: TrainConfig, data: TrainingData, test: RangeTestConfig) -> Curve:
    return sweep(config, data.train, test)


def _as_they_finish(tasks: "list[ObjectRef[Curve]]") -> "Iterator[ObjectRef[Curve]]":
    while tasks:
        done, tasks = ray.wait(tasks)
        yield from done


def _describe(result: RangeTest) -> str:
    low, high = result.suggestion.max_lr_range
    text = f"LR range test: max_lr from {low:.3g} to {high:.3g}"
    return f"{text}, a wide guess, because {result.suggestion.refusal}" if result.suggestion.refusal else text
