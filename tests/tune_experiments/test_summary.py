from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

import pytest

from cifar_core.config import RangeTestConfig, TrainConfig
from cifar_core.datasets import TrainingData
from tests.cifar_core.tiny import dark_and_bright
from tests.tune_experiments.made_up import PROPOSERS, SPACE, ended_trial, made_up_state
from tune_experiments.config import Plan, SearchConfig
from tune_experiments.experiment import Experiment
from tune_experiments.ledger import Ledger, Trial, TrialState
from tune_experiments.runtime import Cluster
from tune_experiments.search_space import SearchSpace, Setting
from tune_experiments.search_state import SearchState
from tune_experiments.summary import SHOWN, describe_end, describe_start
from tune_experiments.verdict import Finalist, Opening, Verdict, judge

ROOMY = SearchSpace((1e-5, 100.0), (1e-10, 100.0), (0, 8))  # nothing lies at its edge
PLAN = Plan(
    TrainConfig(dataset="synthetic", epochs=8, width=0.125),
    SearchConfig(num_samples=3, grace_period=2, reduction_factor=2, gpus_per_trial=0),
    RangeTestConfig(),
)
EXPERIMENT = Experiment(Path("/experiments/mine"))
CLUSTER = Cluster(cpus=8, gpus=0, nodes=1, dashboard_url="http://127.0.0.1:8265")
SEED = Setting(0.0655, 5e-4, 2)
OTHER = Setting(0.25, 1e-7, 3)
TWO = (
    ended_trial("00000", TrialState.COMPLETED, 0.60, setting=SEED),
    ended_trial("00001", TrialState.COMPLETED, 0.65, setting=OTHER),
)


def start(plan: Plan = PLAN, cluster: Cluster = CLUSTER) -> str:
    data = TrainingData(dark_and_bright(1200), dark_and_bright(40))
    return describe_start(EXPERIMENT, plan, data, cluster, slots=5)


def end(
    path: Path,
    *trials: Trial,
    num_samples: int | None = None,
    plan: Plan = PLAN,
    verdict: Verdict | None = None,
    space: SearchSpace = ROOMY,
) -> str:
    """What is said about a search with these trials."""
    state: SearchState = made_up_state(Ledger(path / "ledger"), PROPOSERS["random"](), num_samples or len(trials))
    state.ledger.trials.update({trial.trial_id: trial for trial in trials})
    return describe_end(EXPERIMENT, plan, state, space, verdict)


def run(finalist: str, seed: int, accuracy: float | None, end: TrialState = TrialState.COMPLETED) -> Trial:
    """A run with a fresh seed; without an accuracy it ended, or goes on, otherwise."""
    return ended_trial(f"{finalist}-seed{seed}", end, *([] if accuracy is None else [accuracy]))


def confirmed(
    first: Sequence[float], second: Sequence[float], openings: Sequence[Opening] = (), lost: TrialState | None = None
) -> Verdict:
    """Of trial 00001 (65.0 % in the search) and the seed's setting (60.0 %), whose last run may be `lost`."""
    trials = TWO[::-1]
    runs = [[run(trial.trial_id, seed, accuracy) for seed, accuracy in enumerate(accuracies, start=1)]
            for trial, accuracies in zip(trials, (first, second), strict=True)]  # fmt: skip
    if lost:
        runs[1][-1] = run("00000", len(second), None, lost)
    finalists = [Finalist(trial, trial.setting == SEED, each) for trial, each in zip(trials, runs, strict=True)]
    return judge(finalists, range(1, len(first) + 1), 8, 1500, openings)


def opening(time: float = 0.0) -> Opening:
    results = {f"00001-seed{seed}": (1.0, 0.63) for seed in (1, 2)} | {
        f"00000-seed{seed}": (1.0, 0.60) for seed in (1, 2)
    }
    return Opening(time, 2000, results)


def test_end_shows_the_confirmation_in_place_of_the_comparison(tmp_path: Path) -> None:
    text = end(tmp_path, *TWO, verdict=confirmed((0.63, 0.65), (0.60, 0.62), [opening()]))
    lines = [" ".join(line.split()) for line in text.splitlines()]
    for line in (
        "Confirmation (validation accuracy after epoch 8, mean and 95 % interval over seeds 1, 2; shrinkage from the "
        "search's score in points)",
        "trial_id max_lr l1_factor peak_epoch search confirmed shrinkage",
        "00001 0.25 1.00e-07 3 65.0% 64.0% (51.3% to 76.7%) -1.0",
        "00000 (seed) 0.0655 5.00e-04 2 60.0% 61.0% (48.3% to 73.7%) +1.0",
        "Winner: trial 00001, +3.0 points against the seed's setting, seed by seed (95 % interval +3.0 to +3.0). "
        "The difference is established.",
        "Test set (2,000 images, opened after the choice): trial 00001 63.0% (63.0% to 63.0%); "
        "trial 00000 60.0% (60.0% to 60.0%).",
        "Difference on the test set, seed by seed: +3.0 points (95 % interval +3.0 to +3.0).",
    ):
        assert line in lines
    assert "Best setting" not in text and "one run each" not in text and "nan" not in text.lower()
    assert "opened 2 times" not in text and "--resume" not in text


