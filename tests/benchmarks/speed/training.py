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
from collections.abc import Mapping, Sequence
from statistics import median
from typing import Literal, get_args

import torch
from torch import nn
from torch.profiler import ProfilerActivity, profile
from torch.utils.flop_counter import FlopCounterMode

from cifar_core.config import TrainConfig
from cifar_core.datasets import load_training_data
from cifar_core.model import ResNetC
from cifar_core.train import Trainer, train_epoch
from tests.benchmarks.speed.baseline import WORKERS, BaselineRun
from tests.benchmarks.speed.rows import Row, spread
from tune_experiments.runtime import ENVIRONMENT

Kind = Literal["ours", "compiled", "baseline"]
BATCH, LARGE_BATCH = 128, 512
WIDTHS = {0.125: 3000, 1.0: 384}  # and the images of a measured epoch
GOALS = {0.125: "≥ 3×", 1.0: "≥ 2×"}
PROFILED = {  # operators by what they are for; the first that fits
    "convolutions": ("convolution",),
    "pooling": ("max_pool2d", "aten::fill_"),  # fill_: pooling's gradient begins as zeros
    "batch norm": ("batch_norm",),
    "ReLU": ("clamp_min", "threshold"),
    "augmentation": ("grid_sampler", "addcmul", "index_select"),
}
MATRIX = 2048


def training_rows(rounds: int) -> list[Row]:
    """Both widths against the baseline, then how two cores are used best."""
    peaks = {name: matmul_peak(dtype) for name, dtype in (("fp32", torch.float32), ("bf16", torch.bfloat16))}
    narrow_and_wide = [_against_baseline(width, rounds, peaks) for width in WIDTHS]
    return [*narrow_and_wide, *_two_cores(rounds), _kept_memory(rounds), _compiled(rounds)]


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
        f"by profile: {_profiled(width)}",
        {**speeds, "peaks": peaks},
    )


def _profiled(width: float) -> str:
    """Shares of the time of an epoch, by kind of operator."""
    trainer = _trainer(width, BATCH, threads=1)
    with profile(activities=[ProfilerActivity.CPU]) as profiler:
        epoch_seconds(trainer, 0)
    times = {event.key: event.self_cpu_time_total for event in profiler.key_averages()}
    kinds = dict.fromkeys([*PROFILED, "rest"], 0.0)
    for operator, microseconds in times.items():
        found = (kind for kind, names in PROFILED.items() if any(name in operator for name in names))
        kinds[next(found, "rest")] += microseconds / sum(times.values())
    return ", ".join(f"{kind} {share:.0%}" for kind, share in kinds.items())


def _two_cores(rounds: int) -> list[Row]:
    """What two cores do in a second: two trials of one thread, one of two, and the baseline."""
    width = min(WIDTHS)
    both, separate = [[0, 1]], [[0], [1]]
    speeds: dict[str, list[float]] = {"two of one thread": [], "one of two": [], "baseline": []}
    for _ in range(rounds):
        speeds["two of one thread"].append(measure("ours", width, separate))
        speeds["one of two"].append(measure("ours", width, both))
        speeds["baseline"].append(measure("baseline", width, both))
    two, one, baseline = speeds.values()
    return [
        Row(
            f"two 1-thread trials against one 2-thread trial on 2 cores, width {width:g}",
            "the default is the better",
            f"{spread([ours / other for ours, other in zip(two, one, strict=True)])}× the images a second; "
            "the default is 1 thread a trial",
            figures=dict(speeds),
        ),
        Row(
            f"both cores, by two trials, against the baseline with 2 threads and {WORKERS} workers, width {width:g}",
            "",
            f"{spread([ours / other for ours, other in zip(two, baseline, strict=True)])}×: "
            f"{median(two):,.0f} against {median(baseline):,.0f} images/s",
        ),
    ]


def _kept_memory(rounds: int) -> Row:
    width = min(WIDTHS)
    given_back = os.environ | {"GLIBC_TUNABLES": ""}
    pairs = [
        (measure("ours", width, [[0]], LARGE_BATCH), measure("ours", width, [[0]], LARGE_BATCH, given_back))
        for _ in range(rounds)
    ]
    return Row(
        f"trials that keep freed memory against giving it back, width {width:g}, batches of {LARGE_BATCH}",
        "what pays is the default",
        f"{spread([kept / back for kept, back in pairs])}× the images a second; the default is to keep",
        figures={"kept": [kept for kept, _ in pairs], "given back": [back for _, back in pairs]},
    )


def _compiled(rounds: int) -> Row:
    width = min(WIDTHS)
    pairs = [(measure("compiled", width, [[0]]), measure("ours", width, [[0]])) for _ in range(rounds)]
    return Row(
        f"torch.compile on one core, width {width:g}, once it has compiled",
        "what pays is the default",
        f"{spread([compiled / eager for compiled, eager in pairs])}× the images a second; the default is without",
        figures={"compiled": [compiled for compiled, _ in pairs], "eager": [eager for _, eager in pairs]},
    )


def measure(
    kind: Kind,
    width: float,
    cores: Sequence[Sequence[int]],
    batch: int = BATCH,
    environment: Mapping[str, str] | None = None,
) -> float:
    """Images a second of a process on each of the sets of cores at the same time, added up.

    Without an `environment` of its own, ours has that of a trial.
    """
    command = [sys.executable, "-m", "tests.benchmarks.speed.training", kind]
    command += ["--width", str(width), "--batch", str(batch), "--cores"]
    environment = environment or os.environ | (ENVIRONMENT if kind != "baseline" else {})
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


def images_per_second(kind: Kind, width: float, batch: int, threads: int) -> float:
    """Of an epoch, after one that warms up."""
    if kind == "baseline":
        torch.set_num_threads(threads)
        config = _config(width, batch, threads)
        baseline = BaselineRun(config, load_training_data(config).train)
        return WIDTHS[width] / [baseline.train_epoch() for _ in range(2)][-1]
    trainer = _trainer(width, batch, threads)
    if kind == "compiled":
        trainer.model.compile()
    return WIDTHS[width] / [epoch_seconds(trainer, epoch) for epoch in range(2)][-1]


def _config(width: float, batch: int, threads: int) -> TrainConfig:
    return TrainConfig(
        dataset="synthetic",
        train_size=WIDTHS[width],
        val_size=10,
        width=width,
        head_scale=0.1 if width < 1 else 1.0,
        batch_size=batch,
        threads=threads,
        device="cpu",
    )


def _trainer(width: float, batch: int, threads: int) -> Trainer:
    config = _config(width, batch, threads)
    return Trainer(config, load_training_data(config))


def epoch_seconds(trainer: Trainer, epoch: int) -> float:
    """Train one epoch; returns its seconds, without an evaluation."""
    start = time.perf_counter()
    train_epoch(trainer.model, trainer.optimizer, trainer.loader.batches(epoch), trainer.schedule, 0, trainer.compute)
    return time.perf_counter() - start


def main() -> None:
    """Measure one process."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("kind", choices=get_args(Kind))
    parser.add_argument("--width", type=float, default=0.125)
    parser.add_argument("--batch", type=int, default=BATCH, help="images a step (default: %(default)s)")
    parser.add_argument("--cores", type=int, nargs="+", default=[0])
    given = parser.parse_args()
    os.sched_setaffinity(0, given.cores)
    speed = images_per_second(given.kind, given.width, given.batch, len(given.cores))
    print(json.dumps({"images_per_second": speed}))


if __name__ == "__main__":
    main()
