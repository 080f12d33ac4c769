"""Kills at random moments: the short form of tests/benchmarks/fault_injection.py, and what it leaves out."""

import json
import random
import signal
import subprocess
import time
from pathlib import Path

import optuna
import pandas as pd
import pytest

from tests.benchmarks.fault_injection import MUST_BE_ZERO, Cleanup, descendants, kill, main, trial_workers
from tests.end_to_end.tiny_search import TINY, run_search, search_command
from tune_experiments.ledger import Ledger
from tune_experiments.search_space import SearchSpace, Setting
from tune_experiments.searcher import StudyFile

pytestmark = pytest.mark.skipif(not Path("/proc").exists(), reason="looks for processes in /proc")


def test_nothing_is_lost_by_kills_at_random_moments(tmp_path: Path) -> None:
    report = tmp_path / "report.json"
    kills = ["--driver-kills", "2", "--trial-kills", "2", "--ray-kills", "1"]
    assert main([*kills, "--seed", "1", "--output", str(report)]) == 0
    searches = json.loads(report.read_text())
    assert sum(search["driver_kills"] + search["trial_kills"] + search["ray_kills"] for search in searches) == 5
    for search in searches:
        assert search["finished"] and search["delivered"] == search["asked"]
        assert search["asked"] in (8 + 2, 8 + 4)  # trials, and 2 runs each of the best and the seed's setting
        assert [search[name] for name in MUST_BE_ZERO] == [0] * len(MUST_BE_ZERO)
        assert search["slowest_end"] < 30 and search["slowest_cleanup"] < 30


def test_two_trials_at_a_time_are_killed_and_each_is_delivered_once(tmp_path: Path) -> None:
    """A trial's worker first, then the driver. Which trials are stopped may differ here; none is lost or doubled."""
    flags = [*TINY, "--max-concurrent", "2", "--max-failures", "9"]
    ledger = tmp_path / "tiny/ledger.jsonl"
    with (tmp_path / "killed.log").open("w") as output:
        command = search_command(tmp_path, "--name", "tiny", *flags)
        driver = subprocess.Popen(command, stdout=output, stderr=output, cwd=tmp_path)
        for epochs in (2, 5):
            while not ledger.exists() or ledger.read_text().count('"event": "epoch"') < epochs:
                assert driver.poll() is None, (tmp_path / "killed.log").read_text()
                time.sleep(0.05)
            if epochs == 2:
                kill(random.Random(0).choice(trial_workers(driver.pid)), signal.SIGKILL)
        family = descendants(driver.pid)
        kill(driver.pid, signal.SIGKILL)
        driver.wait()
    before = ledger.read_bytes()
    cleanup = Cleanup(family)
    cleanup.join()
    assert cleanup.sessions and not cleanup.left and cleanup.seconds < 30
    resumed = run_search(tmp_path, "--resume", "tiny", "--no-dashboard")
    assert resumed.returncode == 0, resumed.stdout
    assert ledger.read_bytes().startswith(before[: before.rfind(b"\n") + 1])
    trials = Ledger(ledger).trials.values()
    assert len(trials) == 5 and all(trial.ended and trial.state != "failed" for trial in trials)
    for trial in trials:
        assert [metrics.epoch for metrics in trial.epochs] == list(range(1, len(trial.epochs) + 1))
    assert pd.read_parquet(tmp_path / "tiny/trials.parquet")["trial_id"].tolist() == [t.trial_id for t in trials]


def test_a_signal_before_the_first_trial_ends_with_a_line_and_can_be_resumed(tmp_path: Path) -> None:
    for with_signal in (signal.SIGTERM, signal.SIGINT):
        flags = ["--resume", "tiny", "--no-dashboard"] if (tmp_path / "tiny").exists() else ["--name", "tiny", *TINY]
        log = tmp_path / "output.log"
        with log.open("w") as output:
            driver = subprocess.Popen(
                search_command(tmp_path, *flags),
                stdout=output,
                stderr=output,
                cwd=tmp_path,
                preexec_fn=lambda: signal.signal(signal.SIGINT, signal.default_int_handler),
            )
            while "Search tiny" not in log.read_text():  # the range test begins
                assert driver.poll() is None, log.read_text()
                time.sleep(0.05)
            kill(driver.pid, with_signal)
            assert driver.wait(timeout=60) == 130
        text = log.read_text()
        assert f"interrupted; go on with --resume {tmp_path / 'tiny'}" in text and "Traceback" not in text
        assert not (tmp_path / "tiny/ledger.jsonl").exists()


def test_a_study_that_a_crash_left_half_made_is_made_again(tmp_path: Path) -> None:
    space = SearchSpace(max_lr=(0.01, 0.1), l1_factor=(1e-5, 1.0), peak_epoch=(1, 3))
    path, ledger = tmp_path / "optuna.db", Ledger(tmp_path / "ledger.jsonl")
    ledger.propose(Setting(0.02, 1e-3, 2))
    ledger.fail("00000", "worker died")
    StudyFile(path, space).add(ledger.trials["00000"])
    whole = path.read_bytes()
    for content in (b"", whole[: len(whole) // 2], b"\0" * len(whole)):
        path.write_bytes(content)
        StudyFile(path, space).add(ledger.trials["00000"])
        trials = optuna.load_study(study_name="search", storage=f"sqlite:///{path}").trials
        assert [trial.user_attrs["trial_id"] for trial in trials] == ["00000"]
