"""Several trials on one GPU at a time: each in a process of its own, as Ray runs them, or as threads of one process.

This file is also what such a process runs: it warms up, says so, and trains when it is told to.
"""

import subprocess
import sys
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack, contextmanager

import torch

from cifar_core.config import TrainConfig
from cifar_core.datasets import TrainingData, load_training_data
from cifar_core.options import Parser, add_options, from_mapping
from cifar_core.train import Trainer

EPOCHS = 4  # measured, after one that warms up
PASSED_ON = ("dataset", "data_dir", "train_size", "val_size", "width", "batch_size", "device", "threads")


def in_processes(number: int, config: TrainConfig, images: int) -> float:
    """Training images a second of so many processes, all of them added up."""
    values = {name: getattr(config, name) for name in PASSED_ON}
    flags = [f"--{name.replace('_', '-')}={value}" for name, value in values.items() if value is not None]
    command = [sys.executable, "-m", "tests.benchmarks.speed.sharing", *flags]
    with _running([command] * number) as trials:
        for trial in trials:
            assert trial.stdout and trial.stdout.readline() == "ready\n"
        start = time.perf_counter()
        for trial in trials:
            assert trial.stdin
            trial.stdin.write("go\n")
            trial.stdin.flush()
        for trial in trials:
            assert trial.stdout and trial.stdout.readline() == "done\n"
        return number * EPOCHS * images / (time.perf_counter() - start)


def in_one_process(number: int, config: TrainConfig, data: TrainingData) -> float:
    """The same of so many threads of this process, on a GPU each with a stream of its own."""
    trainers = [Trainer(config, data) for _ in range(number)]

    def train(trainer: Trainer, epochs: int) -> None:
        with ExitStack() as stack:
            if trainer.compute.device.type == "cuda":
                stack.enter_context(torch.cuda.stream(torch.cuda.Stream()))
            for _ in range(epochs):
                trainer.run_epoch()

    with ThreadPoolExecutor(number) as threads:
        list(threads.map(lambda trainer: train(trainer, 1), trainers))
        start = time.perf_counter()
        list(threads.map(lambda trainer: train(trainer, EPOCHS), trainers))
    return number * EPOCHS * len(data.train) / (time.perf_counter() - start)


@contextmanager
def _running(commands: list[list[str]]) -> "Iterator[list[subprocess.Popen[str]]]":
    pipe = subprocess.PIPE
    processes = [subprocess.Popen(command, stdin=pipe, stdout=pipe, text=True) for command in commands]
    try:
        yield processes
    finally:
        for process in processes:
            process.kill()
            process.wait()


def main() -> None:
    """Be one of the processes."""
    parser = Parser(description=__doc__)
    add_options(parser, TrainConfig)
    config = from_mapping(TrainConfig, vars(parser.parse()), "command line")
    trainer = Trainer(config, load_training_data(config))
    trainer.run_epoch()
    print("ready", flush=True)
    sys.stdin.readline()
    for _ in range(EPOCHS):
        trainer.run_epoch()
    print("done", flush=True)


if __name__ == "__main__":
    main()
