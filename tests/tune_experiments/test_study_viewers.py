"""Programs that look at the study while the search writes it."""

import sqlite3
from contextlib import closing
from pathlib import Path
from typing import Any

import pytest

from tests.tune_experiments.made_up import REFERENCE, SPACE, ended_trial
from tests.viewer import Viewer
from tune_experiments.ledger import TrialState
from tune_experiments.searcher import StudyFile

MANY = 15
STATES = {TrialState.COMPLETED: "Complete", TrialState.STOPPED: "Pruned", TrialState.FAILED: "Fail"}


def trial(number: int) -> Any:
    return ended_trial(f"{number:05d}", list(STATES)[number % 3], 0.1 + number / 100, 0.5, setting=REFERENCE)


def test_trials_are_added_while_optuna_dashboard_is_asked_without_a_pause(tmp_path: Path) -> None:
    pytest.importorskip("optuna_dashboard")
    path = tmp_path / "optuna.db"
    study = StudyFile(path, SPACE)
    study.add(trial(0))
    with closing(Viewer.of_study(path, pause=0.0)) as dashboard:
        dashboard.wait_until(lambda answer: len(answer["trials"]) == 1)
        for number in range(1, MANY):
            study.add(trial(number))
        shown = dashboard.wait_until(lambda answer: len(answer["trials"]) == MANY, 120)["trials"]
    seen = [len(answer["trials"]) for answer in dashboard.answers]
    assert seen == sorted(seen) and len(seen) > 10
    assert [one["state"] for one in shown] == [STATES[trial(number).state] for number in range(MANY)]
    assert [one["intermediate_values"] for one in shown] == [
        [{"step": 1, "value": 0.1 + number / 100}, {"step": 2, "value": 0.5}] for number in range(MANY)
    ]


def test_a_reader_that_does_not_let_go_costs_a_moment_and_no_trial(tmp_path: Path) -> None:
    study = StudyFile(tmp_path / "optuna.db", SPACE)
    study.add(trial(0))
    with closing(sqlite3.connect(tmp_path / "optuna.db", isolation_level=None)) as reader:
        reader.execute("BEGIN")
        assert reader.execute("SELECT count(*) FROM trials").fetchone() == (1,)
        with pytest.raises(OSError, match="database is locked"):
            study.add(trial(1))
        reader.execute("COMMIT")
        study.bring_up_to([trial(0), trial(1), trial(2)])
        assert reader.execute("SELECT count(*) FROM trials").fetchone() == (3,)


def test_a_file_that_is_locked_when_it_is_needed_first_is_opened_the_next_time(tmp_path: Path) -> None:
    StudyFile(tmp_path / "optuna.db", SPACE).add(trial(0))
    study = StudyFile(tmp_path / "optuna.db", SPACE)
    with closing(sqlite3.connect(tmp_path / "optuna.db", isolation_level=None)) as writer:
        writer.execute("BEGIN EXCLUSIVE")
        with pytest.raises(OSError, match="locked by another program"):
            study.add(trial(1))
        with pytest.raises(OSError, match="locked by another program"):
            study.bring_up_to([trial(0), trial(1)])
    study.bring_up_to([trial(0), trial(1)])
    assert list(study.known) == ["00000", "00001"]