def test_end_says_when_a_difference_is_not_established(tmp_path: Path) -> None:
    text = end(tmp_path, *TWO, verdict=confirmed((0.63, 0.61), (0.60, 0.62), [opening()]))
    assert "+1.0 points against the seed's setting, seed by seed (95 % interval -24.4 to +26.4)." in text
    assert "The difference is not established: these seeds cannot tell the two apart." in text


def test_end_says_when_the_seeds_own_setting_won(tmp_path: Path) -> None:
    text = end(tmp_path, *TWO, verdict=confirmed((0.5, 0.5), (0.6, 0.6), [opening()]))
    assert "Winner: the seed's own setting (trial 00000). Nothing better was found." in text
    assert "Test set (2,000 images, opened after the choice): trial 00000 60.0% (60.0% to 60.0%)." in text
    assert "Difference on the test set" not in text


def test_end_says_what_was_lost(tmp_path: Path) -> None:
    text = end(tmp_path, *TWO, verdict=confirmed((0.5, 0.5), (0.6, 0.6), [opening()], TrialState.FAILED))
    assert "1 of 2 runs failed" in text
    assert "Winner: trial 00001. A gain over the seed's setting is not established: it lost a run." in text


def test_end_tells_a_second_opening_of_the_test_set(tmp_path: Path) -> None:
    text = end(tmp_path, *TWO, verdict=confirmed((0.6, 0.6), (0.5, 0.5), [opening(), opening(3600.0)]))
    assert (
        "The test set has been opened 2 times (1970-01-01T00:00:00+00:00, 1970-01-01T01:00:00+00:00): what was "
        "searched after the first time was searched knowing its answer, so it is no longer untouched."
    ) in text


def test_end_of_a_confirmation_that_was_cut_short_says_how_to_go_on(tmp_path: Path) -> None:
    text = end(tmp_path, *TWO, verdict=confirmed((0.6, 0.6), (0.5, 0.5), lost=TrialState.RUNNING))
    assert "Cut short: 3 of 4 runs have ended, and nothing is decided." in text
    assert "python tune_experiments/search.py --resume /experiments/mine" in text
    assert "Winner" not in text and "Test set" not in text


def test_start_says_what_will_run_on_what_and_where() -> None:
    text = start()
    for words in (
        "Search mine",
        "3, of 8 epochs each, the first with the seed's setting",
        "synthetic: 1,200 training and 40 validation images, 2 classes",
        "width 0.125, batches of 512",
        "max_lr from the LR range test, l1_factor 1e-05 to 10, peak_epoch 1 to 6",
        "searcher optuna, scheduler asha, rungs after epochs 2, each keeping about 1 in 2",
        "confirm   the best 3 and the seed's setting, 5 fresh seeds each; then the test set, once",
        "8 CPUs and 0 GPUs on 1 node(s): 5 trials at a time, each on 1 CPU(s) and 0 GPU(s)",
        "/experiments/mine",
        "http://127.0.0.1:8265",
    ):
        assert words in text


def test_start_says_what_was_chosen() -> None:
    search = replace(PLAN.search, scheduler="none", max_lr_range=(0.01, 0.5), peak_epoch_range=(2, 3), confirm_top=0)
    text = start(replace(PLAN, search=search), replace(CLUSTER, dashboard_url=None))
    assert "max_lr 0.01 to 0.5" in text and "peak_epoch 2 to 3" in text
    assert "scheduler none" in text and "rungs" not in text
    assert "confirm   off: the test set stays closed" in text
    assert text.endswith("dashboard off")


