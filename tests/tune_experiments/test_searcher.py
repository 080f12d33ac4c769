import math
from pathlib import Path

import numpy as np
import optuna
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from optuna.trial import TrialState as OptunaState

from tests.tune_experiments.made_up import PROPOSERS, REFERENCE, SPACE, ended_trial, metrics
from tune_experiments.ledger import Trial, TrialState
from tune_experiments.search_space import SearchSpace, Setting
from tune_experiments.searcher import OptunaProposer, RandomProposer, StudyFile, distributions

OUTSIDE = Setting(5.0, 5e-4, 2)

ENDS = [
    ended_trial("00000", TrialState.COMPLETED, 0.3, 0.6, setting=Setting(0.01, 1e-3, 1)),
    ended_trial("00001", TrialState.STOPPED, 0.2, 0.25, setting=Setting(0.02, 1e-3, 2)),
    ended_trial("00002", TrialState.DIVERGED, 0.4, 0.7, setting=Setting(0.9, 1e-3, 3)),
    ended_trial("00003", TrialState.FAILED, 0.4, setting=Setting(0.03, 1e-3, 4)),
    ended_trial("00004", TrialState.FAILED, setting=Setting(0.04, 1e-3, 5)),
    ended_trial("00005", TrialState.DIVERGED, setting=Setting(0.8, 1e-3, 6)),
]
SEEN = [
    (OptunaState.COMPLETE, 0.6, {1: 0.3, 2: 0.6}),
    (OptunaState.PRUNED, 0.25, {1: 0.2, 2: 0.25}),
    (OptunaState.PRUNED, None, {}),
    (OptunaState.FAIL, None, {1: 0.4}),
    (OptunaState.FAIL, None, {}),
    (OptunaState.PRUNED, None, {}),
]

log_bounds = st.tuples(st.floats(-6, 2), st.floats(0.01, 4)).map(
    lambda pair: (10 ** pair[0], 10 ** (pair[0] + pair[1]))
)
spaces = st.builds(
    SearchSpace,
    max_lr=log_bounds,
    l1_factor=log_bounds,
    peak_epoch=st.tuples(st.integers(0, 10), st.integers(1, 20)).map(lambda pair: (pair[0], pair[0] + pair[1])),
)


def optuna_proposer(seed: int = 0, startup_trials: int = 5) -> OptunaProposer:
    return OptunaProposer(SPACE, seed, startup_trials)


def taught(trials: list[Trial], seed: int = 0) -> OptunaProposer:
    """A proposer that knows these trials."""
    proposer = optuna_proposer(seed)
    for trial in trials:
        proposer.follow(trial)
        proposer.tell(trial)
    return proposer


def seen(study: optuna.Study) -> list[tuple[object, ...]]:
    """State, value and intermediate values of each trial."""
    return [(trial.state, trial.value, trial.intermediate_values) for trial in study.trials]


@settings(max_examples=40)
@given(spaces, st.integers(0, 2**63), st.integers(0, 10_000))
def test_random_settings_are_in_the_space(space: SearchSpace, seed: int, number: int) -> None:
    assert RandomProposer(space, seed).propose(number) in space


@settings(max_examples=10)
@given(spaces, st.integers(0, 2**63))
def test_optunas_settings_are_in_the_space(space: SearchSpace, seed: int) -> None:
    proposer = OptunaProposer(space, seed, startup_trials=2)
    for number in range(5):
        setting = proposer.propose(number)
        assert setting in space
        proposer.tell(ended_trial(str(number), TrialState.COMPLETED, 0.1 * number, setting=setting))


@pytest.mark.parametrize("kind", PROPOSERS)
def test_settings_are_plain_numbers(kind: str) -> None:
    setting = PROPOSERS[kind]().propose(1)
    assert [type(value) for value in vars(setting).values()] == [float, float, int]


def test_random_draws_fill_the_space_evenly() -> None:
    drawn = [RandomProposer(SPACE, seed=0).propose(number) for number in range(3000)]
    for values, (low, high) in (
        ([math.log(setting.max_lr) for setting in drawn], np.log(SPACE.max_lr)),
        ([math.log(setting.l1_factor) for setting in drawn], np.log(SPACE.l1_factor)),
    ):
        counts = np.histogram(values, bins=10, range=(low, high))[0]
        assert counts.sum() == 3000 and counts.min() > 230 and counts.max() < 370
    peaks = np.bincount([setting.peak_epoch for setting in drawn])
    assert len(peaks) == 8 and peaks[0] == 0 and peaks[1:].min() > 350


