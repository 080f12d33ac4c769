r"""The full recipe on a GPU. Each row is measured where there is one, and keeps its place in the table elsewhere.

python -m tests.benchmarks.speed gpu --dataset cifar10 --data-dir DIR --seeds 10
"""

import time
from dataclasses import replace
from statistics import mean, median, stdev

import numpy as np
import torch
from scipy.stats import ttest_rel

from cifar_core.config import TrainConfig
from cifar_core.datasets import TrainingData, load_training_data
from cifar_core.train import Trainer, fit
from tests.benchmarks.speed.rows import Row, spread
from tests.benchmarks.speed.search import search
from tests.benchmarks.speed.sharing import EPOCHS, in_one_process, in_processes
from tests.benchmarks.speed.training import epoch_seconds, flops_per_image, matmul_peak

AT_A_TIME = (1, 2, 3, 4)  # trials on one GPU
SEARCH = ["--num-samples", "12", "--scheduler", "none", "--max-lr-range", "0.01", "0.1", "--confirm-top", "0"]
NAMES = {
    "recipe": ("the full recipe, 24 epochs with 24 evaluations, warm", "≤ 8 s, ≥ 37 % of the bf16 peak"),
    "compiled": ("the same with torch.compile", "what pays is the default"),
    "precision": ("accuracy in bf16 against fp32, seed by seed", "equal within noise, ≥ 10 seeds"),
    "augmentation": ("augmentation's share of a training epoch", "< 5 %"),
    "search": ("useful share of a search of 12 full recipes on a GPU", "≥ 0.90"),
    "sharing": ("several trials at a time on one GPU, against one", "the default is the best"),
}


def gpu_rows(config: TrainConfig, seeds: int, rounds: int) -> list[Row]:
    """All rows; those of a machine without a GPU say so."""
    if config.device == "auto" and not torch.cuda.is_available():
        return [Row(what, goal, "not measured: no GPU here") for what, goal in NAMES.values()]
    data = load_training_data(config)
    return [
        _recipe(config, data, rounds),
        _compiled(config, data),
        _precision(config, data, seeds),
        _augmentation(config, data, rounds),
        _search(config, rounds),
        _sharing(config, data, rounds),
    ]


def _recipe(config: TrainConfig, data: TrainingData, rounds: int) -> Row:
    seconds = [_timed_fit(config, data) for _ in range(rounds + 1)][1:]
    flops = config.epochs * flops_per_image(config.width) * (len(data.train) + len(data.val) / 3)
    device = str(Trainer(config, data).compute.device)
    peak = matmul_peak(torch.bfloat16, device, size=8192 if device != "cpu" else 512)
    share = flops / min(seconds) / peak
    return _row("recipe", f"{spread(seconds)} s, {share:.0%} of {peak / 1e12:.0f} TFLOP/s", {"seconds": seconds})


def _timed_fit(config: TrainConfig, data: TrainingData) -> float:
    start = time.perf_counter()
    fit(config, data)
    return time.perf_counter() - start


def _compiled(config: TrainConfig, data: TrainingData) -> Row:
    start = time.perf_counter()
    trainer = Trainer(config, data)
    trainer.model.compile()
    number = min(4, config.epochs)
    epochs = [trainer.run_epoch().seconds for _ in range(number)]
    plain = Trainer(config, data)
    eager = [plain.run_epoch().seconds for _ in range(number)]
    first = time.perf_counter() - start - sum(eager) - sum(epochs[1:])
    return _row(
        "compiled",
        f"{eager[-1] / epochs[-1]:.2f}× an epoch's speed, once {first:.0f} s",
        {"compiled": epochs, "eager": eager},
    )


def _precision(config: TrainConfig, data: TrainingData, seeds: int) -> Row:
    """Mean difference with a 95 % interval by Student's t over pairs with the same seed."""
    accuracy = {
        precision: [
            fit(replace(config, seed=seed, precision=precision), data).history.epochs[-1].val_accuracy
            for seed in range(seeds)
        ]
        for precision in ("bf16", "fp32")
    }
    differences = 100 * (np.array(accuracy["bf16"]) - np.array(accuracy["fp32"]))
    interval = ttest_rel(*accuracy.values()).confidence_interval()
    return _row(
        "precision",
        f"{differences.mean():+.2f} points ({100 * interval.low:+.2f} to {100 * interval.high:+.2f}); "
        + ", ".join(f"{name} {mean(values):.2%} ± {stdev(values):.2%}" for name, values in accuracy.items()),
        dict(accuracy),
    )


def _augmentation(config: TrainConfig, data: TrainingData, rounds: int) -> Row:
    shares = []
    for _ in range(rounds):
        augmented, plain = (_second_epoch(replace(config, augmentation=kind), data) for kind in ("batched", "none"))
        shares.append(1 - plain / augmented)
    return _row("augmentation", spread(shares, "{:.1%}"), {"shares": shares})


def _second_epoch(config: TrainConfig, data: TrainingData) -> float:
    trainer = Trainer(config, data)
    return [epoch_seconds(trainer, epoch) for epoch in range(2)][-1]


def _sharing(config: TrainConfig, data: TrainingData, rounds: int) -> Row:
    config = replace(config, epochs=max(config.epochs, EPOCHS + 1))
    speeds: dict[str, list[list[float]]] = {
        "processes": [[in_processes(number, config, len(data.train)) for _ in range(rounds)] for number in AT_A_TIME],
        "threads of one": [[in_one_process(number, config, data) for _ in range(rounds)] for number in AT_A_TIME],
    }
    alone = median(speeds["processes"][0])
    text = "; ".join(
        f"{kind}: "
        + ", ".join(f"{number}: {median(values) / alone:.2f}×" for number, values in zip(AT_A_TIME, each, strict=True))
        for kind, each in speeds.items()
    )
    return _row("sharing", f"{text} the throughput of one process ({alone:,.0f} images/s)", dict(speeds))


def _search(config: TrainConfig, rounds: int) -> Row:
    data = ["--dataset", config.dataset, "--data-dir", str(config.data_dir)]
    searched = [search("--preset", "cifar10", *data, *SEARCH) for _ in range(rounds)]
    return _row("search", spread([one.useful_share for one in searched]), {"gaps": [one.gaps for one in searched]})


def _row(name: str, measured: str, figures: dict[str, object]) -> Row:
    what, goal = NAMES[name]
    return Row(what, goal, measured, figures=figures)
