"""Whether the range of the LR range test holds the max_lr that trains best: the table in cifar_core/lr_range_test.py.

    python tests/benchmarks/lr_range_calibration.py
    python tests/benchmarks/lr_range_calibration.py --dataset images --data-dir DIR \\
        --train-size 5000 --val-size 2000 --epochs 6

sweeps, then trains in full once for each max_lr and seed, one thread a run.
"""

import argparse
import itertools
import multiprocessing
from concurrent.futures import ProcessPoolExecutor
from dataclasses import replace
from functools import partial
from pathlib import Path

import numpy as np
from tqdm import tqdm

from cifar_core.config import TrainConfig
from cifar_core.datasets import load_training_data
from cifar_core.lr_range_test import Curve, RangeTestConfig, read_curve, suggest_range, sweep, sweep_configs
from cifar_core.train import fit

MAX_LRS = (0.006, 0.015, 0.03, 0.06, 0.1, 0.2)


def main() -> None:
    """Sweep, train the grid, and print the table."""
    arguments = _parser().parse_args()
    config = TrainConfig(
        dataset=arguments.dataset,
        data_dir=arguments.data_dir,
        train_size=arguments.train_size,
        val_size=arguments.val_size,
        width=arguments.width,
        head_scale=0.1,
        epochs=arguments.epochs,
        batch_size=arguments.batch_size,
        peak_epoch=arguments.peak_epoch,
        device="cpu",
        precision="fp32",
        threads=1,
    )
    l1_factors = tuple(arguments.l1_factors) if arguments.l1_factors else None
    test = RangeTestConfig(steps=arguments.steps, l1_factors=l1_factors)
    runs = [
        replace(config, max_lr=max_lr, seed=seed)
        for max_lr, seed in itertools.product(arguments.max_lrs, range(arguments.seeds))
    ]
    sweeps = sweep_configs(config, test)
    with ProcessPoolExecutor(arguments.processes, multiprocessing.get_context("spawn")) as pool:
        curves = list(tqdm(pool.map(partial(_sweep, test=test), sweeps), total=len(sweeps), unit="sweep"))
        accuracies = list(tqdm(pool.map(_val_accuracy, runs), total=len(runs), unit="run"))
    low, high = _print_suggestion(curves)
    print("max_lr   val %  each seed")
    for max_lr, row in zip(arguments.max_lrs, 100 * np.reshape(accuracies, (-1, arguments.seeds)), strict=True):
        print(f"{max_lr:<8g} {row.mean():<6.1f} {' '.join(f'{a:.1f}' for a in row)}", "*" * (low <= max_lr <= high))


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    add = partial(parser.add_argument, metavar="N")
    add("--dataset", default="synthetic", metavar="NAME")
    add("--data-dir", type=Path, default=Path("data"), metavar="DIR")
    add("--train-size", type=int, default=3000)
    add("--val-size", type=int, default=1500)
    add("--width", type=float, default=1 / 8)
    add("--epochs", type=int, default=8)
    add("--peak-epoch", type=float, default=2)
    add("--batch-size", type=int, default=128)
    add("--steps", type=int, default=100)
    add("--l1-factors", type=float, nargs=2)
    add("--seeds", type=int, default=2)
    add("--processes", type=int, default=2)
    add("--max-lrs", type=float, nargs="*", default=MAX_LRS)
    return parser


def _sweep(config: TrainConfig, test: RangeTestConfig) -> Curve:
    return sweep(config, load_training_data(config).train, test)


def _val_accuracy(config: TrainConfig) -> float:
    """Validation accuracy after the last epoch; a run that diverged has the accuracy of guessing."""
    last = fit(config, load_training_data(config)).history.epochs[-1]
    return 0.1 if last.diverged else last.val_accuracy


def _print_suggestion(curves: list[Curve]) -> tuple[float, float]:
    for curve in curves:
        reading = read_curve(curve)
        print(f"l1_factor {curve.l1_factor:g}, seed {curve.seed}: low {reading.low}, edge {reading.edge}")
    suggestion = suggest_range(curves)
    print(suggestion)
    return suggestion.max_lr_range


if __name__ == "__main__":
    main()