@pytest.mark.parametrize("kind", ["optuna", "random"])
def test_proposals_follow_from_seed_and_number_alone(kind: str) -> None:
    def proposals(seed: int) -> list[Setting]:
        proposer = optuna_proposer(seed) if kind == "optuna" else RandomProposer(SPACE, seed)
        return [proposer.propose(number) for number in range(1, 5)]

    np.random.seed(0)
    first = proposals(0)
    np.random.seed(1)
    assert first == proposals(0)
    assert len({*first, *proposals(1)}) == 8


def test_a_random_proposal_does_not_need_those_before_it() -> None:
    assert RandomProposer(SPACE, 0).propose(7) == [RandomProposer(SPACE, 0).propose(n) for n in range(8)][7]


def test_optuna_sees_what_happened() -> None:
    proposer = taught(ENDS)
    assert seen(proposer.study) == SEEN
    assert [trial.params["max_lr"] for trial in proposer.study.trials] == [trial.setting.max_lr for trial in ENDS]


def test_optuna_sees_a_trial_that_is_under_way_as_running() -> None:
    proposer = optuna_proposer()
    proposed = proposer.propose(1)
    proposer.follow(Trial("00002", REFERENCE))
    assert [trial.state for trial in proposer.study.trials] == [OptunaState.RUNNING] * 2
    proposer.tell(ended_trial("00001", TrialState.COMPLETED, 0.5, setting=proposed))
    assert [trial.state for trial in proposer.study.trials] == [OptunaState.COMPLETE, OptunaState.RUNNING]


def test_a_followed_setting_is_kept_to_the_last_bit() -> None:
    setting = Setting(0.1 + 0.2, math.nextafter(1e-5, 1), 7)
    proposer = optuna_proposer()
    proposer.follow(Trial("00000", setting))
    assert list(proposer.running) == [setting]


def test_a_setting_outside_the_space_is_not_told() -> None:
    proposer = taught([ended_trial("00000", TrialState.COMPLETED, 0.9, setting=OUTSIDE)])
    assert proposer.study.trials == []
    assert proposer.propose(1) in SPACE


def test_an_end_is_told_once() -> None:
    proposer = taught(ENDS)
    proposer.tell(ENDS[0])
    assert len(proposer.study.trials) == len(ENDS)


def grid(state: TrialState) -> list[Trial]:
    """Twelve good trials below max_lr 0.03 and twelve above it that ended in `state`."""
    rng = np.random.default_rng(0)
    trials = []
    for number in range(24):
        high = number % 2
        max_lr = float(10 ** rng.uniform(-1.5, 0)) if high else float(10 ** rng.uniform(-3, -1.5))
        setting = Setting(max_lr, float(10 ** rng.uniform(-5, 1)), int(rng.integers(1, 8)))
        accuracies = (0.6, 0.8) if high else (0.5, 0.7)
        trials.append(
            ended_trial(f"{number:05d}", state if high else TrialState.COMPLETED, *accuracies, setting=setting)
        )
    return trials


def share_of_high_max_lr(trials: list[Trial]) -> float:
    return float(np.mean([taught(trials, seed).propose(100).max_lr > 10**-1.5 for seed in range(16)]))


@pytest.mark.parametrize("state", [TrialState.DIVERGED, TrialState.STOPPED])
def test_optuna_keeps_away_from_where_trials_stop_or_diverge(state: TrialState) -> None:
    """Although their early values were the better ones."""
    assert share_of_high_max_lr(grid(TrialState.COMPLETED)) >= 0.7
    assert share_of_high_max_lr(grid(state)) <= 0.2


def test_a_failed_trial_says_nothing_about_its_setting() -> None:
    trials = grid(TrialState.FAILED)
    completed = [trial for trial in trials if trial.state is TrialState.COMPLETED]
    assert taught(trials).propose(50) == taught(completed).propose(50)


