"""How far the embedded data set tells good hyperparameters from bad: the table in cifar_core/synthetic.py.

    python tests/benchmarks/synthetic_difficulty.py

trains the quick preset's network once for each max_lr and seed, one thread a run.
"""

import argparse
import itertools
import multiprocessing
from collections.abc import Iterable
from concurrent.futures import ProcessPoolExecutor
from dataclasses import replace
from functools import partial

import numpy as np
from tqdm import tqdm

from cifar_core.config import TrainConfig
from cifar_core.datasets import load_training_data
from cifar_core.train import fit

MAX_LRS = (1e-3, 5.6e-3, 0.032, 0.18, 1.0)


def main() -> None:
    """Train the grid and print the table."""
    arguments = _parser().parse_args()
    config = TrainConfig(
        dataset="synthetic",
        train_size=arguments.train_size,
        val_size=arguments.val_size,
        width=arguments.width,
        head_scale=0.1,
        epochs=arguments.epochs,
        batch_size=arguments.batch_size,
        peak_epoch=arguments.epochs * 5 / 24,
        device="cpu",
        threads=1,
    )
    runs = [
        replace(config, max_lr=max_lr, seed=seed)
        for max_lr, seed in itertools.product(arguments.max_lrs, range(arguments.seeds))
    ]
    with ProcessPoolExecutor(arguments.processes, multiprocessing.get_context("spawn")) as pool:
        accuracies = list(tqdm(pool.map(_val_accuracy, runs), total=len(runs), unit="run"))
    _print_table(arguments.max_lrs, np.reshape(accuracies, (len(arguments.max_lrs), arguments.seeds)))


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    add = partial(parser.add_argument, metavar="N")
    add("--train-size", type=int, default=3000)
    add("--val-size", type=int, default=1000)
    add("--width", type=float, default=1 / 8)
    add("--epochs", type=int, default=8)
    add("--batch-size", type=int, default=128)
    add("--seeds", type=int, default=3)
    add("--processes", type=int, default=2)
    add("--max-lrs", type=float, nargs="+", default=MAX_LRS)
    return parser


def _val_accuracy(config: TrainConfig) -> float:
    """Validation accuracy after the last epoch; a run that diverged has the accuracy of guessing."""
    last = fit(config, load_training_data(config)).history.epochs[-1]
    return 0.1 if last.diverged else last.val_accuracy


def _print_table(max_lrs: Iterable[float], accuracies: np.ndarray) -> None:
    print("max_lr   mean %   sd     n")
    for max_lr, row in zip(max_lrs, 100 * accuracies, strict=True):
        sd = row.std(ddof=1) if len(row) > 1 else float("nan")
        print(f"{max_lr:<8g} {row.mean():<8.1f} {sd:<6.1f} {len(row)}")


if __name__ == "__main__":
    main()
