"""Several experiments side by side."""

from collections.abc import Sequence
from typing import Any

import pandas as pd

from analysis.confirmation import confirmation_table
from analysis.ranking import rank_trials
from analysis.trials import Experiment
from analysis.words import count, percent
from cifar_core.errors import UserError

MUST_AGREE = {"epochs": "train", "dataset": "train", "val_size": "train", "width": "train"}
CONFIRMED = {
    "trial_id": "winner",
    "mean": "confirmed",
    "low": "confirmed_low",
    "high": "confirmed_high",
    "seeds": "confirm_seeds",
    "gain": "confirmed_gain",
    "gain_low": "confirmed_gain_low",
    "gain_high": "confirmed_gain_high",
    "test_accuracy": "test_accuracy",
}


def compare(experiments: Sequence[Experiment]) -> pd.DataFrame:
    """One row per experiment: what was run, what it found, what it cost, its best setting.

    Where any of them was confirmed, also its winner with its mean over fresh seeds, the gain over the seed's setting,
    whether that is `established`, and the test accuracy; NaN for the others.

    Raises:
        UserError: two have the same name, so that nothing tells them apart.
    """
    names = [experiment.name for experiment in experiments]
    for name in names:
        if names.count(name) > 1:
            raise UserError(f"{name}: two of the experiments have this name; each must have its own")
    table = pd.DataFrame([_row(experiment) for experiment in experiments])
    winners = pd.DataFrame([_winner(experiment) for experiment in experiments], index=table.index)
    return table.join(winners) if winners.notna().any(axis=None) else table


def _winner(experiment: Experiment) -> dict[str, object]:
    verdict = experiment.verdict
    if verdict is None or verdict.winner is None:
        return dict.fromkeys([*CONFIRMED.values(), "established"])
    table = confirmation_table(verdict)
    winner = table[table["trial_id"] == verdict.winner].iloc[0]
    return {name: winner[column] for column, name in CONFIRMED.items()} | {"established": verdict.established}


def _row(experiment: Experiment) -> dict[str, object]:
    board = rank_trials(experiment)
    best = board.nlargest(1, "score")
    first = best.iloc[0] if best["score"].notna().any() else pd.Series(index=board.columns, dtype=object)
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
    text = (
        f"{first['experiment']} found {percent(first['best'])} in {first['epochs']:,} epochs, {second['experiment']} "
        f"{percent(second['best'])} in {second['epochs']:,}. The 95 % intervals {_apart(first, second, 'low', 'high')}."
    )
    return f"{text} {_describe_winners(table)}" if "winner" in table else text


def _describe_winners(table: pd.DataFrame) -> str:
    confirmed = table[table["confirmed"].notna()].sort_values("confirmed", ascending=False)
    means = [
        f"{row['experiment']}'s winner {row['winner']} has {percent(row['confirmed'])} "
        f"({count(int(row['confirm_seeds']), 'seed')}, {'' if row['established'] else 'not '}established above the "
        "seed's setting)"
        for _, row in confirmed.iterrows()
    ]
    text = f"With fresh seeds {'; '.join(means)}."
    if len(confirmed) < 2:
        return f"{text} The others were not confirmed."
    apart = _apart(confirmed.iloc[0], confirmed.iloc[1], "confirmed_low", "confirmed_high")
    return f"{text} The 95 % intervals of the first two {apart}."


def _apart(first: "pd.Series[Any]", second: "pd.Series[Any]", low: str, high: str) -> str:
    return "do not overlap" if first[low] > second[high] else "overlap: the difference may be chance"
