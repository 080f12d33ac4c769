import numpy as np

from analysis.importance import describe_importances, importances
from analysis.trials import Experiment
from tests.analysis.by_hand import COMPLETED, STOPPED, experiment_of
from tests.tune_experiments.made_up import ended_trial
from tune_experiments.ledger import Trial
from tune_experiments.search_space import Setting


def random_trials(number: int, weight: float = 0.05) -> list[Trial]:
    """The score falls with the distance of log l1_factor from the middle, and with nothing else."""
    rng = np.random.default_rng(0)
    trials = []
    for index in range(number):
        max_lr, l1_factor = 10 ** rng.uniform((-3, -5), (0, 1))
        score = 0.9 - weight * abs(np.log10(l1_factor) + 2)
        setting = Setting(float(max_lr), float(l1_factor), int(rng.integers(1, 8)))
        trials.append(ended_trial(f"{index:05d}", COMPLETED, 0, 0, 0, float(score), setting=setting))
    return trials


def test_the_parameter_that_matters_is_found_by_both_methods() -> None:
    table = importances(experiment_of(random_trials(50)))
    for _, part in table.groupby("method"):
        shares = part.set_index("parameter")["importance"]
        assert shares.idxmax() == "l1_factor"  # over most of its range: fANOVA of raw values would see one decade
        assert np.isclose(shares.sum(), 1)
        assert (part["low"] <= part["high"]).all()
    assert table["method"].unique().tolist() == ["fANOVA", "PED-ANOVA"]
    assert "fANOVA puts l1_factor first" in describe_importances(table, 50)


def test_stopped_trials_change_nothing() -> None:
    trials = random_trials(20)
    stopped = ended_trial("00020", STOPPED, 0.99, 0.99, setting=Setting(0.5, 5.0, 7))
    assert importances(experiment_of(trials)).equals(importances(experiment_of([*trials, stopped])))


def test_too_few_trials_or_equal_scores_say_nothing() -> None:
    few = importances(experiment_of(random_trials(7)))
    assert few.empty
    assert "needs at least 8 completed trials with different scores, and there are 7" in describe_importances(few, 7)
    assert importances(experiment_of(random_trials(20, weight=0))).empty


def test_the_searched_settings_of_a_real_folder(experiment: Experiment) -> None:
    assert len(experiment.completed) < 8
    assert importances(experiment).empty
