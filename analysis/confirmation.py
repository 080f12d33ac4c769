"""Does it hold with fresh seeds? The finalists of a search beside the seed's setting."""

from dataclasses import asdict
from typing import Any

import pandas as pd

from analysis.words import count, percent, setting_text
from tune_experiments.ledger import TrialState
from tune_experiments.verdict import ConfirmedSetting, Estimate, TestedSetting, Verdict

SETTING_COLUMNS = ("trial_id", "max_lr", "l1_factor", "peak_epoch", "is_seed_setting", "search_score")
ENDED = (TrialState.COMPLETED, TrialState.DIVERGED, TrialState.FAILED)
NOTHING = Estimate(None, None, None)


def confirmation_table(verdict: Verdict) -> pd.DataFrame:
    """One row per setting, the best mean first, those without one last.

    Columns: `SETTING_COLUMNS`, `seeds` (runs that completed), `mean` and its 95 % interval `low` to `high` over the
    seeds, `shrinkage` (mean less search score), `gain` over the seed's setting, seed by seed, with `gain_low` to
    `gain_high`; likewise `test_accuracy` of those that the test set was opened for, and the winner's `test_gain`. NaN
    where there is none.
    """
    table = pd.DataFrame([_setting_row(one) | _test_row(verdict, one.trial_id) for one in verdict.settings])
    estimates = [name for name in table if name not in (*SETTING_COLUMNS, "seeds")]
    table = table.astype(dict.fromkeys(["search_score", *estimates], "float64"))
    return table.sort_values("mean", ascending=False, kind="stable", ignore_index=True)


def _setting_row(one: ConfirmedSetting) -> dict[str, Any]:
    row = vars(one)
    return {
        **{name: row[name] for name in SETTING_COLUMNS},
        "seeds": sum(value is not None for value in one.val_accuracy),
        **{name: row[name] for name in ("mean", "low", "high", "shrinkage")},
        **_estimate("gain", NOTHING if one.is_seed_setting else one.gain),
    }


def _test_row(verdict: Verdict, trial_id: str) -> dict[str, Any]:
    tested = _tested(verdict, trial_id)
    beside = verdict.test if verdict.test and len(verdict.test.settings) > 1 and trial_id == verdict.winner else None
    result = Estimate(tested.mean, tested.low, tested.high) if tested else NOTHING
    return {
        **_estimate("test_accuracy", result),
        **_estimate("test_gain", beside.gain if beside else NOTHING),
    }


def _estimate(name: str, estimate: Estimate) -> dict[str, float | None]:
    return dict(zip((name, *interval_of(name)), asdict(estimate).values(), strict=True))


def interval_of(name: str) -> tuple[str, str]:
    """The columns of an estimate's interval."""
    return ("low", "high") if name == "mean" else (f"{name}_low", f"{name}_high")


def _tested(verdict: Verdict, trial_id: str) -> TestedSetting | None:
    tested = verdict.test.settings if verdict.test else []
    return next((one for one in tested if one.trial_id == trial_id), None)


def run_table(verdict: Verdict) -> pd.DataFrame:
    """One row per setting and seed.

    Columns: `trial_id`, `seed`, `state`, `val_accuracy`, `gain` over the seed's setting with the same seed, and of
    those that the test set was opened for `test_accuracy` and `test_loss`. NaN where there is none.
    """
    rows = [
        [one.trial_id, seed, state, value, *test]
        for one in verdict.settings
        for seed, state, value, test in zip(
            verdict.seeds, one.states, one.val_accuracy, _on_test(verdict, one), strict=True
        )
    ]
    columns = ["trial_id", "seed", "state", "val_accuracy", "test_accuracy", "test_loss"]
    table = pd.DataFrame(rows, columns=columns).astype(dict.fromkeys(columns[3:], "float64"))
    reference = next(one.trial_id for one in verdict.settings if one.is_seed_setting)
    theirs = table[table["trial_id"] == reference].set_index("seed")["val_accuracy"]
    gain = table["val_accuracy"] - table["seed"].map(theirs)
    table.insert(4, "gain", gain.where(table["trial_id"] != reference))
    return table


def _on_test(verdict: Verdict, one: ConfirmedSetting) -> list[tuple[float | None, float | None]]:
    tested = _tested(verdict, one.trial_id)
    return list(zip(tested.accuracy, tested.loss, strict=True)) if tested else [(None, None)] * len(verdict.seeds)


def describe_confirmation(verdict: Verdict | None) -> list[str]:
    """Paragraphs: what was trained, who won and whether that is established, the winner's curse, the test set."""
    if verdict is None:
        return ["Not known: no setting was trained again with fresh seeds."]
    table = confirmation_table(verdict)
    return [
        " ".join([_describe_runs(verdict), *_describe_lost(verdict)]),
        _describe_winner(verdict, table),
        _describe_curse(table),
        _describe_test(verdict, table),
    ]


