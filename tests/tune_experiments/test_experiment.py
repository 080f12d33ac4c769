import re
import shutil
import subprocess
import sys
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace

import pandas as pd
import pytest
import yaml

from cifar_core.config import RangeTestConfig, TrainConfig
from cifar_core.errors import UserError
from cifar_core.options import from_mapping
from tests.tune_experiments.made_up import ended_trial
from tune_experiments.config import Plan, SearchConfig
from tune_experiments.experiment import PACKAGES, Experiment, best_first, default_name, git_revision
from tune_experiments.ledger import Trial, TrialState
from tune_experiments.records import epochs_frame, leaderboard, trials_frame
from tune_experiments.search_space import Setting

PLAN = Plan(TrainConfig(epochs=8, width=0.5, seed=4), SearchConfig(num_samples=9), RangeTestConfig())
COMPLETED = [
    ended_trial(f"{number:05d}", TrialState.COMPLETED, accuracy)
    for number, accuracy in enumerate([0.3, 0.7, 0.5, 0.7, 0.1])
]


@pytest.fixture
def experiment(tmp_path: Path) -> Experiment:
    experiment = Experiment.at(str(tmp_path / "storage"), "mine")
    experiment.make()
    return experiment


def touch_checkpoints(experiment: Experiment, trials: list[Trial]) -> None:
    for trial in trials:
        (experiment.file("checkpoints") / f"{trial.trial_id}.pt").write_text(trial.trial_id)


def kept(experiment: Experiment) -> list[str]:
    return sorted(file.stem for file in experiment.file("checkpoints").iterdir())


@pytest.mark.parametrize("name", ["a", "quick-20260101-120000", "Exp_1.2", "9", "a" * 200])
def test_folder_is_made_only_when_asked(tmp_path: Path, name: str) -> None:
    experiment = Experiment.at(str(tmp_path / "deep/storage"), name)
    assert list(tmp_path.iterdir()) == []
    experiment.make()
    assert experiment.path == tmp_path / "deep" / "storage" / name
    assert experiment.path.is_dir()


@pytest.mark.parametrize("name", ["", ".", "..", "a/b", "/a", "a b", "-a", "_a", "é", "a\nb", "a\n"])
def test_one_line_for_what_is_no_folder_name(tmp_path: Path, name: str) -> None:
    with pytest.raises(UserError, match=r"^name is .*; it must be .*letters, digits"):
        Experiment.at(str(tmp_path), name)


def test_one_line_for_a_name_that_is_taken(experiment: Experiment) -> None:
    experiment.plan_file.write_text("")
    with pytest.raises(UserError, match="mine: this name is taken; choose another --name, or go on with --resume mine"):
        Experiment.at(str(experiment.path.parent), "mine")


def test_a_start_that_was_killed_before_its_plan_takes_no_name(experiment: Experiment) -> None:
    experiment.file("search.yaml.part").write_text("train:")
    assert Experiment.at(str(experiment.path.parent), "mine") == experiment


def test_one_line_for_a_name_that_is_too_long(tmp_path: Path) -> None:
    for way in (Experiment.at, Experiment.open):
        with pytest.raises(UserError, match=r"a{300}: cannot be used \(File name too long\)"):
            way(str(tmp_path), "a" * 300)


