"""`python -m cifar_core.seed_comparison RUN...`: finished runs of the recipe beside the run it was taken from.

That run (`seed_run.csv`) watched the test set in each epoch, so ours must too: `--val-size 0`.
"""

import sys
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import pandas as pd

from cifar_core.errors import UserError, one_line_errors
from cifar_core.figures.seed_comparison import seed_comparison_figure
from cifar_core.intervals import mean_interval
from cifar_core.options import Parser
from cifar_core.run_folder import RunFolder

SEED_RUN = Path(__file__).with_name("seed_run.csv")
METRICS = ("train_accuracy", "test_accuracy", "train_loss", "test_loss", "lr")


def compare(runs: Sequence[pd.DataFrame], seed_run: pd.DataFrame) -> pd.DataFrame:
    """One row per epoch: of each of `METRICS` our mean, its 95 % interval `_low` and `_high`, and `seed_<metric>`.

    Args:
        runs: each with the columns `epoch` and `METRICS`, one row per epoch; intervals are NaN for a single run.
        seed_run: the same for the seed's run.
    """
    columns = {"epoch": seed_run["epoch"].to_numpy()}
    for metric in METRICS:
        samples = np.stack([run[metric].to_numpy(np.float64) for run in runs])
        low, high = mean_interval(samples)
        columns |= {metric: samples.mean(axis=0), f"{metric}_low": low, f"{metric}_high": high}
        columns[f"seed_{metric}"] = seed_run[metric].to_numpy()
    return pd.DataFrame(columns)


def read_seed_run() -> pd.DataFrame:
    """The seed's 24 epochs: `epoch` and `METRICS`, accuracies as shares of 1, the rate that an epoch began with."""
    table = pd.read_csv(SEED_RUN)
    return pd.DataFrame(
        {
            "epoch": table["epoch"],
            "train_accuracy": table["train_accuracy_pct"] / 100,
            "test_accuracy": table["test_accuracy_pct"] / 100,
            "train_loss": table["mean_train_loss"],
            "test_loss": table["test_loss"],
            "lr": table["lr_at_epoch_start"],
        }
    )


def read_run(root: Path, epochs: int) -> pd.DataFrame:
    """A finished run's epochs, as `read_seed_run` gives the seed's.

    Raises:
        UserError: the run is not finished, did not watch the test set, or has another number of epochs.
    """
    folder = RunFolder(root)
    if not folder.finished:
        raise UserError(f"{root}: holds no finished run; python -m cifar_core --output {root} makes one")
    config = folder.read_config()
    if config.val_size != 0:
        raise UserError(f"{root}: has val_size {config.val_size}; the seed's run watched the test set: --val-size 0")
    history, steps = pd.read_parquet(folder.history), pd.read_parquet(folder.steps)
    if len(history) != epochs:
        raise UserError(f"{root}: has {len(history)} epochs; the seed's run has {epochs}")
    first_lr = steps["lr"].to_numpy()[:: len(steps) // epochs]
    watched = history.rename(columns={"val_accuracy": "test_accuracy", "val_loss": "test_loss"})
    return watched.assign(lr=first_lr)


def final_table(comparison: pd.DataFrame) -> str:
    """The last epoch's accuracies and losses, ours and the seed's, as text."""
    last = comparison.iloc[-1]
    lines = [f"{'after epoch ' + str(int(last['epoch'])):<16}{'ours':>8}{'95 % interval':>20}{'original':>10}"]
    for metric in METRICS[:-1]:
        low, high = last[f"{metric}_low"], last[f"{metric}_high"]
        interval = "one run" if np.isnan(low) else f"{low:.4f} … {high:.4f}"
        lines.append(f"{metric:<16}{last[metric]:>8.4f}{interval:>20}{last['seed_' + metric]:>10.4f}")
    return "\n".join(lines)


def write_comparison(roots: Sequence[Path], output: Path) -> pd.DataFrame:
    """Compare the runs in `roots`; writes `seed_comparison.csv` and `.png` into `output`."""
    seed_run = read_seed_run()
    comparison = compare([read_run(root, len(seed_run)) for root in roots], seed_run)
    output.mkdir(parents=True, exist_ok=True)
    comparison.to_csv(output / "seed_comparison.csv", index=False, float_format="%.6g")
    config = RunFolder(roots[0]).read_config()
    runs = "1 run" if len(roots) == 1 else f"mean of {len(roots)} runs"
    figure = seed_comparison_figure(comparison, f"ours, width {config.width:g}, {runs}")
    figure.savefig(output / "seed_comparison.png")
    return comparison


def main(arguments: Sequence[str]) -> None:
    """Run the command."""
    parser = Parser(
        prog="python -m cifar_core.seed_comparison",
        description="Finished runs of the recipe (--val-size 0, 24 epochs) beside the run it was taken from.",
    )
    parser.add_argument("runs", type=Path, nargs="+", help="folders of runs that differ in --seed only")
    parser.add_argument(
        "--output", type=Path, metavar="DIR", help="folder for table and figure; default: the first run's"
    )
    parser.add_argument("--debug", action="store_true", help="show the traceback of an error")
    with one_line_errors(debug="--debug" in arguments):
        chosen = parser.parse(arguments)
        print(final_table(write_comparison(chosen.runs, chosen.output or chosen.runs[0])))


if __name__ == "__main__":
    main(sys.argv[1:])
