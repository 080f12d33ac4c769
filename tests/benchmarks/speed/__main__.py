"""Speed, as ratios measured in one run: a table, and every single measurement as JSON.

    python -m tests.benchmarks.speed                            everything, half an hour on 2 cores that do nothing else
    python -m tests.benchmarks.speed training augmentation      some groups
    python -m tests.benchmarks.speed gpu --dataset images --data-dir DIR --seeds 10

The training runs of the group `gpu` take every flag of `python -m cifar_core`. Rows of a machine without a GPU say
"not measured".
"""

import json
import sys
from collections.abc import Callable
from dataclasses import asdict
from pathlib import Path

from cifar_core.config import TrainConfig
from cifar_core.errors import UserError, one_line_errors
from cifar_core.options import Parser, add_options, from_mapping, nearest
from tests.benchmarks.speed.augmentation import augmentation_rows
from tests.benchmarks.speed.driver import driver_rows
from tests.benchmarks.speed.gpu import gpu_rows
from tests.benchmarks.speed.rows import Row, cores_free, machine, table
from tests.benchmarks.speed.search import memory_rows, search_rows
from tests.benchmarks.speed.training import training_rows

GROUPS = ("training", "augmentation", "search", "memory", "driver", "gpu")


def main(arguments: list[str]) -> None:
    """Measure the groups that are asked for."""
    with one_line_errors(debug="--debug" in arguments):
        given = vars(_parser().parse(arguments))
        chosen, rounds, output, seeds = (given.pop(name) for name in ("groups", "rounds", "json", "seeds"))
        del given["debug"]
        config = from_mapping(TrainConfig, given, "command line")
        for group in set(chosen) - set(GROUPS):
            raise UserError(f"unknown group {group}{nearest(group, GROUPS)}; there are {', '.join(GROUPS)}")
    measure: dict[str, Callable[[], list[Row]]] = {
        "training": lambda: training_rows(rounds),
        "augmentation": lambda: augmentation_rows(rounds),
        "search": lambda: search_rows(rounds),
        "memory": memory_rows,
        "driver": driver_rows,
        "gpu": lambda: gpu_rows(config, seeds, rounds),
    }
    if cores_free() < 1.5:
        print("other work is running here: ratios will be off", file=sys.stderr)
    rows: list[Row] = []
    for group in chosen or GROUPS:
        print(f"{group} …", file=sys.stderr, flush=True)
        rows += measure[group]()
        output.write_text(json.dumps({"machine": machine(), "rows": [asdict(row) for row in rows]}, indent=1) + "\n")
    print("\n".join(f"{name}: {value}" for name, value in machine().items()), end="\n\n")
    print(table(rows))


def _parser() -> Parser:
    parser = Parser(description=__doc__)
    parser.add_argument("groups", nargs="*", metavar="GROUP", help=", ".join(GROUPS))
    parser.add_argument("--rounds", type=int, default=3, help="of each measurement (default: %(default)s)")
    parser.add_argument("--seeds", type=int, default=10, help="of the GPU's accuracy (default: %(default)s)")
    parser.add_argument("--json", type=Path, default=Path("speed.json"), help="(default: %(default)s)")
    parser.add_argument("--debug", action="store_true", help="show the traceback of an error")
    add_options(parser, TrainConfig)
    return parser


if __name__ == "__main__":
    main(sys.argv[1:])
