"""Trials that are passed on to MLflow's real store. Tune's callbacks are called as Tune does: a whole search is in
tests/end_to_end/test_viewers.py."""

import pickle
from dataclasses import asdict
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
from ray import tune

from tests.tune_experiments.made_up import EPOCHS, PROPOSERS, made_up_epoch, made_up_state, run_one_at_a_time
from tune_experiments.experiment import Experiment
from tune_experiments.forwarder import Forwarder, catch_up, search_id
from tune_experiments.ledger import Ledger, Trial, TrialState
from tune_experiments.loggers import Destinations
from tune_experiments.search_state import SearchState

mlflow = pytest.importorskip("mlflow")


@pytest.fixture
def experiment(tmp_path: Path) -> Experiment:
    made = Experiment(tmp_path / "mine")
    made.make()
    return made


@pytest.fixture
def state(experiment: Experiment) -> SearchState:
    return made_up_state(Ledger(experiment.ledger), PROPOSERS["random"](), num_samples=4)


def forwarder(experiment: Experiment, state: SearchState) -> Forwarder:
    (logger,) = Destinations(mlflow="").open_files(experiment)
    return Forwarder(logger, experiment, state, seed=7)


def as_tune_has_it(trial: Trial) -> Any:
    return SimpleNamespace(config={"trial_id": trial.trial_id})


def start(callback: Forwarder, state: SearchState) -> Trial:
    trial = state.next_trial()
    assert trial is not None
    callback.on_trial_start(1, [], as_tune_has_it(trial))
    return trial


def train(callback: Forwarder, state: SearchState, trial: Trial, epochs: int) -> None:
    """Report as many epochs, or until the trial ends, as Tune does: to the callbacks first."""
    for _ in range(epochs):
        if trial.ended:
            return
        metrics = made_up_epoch(trial.setting, len(trial.epochs) + 1)
        callback.on_trial_result(1, [], as_tune_has_it(trial), {**asdict(metrics), "worker": "host:1", "done": False})
        state.report(trial.trial_id, metrics, "host:1")
        if trial.ended:
            callback.on_trial_complete(1, [], as_tune_has_it(trial))


def client(experiment: Experiment) -> Any:
    return mlflow.MlflowClient(f"sqlite:///{experiment.file('mlflow.db')}")


def runs(experiment: Experiment) -> dict[str, Any]:
    (ours,) = [one for one in client(experiment).search_experiments() if one.name == "mine"]
    found = client(experiment).search_runs([ours.experiment_id])
    assert len({run.info.run_name for run in found}) == len(found)
    return {run.info.run_name: run for run in found}


def steps(experiment: Experiment, name: str) -> list[int]:
    history = client(experiment).get_metric_history(runs(experiment)[name].info.run_id, "train_loss")
    return [point.step for point in history]


def test_a_run_for_each_trial_with_each_epoch_as_a_step(experiment: Experiment, state: SearchState) -> None:
    callback = forwarder(experiment, state)
    trial = start(callback, state)
    train(callback, state, trial, EPOCHS)
    callback.on_experiment_end([])
    run = runs(experiment)["00000"]
    assert run.data.params == {"max_lr": "0.0655", "l1_factor": "0.0005", "peak_epoch": "2", "seed": "7"}
    assert run.data.tags["search"] == search_id(experiment.ledger)
    assert run.data.metrics["val_accuracy"] == trial.epochs[-1].val_accuracy
    assert (run.info.status, steps(experiment, "00000")) == ("FINISHED", list(range(1, EPOCHS + 1)))
    moments = [
        {point.timestamp for point in client(experiment).get_metric_history(run.info.run_id, name) if point.step == 1}
        for name in run.data.metrics
    ]
    assert len(moments) > 8 and moments == [moments[0]] * len(moments)  # of an epoch there is all or nothing


