"""A search leaves files that agree with each other, and its best run can be repeated alone."""

import json
import subprocess
import sys
from pathlib import Path

import numpy as np
import optuna
import pandas as pd
import yaml

from cifar_core.datasets import load_test_data, load_training_data
from cifar_core.lr_range_test import RangeTest
from cifar_core.train import evaluate, fit
from tune_experiments.config import Plan
from tune_experiments.confirmation import ConfirmLedger
from tune_experiments.experiment import Experiment

Finished = tuple[Path, str]


def test_says_what_it_will_do_and_ends_with_a_leaderboard(finished: Finished) -> None:
    folder, output = finished
    for words in (
        "5, of 4 epochs each",
        "256 training and 120 validation images",
        str(folder),
        "the best 1 and the seed's setting, 2 fresh seeds each",
        "Leaderboard",
        "4/4 runs, 4 completed",
        "Winner: ",
        "opened after the choice",
    ):
        assert words in output
    assert "00000 (seed)" in output
    assert "Traceback" not in output and "ERROR" not in output


def test_some_trials_are_stopped_early_and_the_seeds_setting_is_not(finished: Finished) -> None:
    trials = pd.read_parquet(finished[0] / "trials.parquet")
    assert len(trials) == 5
    assert trials.loc[0, ["max_lr", "l1_factor"]].tolist() == [0.0655, 5e-4]
    assert trials.loc[0, "state"] == "completed"
    assert {"completed", "stopped"} <= set(trials["state"])


def test_tables_agree_with_each_other(finished: Finished) -> None:
    folder = finished[0]
    trials = pd.read_parquet(folder / "trials.parquet").set_index("trial_id")
    epochs = pd.read_parquet(folder / "epochs.parquet")
    board = pd.read_csv(folder / "leaderboard.csv", dtype={"trial_id": str}).set_index("trial_id")
    last = epochs.groupby("trial_id").last()
    assert epochs.groupby("trial_id").size().to_dict() == trials["epochs"].to_dict()
    assert last["val_accuracy"].to_dict() == trials["last_val_accuracy"].to_dict()
    completed = trials[trials["state"] == "completed"]
    assert (completed["epochs"] == 4).all() and (completed["score"] == last["val_accuracy"][completed.index]).all()
    assert trials.loc[trials["state"] != "completed", "score"].isna().all()
    assert sorted(board.index) == sorted(trials.index)
    confirmed = board["confirmed_mean"].dropna()
    assert len(confirmed) == 2 and confirmed.is_monotonic_decreasing
    assert list(board.index[:2]) == list(confirmed.index)
    assert board["score"][2:].dropna().is_monotonic_decreasing


def test_optuna_was_told_the_truth(finished: Finished) -> None:
    folder = finished[0]
    trials = pd.read_parquet(folder / "trials.parquet").set_index("trial_id")
    study = optuna.load_study(study_name="search", storage=f"sqlite:///{folder}/optuna.db")
    assert len(study.trials) == len(trials)
    states = {"completed": "COMPLETE", "stopped": "PRUNED", "diverged": "PRUNED"}
    for trial in study.trials:
        ours = trials.loc[trial.user_attrs["trial_id"]]
        assert trial.state.name == states[ours["state"]]
        assert trial.params == {name: ours[name] for name in ("max_lr", "l1_factor", "peak_epoch")}
        assert trial.value == (ours["score"] if ours["state"] == "completed" else None)


def test_space_follows_from_the_range_test(finished: Finished) -> None:
    folder = finished[0]
    range_test = RangeTest.from_json((folder / "lr_range_test.json").read_text())
    low, high = range_test.suggestion.max_lr_range
    proposed = pd.read_parquet(folder / "trials.parquet")["max_lr"].iloc[1:]
    assert proposed.between(low, high).all()
    assert (folder / "lr_range_test.png").stat().st_size > 10_000


def test_the_best_and_the_seeds_setting_are_confirmed_on_fresh_seeds(finished: Finished) -> None:
    folder = finished[0]
    content = json.loads((folder / "confirm.json").read_text())
    trials = pd.read_parquet(folder / "trials.parquet").set_index("trial_id")
    assert (content["finished"], content["epochs"], content["val_images"], content["seeds"]) == (True, 4, 120, [4, 5])
    assert [one["trial_id"] for one in content["settings"]] == [trials["score"].idxmax(), "00000"]
    for one in content["settings"]:
        assert {name: one[name] for name in ("max_lr", "l1_factor", "peak_epoch")} == dict(
            trials.loc[one["trial_id"], ["max_lr", "l1_factor", "peak_epoch"]]
        )
        assert one["search_score"] == trials.loc[one["trial_id"], "score"]
        np.testing.assert_allclose(one["mean"], np.mean(one["val_accuracy"]))
    assert content["winner"] == max(content["settings"], key=lambda one: one["mean"])["trial_id"]
    events = [json.loads(line) for line in (folder / "confirm.jsonl").read_text().splitlines()]
    assert [event["event"] for event in events].count("tested") == len(content["test"]["opened"]) == 1
    assert events[-1]["event"] == "tested"


def test_a_confirmed_run_is_one_that_can_be_repeated_alone(finished: Finished) -> None:
    """On the validation images while it trains, and on the test images at its end."""
    folder = finished[0]
    plan = Plan.from_mapping(Experiment(folder).read_sections(), {}, "")
    content = json.loads((folder / "confirm.json").read_text())
    run = ConfirmLedger(folder / "confirm.jsonl").trials["00000-seed4"]
    alone = fit(run.applied_to(plan.train), load_training_data(plan.train))
    assert alone.config.seed == 4
    assert [epoch.val_accuracy for epoch in alone.history.epochs] == [epoch.val_accuracy for epoch in run.epochs]
    loss, accuracy = evaluate(alone.model, load_test_data(plan.train), alone.compute)
    tested = next(one for one in content["test"]["settings"] if one["trial_id"] == "00000")
    assert (tested["loss"][0], tested["accuracy"][0]) == (loss, accuracy)


def test_only_checkpoints_that_something_needs_are_left(finished: Finished) -> None:
    folder = finished[0]
    content = json.loads((folder / "confirm.json").read_text())
    trials = pd.read_parquet(folder / "trials.parquet").sort_values("score", ascending=False, kind="stable")
    kept = {file.stem for file in (folder / "checkpoints").iterdir()}
    best = set(trials["trial_id"][trials["state"] == "completed"].head(3))
    assert best <= kept and len(kept - best) <= 1
    assert kept - best <= {f"{content['winner']}-seed4"}


def test_best_config_run_alone_gives_the_same_epochs(finished: Finished, tmp_path: Path) -> None:
    folder = finished[0]
    trials = pd.read_parquet(folder / "trials.parquet")
    winner = json.loads((folder / "confirm.json").read_text())["winner"]
    best = trials[trials["trial_id"] == winner].iloc[0]
    config = yaml.safe_load((folder / "best/config.yaml").read_text())
    assert (config["max_lr"], config["seed"]) == (best["max_lr"], 3)
    command = [sys.executable, "-m", "cifar_core", "--config", str(folder / "best/config.yaml")]
    subprocess.run([*command, "--output", str(tmp_path / "run")], check=True, cwd=tmp_path, capture_output=True)
    alone = pd.read_parquet(tmp_path / "run/history.parquet")
    in_search = pd.read_parquet(folder / "epochs.parquet").query("trial_id == @best.trial_id")
    for column in ("train_loss", "train_accuracy", "val_loss", "val_accuracy", "lr"):
        np.testing.assert_array_equal(alone[column].to_numpy(), in_search[column].to_numpy())
