"""What a search cost, and how busy its slots were."""

import heapq

import pandas as pd

from analysis.trials import Experiment
from analysis.words import count, duration, percent
from tune_experiments.ledger import TrialState
from tune_experiments.records import STATE_ORDER

SPENT = ["epochs", "trial_seconds", "gpu_seconds"]
PER_TRIAL = ["epochs_per_trial", "seconds_per_trial", "gpu_seconds_per_trial"]
PAUSE = 10.0  # seconds between two epochs of a trial that has its slot throughout, at most
SLOT_COLUMNS = ["trial_id", "state", "host", "slot", "start", "end"]


def cost_by_state(experiment: Experiment) -> pd.DataFrame:
    """What trials of each state that occurs took.

    Columns: `state`, `trials`, `epochs`, `trial_seconds` (their sum), `gpu_seconds` (times GPUs per trial),
    `epoch_share` (of all epochs), and the means `PER_TRIAL`.
    """
    table = experiment.trials.groupby("state").agg(
        trials=("trial_id", "size"), epochs=("epochs", "sum"), trial_seconds=("seconds", "sum")
    )
    order = [state.value for state in STATE_ORDER if state.value in table.index]
    table = table.loc[order].reset_index()
    table["gpu_seconds"] = table["trial_seconds"] * experiment.gpus_per_trial
    table["epoch_share"] = table["epochs"] / max(1, table["epochs"].sum())
    table[PER_TRIAL] = table[SPENT].div(table["trials"], axis=0).to_numpy()
    return table


def slot_timeline(experiment: Experiment) -> pd.DataFrame:
    """When which trial ran where: one row per stretch that a worker spent on a trial, in order of start.

    Columns: `trial_id`, `state` (the trial's), `host`, `slot` (from 0, over all hosts: the first free one of its
    host), `start` and `end` (seconds since the first epoch began). A trial that moved to another worker, or went on
    after a pause, has a row for each stretch.
    """
    epochs = experiment.epochs
    begin = epochs["finished_at"] - epochs["seconds"]
    placed = epochs.assign(start=begin - begin.min(), end=epochs["finished_at"] - begin.min())
    runs = (
        placed.assign(stretch=_stretches(placed))
        .groupby(["trial_id", "worker", "stretch"], as_index=False)
        .agg(start=("start", "min"), end=("end", "max"))
        .merge(experiment.trials[["trial_id", "state"]], on="trial_id")
        .sort_values(["start", "trial_id"], kind="stable", ignore_index=True)
    )
    runs["host"] = runs["worker"].str.rsplit(":", n=1).str[0]
    runs["slot"] = _slots(runs)
    return runs[SLOT_COLUMNS]


def _stretches(epochs: pd.DataFrame) -> "pd.Series[int]":
    """A number for each epoch, another one after a pause in its trial in which others may have had its slot."""
    in_order = epochs.sort_values(["trial_id", "end"], kind="stable")
    pause = in_order["start"] - in_order.groupby("trial_id")["end"].shift()
    return (pause > PAUSE).astype(int).groupby(in_order["trial_id"]).cumsum()


def _slots(runs: pd.DataFrame) -> "pd.Series[int]":
    """The first slot of its host that is free when a run starts; hosts one after another."""
    slots = pd.Series(0, index=runs.index)
    first = 0
    for _, of_host in runs.groupby("host"):
        free: list[int] = []
        busy: list[tuple[float, int]] = []
        used = 0
        for index, start, end in zip(of_host.index, of_host["start"], of_host["end"], strict=True):
            while busy and busy[0][0] <= start + 1e-3:  # clocks agree to the millisecond
                heapq.heappush(free, heapq.heappop(busy)[1])
            if not free:
                heapq.heappush(free, first + used)
                used += 1
            slots[index] = heapq.heappop(free)
            heapq.heappush(busy, (end, slots[index]))
        first += used
    return slots


def utilisation(timeline: pd.DataFrame) -> float:
    """Share of the slots' time, from the first start to the last end, in which a trial ran."""
    span = timeline["end"].max() - timeline["start"].min()
    return float((timeline["end"] - timeline["start"]).sum() / (span * (timeline["slot"].max() + 1)))


def describe_cost(experiment: Experiment, table: pd.DataFrame, timeline: pd.DataFrame, saved: int) -> str:
    """Totals, means of a trial, the useful share, what stopping saved, and how busy the slots were."""
    if timeline.empty:
        return "No epoch has finished yet, so nothing was spent."
    useful = table.loc[table["state"] == "completed", "epoch_share"].sum()
    epochs, seconds, gpu = table[SPENT].sum()
    trials = table["trials"].sum()
    slots = int(timeline["slot"].max()) + 1
    sentences = [
        f"{count(int(epochs), 'epoch')} in {duration(seconds)} of trial time, "
        f"{f'{duration(gpu)} of GPU' if gpu else 'no GPU'}. A trial took {epochs / trials:.1f} epochs and "
        f"{duration(seconds / trials)}{f', {duration(gpu / trials)} of GPU,' if gpu else ''} on average.",
        f"{percent(useful)} of the epochs went into trials that completed; stopping saved {count(saved, 'epoch')}.",
        f"{count(slots, 'slot')} on {count(timeline['host'].nunique(), 'host')} were busy "
        f"{percent(utilisation(timeline))} of the {duration(timeline['end'].max())} from the first epoch's start to "
        "the last one's end, pauses between an interruption and a resume included.",
        *_describe_confirmation(experiment),
    ]
    return " ".join(sentences)


def _describe_confirmation(experiment: Experiment) -> list[str]:
    if experiment.verdict is None:
        return []
    runs = sum(state == TrialState.COMPLETED for one in experiment.verdict.settings for state in one.states)
    return [
        f"The confirmation took {count(runs, 'run')} of {count(experiment.verdict.epochs, 'epoch')} on top of that."
    ]