def test_a_resumed_search_goes_on_with_its_runs(experiment: Experiment, state: SearchState) -> None:
    """Its logger was killed before it heard of the end of one trial and the third epoch of another."""
    callback = forwarder(experiment, state)
    first, second = start(callback, state), start(callback, state)
    train(callback, state, first, EPOCHS - 1)
    train(callback, state, second, 1)
    callback.on_experiment_end([])
    assert {name: run.info.status for name, run in runs(experiment).items()} == {"00000": "KILLED", "00001": "KILLED"}
    for trial, epochs in ((first, EPOCHS), (second, 1)):
        for epoch in range(len(trial.epochs) + 1, epochs + 1):
            state.report(trial.trial_id, made_up_epoch(trial.setting, epoch), "host:1")
    assert first.ended and not second.ended

    again = made_up_state(Ledger(experiment.ledger), PROPOSERS["random"](), num_samples=4)
    callback = forwarder(experiment, again)
    trial = start(callback, again)
    train(callback, again, trial, EPOCHS)
    callback.on_experiment_end([])
    assert (trial.trial_id, trial.ended) == ("00001", True)
    assert {run.info.status for run in runs(experiment).values()} == {"FINISHED"}
    assert steps(experiment, "00000") == list(range(1, EPOCHS + 1))
    assert steps(experiment, "00001") == list(range(1, len(trial.epochs) + 1))


def test_a_search_that_has_ended_is_logged_as_a_whole_and_once(experiment: Experiment, state: SearchState) -> None:
    trials = run_one_at_a_time(state)
    (logger,) = Destinations(mlflow="").open_files(experiment)
    for _ in range(2):
        catch_up([logger], experiment, state, seed=7)
    ends = {trial.trial_id: "FAILED" if trial.state is TrialState.FAILED else "FINISHED" for trial in trials}
    assert {name: run.info.status for name, run in runs(experiment).items()} == ends and len(ends) == 4
    for trial in trials:
        assert steps(experiment, trial.trial_id) == list(range(1, len(trial.epochs) + 1))


def test_where_nothing_ran_there_is_nothing_to_log_or_say(
    experiment: Experiment, state: SearchState, capsys: pytest.CaptureFixture[str]
) -> None:
    forwarder(experiment, state).on_experiment_end([])
    assert capsys.readouterr().err == ""


def test_an_epoch_that_comes_twice_is_logged_once_and_an_error_is_a_failure(
    experiment: Experiment, state: SearchState
) -> None:
    callback = forwarder(experiment, state)
    trial = start(callback, state)
    train(callback, state, trial, 2)
    callback.on_trial_start(1, [], as_tune_has_it(trial))  # its worker died, and reports again what it had
    known = {**asdict(trial.epochs[-1]), "worker": "host:2"}
    callback.on_trial_result(1, [], as_tune_has_it(trial), known)
    callback.on_trial_result(1, [], as_tune_has_it(trial), {"error": "out of memory", "worker": "host:2"})
    callback.on_trial_complete(1, [], as_tune_has_it(trial))
    callback.on_experiment_end([])
    assert (steps(experiment, "00000"), runs(experiment)["00000"].info.status) == ([1, 2], "FAILED")


def test_a_logger_that_fails_says_so_in_one_line_and_the_search_goes_on(
    experiment: Experiment, state: SearchState, capsys: pytest.CaptureFixture[str]
) -> None:
    callback = forwarder(experiment, state)
    experiment.file("mlflow.db").write_bytes(b"no database")
    trial = start(callback, state)
    train(callback, state, trial, EPOCHS)
    callback.on_experiment_end([])
    left = callback.todo.qsize()
    train(callback, state, start(callback, state), 1)
    assert callback.todo.qsize() == left  # nobody takes anything away
    (line,) = capsys.readouterr().err.splitlines()
    assert line.startswith("MLflow: ") and line.endswith("; nothing more is logged there, the search goes on")
    assert trial.ended


def test_tune_can_pickle_it_without_what_it_knows(experiment: Experiment, state: SearchState) -> None:
    callback = forwarder(experiment, state)
    assert type(pickle.loads(pickle.dumps(callback))) is tune.Callback
    assert b"sqlite" not in pickle.dumps(callback)
