"""Programs that look at the study while the search writes it."""

import json
import socket
import sqlite3
import subprocess
import sys
import threading
import time
import urllib.request
from contextlib import closing, suppress
from pathlib import Path
from typing import Any

import pytest

from tests.tune_experiments.made_up import REFERENCE, SPACE, ended_trial
from tune_experiments.ledger import TrialState
from tune_experiments.searcher import StudyFile

MANY = 15
STATES = {TrialState.COMPLETED: "Complete", TrialState.STOPPED: "Pruned", TrialState.FAILED: "Fail"}


def trial(number: int) -> Any:
    return ended_trial(f"{number:05d}", list(STATES)[number % 3], 0.1 + number / 100, 0.5, setting=REFERENCE)


def ask(port: int, path: str) -> Any:
    with urllib.request.urlopen(f"http://127.0.0.1:{port}{path}", timeout=20) as answer:
        return json.load(answer)


def test_trials_are_added_while_optuna_dashboard_is_asked_without_a_pause(tmp_path: Path) -> None:
    pytest.importorskip("optuna_dashboard")
    path = tmp_path / "optuna.db"
    study = StudyFile(path, SPACE)
    study.add(trial(0))
    with socket.create_server(("127.0.0.1", 0)) as free:
        port = free.getsockname()[1]
    command = [Path(sys.executable).parent / "optuna-dashboard", f"sqlite:///{path}", "--port", str(port)]
    dashboard = subprocess.Popen(command, stderr=subprocess.DEVNULL)
    seen, answered, done = [], threading.Event(), threading.Event()

    def look() -> None:
        while not done.is_set():
            with suppress(OSError):
                seen.append(len(ask(port, "/api/studies/1?after=0")["trials"]))
                answered.set()

    looking = threading.Thread(target=look)
    looking.start()
    try:
        assert answered.wait(60)
        deadline = time.monotonic() + 120
        for number in range(1, MANY):
            study.add(trial(number))
        while len(shown := ask(port, "/api/studies/1?after=0")["trials"]) < MANY:  # it looks every few seconds
            assert time.monotonic() < deadline
            time.sleep(0.5)
    finally:
        done.set()
        looking.join()
        dashboard.terminate()
        dashboard.wait(30)
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