def test_opens_by_name_and_by_path(experiment: Experiment, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    experiment.write_plan(PLAN, "abc")
    monkeypatch.chdir(tmp_path)
    for storage, name in (("storage", "mine"), ("elsewhere", "storage/mine"), ("elsewhere", str(experiment.path))):
        assert Experiment.open(storage, name) == experiment


def test_one_line_for_nothing_to_resume(tmp_path: Path) -> None:
    with pytest.raises(UserError, match="mine: no such experiment to resume"):
        Experiment.open(str(tmp_path), "mine")


def test_one_line_for_a_foreign_folder(experiment: Experiment) -> None:
    with pytest.raises(UserError, match=r"mine: not an experiment folder \(no search.yaml in it\)"):
        Experiment.open(str(experiment.path.parent), "mine")


def test_one_line_where_no_folder_can_be_made(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(UserError, match=r"file/mine: cannot be created \(Not a directory\)"):
        Experiment.at(str(tmp_path / "file"), "mine").make()


def test_one_line_for_a_full_disk(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(shutil, "disk_usage", lambda path: SimpleNamespace(free=2**20))
    with pytest.raises(UserError, match="mine: only 1 MiB are free; a search wants 256 MiB"):
        Experiment.at(str(tmp_path), "mine").make()


def test_a_second_search_in_the_folder_is_refused_until_the_first_ends(experiment: Experiment) -> None:
    code = f"from tune_experiments.experiment import *; Experiment(Path({str(experiment.path)!r})).lock()"
    with experiment.lock():
        with pytest.raises(UserError, match="mine: another search is running in this folder"):
            experiment.lock()
        other = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True)
        assert "another search is running" in other.stderr
    experiment.lock().release()


def test_plan_is_read_as_it_was_written(experiment: Experiment) -> None:
    experiment.write_plan(PLAN, "abc")
    assert Plan.from_mapping(experiment.read_sections(), {}, "") == PLAN


def test_plan_file_says_what_ran(experiment: Experiment) -> None:
    experiment.write_plan(PLAN, "abc")
    content = yaml.safe_load(experiment.plan_file.read_text())
    assert content["data_fingerprint"] == "abc"
    assert set(content["packages"]) == set(PACKAGES) and re.match(r"\d+\.\d+", content["packages"]["torch"])
    assert content["python"] == ".".join(map(str, sys.version_info[:3]))
    assert {"git_revision", "host", "command", "written"} <= set(content)


def test_a_resume_on_other_data_is_refused(experiment: Experiment) -> None:
    experiment.write_plan(PLAN, "abc")
    before = experiment.plan_file.read_bytes()
    with pytest.raises(UserError, match=r"mine: the data has changed since the search began \(abc, now xyz\)"):
        experiment.write_plan(PLAN, "xyz")
    assert experiment.plan_file.read_bytes() == before
    grown = replace(PLAN, search=SearchConfig(num_samples=20))
    experiment.write_plan(grown, "abc")
    assert Plan.from_mapping(experiment.read_sections(), {}, "") == grown


@pytest.mark.parametrize("written", ["format: 1\n", "train: {}\n", "format: '2'\n"])
def test_one_line_for_another_versions_plan(experiment: Experiment, written: str) -> None:
    experiment.plan_file.write_text(written)
    with pytest.raises(UserError, match=r"mine: written by another version \(format .*, not 2\)"):
        experiment.read_sections()


@pytest.mark.parametrize("written", ["", "format: 1\ntrain: {epochs: [1", "- 1\n"])
def test_one_line_for_a_broken_plan(experiment: Experiment, written: str) -> None:
    experiment.plan_file.write_text(written)
    with pytest.raises(UserError, match=r"search\.yaml: (not valid YAML|expected 'key: value' lines)"):
        experiment.read_sections()


def test_tables_are_those_of_the_trials(experiment: Experiment) -> None:
    trials = [*COMPLETED, ended_trial("00005", TrialState.STOPPED, 0.2)]
    experiment.write_tables(trials)
    pd.testing.assert_frame_equal(pd.read_parquet(experiment.file("trials.parquet")), trials_frame(trials))
    pd.testing.assert_frame_equal(pd.read_parquet(experiment.file("epochs.parquet")), epochs_frame(trials))
    board = pd.read_csv(experiment.file("leaderboard.csv"), dtype={"trial_id": "str", "rank": "Int64"})
    pd.testing.assert_frame_equal(board, leaderboard(trials), check_dtype=False)


def test_tables_of_nothing_can_be_written(experiment: Experiment) -> None:
    experiment.write_tables([])
    assert len(pd.read_parquet(experiment.file("trials.parquet"))) == 0


def test_best_config_is_the_run_of_the_trial(experiment: Experiment) -> None:
    best = ended_trial("00003", TrialState.COMPLETED, 0.9, setting=Setting(0.1 + 0.2, 1 / 3, 4))
    (experiment.file("checkpoints") / "00003.pt").write_bytes(b"weights")
    experiment.write_best(best, PLAN)
    config = from_mapping(TrainConfig, yaml.safe_load((experiment.path / "best/config.yaml").read_text()), "")
    assert config == best.setting.applied_to(PLAN.train)
    assert (config.max_lr, config.width, config.seed) == (0.1 + 0.2, 0.5, 4)
    assert (experiment.path / "best/checkpoint.pt").read_bytes() == b"weights"


def test_best_is_written_without_a_checkpoint_too(experiment: Experiment) -> None:
    experiment.write_best(COMPLETED[1], PLAN)
    assert [file.name for file in (experiment.path / "best").iterdir()] == ["config.yaml"]


def test_best_first_takes_completed_trials_and_of_equal_ones_the_earlier() -> None:
    others = [ended_trial("00005", TrialState.STOPPED, 0.99), ended_trial("00006", TrialState.RUNNING, 0.99)]
    assert [trial.trial_id for trial in best_first([*COMPLETED, *others])] == [
        "00001",
        "00003",
        "00002",
        "00000",
        "00004",
    ]


def test_checkpoints_are_kept_of_the_three_best_and_of_what_goes_on(experiment: Experiment) -> None:
    others = [
        ended_trial("00005", TrialState.STOPPED, 0.99),
        ended_trial("00006", TrialState.DIVERGED, 0.99),
        ended_trial("00007", TrialState.FAILED, 0.99),
        ended_trial("00008", TrialState.RUNNING, 0.01),
        Trial("00009", Setting(0.1, 0.1, 1)),
    ]
    touch_checkpoints(experiment, [*COMPLETED, *others])
    experiment.drop_checkpoints([*COMPLETED, *others])
    assert kept(experiment) == ["00001", "00002", "00003", "00008", "00009"]
    experiment.drop_checkpoints([*COMPLETED, *others])
    assert len(kept(experiment)) == 5


def test_revision_is_that_of_the_checkout_or_unknown() -> None:
    revision = git_revision()
    assert revision is None or re.fullmatch(r"[0-9a-f]{40}(-dirty)?", revision)


@pytest.mark.parametrize(("preset", "start"), [("quick", "quick-"), ("folder/mine.yaml", "mine-")])
def test_default_name_tells_the_preset_and_is_a_folder_name(tmp_path: Path, preset: str, start: str) -> None:
    name = default_name(preset)
    assert re.fullmatch(start + r"\d{8}-\d{6}", name)
    Experiment.at(str(tmp_path), name)


@pytest.fixture
def two_machines(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Callable[[str], None]:
    """Be on one machine or another: each has copies of its own."""
    return lambda name: monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / name))


def test_a_ledger_that_another_machine_wrote_to_since_is_fetched_again(
    two_machines: Callable[[str], None], tmp_path: Path
) -> None:
    far = f"file://{tmp_path}/far"
    two_machines("first")
    first = Experiment.at(far, "mine")
    first.make()
    with first.published():
        first.write_plan(PLAN, "abc")
        first.ledger.write_text("1\n")
    two_machines("second")
    second = Experiment.open(far, "mine")
    assert (second.path != first.path, second.ledger.read_text()) == (True, "1\n")
    with first.published():
        first.ledger.write_text("1\n2\n")
        with pytest.raises(UserError, match=r"far/mine: a search on .* is at work"), second.published():
            pass
    with second.published():
        assert second.ledger.read_text() == "1\n2\n"
    assert (tmp_path / "far/mine/ledger.jsonl").read_text() == "1\n2\n"


def test_a_name_that_another_machine_took_since_is_refused(two_machines: Callable[[str], None], tmp_path: Path) -> None:
    far = f"file://{tmp_path}/far"
    two_machines("first")
    first = Experiment.at(far, "mine")
    two_machines("second")
    second = Experiment.at(far, "mine")
    for experiment in (first, second):
        experiment.make()
    with first.published():
        first.write_plan(PLAN, "abc")
    plan = (tmp_path / "far/mine/search.yaml").read_bytes()
    with pytest.raises(UserError, match="far/mine: this name is taken"), second.published():
        pass
    assert (tmp_path / "far/mine/search.yaml").read_bytes() == plan
