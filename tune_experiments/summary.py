"""What a search says at its start and at its end."""

import os
import shlex
import shutil
import sys
from pathlib import Path

import pandas as pd

from cifar_core.datasets import TrainingData
from tune_experiments.access import LOOPBACK
from tune_experiments.config import Plan
from tune_experiments.experiment import Experiment, best_first
from tune_experiments.ledger import Trial, TrialState
from tune_experiments.records import leaderboard
from tune_experiments.runtime import Cluster
from tune_experiments.search_space import SearchSpace, default_peak_range, edges
from tune_experiments.search_state import SearchState
from tune_experiments.verdict import ConfirmedSetting, TestedSetting, TestResult, Verdict

SHOWN = 20  # rows of the leaderboard on the terminal; the file has all
THE_REAL_THING = "python tune_experiments/search.py --preset cifar10"


def describe_start(experiment: Experiment, plan: Plan, data: TrainingData, cluster: Cluster, slots: int) -> str:
    """What the search will do, over what, where."""
    train, search = plan.train, plan.search
    max_lr = _bounds(search.max_lr_range) if search.max_lr_range else "from the LR range test"
    peaks = search.peak_epoch_range or default_peak_range(train.epochs)
    levels = ", ".join(map(str, plan.rungs))
    stopping = f"{search.scheduler}, rungs after epochs {levels}, each keeping about 1 in {search.reduction_factor:g}"
    dashboard = f"{cluster.dashboard_url}, which asks for {_token(cluster)}" if cluster.dashboard_url else "off"
    if cluster.dashboard_host != LOOPBACK:
        dashboard += f", open on {cluster.dashboard_host}: whoever has the token can run code here; not encrypted"
    rows = {
        "trials": f"{search.num_samples}, of {train.epochs} epochs each, the first with the seed's setting",
        "data": f"{train.dataset}: {len(data.train):,} training and {len(data.val):,} validation images, "
        f"{len(data.train.class_names)} classes",
        "network": f"ResNet-C at width {train.width:g}, batches of {train.batch_size}",
        "space": f"max_lr {max_lr}, l1_factor {_bounds(search.l1_factor_range)}, peak_epoch {peaks[0]} to {peaks[1]}",
        "search": f"searcher {search.searcher}, scheduler {stopping if plan.rungs else search.scheduler}",
        "confirm": f"the best {search.confirm_top} and the seed's setting, {search.confirm_seeds} fresh seeds each; "
        "then the test set, once"
        if search.confirm_top
        else "off: the test set stays closed",
        "devices": f"{cluster.cpus} CPUs and {cluster.gpus} GPUs on {cluster.nodes} node(s): {slots} trials at a time, "
        f"each on {search.cpus_per_trial} CPU(s) and {search.gpus_per_trial:g} GPU(s)",
        "folder": str(experiment.path),
        "dashboard": dashboard,
    }
    return "\n".join([f"Search {experiment.path.name}", *(f"  {key:<10}{text}" for key, text in rows.items())])


def describe_end(
    experiment: Experiment, plan: Plan, state: SearchState, space: SearchSpace, verdict: Verdict | None
) -> str:
    """The leaderboard, what was confirmed of it, where everything is, and what to do next."""
    lines = ["", f"Leaderboard (score: validation accuracy after epoch {plan.train.epochs})", _table(state.trials), ""]
    completed = best_first(state.trials)
    if completed:
        lines += _confirmation(verdict) if verdict else _comparison(completed[0], state.trials[0])
        lines += _at_edge(edges(space, completed[0].setting), experiment)
        lines += ["", "Files in " + str(experiment.path)]
        lines += [f"  {name:<20}{what}" for name, what in FILES.items() if experiment.file(name).exists()]
        lines += ["", f"Report and figures:   python -m analysis {experiment}"]
        lines += [f"Repeat the best run:  python -m cifar_core --config {experiment.file('best')}/config.yaml"]
    lines += [f"{trial.trial_id} failed: {trial.reason}" for trial in state.trials if trial.state is TrialState.FAILED][
        :SHOWN
    ]
    if state.hopeless:
        lines.append("Every trial failed for that reason, so the search ended early.")
    if state.unfinished or (verdict and not verdict.finished):
        lines.append(f"Go on where it ended: python tune_experiments/search.py {experiment.how_to_resume}")
    elif plan.train.dataset == "synthetic":
        lines.append(f"The real thing:       {THE_REAL_THING}")
    return "\n".join(lines)


FILES = {
    "leaderboard.csv": "trials, best first",
    "trials.parquet": "one row per trial",
    "epochs.parquet": "one row per trial and epoch",
    "lr_range_test.png": "where the range of max_lr comes from",
    "optuna.db": "the study: optuna-dashboard sqlite:///…/optuna.db",
    "tensorboard": "curves of every trial: tensorboard --logdir …/tensorboard",
    "search.yaml": "what was run, with which versions",
    "confirm.json": "runs with fresh seeds: means, intervals, the winner, the test set",
    "best": "config.yaml and checkpoint of the best setting",
}


def _token(cluster: Cluster) -> str:
    """What lets one in to Ray's dashboard, and how to get it, in a virtual environment that is not activated, too."""
    if not cluster.asks_for_token:
        return "no token"
    kept = (
        "RAY_AUTH_TOKEN"
        if "RAY_AUTH_TOKEN" in os.environ
        else os.environ.get("RAY_AUTH_TOKEN_PATH", "~/.ray/auth_token")
    )
    command = Path(sys.executable).with_name("ray")
    shown = "ray" if shutil.which("ray") == str(command) else shlex.quote(str(command))
    return f"the token in {kept}: `{shown} get-auth-token` prints it"


