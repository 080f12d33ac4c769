"""The original run's setting with several seeds, beside that run: the numbers of docs/seed_comparison.*.

    python tests/benchmarks/seed_recipe.py runs/recipe                       the full recipe, wants a GPU
    python tests/benchmarks/seed_recipe.py runs/eighth --width 0.125 --seeds 1 --threads 1

trains on all training images, watches the test set in each epoch as the original did, and writes
seed_comparison.csv and .png. Started again, it goes on where it was stopped.
"""

import sys
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

from cifar_core.config import TrainConfig
from cifar_core.errors import one_line_errors
from cifar_core.options import Parser, add_options, from_mapping
from cifar_core.run import run
from cifar_core.run_folder import RunFolder
from cifar_core.seed_comparison import final_table, write_comparison

FIXED = ("seed", "val_size", "epochs")


def main(arguments: Sequence[str]) -> None:
    """Train one run for each seed, then compare."""
    with one_line_errors(debug="--debug" in arguments):
        flags = vars(_parser().parse(arguments))
        output, seeds, _ = flags.pop("output"), flags.pop("seeds"), flags.pop("debug")
        config = replace(from_mapping(TrainConfig, flags, "command line"), val_size=0)
        roots = [output / f"seed_{seed}" for seed in range(seeds)]
        for seed, root in enumerate(roots):
            if not RunFolder(root).finished:
                run(replace(config, seed=seed), root)
        print(final_table(write_comparison(roots, output)))


def _parser() -> Parser:
    parser = Parser(description=__doc__)
    parser.add_argument("output", type=Path, help="folder of the runs, the table and the figure")
    parser.add_argument("--seeds", type=int, default=5, help="number of runs (default: 5)")
    parser.add_argument("--debug", action="store_true", help="show the traceback of an error")
    add_options(parser, TrainConfig, skip=FIXED)
    return parser


if __name__ == "__main__":
    main(sys.argv[1:])
