"""What a search says at its start and at its end."""

from cifar_core.datasets import TrainingData
from tune_experiments.config import Plan
from tune_experiments.early_stopping import rungs
from tune_experiments.experiment import Experiment, best_first
from tune_experiments.ledger import Trial, TrialState
from tune_experiments.records import leaderboard
from tune_experiments.runtime import Cluster
from tune_experiments.search_space import default_peak_range
from tune_experiments.search_state import SearchState

SHOWN = 20  # rows of the leaderboard on the terminal; the file has all
THE_REAL_THING = "python tune_experiments/search.py --preset cifar10"


def describe_start(experiment: Experiment, plan: Plan, data: TrainingData, cluster: Cluster, slots: int) -> str:
    """What the search will do, over what, where."""
    train, search = plan.train, plan.search
    max_lr = _bounds(search.max_lr_range) if search.max_lr_range else "from the LR range test"
    peaks = search.peak_epoch_range or default_peak_range(train.epochs)
    levels = rungs(search.grace_period, search.reduction_factor, train.epochs)
    stopping = f"asha, rungs after epochs {', '.join(map(str, levels)) or 'none: grace_period is not below epochs'}"
    dashboard = f"{cluster.dashboard_url} (its page asks for the token that `ray get-auth-token` prints)"
    rows = {
        "trials": f"{search.num_samples}, of {train.epochs} epochs each, the first with the seed's setting",
        "data": f"{train.dataset}: {len(data.train):,} training and {len(data.val):,} validation images, "
        f"{len(data.train.class_names)} classes",
        "network": f"ResNet-C at width {train.width:g}, batches of {train.batch_size}",
        "space": f"max_lr {max_lr}, l1_factor {_bounds(search.l1_factor_range)}, peak_epoch {peaks[0]} to {peaks[1]}",
        "search": f"searcher {search.searcher}, scheduler {stopping if search.scheduler == 'asha' else 'none'}",
        "devices": f"{cluster.cpus} CPUs and {cluster.gpus} GPUs on {cluster.nodes} node(s): {slots} trials at a time, "
        f"each on {search.cpus_per_trial} CPU(s) and {search.gpus_per_trial:g} GPU(s)",
        "folder": str(experiment.path),
        "dashboard": dashboard if cluster.dashboard_url else "off",
    }
    return "\n".join([f"Search {experiment.path.name}", *(f"  {key:<10}{text}" for key, text in rows.items())])


def describe_end(experiment: Experiment, plan: Plan, state: SearchState) -> str:
    """The leaderboard, the best setting beside the seed's, where everything is, and what to do next."""
    lines = ["", f"Leaderboard (score: validation accuracy after epoch {plan.train.epochs})", _table(state.trials), ""]
    completed = best_first(state.trials)
    if completed:
        lines += _comparison(completed[0], state.trials[0])
        lines += ["", "Files in " + str(experiment.path)]
        lines += [f"  {name:<20}{what}" for name, what in FILES.items() if experiment.file(name).exists()]
        lines += ["", f"Repeat the best run:  python -m cifar_core --config {experiment.file('best')}/config.yaml"]
    lines += [f"{trial.trial_id} failed: {trial.reason}" for trial in state.trials if trial.state is TrialState.FAILED][
        :SHOWN
    ]
    if state.hopeless:
        lines.append("Every trial failed for that reason, so the search ended early.")
    if state.unfinished:
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
    "best": "config.yaml and checkpoint of the best trial",
}


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
    lines = [f"Best setting:   {_setting(best)}: {_percent(best.score)} (trial {best.trial_id})"]
    if reference is best:
        return [*lines, "It is the seed's own: nothing better was found."]
    lines.append(f"Seed's setting: {_setting(reference)}: {_percent(reference.score) or reference.state.value}")
    if reference.score is not None and best.score is not None:
        gain = 100 * (best.score - reference.score)
        lines.append(
            f"Difference: {gain:+.1f} points, one run each. The best of many noisy scores looks better than it is: "
            "train both with fresh seeds before believing it."
        )
    return lines


def _setting(trial: Trial) -> str:
    setting = trial.setting
    return f"max_lr {setting.max_lr:.4g}, l1_factor {setting.l1_factor:.3g}, peak_epoch {setting.peak_epoch}"


def _percent(share: float | None) -> str:
    return "" if share is None or share != share else f"{share:.1%}"


def _bounds(bounds: tuple[float, float]) -> str:
    return f"{bounds[0]:g} to {bounds[1]:g}"