def test_study_file_holds_what_happened_once(tmp_path: Path) -> None:
    path = tmp_path / "optuna.db"
    file = StudyFile(path, SPACE)
    for trial in (*ENDS[:3], *ENDS[:3]):
        file.add(trial)
    reopened = StudyFile(path, SPACE)
    for trial in ENDS:
        reopened.add(trial)
    study = optuna.load_study(study_name=None, storage=f"sqlite:///{path}")
    assert study.study_name == "search"
    scores = [value if state is OptunaState.COMPLETE else None for state, value, _ in SEEN]
    assert seen(study) == [(state, score, values) for (state, _, values), score in zip(SEEN, scores, strict=True)]
    assert [trial.user_attrs for trial in study.trials] == [
        {"trial_id": trial.trial_id, "state": trial.state.value} for trial in ENDS
    ]
    assert study.best_trial.user_attrs["trial_id"] == "00000"


def test_study_file_takes_the_seeds_setting_from_outside_the_space(tmp_path: Path) -> None:
    file = StudyFile(tmp_path / "optuna.db", SPACE.including(OUTSIDE))
    file.add(ended_trial("00000", TrialState.COMPLETED, 0.5, setting=OUTSIDE))
    file.add(ENDS[1])
    assert [trial.params["max_lr"] for trial in file.study.trials] == [5.0, 0.02]


def test_study_file_of_another_space_is_made_anew(tmp_path: Path) -> None:
    """Optuna's importances leave out a parameter whose bounds differ between trials."""
    path = tmp_path / "optuna.db"
    for trial in ENDS[:2]:
        StudyFile(path, SPACE).add(trial)
    wider = StudyFile(path, SPACE.including(OUTSIDE))
    assert wider.known == {}
    for trial in ENDS:
        wider.add(trial)
    study = optuna.load_study(study_name=None, storage=f"sqlite:///{path}")
    assert len(study.trials) == len(ENDS)
    assert optuna.search_space.intersection_search_space(study.trials) == distributions(SPACE.including(OUTSIDE))


def test_a_trial_that_went_on_after_it_was_stopped_is_complete_in_the_file(tmp_path: Path) -> None:
    path = tmp_path / "optuna.db"
    trial = ended_trial("00000", TrialState.STOPPED, 0.4, setting=Setting(0.02, 1e-3, 3))
    file = StudyFile(path, SPACE)
    file.bring_up_to([trial, *ENDS[1:3]])
    completed = ended_trial("00000", TrialState.COMPLETED, 0.4, 0.7, setting=trial.setting)
    for study_file in (file, StudyFile(path, SPACE)):
        study_file.bring_up_to([completed, *ENDS[1:3]])
        trials = optuna.load_study(study_name=None, storage=f"sqlite:///{path}").trials
        assert (trials[0].user_attrs["trial_id"], trials[0].value) == ("00000", 0.7)
        assert len(trials) == 3


def test_an_audited_trial_is_pruned_with_what_it_had_when_it_was_stopped() -> None:
    trial = ended_trial("00000", TrialState.STOPPED, 0.4, 0.5, 0.9, setting=Setting(0.02, 1e-3, 3))
    trial.stopped_at = 2
    (told,) = taught([trial]).study.trials
    assert (told.state, told.intermediate_values) == (OptunaState.PRUNED, {1: 0.4, 2: 0.5})
    trial.state = TrialState.DIVERGED  # in its audit
    (told,) = taught([trial]).study.trials
    assert (told.state, told.intermediate_values) == (OptunaState.PRUNED, {1: 0.4, 2: 0.5})


def test_study_files_folder_may_have_an_unusual_name(tmp_path: Path) -> None:
    folder = tmp_path / "my data #1, é"
    folder.mkdir()
    StudyFile(folder / "optuna.db", SPACE).add(ENDS[0])
    assert (folder / "optuna.db").stat().st_size > 0
    assert [file.name for file in tmp_path.iterdir()] == [folder.name]


def test_space_in_optunas_terms_holds_both_ends() -> None:
    kinds = distributions(SPACE)
    for name, (low, high) in vars(SPACE).items():
        assert kinds[name]._contains(low) and kinds[name]._contains(high)
    assert [kinds[name].log for name in ("max_lr", "l1_factor", "peak_epoch")] == [True, True, False]  # type: ignore[attr-defined]


def test_no_value_of_a_diverged_trial_is_told_even_where_it_is_finite() -> None:
    trial = ended_trial("00000", TrialState.DIVERGED, 0.4, setting=Setting(0.9, 1e-3, 3))
    trial.epochs[-1] = metrics(2, 0.1, val_loss=math.inf)
    (told,) = taught([trial]).study.trials
    assert told.intermediate_values == {}
