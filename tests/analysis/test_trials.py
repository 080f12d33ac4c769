import json
import shutil
from dataclasses import replace
from pathlib import Path

import pandas as pd
import pytest
import yaml
from pandas.testing import assert_frame_equal

from analysis.range_test import RANGE_TEST_FILE
from analysis.trials import EPOCHS_FILE, PLAN_FILE, TRIALS_FILE, Experiment, read_experiment
from cifar_core.errors import UserError
from tests.analysis.folders import PLAN, add_range_test, make_experiment
from tune_experiments.ledger import Ledger
from tune_experiments.records import epochs_frame, trials_frame


@pytest.fixture
def folder(finished: Path, tmp_path: Path) -> Path:
    """A copy that a test may spoil."""
    return Path(shutil.copytree(finished, tmp_path / "copy"))


def test_a_finished_experiment_is_what_its_ledger_tells(experiment: Experiment, finished: Path) -> None:
    trials = list(Ledger(finished / "ledger.jsonl").trials.values())
    assert_frame_equal(experiment.trials, trials_frame(trials))
    assert_frame_equal(experiment.epochs, epochs_frame(trials))
    assert experiment.name == "finished"
    assert (experiment.schedule_epochs, experiment.val_images, experiment.gpus_per_trial) == (9, 1000, 0.5)
    assert experiment.rungs == [2, 4, 8]
    assert experiment.unfinished == 0
    assert experiment.space.max_lr == (1e-3, 1.0)


@pytest.mark.parametrize("name", [TRIALS_FILE, EPOCHS_FILE])
@pytest.mark.parametrize("content", [None, b"", b"PAR1 half of it"])
def test_tables_that_are_missing_or_damaged_are_made_from_the_ledger(
    folder: Path, experiment: Experiment, name: str, content: bytes | None
) -> None:
    (folder / name).unlink()
    if content is not None:
        (folder / name).write_bytes(content)
    assert_frame_equal(read_experiment(str(folder)).epochs, experiment.epochs)


def test_tables_behind_the_ledger_are_not_used(folder: Path, experiment: Experiment) -> None:
    for name in (TRIALS_FILE, EPOCHS_FILE):
        pd.read_parquet(folder / name).head(5).to_parquet(folder / name)
    again = read_experiment(str(folder))
    assert_frame_equal(again.trials, experiment.trials)


def test_tables_alone_are_enough(folder: Path, experiment: Experiment) -> None:
    (folder / "ledger.jsonl").unlink()
    assert_frame_equal(read_experiment(str(folder)).trials, experiment.trials)


def test_a_failure_in_the_tables_is_up_to_date(tmp_path: Path) -> None:
    make_experiment(tmp_path / "one", epochs_at_most=5, failing=("00001",))
    pd.read_parquet(tmp_path / "one" / TRIALS_FILE).assign(reason="table").to_parquet(tmp_path / "one" / TRIALS_FILE)
    assert set(read_experiment(str(tmp_path / "one")).trials["reason"]) == {"table"}  # read from the table


def test_a_running_search_is_read_and_its_ledger_left_alone(tmp_path: Path) -> None:
    folder = tmp_path / "running"
    make_experiment(folder, epochs_at_most=41)
    with (folder / "ledger.jsonl").open("a") as ledger:
        ledger.write('{"event": "epo')  # being written just now
    before = {file: file.read_bytes() for file in folder.rglob("*") if file.is_file()}
    experiment = read_experiment(str(folder))
    assert {file: file.read_bytes() for file in folder.rglob("*") if file.is_file()} == before
    assert len(experiment.epochs) == 42  # whole rounds of two slots
    assert experiment.unfinished > 0
    assert "running" in set(experiment.trials["state"])


def test_a_search_that_has_just_begun_has_no_trials(folder: Path) -> None:
    for name in (TRIALS_FILE, EPOCHS_FILE, "ledger.jsonl"):
        (folder / name).unlink()
    assert read_experiment(str(folder)).trials.empty


def test_the_range_comes_from_the_range_test_unless_it_was_given(tmp_path: Path) -> None:
    make_experiment(tmp_path / "one", replace(PLAN, search=replace(PLAN.search, max_lr_range=None, num_samples=2)))
    add_range_test(tmp_path / "one")
    suggested = json.loads((tmp_path / "one" / RANGE_TEST_FILE).read_text())["suggestion"]["max_lr_range"]
    assert read_experiment(str(tmp_path / "one")).space.max_lr == tuple(suggested)


def test_an_experiment_below_a_uri(finished: Path, experiment: Experiment) -> None:
    there = read_experiment(finished.as_uri())
    assert there.name == "finished"
    assert_frame_equal(there.trials, experiment.trials)


def test_bad_folders_are_refused_in_one_line(folder: Path, tmp_path: Path) -> None:
    def refusal(path: Path) -> str:
        with pytest.raises(UserError) as caught:
            read_experiment(str(path))
        assert "\n" not in str(caught.value)
        return str(caught.value)

    assert "no such folder" in refusal(tmp_path / "nowhere")
    assert "no such folder" in refusal(folder / PLAN_FILE)
    (tmp_path / "empty").mkdir()
    assert "not an experiment folder (no search.yaml in it)" in refusal(tmp_path / "empty")
    plan = yaml.safe_load((folder / PLAN_FILE).read_text())
    for spoiled, line in (
        (plan | {"format": 99}, "another version (format 99, not 2)"),
        (
            {key: value for key, value in plan.items() if key != "search"},
            "not whole (no num_samples in section search)",
        ),
        (plan | {"train": 3}, "not whole (no dataset in section train)"),
        ([1], "expected 'key: value' lines"),
    ):
        (folder / PLAN_FILE).write_text(yaml.safe_dump(spoiled))
        assert line in refusal(folder)
    (folder / PLAN_FILE).write_text(yaml.safe_dump(plan))
    (folder / TRIALS_FILE).unlink()
    (folder / "ledger.jsonl").write_text("not json\n")
    assert f"{folder}: ledger.jsonl: not a ledger of this version" in refusal(folder)
    (folder / "ledger.jsonl").unlink()
    plan["search"]["max_lr_range"] = None
    (folder / PLAN_FILE).write_text(yaml.safe_dump(plan))
    (folder / RANGE_TEST_FILE).write_text("{")
    assert f"{folder}: lr_range_test.json is damaged" in refusal(folder)
    (folder / RANGE_TEST_FILE).unlink()
    (folder / "confirm.json").write_text("{}")
    assert f"{folder}: confirm.json is damaged (KeyError: 'format')" in refusal(folder)
