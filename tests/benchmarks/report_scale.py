"""How long reading a large experiment and building its report takes, and how large the report is.

    python tests/benchmarks/report_scale.py --trials 10000

Made-up epochs go through the real state machine and ledger; the report is built once from the tables, and the folder
read once more from the ledger alone, as after an interruption.
"""

import argparse
import resource
import sys
import tempfile
import time
from collections.abc import Callable
from contextlib import redirect_stdout
from dataclasses import replace
from io import StringIO
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parents[2]))  # the tests' own helpers

from analysis.__main__ import main as analyse
from analysis.trials import EPOCHS_FILE, TRIALS_FILE, read_experiment
from tests.analysis.folders import PLAN, make_experiment


def main() -> None:
    """Make the folder, measure, print."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--trials", type=int, default=10_000)
    parser.add_argument("--epochs", type=int, default=24)
    parser.add_argument("--scheduler", choices=("asha", "none"), default="none", help="none: every trial runs in full")
    given = parser.parse_args()
    plan = replace(
        PLAN,
        train=replace(PLAN.train, epochs=given.epochs),
        search=replace(PLAN.search, num_samples=given.trials, scheduler=given.scheduler),
    )
    with tempfile.TemporaryDirectory() as temporary:
        folder = Path(temporary) / "large"
        made = seconds(lambda: make_experiment(folder, plan))
        read = seconds(lambda: read_experiment(str(folder)))
        with redirect_stdout(StringIO()):
            whole = seconds(lambda: analyse([str(folder), "--no-best-model"]))
        report = (folder / "report.html").stat().st_size
        for name in (TRIALS_FILE, EPOCHS_FILE):
            (folder / name).unlink()
        ledger = seconds(lambda: read_experiment(str(folder)))
        size = (folder / "ledger.jsonl").stat().st_size
    print(
        f"{given.trials:,} trials of at most {given.epochs} epochs, scheduler {given.scheduler}; made in {made:.0f} s"
    )
    print(f"read the tables {read:.1f} s; read the ledger alone ({size >> 20} MiB) {ledger:.1f} s")
    print(f"read, rank, draw and write everything {whole:.1f} s; report.html {report / 1e6:.1f} MB")
    print(f"peak memory {resource.getrusage(resource.RUSAGE_SELF).ru_maxrss >> 10} MiB")


def seconds(work: Callable[[], object]) -> float:
    """Wall time."""
    start = time.perf_counter()
    work()
    return time.perf_counter() - start


if __name__ == "__main__":
    main()
