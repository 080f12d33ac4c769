"""`python -m cifar_core`: one complete training run."""

import argparse
import sys
from collections.abc import Sequence
from datetime import datetime
from pathlib import Path

from cifar_core.config import TrainConfig
from cifar_core.errors import one_line_errors
from cifar_core.options import Parser, add_options, from_mapping, read_yaml
from cifar_core.run_folder import RunFolder

EXIT_DIVERGED, EXIT_INTERRUPTED = 1, 130

DESCRIPTION = """\
One complete training run. It leaves a folder with the history, the checkpoint, a table of the misclassified
images, TensorBoard files and every picture, and opens the test set once, at the end.

  python -m cifar_core                                  the recipe on CIFAR-10, which it downloads
  python -m cifar_core --dataset synthetic --width 0.125 --epochs 6 --batch-size 128
                                                        no download, a minute on a CPU
  python -m cifar_core --config FILE --max-lr 0.1       a config file, one value changed
  python -m cifar_core --output DIR                     go on with the interrupted run in DIR
"""


def main(arguments: Sequence[str]) -> int:
    """Run the command; returns the exit code."""
    with one_line_errors(debug="--debug" in arguments):
        chosen = build_parser().parse(arguments)
        output = chosen.output or Path("runs") / datetime.now().strftime("%Y-%m-%d_%H-%M-%S")
        config = build_config(chosen, output)
        from cifar_core.run import run  # seconds of imports that --help and a wrong flag need not wait for

        try:
            metrics = run(config, output, chosen.export)
        except KeyboardInterrupt:
            if RunFolder(output).checkpoint.exists():
                print(f"\nstopped; python -m cifar_core --output {output} goes on", file=sys.stderr)
            return EXIT_INTERRUPTED
        if metrics["state"] == "diverged":
            print(f"diverged in epoch {metrics['epochs']}: the loss is not finite; see {output}", file=sys.stderr)
            return EXIT_DIVERGED
        print(f"test accuracy {metrics['test_accuracy']:.2%}, loss {metrics['test_loss']:.4f}; all of it: {output}")
        return 0


def build_parser() -> Parser:
    """The command's arguments."""
    parser = Parser(prog="python -m cifar_core", description=DESCRIPTION)
    parser.add_argument("--config", type=Path, metavar="FILE", help="YAML of the options below; flags override it")
    parser.add_argument(
        "--output",
        type=Path,
        metavar="DIR",
        help="folder of the run; an interrupted one goes on (default: runs/<time>)",
    )
    parser.add_argument("--export", action="store_true", help="also write model.safetensors")
    parser.add_argument("--debug", action="store_true", help="show the traceback of an error")
    add_options(parser, TrainConfig)
    return parser


def build_config(chosen: argparse.Namespace, output: Path) -> TrainConfig:
    """The config from the file that was named, else from an interrupted run in `output`; flags override it."""
    flags = {name: value for name, value in vars(chosen).items() if name not in ("config", "output", "export", "debug")}
    source = chosen.config or RunFolder(output).config
    base = read_yaml(source) if chosen.config or source.exists() else {}
    if base:
        from_mapping(TrainConfig, base, str(source))  # so that an error in the file names the file
    return from_mapping(TrainConfig, base | flags, "command line")


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
