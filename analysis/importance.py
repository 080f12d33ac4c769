"""How much each parameter matters to the score, by two methods, with intervals.

Both look at completed trials alone, as a stopped one has no score. They answer different questions: fANOVA (Hutter et
al., 2014) which parameter the score varies with over the whole space; PED-ANOVA (Watanabe et al., arXiv 2304.10255)
which one decides whether a trial is among the best. Optuna's fANOVA integrates over raw values, in which nine tenths
of a log-uniform range are its last decade; it is given logarithms instead.
"""

import numpy as np
import optuna
import pandas as pd
from optuna.distributions import BaseDistribution, FloatDistribution, IntDistribution
from optuna.importance import BaseImportanceEvaluator, FanovaImportanceEvaluator, PedAnovaImportanceEvaluator

from analysis.ranking import on_search_scale
from analysis.tables import rows
from analysis.trials import PARAMETERS, Experiment
from analysis.words import percent
from tune_experiments.search_space import Setting

MIN_COMPLETED = 8
LEAST_TOP_TRIALS = 5  # Optuna's advice for PED-ANOVA
MOST_TRIALS = {"fANOVA": 150, "PED-ANOVA": 300}  # more take long and say the same
RESAMPLES = 20
COLUMNS = ["method", "parameter", "importance", "low", "high"]


def importances(experiment: Experiment, seed: int = 0) -> pd.DataFrame:
    """One row per method and parameter; no row below `MIN_COMPLETED` completed trials or where all scores are equal.

    Columns: `method`, `parameter`, `importance` (the three sum to 1), and `low` to `high` about it: the central 90 % of
    how `RESAMPLES` resamplings of the trials with replacement lie about their own mean, which repeated trials shift.
    A random `MOST_TRIALS` are used where there are more.
    """
    completed = experiment.completed
    if len(completed) < MIN_COMPLETED or completed["score"].nunique() < 2:
        return pd.DataFrame(columns=COLUMNS)
    rng = np.random.default_rng(seed)
    completed = completed.sample(min(len(completed), max(MOST_TRIALS.values())), random_state=seed)
    every = _frozen_trials(experiment, completed)
    rows = []
    for method, evaluator in _evaluators(len(every), seed).items():
        frozen = every[: MOST_TRIALS[method]]
        draws = [rng.integers(len(frozen), size=len(frozen)) for _ in range(RESAMPLES)]
        whole = _evaluate(evaluator, frozen)
        resampled = np.array([_evaluate(evaluator, [frozen[index] for index in draw]) for draw in draws])
        low, high = np.clip(whole + np.quantile(resampled - resampled.mean(axis=0), [0.05, 0.95], axis=0), 0, 1)
        rows += [list(row) for row in zip([method] * len(PARAMETERS), PARAMETERS, whole, low, high, strict=True)]
    return pd.DataFrame(rows, columns=COLUMNS)


def describe_importances(table: pd.DataFrame, completed: int) -> str:
    """What each method puts first, and whether the intervals separate it from the second."""
    if table.empty:
        return (
            f"Importance cannot be said: it needs at least {MIN_COMPLETED} completed trials with different scores, "
            f"and there {'is' if completed == 1 else 'are'} {completed}."
        )
    sentences = []
    for method, part in table.groupby("method", sort=False):
        first, second, *_ = rows(part.sort_values("importance", ascending=False))
        sure = first.low > second.high
        sentences.append(
            f"{method} puts {first.parameter} first with {percent(first.importance)} of the importance "
            f"({percent(first.low)} to {percent(first.high)} over resamplings), then {second.parameter} with "
            f"{percent(second.importance)}; {'the intervals are apart' if sure else 'the intervals overlap'}."
        )
    return " ".join(sentences) + f" From {completed:,} completed trials."


def _evaluators(completed: int, seed: int) -> dict[str, BaseImportanceEvaluator]:
    top = max(0.1, LEAST_TOP_TRIALS / completed)
    return {
        "fANOVA": FanovaImportanceEvaluator(seed=seed, n_trees=8, max_depth=6),
        "PED-ANOVA": PedAnovaImportanceEvaluator(target_quantile=top),
    }


def _frozen_trials(experiment: Experiment, completed: pd.DataFrame) -> list[optuna.trial.FrozenTrial]:
    space = experiment.space
    for row in completed[list(PARAMETERS)].to_dict("records"):
        space = space.including(Setting(**{str(name): value for name, value in row.items()}))
    distributions: dict[str, BaseDistribution] = {
        "max_lr": FloatDistribution(*on_search_scale("max_lr", space.max_lr).tolist()),
        "l1_factor": FloatDistribution(*on_search_scale("l1_factor", space.l1_factor).tolist()),
        "peak_epoch": IntDistribution(*space.peak_epoch),
    }
    columns = [on_search_scale(name, completed[name]).tolist() for name in PARAMETERS]
    return [
        optuna.trial.create_trial(
            value=score,
            params={"max_lr": max_lr, "l1_factor": l1_factor, "peak_epoch": int(peak)},
            distributions=distributions,
        )
        for score, max_lr, l1_factor, peak in zip(completed["score"], *columns, strict=True)
    ]


def _evaluate(evaluator: BaseImportanceEvaluator, trials: list[optuna.trial.FrozenTrial]) -> list[float]:
    optuna.logging.set_verbosity(optuna.logging.WARNING)
    study = optuna.create_study(direction="maximize")
    study.add_trials(trials)
    found = optuna.importance.get_param_importances(study, evaluator=evaluator)
    return [found[name] for name in PARAMETERS]
