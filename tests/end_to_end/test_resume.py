"""A search that is killed and resumed ends as one that was not, bit for bit (one trial at a time)."""

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


def test_a_finished_search_grows(tmp_path: Path, finished: tuple[Path, str]) -> None:
    flags = [*TINY, "--max-concurrent", "1"]
    flags[flags.index("--num-samples") + 1] = "3"
    first = run_search(tmp_path, "--name", "tiny", *flags)
    assert first.returncode == 0, first.stdout
    second = run_search(tmp_path, "--resume", "tiny", "--num-samples", "5", "--no-dashboard")
    assert second.returncode == 0, second.stdout
    expected, actual = tables(finished[0])[0], tables(tmp_path / "tiny")[0]
    assert len(actual) == 5
    pd.testing.assert_frame_equal(actual[:3], expected[:3])
