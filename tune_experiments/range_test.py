"""The LR range test as Ray tasks, one sweep each, on the resources of a trial."""

from collections.abc import Iterator

import ray
from ray import ObjectRef
from tqdm import tqdm

from cifar_core.config import RangeTestConfig, TrainConfig
from cifar_core.datasets import TrainingData
from cifar_core.figures.lr_range import lr_range
from cifar_core.lr_range_test import Curve, RangeTest, suggest_range, sweep, sweep_configs
from cifar_core.whole_file import write_text_whole, write_whole
from tune_experiments.config import Plan
from tune_experiments.experiment import Experiment


def ensure_range_test(experiment: Experiment, plan: Plan, data: "ObjectRef[TrainingData]") -> None:
    """Run the range test where its result is not in the experiment's folder yet."""
    if experiment.range_test.exists():
        return
    result = _run(plan, data)
    figure = lr_range(result)
    write_whole(experiment.file("lr_range_test.png"), lambda path: figure.savefig(path, format="png"))
    write_text_whole(experiment.range_test, result.to_json())
    print(_describe(result), flush=True)


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
