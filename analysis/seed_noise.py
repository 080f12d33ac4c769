"""How much of a score is the seed's doing: what no scheduler can see through."""

import numpy as np
import pandas as pd
from numpy.typing import NDArray


def seed_deviation(table: pd.DataFrame) -> tuple[float, int]:
    """How a setting's final validation accuracy deviates over seeds, pooled over settings, and the degrees of freedom.

    Args:
        table: `trial_id`, `seed`, `epoch`, `val_accuracy`; settings with a single seed tell nothing.
    """
    final = table[table["epoch"] == table["epoch"].max()].pivot(index="trial_id", columns="seed", values="val_accuracy")
    runs = final.notna().sum(axis=1)
    freedom = int((runs[runs > 1] - 1).sum())
    squares = ((final.sub(final.mean(axis=1), axis=0)) ** 2).sum(axis=1)[runs > 1].sum()
    return float(np.sqrt(squares / freedom)) if freedom else float("nan"), freedom


def regret_of_one_run(
    quality: NDArray[np.float64], deviation: float, trials: int, searches: int = 10_000, seed: int = 0
) -> float:
    """The mean regret of running everything in full and picking the best single run, in the units of `quality`.

    Args:
        quality: float64 (S,), what each setting scores on average over seeds.
        deviation: of one run about that.
        trials: settings of a search, drawn from the S.
    """
    rng = np.random.default_rng(seed)
    drawn = quality[np.argsort(rng.random((searches, len(quality))), axis=1)[:, :trials]]
    picked = np.argmax(drawn + rng.normal(0, deviation, drawn.shape), axis=1)
    return float((drawn.max(axis=1) - drawn[np.arange(searches), picked]).mean())
