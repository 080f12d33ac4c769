"""A search that is killed and resumed ends as one that was not, bit for bit (one trial at a time)."""

import json
import shutil
import signal
from pathlib import Path

import pandas as pd
import pytest

from tests.end_to_end.tiny_search import TINY, kill_search_when, run_search

CLOCKS = ["seconds", "finished_at", "worker", "started_at", "ended_at"]


def tables(folder: Path) -> tuple[pd.DataFrame, pd.DataFrame]:
    """Trials and epochs, without what a clock decides."""
    return tuple(  # type: ignore[return-value]
        pd.read_parquet(folder / f"{name}.parquet").drop(columns=CLOCKS, errors="ignore")
        for name in ("trials", "epochs")
    )


@pytest.mark.parametrize(("with_signal", "after_epochs"), [(signal.SIGKILL, 6), (signal.SIGTERM, 3)])
def test_resumed_search_equals_an_uninterrupted_one(
    finished: tuple[Path, str], tmp_path: Path, with_signal: signal.Signals, after_epochs: int
) -> None:
    ledger = tmp_path / "tiny/ledger.jsonl"

    def enough_epochs() -> bool:
        return ledger.exists() and ledger.read_text().count('"event": "epoch"') >= after_epochs

    code = kill_search_when(tmp_path, enough_epochs, with_signal, "--name", "tiny", "--max-concurrent", "1", *TINY)
    assert code == (-signal.SIGKILL if with_signal is signal.SIGKILL else 130)
    resumed = run_search(tmp_path, "--resume", "tiny", "--no-dashboard")
    assert resumed.returncode == 0, resumed.stdout
    for expected, actual in zip(tables(finished[0]), tables(tmp_path / "tiny"), strict=True):
        pd.testing.assert_frame_equal(actual, expected, check_exact=True)


def test_a_confirmation_that_is_killed_goes_on_where_it_was(finished: tuple[Path, str], tmp_path: Path) -> None:
    """A finished search whose confirmation begins anew, is killed in the middle, and is resumed."""
    folder = tmp_path / "tiny"
    shutil.copytree(finished[0], folder)
    ledger = folder / "confirm.jsonl"
    for file in (ledger, folder / "confirm.json"):
        file.unlink()
    flags = ["--resume", "tiny", "--no-dashboard"]

    def in_its_second_run() -> bool:
        return ledger.exists() and ledger.read_text().count('"event": "epoch"') >= 6

    assert kill_search_when(tmp_path, in_its_second_run, signal.SIGKILL, *flags) == -signal.SIGKILL
    before = ledger.read_bytes()
    assert json.loads((folder / "confirm.json").read_text())["finished"] is False
    resumed = run_search(tmp_path, *flags)
    assert resumed.returncode == 0, resumed.stdout
    assert ledger.read_bytes().startswith(before[: before.rfind(b"\n") + 1])
    contents = [json.loads((path / "confirm.json").read_text()) for path in (finished[0], folder)]
    for content in contents:
        assert len(content["test"].pop("opened")) == 1
    assert contents[0] == contents[1]
    for name in ("config.yaml", "checkpoint.pt"):
        assert (folder / "best" / name).exists()
    content = ledger.read_bytes()
    again = run_search(tmp_path, *flags)
    assert again.returncode == 0 and ledger.read_bytes() == content, again.stdout


def test_a_search_ends_with_its_time_budget_goes_on_and_grows(tmp_path: Path, finished: tuple[Path, str]) -> None:
    flags = [*TINY, "--max-concurrent", "1", "--time-budget", "1"]
    flags[flags.index("--num-samples") + 1] = "3"
    first = run_search(tmp_path, "--name", "tiny", *flags)
    assert first.returncode == 0, first.stdout
    assert f"Go on where it ended: python tune_experiments/search.py --resume {tmp_path / 'tiny'}" in first.stdout
    for asked in ("3", "5"):
        resume = ["--resume", "tiny", "--no-dashboard", "--num-samples", asked, "--time-budget", "1000"]
        next_one = run_search(tmp_path, *resume)
        assert next_one.returncode == 0, next_one.stdout
        assert len(pd.read_parquet(tmp_path / "tiny/trials.parquet")) == int(asked)
    for expected, actual in zip(tables(finished[0]), tables(tmp_path / "tiny"), strict=True):
        pd.testing.assert_frame_equal(actual, expected, check_exact=True)
