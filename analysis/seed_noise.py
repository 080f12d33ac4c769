"""How much of a score is the seed's doing: what no scheduler can see through.

python -m analysis.seed_noise CURVES.parquet
"""

import sys
from collections.abc import Sequence

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from analysis.learning_curves import curves_of, read_table
from cifar_core.errors import UserError, one_line_errors
from cifar_core.options import Parser


def seed_deviation(table: pd.DataFrame) -> tuple[float, int]:
    """How final validation accuracy deviates over a setting's seeds, pooled, and the degrees of freedom.

    Only the better half of the settings with several seeds counts, by their mean: among the bad ones there are some
    whose training succeeds with one seed and not with another, which says nothing about choosing among good ones.

    Args:
        table: `trial_id`, `seed`, `epoch`, `val_accuracy`; settings with a single seed tell nothing.
    """
    final = table[table["epoch"] == table["epoch"].max()].pivot(index="trial_id", columns="seed", values="val_accuracy")
    final = final[final.notna().sum(axis=1) > 1]
    final = final[final.mean(axis=1) >= final.mean(axis=1).median()]
    freedom = int((final.notna().sum(axis=1) - 1).sum())
    squares = (final.sub(final.mean(axis=1), axis=0) ** 2).sum(axis=1).sum()
    return float(np.sqrt(squares / freedom)) if freedom else float("nan"), freedom


def regret_of_one_run(
    quality: NDArray[np.float64], deviation: float, trials: int, searches: int = 10_000, seed: int = 0
) -> float:
    """The mean regret of running everything in full and picking the best single run, in the units of `quality`.

    Args:
        quality: float64 (S,), what each setting scores on average over seeds.
        deviation: of one run about that.
        trials: settings of a search, drawn from the S.
        searches: to draw.
        seed: of the draws.
    """
    rng = np.random.default_rng(seed)
    drawn = quality[np.argsort(rng.random((searches, len(quality))), axis=1)[:, :trials]]
    picked = np.argmax(drawn + rng.normal(0, deviation, drawn.shape), axis=1)
    return float((drawn.max(axis=1) - drawn[np.arange(searches), picked]).mean())


def main(arguments: Sequence[str]) -> None:
    """Print what the seeds of a recorded table say."""
    parser = Parser(prog="python -m analysis.seed_noise", description=__doc__)
    parser.add_argument("curves", metavar="CURVES.parquet", help="learning curves with several seeds")
    parser.add_argument("--trials", type=int, default=40, metavar="N", help="of a search (default: %(default)s)")
    parser.add_argument("--debug", action="store_true", help="show the traceback of an error")
    with one_line_errors(debug="--debug" in arguments):
        chosen = parser.parse(arguments)
        table = read_table(chosen.curves)
        if table["seed"].nunique() < 2:
            raise UserError(f"{chosen.curves}: one seed each; the seeds' part cannot be told")
        deviation, freedom = seed_deviation(table)
        scores = curves_of(table[table["seed"] == table["seed"].min()]).scores
        regret = regret_of_one_run(scores, deviation, chosen.trials)
        print(f"standard deviation over seeds {100 * deviation:.2f} points ({freedom} degrees of freedom)")
        print(f"picking the best single run of {chosen.trials} in full: regret {100 * regret:.2f} points")


if __name__ == "__main__":
    main(sys.argv[1:])