def test_start_says_how_to_get_into_the_dashboard(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    def line() -> str:
        return start().splitlines()[-1].strip()

    for name in ("RAY_AUTH_TOKEN", "RAY_AUTH_TOKEN_PATH"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setattr("sys.executable", str(tmp_path / "python"))
    (tmp_path / "ray").touch(mode=0o755)
    dashboard = "dashboard http://127.0.0.1:8265, which asks for"
    assert line() == f"{dashboard} the token in ~/.ray/auth_token: `{tmp_path}/ray get-auth-token` prints it"
    monkeypatch.setenv("PATH", str(tmp_path))  # as in an activated virtual environment
    assert line() == f"{dashboard} the token in ~/.ray/auth_token: `ray get-auth-token` prints it"
    monkeypatch.setenv("RAY_AUTH_TOKEN_PATH", "/there/token")
    assert f"{dashboard} the token in /there/token: " in line()
    monkeypatch.setenv("RAY_AUTH_TOKEN", "its value")
    assert f"{dashboard} the token in RAY_AUTH_TOKEN: " in line() and "its value" not in line()
    open_to_all = replace(CLUSTER, asks_for_token=False)
    assert start(cluster=open_to_all).splitlines()[-1].strip() == f"{dashboard} no token"


def test_end_shows_the_best_beside_the_seeds_setting(tmp_path: Path) -> None:
    text = end(
        tmp_path,
        ended_trial("00000", TrialState.COMPLETED, 0.5, 0.600, setting=SEED),
        ended_trial("00001", TrialState.COMPLETED, 0.5, 0.625, setting=OTHER),
    )
    assert "Best setting:   max_lr 0.25, l1_factor 1e-07, peak_epoch 3: 62.5% (trial 00001)" in text
    assert "Seed's setting: max_lr 0.0655, l1_factor 0.0005, peak_epoch 2: 60.0%" in text
    assert "Difference: +2.5 points, one run each." in text
    assert "python -m cifar_core --config /experiments/mine/best/config.yaml" in text
    assert "python tune_experiments/search.py --preset cifar10" in text
    assert "nan" not in text.lower() and "--resume" not in text


def test_end_where_nothing_beat_the_seed(tmp_path: Path) -> None:
    text = end(
        tmp_path,
        ended_trial("00000", TrialState.COMPLETED, 0.6, setting=SEED),
        ended_trial("00001", TrialState.COMPLETED, 0.5, setting=OTHER),
    )
    assert "It is the seed's own: nothing better was found." in text
    assert "Difference" not in text


@pytest.mark.parametrize("state", [TrialState.DIVERGED, TrialState.FAILED])
def test_end_where_the_seeds_setting_has_no_score(tmp_path: Path, state: TrialState) -> None:
    text = end(
        tmp_path,
        ended_trial("00000", state, 0.9, setting=SEED),
        ended_trial("00001", TrialState.COMPLETED, 0.5, setting=OTHER),
    )
    assert f"peak_epoch 2: {state.value}" in text
    assert "Difference" not in text


def test_end_where_nothing_completed(tmp_path: Path) -> None:
    text = end(
        tmp_path, ended_trial("00000", TrialState.DIVERGED, setting=SEED), ended_trial("00001", TrialState.FAILED)
    )
    assert "Leaderboard" in text and "diverged" in text and "failed" in text
    assert "Best setting" not in text and "nan" not in text.lower()


def test_end_before_anything_began(tmp_path: Path) -> None:
    text = end(tmp_path, num_samples=3)
    assert "--resume /experiments/mine" in text


@pytest.mark.parametrize("state", [TrialState.RUNNING, TrialState.PENDING])
def test_end_of_an_interrupted_search_says_how_to_go_on(tmp_path: Path, state: TrialState) -> None:
    first = ended_trial("00000", TrialState.COMPLETED, 0.6, setting=SEED)
    text = end(tmp_path, first, ended_trial("00001", state, 0.5, setting=OTHER))
    assert "python tune_experiments/search.py --resume /experiments/mine" in text
    assert "The real thing" not in text


def test_the_terminal_gets_the_best_of_many_trials(tmp_path: Path) -> None:
    trials = [ended_trial(f"{n:05d}", TrialState.COMPLETED, 0.5 + n / 1000, setting=SEED) for n in range(SHOWN + 5)]
    text = end(tmp_path, *trials)
    assert "… and 5 more in leaderboard.csv" in text
    assert f"{SHOWN + 4:05d} " in text and "00004 " not in text


def test_the_real_thing_is_not_told_who_ran_it(tmp_path: Path) -> None:
    plan = replace(PLAN, train=replace(PLAN.train, dataset="cifar10"))
    assert "The real thing" not in end(tmp_path, ended_trial("00000", TrialState.COMPLETED, 0.6), plan=plan)


def test_a_best_setting_at_the_edge_of_the_space_asks_for_more_room(tmp_path: Path) -> None:
    inside = end(tmp_path, ended_trial("00000", TrialState.COMPLETED, 0.5), space=SPACE)
    assert "--extend-space" not in inside
    at_edge = ended_trial("00000", TrialState.COMPLETED, 0.5, setting=Setting(0.99, 0.01, 7))
    text = end(tmp_path, at_edge, space=SPACE)
    assert "lies at the high end of max_lr and the high end of peak_epoch; for more room: --resume" in text
    assert "--extend-space --num-samples N" in text
