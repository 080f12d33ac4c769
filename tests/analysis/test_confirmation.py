import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from analysis.confirmation import confirmation_table, describe_confirmation, run_table
from analysis.read_verdict import read_verdict
from analysis.trials import read_experiment
from cifar_core.errors import UserError
from tests.analysis.folders import add_confirmation, make_experiment
from tests.tune_experiments.made_up import REFERENCE, ended_trial
from tune_experiments.ledger import Trial, TrialState
from tune_experiments.search_space import Setting
from tune_experiments.verdict import Finalist, Opening, Verdict, judge

SETTINGS = {"00000": REFERENCE, "00004": Setting(0.1, 0.01, 3), "00007": Setting(0.2, 0.1, 1)}
SEARCH = {"00000": 0.70, "00004": 0.82, "00007": 0.80}


def verdict(runs: dict[str, list[float | None]], openings: list[Opening] | None = None) -> Verdict:
    """Of these validation accuracies of two seeds; None is a run that diverged."""
    finalists = [
        Finalist(
            ended_trial(trial_id, TrialState.COMPLETED, SEARCH[trial_id], setting=SETTINGS[trial_id]),
            trial_id == "00000",
            [run_of(trial_id, seed, value) for seed, value in zip((5, 6), values, strict=True)],
        )
        for trial_id, values in runs.items()
    ]
    return judge(finalists, [5, 6], 4, 1000, openings or [])


def run_of(trial_id: str, seed: int, value: float | None) -> Trial:
    state = TrialState.DIVERGED if value is None else TrialState.COMPLETED
    return ended_trial(f"{trial_id}-seed{seed}", state, *([] if value is None else [value]))


def opening(*accuracies: float, trial_ids: tuple[str, ...] = ("00004", "00000")) -> Opening:
    names = [f"{trial_id}-seed{seed}" for trial_id in trial_ids for seed in (5, 6)]
    return Opening(1.7e9, 500, {name: (1.0, value) for name, value in zip(names, accuracies, strict=True)})


ALIKE: dict[str, list[float | None]] = {"00004": [0.78, 0.79], "00007": [0.75, 0.74], "00000": [0.77, 0.76]}


def test_one_row_per_setting_the_best_mean_first() -> None:
    found = verdict(ALIKE, [opening(0.76, 0.78, 0.75, 0.76)])
    table = confirmation_table(found).set_index("trial_id")
    assert table.index.tolist() == ["00004", "00000", "00007"]
    assert table["mean"].tolist() == pytest.approx([0.785, 0.765, 0.745])
    assert table["shrinkage"].tolist() == pytest.approx([-0.035, 0.065, -0.055])
    assert table["gain"].tolist() == pytest.approx([0.02, np.nan, -0.02], nan_ok=True)
    spread = 12.706 * 0.01  # Student's quantile of one degree of freedom, and the standard error of 1 and 3 points
    assert table.loc["00004", ["gain_low", "gain_high"]].tolist() == pytest.approx(
        [0.02 - spread, 0.02 + spread], abs=1e-5
    )
    assert table["test_accuracy"].tolist() == pytest.approx([0.77, 0.755, np.nan], nan_ok=True)
    assert table["test_gain"].tolist() == pytest.approx([0.015, np.nan, np.nan], nan_ok=True)


def test_one_row_per_run() -> None:
    table = run_table(verdict(ALIKE | {"00007": [0.75, None]}, [opening(0.76, 0.78, 0.75, 0.76)]))
    assert table[["trial_id", "seed"]].to_numpy().tolist()[:3] == [["00004", 5], ["00004", 6], ["00007", 5]]
    assert table["state"].tolist() == [*["completed"] * 3, "diverged", *["completed"] * 2]
    assert table["gain"].tolist() == pytest.approx([0.01, 0.03, -0.02, np.nan, np.nan, np.nan], nan_ok=True)
    assert table["test_accuracy"].tolist() == pytest.approx([0.76, 0.78, np.nan, np.nan, 0.75, 0.76], nan_ok=True)


