"""A trial among others on one GPU: it warms up, and trains when it is told to."""

import sys

from cifar_core.config import TrainConfig
from cifar_core.datasets import load_training_data
from cifar_core.options import Parser, add_options, from_mapping
from cifar_core.train import Trainer
from tests.benchmarks.speed.gpu import SHARING_EPOCHS


def main() -> None:
    """Run it."""
    parser = Parser(description=__doc__)
    add_options(parser, TrainConfig)
    config = from_mapping(TrainConfig, vars(parser.parse()), "command line")
    trainer = Trainer(config, load_training_data(config))
    trainer.run_epoch()
    print("ready", flush=True)
    sys.stdin.readline()
    for _ in range(SHARING_EPOCHS):
        trainer.run_epoch()


if __name__ == "__main__":
    main()
