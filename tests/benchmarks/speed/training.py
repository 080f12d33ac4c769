"""Training on the CPU: ours against the baseline, two trials of one thread against one of two.

    python -m tests.benchmarks.speed.training ours --width 0.125 --cores 0

prints the images a second of one process on the given cores; the rows start such processes in turn.
"""

import argparse
import json
import os
import subprocess
import sys
import time
from collections.abc import Sequence
from statistics import median
from typing import Literal

import torch
from torch import nn
from torch.utils.flop_counter import FlopCounterMode

from cifar_core.config import TrainConfig
from cifar_core.datasets import load_training_data
from cifar_core.model import ResNetC
from cifar_core.train import Trainer, train_epoch
from tests.benchmarks.speed.baseline import BaselineRun
from tests.benchmarks.speed.rows import Row, spread
from tune_experiments.runtime import ENVIRONMENT

Kind = Literal["ours", "baseline"]
BATCH = 128
WIDTHS = {0.125: 3000, 1.0: 384}  # and the images of a measured epoch
GOALS = {0.125: "≥ 3×", 1.0: "≥ 2×"}
MATRIX = 2048


def training_rows(rounds: int) -> list[Row]:
    """Both widths against the baseline, then how two cores are used best."""
    peaks = {name: matmul_peak(dtype) for name, dtype in (("fp32", torch.float32), ("bf16", torch.bfloat16))}
    return [*(_against_baseline(width, rounds, peaks) for width in WIDTHS), _two_cores(rounds)]


def _against_baseline(width: float, rounds: int, peaks: dict[str, float]) -> Row:
    """Each on one core, in turn."""
    speeds: dict[str, list[float]] = {"ours": [], "baseline": []}
    for _ in range(rounds):
        speeds["ours"].append(measure("ours", width, [[0]]))
        speeds["baseline"].append(measure("baseline", width, [[0]]))
    ratios = [ours / theirs for ours, theirs in zip(speeds["ours"], speeds["baseline"], strict=True)]
    flops = flops_per_image(width) * median(speeds["ours"])
    shares = ", ".join(f"{flops / peak:.0%} of the {name} peak ({peak / 1e9:.0f})" for name, peak in peaks.items())
    return Row(
        f"training on one core, width {width:g}, against the baseline",
        GOALS[width],
        f"{spread(ratios)}×: {median(speeds['ours']):,.0f} against {median(speeds['baseline']):,.0f} images/s; "
        f"{flops / 1e9:.0f} GFLOP/s, {shares}",
        figures={**speeds, "peaks": peaks},
    )


def _two_cores(rounds: int) -> Row:
    width = min(WIDTHS)
    pairs = [(measure("ours", width, [[0], [1]]), measure("ours", width, [[0, 1]])) for _ in range(rounds)]
    return Row(
        f"two 1-thread trials against one 2-thread trial on 2 cores, width {width:g}",
        "the default is the better",
        f"{spread([two / one for two, one in pairs])}× the images a second; the default is 1 thread a trial",
        figures={"two of one thread": [two for two, _ in pairs], "one of two": [one for _, one in pairs]},
    )


def measure(kind: Kind, width: float, cores: Sequence[Sequence[int]]) -> float:
    """Images a second of a process on each of the sets of cores at the same time, added up."""
    command = [sys.executable, "-m", "tests.benchmarks.speed.training", kind, "--width", str(width), "--cores"]
    environment = os.environ | (ENVIRONMENT if kind == "ours" else {})  # as trials have it
    running = [
        subprocess.Popen([*command, *map(str, own)], env=environment, stdout=subprocess.PIPE, text=True)
        for own in cores
    ]
    outputs = [process.communicate()[0] for process in running]
    return sum(float(json.loads(output.splitlines()[-1])["images_per_second"]) for output in outputs)


def matmul_peak(dtype: torch.dtype, device: str = "cpu", size: int = MATRIX) -> float:
    """FLOP a second of square matrices, the best of some; on a CPU by one thread."""
    before = torch.get_num_threads()
    torch.set_num_threads(1 if device == "cpu" else before)
    first, second = (torch.randn(size, size, dtype=dtype, device=device) for _ in range(2))
    best = min(_matmul_seconds(first, second) for _ in range(6))
    torch.set_num_threads(before)
    return 2 * size**3 / best


def _matmul_seconds(first: torch.Tensor, second: torch.Tensor) -> float:
    start = time.perf_counter()
    (first @ second)[0, 0].item()  # which waits for a GPU
    return time.perf_counter() - start


def flops_per_image(width: float) -> float:
    """Of a forward and a backward pass."""
    model, images = ResNetC(width), torch.zeros(2, 3, 32, 32)
    with FlopCounterMode(display=False) as counter:
        nn.functional.cross_entropy(model(images), torch.zeros(2, dtype=torch.int64)).backward()  # type: ignore[no-untyped-call]
    return counter.get_total_flops() / len(images)


def images_per_second(kind: Kind, width: float, threads: int) -> float:
    """One epoch, after one that warms up."""
    images = WIDTHS[width]
    config = TrainConfig(
        dataset="synthetic",
        train_size=images,
        val_size=10,
        width=width,
        head_scale=0.1 if width < 1 else 1.0,
        batch_size=BATCH,
        threads=threads,
        device="cpu",
    )
    data = load_training_data(config)
    if kind == "baseline":
        torch.set_num_threads(threads)
        baseline = BaselineRun(config, data.train)
        return images / [baseline.train_epoch() for _ in range(2)][-1]
    trainer = Trainer(config, data)
    seconds = []
    for epoch in range(2):
        start = time.perf_counter()
        train_epoch(
            trainer.model, trainer.optimizer, trainer.loader.batches(epoch), trainer.schedule, 0, trainer.compute
        )
        seconds.append(time.perf_counter() - start)
    return images / seconds[-1]


def main() -> None:
    """Measure one process."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("kind", choices=("ours", "baseline"))
    parser.add_argument("--width", type=float, default=0.125)
    parser.add_argument("--cores", type=int, nargs="+", default=[0])
    given = parser.parse_args()
    os.sched_setaffinity(0, given.cores)
    print(json.dumps({"images_per_second": images_per_second(given.kind, given.width, len(given.cores))}))


if __name__ == "__main__":
    main()