def _table(trials: list[Trial]) -> str:
    board = leaderboard(trials)
    shown = board.head(SHOWN).copy()
    shown["trial_id"] += shown.pop("is_seed_setting").map({True: " (seed)", False: ""})
    shown["rank"] = shown["rank"].astype(object).where(shown["rank"].notna(), "")
    formats = {
        "score": _percent,
        "last_val_accuracy": _percent,
        "max_lr": "{:.4g}".format,
        "l1_factor": "{:.2e}".format,
        "seconds": "{:.0f}".format,
    }
    text = str(shown.to_string(index=False, na_rep="", formatters=formats))
    return text + (f"\n… and {len(board) - SHOWN} more in leaderboard.csv" if len(board) > SHOWN else "")


def _comparison(best: Trial, reference: Trial) -> list[str]:
    lines = [f"Best setting:   {best.setting}: {_percent(best.score)} (trial {best.trial_id})"]
    if reference is best:
        return [*lines, "It is the seed's own: nothing better was found."]
    lines.append(f"Seed's setting: {reference.setting}: {_percent(reference.score) or reference.state.value}")
    if reference.score is not None and best.score is not None:
        gain = 100 * (best.score - reference.score)
        lines.append(
            f"Difference: {gain:+.1f} points, one run each. The best of many noisy scores looks better than it is: "
            "--confirm-top trains both with fresh seeds."
        )
    return lines


def _at_edge(at: dict[str, str], experiment: Experiment) -> list[str]:
    if not at:
        return []
    places = " and ".join(f"the {end} end of {name}" for name, end in at.items())
    more_room = f"{experiment.how_to_resume} --extend-space --num-samples N"
    return [f"The best setting lies at {places}; for more room: {more_room}"]


def _confirmation(verdict: Verdict) -> list[str]:
    title = (
        f"Confirmation (validation accuracy after epoch {verdict.epochs}, mean and 95 % interval over seeds "
        f"{', '.join(map(str, verdict.seeds))}; shrinkage from the search's score in points)"
    )
    if not verdict.finished:
        states = [state for setting in verdict.settings for state in setting.states]
        ended = sum(state not in (TrialState.PENDING, TrialState.RUNNING) for state in states)
        return [title, f"Cut short: {ended} of {len(states)} runs have ended, and nothing is decided."]
    lines = [title, _confirmation_table(verdict), "", _decision(verdict)]
    return [*lines, *_on_test_set(verdict.test)] if verdict.test else lines


def _confirmation_table(verdict: Verdict) -> str:
    rows = [
        {
            "trial_id": setting.trial_id + (" (seed)" if setting.is_seed_setting else ""),
            "max_lr": f"{setting.max_lr:.4g}",
            "l1_factor": f"{setting.l1_factor:.2e}",
            "peak_epoch": setting.peak_epoch,
            "search": _percent(setting.search_score),
            "confirmed": _with_interval(setting) or _lost(setting),
            "shrinkage": _points(setting.shrinkage),
        }
        for setting in verdict.settings
    ]
    return str(pd.DataFrame(rows).to_string(index=False))


def _decision(verdict: Verdict) -> str:
    winner = next((setting for setting in verdict.settings if setting.trial_id == verdict.winner), None)
    if winner is None:
        return "No winner: of every setting a run diverged or failed."
    if winner.is_seed_setting:
        return f"Winner: the seed's own setting (trial {winner.trial_id}). Nothing better was found."
    if winner.gain.mean is None:
        return f"Winner: trial {winner.trial_id}. A gain over the seed's setting is not established: it lost a run."
    judgement = (
        "The difference is established."
        if verdict.established
        else "The difference is not established: these seeds cannot tell the two apart."
    )
    return (
        f"Winner: trial {winner.trial_id}, {_points(winner.gain.mean)} points against the seed's setting, seed by seed "
        f"(95 % interval {_points(winner.gain.low)} to {_points(winner.gain.high)}). {judgement}"
    )


def _on_test_set(test: TestResult) -> list[str]:
    accuracies = "; ".join(f"trial {setting.trial_id} {_with_interval(setting)}" for setting in test.settings)
    lines = [f"Test set ({test.images:,} images, opened after the choice): {accuracies}."]
    if len(test.settings) == 2 and test.gain.mean is not None:
        lines.append(
            f"Difference on the test set, seed by seed: {_points(test.gain.mean)} points "
            f"(95 % interval {_points(test.gain.low)} to {_points(test.gain.high)})."
        )
    if len(test.opened) > 1:
        lines.append(
            f"The test set has been opened {len(test.opened)} times ({', '.join(test.opened)}): what was searched "
            "after the first time was searched knowing its answer, so it is no longer untouched."
        )
    return lines


def _with_interval(result: ConfirmedSetting | TestedSetting) -> str:
    return f"{result.mean:.1%} ({_percent(result.low)} to {_percent(result.high)})" if result.mean is not None else ""


def _lost(setting: ConfirmedSetting) -> str:
    """Which runs are in the way of a mean."""
    bad = [state for state in setting.states if state != TrialState.COMPLETED]
    return f"{len(bad)} of {len(setting.states)} runs {' or '.join(sorted(set(bad)))}"


def _points(share: float | None) -> str:
    return "" if share is None else f"{100 * share:+.1f}"


def _percent(share: float | None) -> str:
    return "" if share is None or share != share else f"{share:.1%}"


def _bounds(bounds: tuple[float, float]) -> str:
    return f"{bounds[0]:g} to {bounds[1]:g}"
