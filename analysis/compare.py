"""Several experiments side by side."""

from collections.abc import Sequence

import pandas as pd

from analysis.ranking import rank_trials
from analysis.trials import Experiment
from analysis.words import percent
from cifar_core.errors import UserError

MUST_AGREE = {"epochs": "train", "dataset": "train", "val_size": "train", "width": "train"}


def compare(experiments: Sequence[Experiment]) -> pd.DataFrame:
    """One row per experiment: what was run, what it found, what it cost, and its best setting.

    Raises:
        UserError: two have the same name, so that nothing tells them apart.
    """
    names = [experiment.name for experiment in experiments]
    for name in names:
        if names.count(name) > 1:
            raise UserError(f"{name}: two of the experiments have this name; each must have its own")
    return pd.DataFrame([_row(experiment) for experiment in experiments])


def _row(experiment: Experiment) -> dict[str, object]:
    board = rank_trials(experiment)
    best = board[board["rank"] == 1].reindex(columns=board.columns)
    first = best.iloc[0] if len(best) else pd.Series(index=board.columns, dtype=object)
    seed = board.loc[board["is_seed_setting"], "score"]
    return {
        "experiment": experiment.name,
        "searcher": experiment.plan["search"]["searcher"],
        "scheduler": experiment.plan["search"]["scheduler"],
        "trials": len(board),
        "completed": len(experiment.completed),
        "best": first["score"],
        "low": first["low"],
        "high": first["high"],
        "seed_setting": seed.max(),
        "epochs": len(experiment.epochs),
        "trial_seconds": experiment.epochs["seconds"].sum(),
        "max_lr": first["max_lr"],
        "l1_factor": first["l1_factor"],
        "peak_epoch": first["peak_epoch"],
    }


def differences(experiments: Sequence[Experiment]) -> list[str]:
    """What the experiments must share for their scores to be comparable, and do not."""
    values = {key: {str(one.plan[section].get(key)) for one in experiments} for key, section in MUST_AGREE.items()}
    values["data_fingerprint"] = {str(one.plan.get("data_fingerprint")) for one in experiments}
    return [key for key, different in values.items() if len(different) > 1]


def describe_comparison(table: pd.DataFrame, differing: Sequence[str]) -> str:
    """Which found the better score, and whether the two can be compared at all."""
    if differing:
        return f"The scores cannot be compared: the experiments differ in {', '.join(differing)}."
    scored = table[table["best"].notna()].sort_values("best", ascending=False)
    if len(scored) < 2:
        return "Fewer than two of the experiments have a completed trial: there is nothing to compare yet."
    first, second = scored.iloc[0], scored.iloc[1]
    apart = "do not overlap" if first["low"] > second["high"] else "overlap: the difference may be chance"
    return (
        f"{first['experiment']} found {percent(first['best'])} in {first['epochs']:,} epochs, {second['experiment']} "
        f"{percent(second['best'])} in {second['epochs']:,}. Their 95 % intervals {apart}."
    )
