"""The share of a trial's time that goes into writing its checkpoints.

    python tests/benchmarks/checkpoint_cost.py                                       the quick preset
    python tests/benchmarks/checkpoint_cost.py --preset cifar10 --dataset synthetic --train-size 1000 --epochs 4

runs one trial of the preset, at the seed's setting, as a search runs it but in this process, with the checkpoints
in a folder under TMPDIR. A trial that is cut short as above still writes checkpoints of the preset's size: its
last one, which is always written, weighs more than in the whole trial.
"""

import sys
import tempfile
import time
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

from cifar_core.datasets import load_training_data
from cifar_core.errors import one_line_errors
from cifar_core.options import Parser
from tune_experiments.config import Plan, add_plan_options, read_preset
from tune_experiments.experiment import Experiment
from tune_experiments.ledger import Trial
from tune_experiments.search_space import seed_setting
from tune_experiments.trainable import CifarTrial, trial_config


def main(arguments: Sequence[str]) -> None:
    """Run a trial and print what its checkpoints cost."""
    parser = Parser(description=__doc__)
    parser.add_argument("--preset", default="quick", help="(default: %(default)s)")
    add_plan_options(parser)
    with one_line_errors(debug=False), tempfile.TemporaryDirectory() as folder:
        given = vars(parser.parse(arguments))
        plan = Plan.from_mapping(read_preset(given["preset"]), given, f"preset {given['preset']}")
        train = replace(plan.train, threads=plan.search.cpus_per_trial)
        experiment = Experiment.at(folder, "cost")
        experiment.make()
        trial: CifarTrial = object.__new__(CifarTrial)  # without Ray, which would make the actor
        first = trial_config(Trial("00000", seed_setting(train)))
        trial.setup(first, train, load_training_data(train), experiment, plan.rungs)
        start = time.monotonic()
        for _ in range(train.epochs):
            trial.step()
        seconds = time.monotonic() - start
        trial.cleanup()
        print(_describe(trial, train.epochs, seconds, experiment.path / "checkpoints/00000.pt"))


def _describe(trial: CifarTrial, epochs: int, seconds: float, file: Path) -> str:
    written = trial.checkpoint_seconds
    return (
        f"{len(written)} checkpoints of {file.stat().st_size / 1e6:.1f} MB in {epochs} epochs: {sum(written):.2f} s "
        f"of {seconds:.1f} s, {sum(written) / seconds:.2%} of the trial; the slowest {max(written):.3f} s"
    )


if __name__ == "__main__":
    main(sys.argv[1:])