def test_what_is_not_established_is_said_to_be_so() -> None:
    text = " ".join(describe_confirmation(verdict(ALIKE, [opening(0.76, 0.78, 0.75, 0.76)])))
    assert "3 settings, the search's best and the seed's, were trained in full (4 epochs) with 2 fresh seeds" in text
    assert "The winner, 00004 (max_lr 0.1, l1_factor 0.01, peak_epoch 3), has 78.5 % (72.1 % to 84.9 %)" in text
    assert "difference is +2.0 points (95 % interval -10.7 to +14.7). The interval holds 0" in text
    assert "the difference is not established" in text
    assert "score 4.5 points less on average than in the search" in text
    assert "00004, went from 82.0 % to 78.5 % and is number 1 of 3" in text
    assert "500 images, was opened once, on 2023-11-14: the winner has 77.0 %" in text
    assert "Seed by seed that is +1.5 points" in text


def test_what_is_established_and_every_look_at_the_test_set_are_said() -> None:
    apart = ALIKE | {"00004": [0.870, 0.864]}
    again = opening(0.76, 0.78, 0.75, 0.76)
    text = " ".join(describe_confirmation(verdict(apart, [again, again])))
    assert "+10.2 points (95 % interval +7.7 to +12.7): it is established" in text
    assert "was opened 2 times, on 2023-11-14" in text


def test_the_seeds_setting_as_winner() -> None:
    only = opening(0.75, 0.76, trial_ids=("00000",))
    text = " ".join(describe_confirmation(verdict(ALIKE | {"00004": [0.7, 0.7]}, [only])))
    assert "The winner, 00000" in text and "It is the seed's own setting" in text
    assert "The search's first, 00004, went from 82.0 % to 70.0 % and is number 3 of 3" in text


def test_runs_that_were_lost_and_a_confirmation_under_way() -> None:
    text = " ".join(describe_confirmation(verdict(ALIKE | {"00000": [0.77, None]})))
    assert "This is not finished: 6 of 6 runs have ended." in text
    assert "00000 has no mean: 1 of its 2 runs diverged." in text
    assert "The seed's setting has no mean to compare with, so no difference is established" in text
    assert "The test set has not been opened." in text
    lost = verdict({name: [None, None] for name in ALIKE})
    assert "There is no winner: no setting has all its runs." in " ".join(describe_confirmation(lost))
    assert describe_confirmation(None) == ["Not known: no setting was trained again with fresh seeds."]


def test_a_folder_is_read_with_its_confirmation(tmp_path: Path) -> None:
    make_experiment(tmp_path / "one")
    add_confirmation(tmp_path / "one")
    for location in (str(tmp_path / "one"), (tmp_path / "one").as_uri()):
        found = read_experiment(location).verdict
        assert found and found.finished and found.winner and found.test
        assert found.to_json() == (tmp_path / "one/confirm.json").read_text()
    add_confirmation(tmp_path / "one", top=4, runs_at_most=2)
    found = read_experiment(str(tmp_path / "one")).verdict
    assert found and not found.finished and found.winner is None


def spoiled(change: Callable[[dict[str, Any]], object]) -> str:
    content = json.loads(verdict(ALIKE, [opening(0.76, 0.78, 0.75, 0.76)]).to_json())
    change(content)
    return json.dumps(content)


@pytest.mark.parametrize(
    ("text", "line"),
    [
        ("{", "confirm.json is damaged"),
        ("[]", "confirm.json is damaged"),
        (spoiled(lambda content: content.pop("seeds")), "confirm.json is damaged"),
        (spoiled(lambda content: content.update(format=9)), "written by another version \\(format 9, not 1\\)"),
        (spoiled(lambda content: content["settings"][0].pop("gain")), "confirm.json is damaged"),
        (spoiled(lambda content: content["settings"][0]["val_accuracy"].pop()), "a value for each seed"),
        (spoiled(lambda content: content["settings"][0].update(val_accuracy=["a", "b"])), "confirm.json is damaged"),
        (spoiled(lambda content: content["settings"].pop()), "one of the settings must be the seed's"),
        (spoiled(lambda content: content["test"]["settings"][0].update(loss=3)), "confirm.json is damaged"),
    ],
)
def test_a_damaged_file_is_one_line(text: str, line: str) -> None:
    with pytest.raises(UserError, match=line) as caught:
        read_verdict(text)
    assert "\n" not in str(caught.value)
