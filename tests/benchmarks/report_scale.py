"""How long reading a large experiment and building its report takes, and how large the report is.

    python tests/benchmarks/report_scale.py --trials 10000

Made-up epochs go through the real state machine and ledger, with a range test and a confirmation; the report is built
once from the tables, and the folder read once more from the ledger alone, as after an interruption. Times are wall time
and, in brackets, CPU time of this process, which another load on the machine changes less.
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
from tests.analysis.folders import PLAN, add_confirmation, add_range_test, make_experiment


def main() -> None:
    """Make the folder, measure, print."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--trials", type=int, default=10_000)
    parser.add_argument("--epochs", type=int, default=24)
    parser.add_argument(
        "--scheduler", choices=("stock-asha", "none"), default="none", help="none: every trial runs in full"
    )
    given = parser.parse_args()
    plan = replace(
        PLAN,
        train=replace(PLAN.train, epochs=given.epochs),
        search=replace(PLAN.search, num_samples=given.trials, scheduler=given.scheduler),
    )
    with tempfile.TemporaryDirectory() as temporary:
        folder = Path(temporary) / "large"
        made = timed(lambda: make_experiment(folder, plan))
        add_range_test(folder)
        add_confirmation(folder)
        read = timed(lambda: read_experiment(str(folder)))
        with redirect_stdout(StringIO()):
            whole = timed(lambda: analyse([str(folder), "--no-best-model"]))
        report = (folder / "report.html").stat().st_size
        for name in (TRIALS_FILE, EPOCHS_FILE):
            (folder / name).unlink()
        ledger = timed(lambda: read_experiment(str(folder)))
        size = (folder / "ledger.jsonl").stat().st_size
    print(f"{given.trials:,} trials of at most {given.epochs} epochs, scheduler {given.scheduler}; made in {made}")
    print(f"read the tables {read}; read the ledger alone ({size >> 20} MiB) {ledger}")
    print(f"read, rank, draw and write everything {whole}; report.html {report / 1e6:.1f} MB")
    print(f"peak memory {resource.getrusage(resource.RUSAGE_SELF).ru_maxrss >> 10} MiB")


def timed(work: Callable[[], object]) -> str:
    """Wall time and CPU time."""
    start, cpu_start = time.perf_counter(), time.process_time()
    work()
    return f"{time.perf_counter() - start:.1f} s ({time.process_time() - cpu_start:.1f})"


if __name__ == "__main__":
    main()
