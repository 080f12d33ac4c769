"""Learning curves of whole trials as arrays: what a scheduler could have seen, and how each trial ended."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
import pandas as pd
import pyarrow as pa
from numpy.typing import NDArray

from analysis.trials import PARAMETERS, read_experiment
from cifar_core.errors import UserError

VALUES = {  # a column of the table each; of losses, the smaller is the better
    "raw": "val_accuracy",
    "ema": "ema_val_accuracy",
    "raw loss": "val_loss",
    "ema loss": "ema_val_loss",
    "probe": "probe_val_accuracy",
}
PROBE_EPOCHS = 0.5  # of training in a probe
FEWEST = 8  # settings to draw searches from
WANTED = ("trial_id", "epoch", *PARAMETERS, "val_accuracy", "val_loss")


@dataclass(frozen=True, eq=False)
class LearningCurves:
    """Curves of S settings over E epochs, one run each.

    Attributes:
        settings: one row per setting, `trial_id` and `PARAMETERS`.
        values: float64 (S, E) by name, the better the larger; NaN where it was not recorded or the run had diverged.
        scores: float64 (S,), validation accuracy after the last epoch; 0 of a run that diverged.
        costs: what reading a value once takes, in epochs, where it takes anything.
    """

    settings: pd.DataFrame
    values: Mapping[str, NDArray[np.float64]]
    scores: NDArray[np.float64]
    costs: Mapping[str, float] = field(default_factory=dict)

    def __len__(self) -> int:
        return len(self.scores)

    @property
    def epochs(self) -> int:
        """Of a whole schedule."""
        return int(next(iter(self.values.values())).shape[1])

    def known_epochs(self, value: str) -> list[int]:
        """The epochs, counted from 1, after which `value` was recorded for most settings: where a rung can be."""
        most = np.isfinite(self.values[value]).mean(axis=0) > 0.5
        return [int(epoch) for epoch in np.flatnonzero(most[:-1]) + 1]


def curves_of(table: pd.DataFrame) -> LearningCurves:
    """The curves of a table with one row per setting and epoch, of one seed, as `learning_curves.parquet` has them.

    Runs that neither reached the last epoch nor diverged are left out.

    Raises:
        UserError: columns are missing, or there are fewer than `FEWEST` whole runs.
    """
    missing = [name for name in WANTED if name not in table]
    if missing:
        raise UserError(f"no column {missing[0]}; learning curves need {', '.join(WANTED)}")
    last = table.groupby("trial_id")["epoch"].max()
    diverged = table.groupby("trial_id")["val_loss"].apply(lambda losses: not np.isfinite(losses).all())
    whole = last.index[(last == table["epoch"].max()) | diverged]
    if len(whole) < FEWEST:
        raise UserError(f"{len(whole)} whole learning curves; a replay needs at least {FEWEST}")
    settings = table.drop_duplicates("trial_id").set_index("trial_id").loc[whole, list(PARAMETERS)].reset_index()
    epochs = range(1, int(table["epoch"].max()) + 1)
    values = {}
    for name, column in VALUES.items():
        if column in table and table[column].notna().any():
            grid = table.pivot(index="trial_id", columns="epoch", values=column).reindex(whole, columns=epochs)
            values[name] = grid.to_numpy(np.float64) * (-1 if "loss" in name else 1)
    return LearningCurves(settings, values, np.nan_to_num(values["raw"][:, -1]), _costs(table))


def _costs(table: pd.DataFrame) -> dict[str, float]:
    """From the images of a table that tells them: a pass over one forward is a third of one forward and backward."""
    if not {"train_images", "val_images"} <= set(table):
        return {}
    train, val = float(table["train_images"].iloc[0]), float(table["val_images"].iloc[0])
    average = val / (3 * train + val)
    probe = (3 * PROBE_EPOCHS * train + val) / (3 * train + val)
    return {"ema": average, "ema loss": average, "probe": probe}


def read_table(location: str) -> pd.DataFrame:
    """A table of recorded curves; without a column `seed` they are of seed 0. Raises `UserError` where it is none."""
    try:
        table = pd.read_parquet(Path(location).expanduser())
    except (OSError, pa.ArrowInvalid) as error:
        raise UserError(f"{location}: cannot be read ({' '.join(str(error).split())})") from None
    return table if "seed" in table else table.assign(seed=0)


def read_curves(location: str, seed: int = 0) -> LearningCurves:
    """The curves of a `.parquet` table of recorded ones, or those of an experiment's trials that ran to the end.

    Raises:
        UserError: it is neither, or too little.
    """
    try:
        if location.endswith(".parquet"):
            table = read_table(location)
            return curves_of(table[table["seed"] == seed])
        experiment = read_experiment(location)
        ends = experiment.trials[experiment.trials["score"].notna() | experiment.trials["audit_score"].notna()]
        table = experiment.epochs.merge(ends[["trial_id", *PARAMETERS]], on="trial_id")
        if train_images := experiment.plan["train"]["train_size"]:
            table = table.assign(train_images=train_images, val_images=experiment.val_images)
        return curves_of(table)
    except UserError as error:
        raise UserError(str(error) if str(error).startswith(location) else f"{location}: {error}") from None