def _describe_runs(verdict: Verdict) -> str:
    states = [state for one in verdict.settings for state in one.states]
    who = f"{count(len(verdict.settings), 'setting')}, the search's best and the seed's, were"
    if len(verdict.settings) == 1:
        who = "The seed's setting, which is the search's best as well, was"
    text = (
        f"{who} trained in full ({count(verdict.epochs, 'epoch')}) with {count(len(verdict.seeds), 'fresh seed')}, the "
        f"same for all, and scored on {verdict.val_images:,} validation images."
    )
    ended = sum(state in ENDED for state in states)
    return text if verdict.finished else f"{text} This is not finished: {ended} of {len(states)} runs have ended."


def _describe_lost(verdict: Verdict) -> list[str]:
    return [
        f"{one.trial_id} has no mean: {number} of its {count(len(one.states), 'run')} {state.value}."
        for one in verdict.settings
        for state in (TrialState.DIVERGED, TrialState.FAILED)
        if (number := one.states.count(state))
    ]


def _describe_winner(verdict: Verdict, table: pd.DataFrame) -> str:
    if verdict.winner is None:
        return "There is no winner: no setting has all its runs." if verdict.finished else "There is no winner yet."
    winner = table[table["trial_id"] == verdict.winner].iloc[0]
    reference = table[table["is_seed_setting"]].iloc[0]
    text = f"The winner, {winner['trial_id']} ({setting_text(winner)}), has {_mean(winner, 'mean')}"
    if winner["is_seed_setting"]:
        return f"{text}. It is the seed's own setting: the search found nothing better that holds."
    if pd.isna(reference["mean"]):
        return f"{text}. The seed's setting has no mean to compare with, so no difference is established."
    return f"{text}; the seed's setting has {_mean(reference, 'mean')}. {_describe_gain(verdict, winner)}"


def _describe_gain(verdict: Verdict, winner: "pd.Series[Any]") -> str:
    gain = f"Seed by seed the winner's difference is {_gain(winner, 'gain')}"
    if verdict.established:
        return f"{gain}: it is established."
    if pd.isna(winner["gain_low"]):
        return f"{gain}. One seed gives no interval: the difference is not established."
    return f"{gain}. The interval holds 0: the difference is not established, other seeds may turn it round."


def _describe_curse(table: pd.DataFrame) -> str:
    chosen = table[~table["is_seed_setting"] & table["shrinkage"].notna()]
    if chosen.empty:
        return "What the winner's curse cost cannot be said: no setting that the search chose has both scores."
    first, mean = chosen.nlargest(1, "search_score").iloc[0], chosen["shrinkage"].mean()
    place = 1 + int((table["mean"] > first["mean"]).sum())
    return (
        f"The winner's curse: with fresh seeds the settings that the search chose score {100 * abs(mean):.1f} points "
        f"{'less' if mean < 0 else 'more'} on average than in the search. The search's first, {first['trial_id']}, "
        f"went from {percent(first['search_score'])} to {percent(first['mean'])} and is number {place} of {len(table)}."
    )


def _describe_test(verdict: Verdict, table: pd.DataFrame) -> str:
    if verdict.test is None:
        return "The test set has not been opened."
    times, tested = len(verdict.test.opened), table[table["test_accuracy"].notna()]
    days = " and ".join(dict.fromkeys(moment[:10] for moment in verdict.test.opened))
    who = {True: "the seed's setting", False: "the winner"}
    results = [f"{who[row['is_seed_setting']]} has {_mean(row, 'test_accuracy')}" for _, row in tested.iterrows()]
    opened = f"was opened {'once' if times == 1 else f'{times} times'}, on {days}"
    text = f"The test set, {verdict.test.images:,} images, {opened}: {' and '.join(results)}."
    ahead = tested[tested["test_gain"].notna()]
    return text if ahead.empty else f"{text} Seed by seed that is {_gain(ahead.iloc[0], 'test_gain')}."


def _mean(row: "pd.Series[Any]", name: str) -> str:
    """A mean over the seeds with its interval, where there is one."""
    low, high = row[list(interval_of(name))]
    return percent(row[name]) + ("" if pd.isna(low) else f" ({percent(low)} to {percent(high)})")


def _gain(row: "pd.Series[Any]", name: str) -> str:
    low, high = row[list(interval_of(name))]
    interval = "" if pd.isna(low) else f" (95 % interval {100 * low:+.1f} to {100 * high:+.1f})"
    return f"{100 * row[name]:+.1f} points{interval}"
