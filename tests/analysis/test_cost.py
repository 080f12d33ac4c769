import pandas as pd
import pytest

from analysis.cost import cost_by_state, describe_cost, slot_timeline, utilisation
from analysis.trials import Experiment
from tests.analysis.by_hand import experiment_of, four_trials


def test_cost_by_state_by_hand() -> None:
    table = cost_by_state(four_trials()).set_index("state")
    assert table.index.tolist() == ["completed", "stopped", "diverged"]
    assert table["epochs"].tolist() == [8, 2, 1]
    assert table["trial_seconds"].tolist() == [16, 4, 2]
    assert table["gpu_seconds"].tolist() == [8, 2, 1]  # half a GPU
    assert table.loc["completed", "epoch_share"] == pytest.approx(8 / 11)
    per_trial = ["epochs_per_trial", "seconds_per_trial", "gpu_seconds_per_trial"]
    assert table.loc["completed", per_trial].tolist() == [4, 8, 4]


def test_two_slots_on_two_hosts_nearly_always_busy(experiment: Experiment) -> None:
    timeline = slot_timeline(experiment)
    assert sorted(timeline["slot"].unique()) == [0, 1]
    assert timeline.groupby("slot")["host"].nunique().tolist() == [1, 1]
    assert sorted(timeline["trial_id"]) == sorted(experiment.trials["trial_id"])
    assert utilisation(timeline) > 0.9
    text = describe_cost(experiment, cost_by_state(experiment), timeline, saved=5)
    assert "2 slots on 2 hosts were busy" in text


def test_no_two_trials_share_a_slot(experiment: Experiment) -> None:
    for _, runs in slot_timeline(experiment).groupby("slot"):
        ends = runs["end"].to_numpy()[:-1]
        assert (runs["start"].to_numpy()[1:] >= ends - 1e-2).all()


def test_a_trial_that_moved_to_another_worker_has_two_runs() -> None:
    experiment = four_trials()
    experiment.epochs.loc[2:3, "worker"] = "host:2"
    assert (slot_timeline(experiment)["trial_id"] == "00000").sum() == 2


def test_a_trial_that_went_on_after_a_pause_does_not_fill_the_pause() -> None:
    """A stopped trial that gets a second chance on the worker that it had, where others ran meanwhile."""
    experiment = four_trials()
    slots = slot_timeline(experiment)["slot"].max()
    of_first = experiment.epochs["trial_id"] == "00000"
    experiment.epochs.loc[of_first & (experiment.epochs["epoch"] > 2), "finished_at"] += 100
    timeline = slot_timeline(experiment)
    first = timeline[timeline["trial_id"] == "00000"]
    assert (first["end"] - first["start"]).tolist() == [12, 12]
    assert timeline["slot"].max() == slots


def test_idle_time_counts() -> None:
    timeline = pd.DataFrame({"start": [0.0, 6.0], "end": [2.0, 8.0], "slot": [0, 0]})
    assert utilisation(timeline) == 0.5


def test_nothing_spent() -> None:
    empty = experiment_of([])
    timeline = slot_timeline(empty)
    assert timeline.empty
    assert "nothing was spent" in describe_cost(empty, cost_by_state(empty), timeline, saved=0)


def test_what_a_trial_took_and_what_stopping_saved() -> None:
    experiment = four_trials()
    text = describe_cost(experiment, cost_by_state(experiment), slot_timeline(experiment), saved=2)
    assert (
        "11 epochs in 22 s of trial time, 11 s of GPU. A trial took 2.8 epochs and 6 s, 3 s of GPU, on average" in text
    )
    assert "72.7 % of the epochs went into trials that completed; stopping saved 2 epochs." in text
