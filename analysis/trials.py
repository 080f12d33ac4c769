"""An experiment folder as tables, whether its search is finished, running or interrupted."""

import tempfile
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TypeVar

import pandas as pd
import pyarrow as pa
from pyarrow.fs import LocalFileSystem

from analysis.range_test import RANGE_TEST_FILE, RangeTest, read_range_test
from analysis.read_verdict import read_verdict
from cifar_core.errors import UserError
from cifar_core.options import read_yaml
from tune_experiments.early_stopping import judges_by_average, rungs
from tune_experiments.ledger import LEDGER, Ledger, TrialState
from tune_experiments.records import EPOCH_COLUMNS, TRIAL_COLUMNS, epochs_frame, trials_frame
from tune_experiments.remote_folder import RemoteFolder, is_uri
from tune_experiments.search_space import SearchSpace, default_peak_range
from tune_experiments.verdict import CONFIRM_FILE, Verdict

Content = TypeVar("Content")

FORMAT = 2  # of the folder
PLAN_FILE = "search.yaml"
TRIALS_FILE, EPOCHS_FILE = "trials.parquet", "epochs.parquet"
PARAMETERS = ("max_lr", "l1_factor", "peak_epoch")


@dataclass(frozen=True, eq=False)
class Experiment:
    """One search.

    Attributes:
        name: the folder's.
        trials: one row per trial, `records.TRIAL_COLUMNS`, in order of proposal; the first has the seed's setting.
        epochs: one row per trial and finished epoch, `records.EPOCH_COLUMNS`.
        plan: the content of `search.yaml`.
        space: the bounds that were searched.
        range_test: the LR range test that it began with, if there was one.
        verdict: what the runs with fresh seeds say so far, if there are any.
    """

    name: str
    trials: pd.DataFrame
    epochs: pd.DataFrame
    plan: dict[str, Any]
    space: SearchSpace
    range_test: RangeTest | None = None
    verdict: Verdict | None = None

    @property
    def schedule_epochs(self) -> int:
        """Epochs of a whole schedule."""
        return int(self.plan["train"]["epochs"])

    @property
    def val_images(self) -> int:
        """Images that a score is measured on."""
        return int(self.plan["train"]["val_size"])

    @property
    def gpus_per_trial(self) -> float:
        """GPUs that a trial held, 0 on the CPU."""
        return float(self.plan["search"]["gpus_per_trial"] or 0)

    @property
    def rungs(self) -> list[int]:
        """Epochs after which trials were judged; none without early stopping."""
        search = self.plan["search"]
        factor = search["reduction_factor"]
        return rungs(search["scheduler"], search["grace_period"], factor, self.schedule_epochs)

    @property
    def rung_column(self) -> str:
        """The column of `epochs` that the rungs looked at."""
        return "ema_val_accuracy" if judges_by_average(self.plan["search"]["scheduler"]) else "val_accuracy"

    @property
    def completed(self) -> pd.DataFrame:
        """The trials that have a score."""
        return self.trials[self.trials["state"] == TrialState.COMPLETED]

    @property
    def unfinished(self) -> int:
        """How many of the trials asked for have not ended: the search is running, or was interrupted."""
        under_way = self.trials["state"].isin([TrialState.RUNNING, TrialState.PENDING])
        return max(0, int(self.plan["search"]["num_samples"]) - int((~under_way).sum()))


def folder_at(location: str) -> RemoteFolder:
    """The folder of a path or a URI; raises `UserError` where there is none."""
    if is_uri(location):
        return RemoteFolder.at(location)
    path = Path(location).expanduser().resolve()
    if not path.is_dir():
        raise UserError(f"{location}: no such folder; give an experiment's folder, such as experiments/NAME")
    return RemoteFolder(LocalFileSystem(), path.as_posix())


def read_experiment(location: str) -> Experiment:
    """Read an experiment by path or URI. Nothing in the folder is changed, and a search may be writing to it.

    Raises:
        UserError: it is no experiment folder, is of another version, or its files are damaged.
    """
    folder = folder_at(location)
    with tempfile.TemporaryDirectory() as temporary:
        copy = Path(temporary)
        try:
            for name in (PLAN_FILE, RANGE_TEST_FILE, LEDGER, TRIALS_FILE, EPOCHS_FILE, CONFIRM_FILE):
                folder.download(name, copy / name)
            plan = _read_plan(copy / PLAN_FILE)
            trials, epochs = _read_tables(copy)
            range_test = _read_if_there(copy / RANGE_TEST_FILE, read_range_test)
            verdict = _read_if_there(copy / CONFIRM_FILE, read_verdict)
        except UserError as error:
            raise UserError(f"{location}: {str(error).replace(f'{copy}/', '')}") from None
        except OSError as error:
            raise UserError(f"{location}: cannot be read ({' '.join(str(error).split())})") from None
    space = _space(plan, range_test, trials)
    return Experiment(Path(folder.path).name, trials, epochs, plan, space, range_test, verdict)


def _read_plan(file: Path) -> dict[str, Any]:
    if not file.exists():
        raise UserError(f"not an experiment folder (no {PLAN_FILE} in it)")
    plan = read_yaml(file)
    if plan.get("format") != FORMAT:
        raise UserError(f"written by another version (format {plan.get('format')}, not {FORMAT})")
    wanted = {
        "train": ("dataset", "train_size", "val_size", "width", "batch_size", "epochs", "seed"),
        "search": (
            "num_samples", "searcher", "scheduler", "grace_period", "reduction_factor", "cpus_per_trial",
            "gpus_per_trial", "max_lr_range", "l1_factor_range", "peak_epoch_range",
        ),
    }  # fmt: skip
    for section, keys in wanted.items():
        content = plan.get(section)
        missing = [key for key in keys if not isinstance(content, dict) or key not in content]
        if missing:
            raise UserError(f"{PLAN_FILE} is not whole (no {missing[0]} in section {section})")
    return plan


def _read_tables(folder: Path) -> tuple[pd.DataFrame, pd.DataFrame]:
    """The tables, or, where they are missing, damaged or behind the ledger, what the ledger tells."""
    ledger = folder / LEDGER
    tables = _read_parquet(folder)
    if tables is None or (ledger.exists() and _events_in(tables) != ledger.read_bytes().count(b"\n")):
        trials = list(Ledger(ledger).trials.values())
        return trials_frame(trials), epochs_frame(trials)
    return tables


def _read_parquet(folder: Path) -> tuple[pd.DataFrame, pd.DataFrame] | None:
    try:
        trials, epochs = pd.read_parquet(folder / TRIALS_FILE), pd.read_parquet(folder / EPOCHS_FILE)
    except (OSError, pa.ArrowInvalid):
        return None
    known = set(TRIAL_COLUMNS) <= set(trials) and set(EPOCH_COLUMNS) <= set(epochs)
    return (trials, epochs) if known else None


def _events_in(tables: tuple[pd.DataFrame, pd.DataFrame]) -> int:
    """Lines of the ledger that the tables stand for: proposals, epochs, failures and second chances."""
    trials, epochs = tables
    failures = int((trials["state"] == TrialState.FAILED).sum())
    return len(trials) + len(epochs) + failures + int(trials["second_chances"].sum())


def _space(plan: dict[str, Any], range_test: RangeTest | None, trials: pd.DataFrame) -> SearchSpace:
    search = plan["search"]
    peaks = search["peak_epoch_range"] or default_peak_range(plan["train"]["epochs"])
    suggested = range_test.max_lr_range if range_test else (trials["max_lr"].min(), trials["max_lr"].max())
    low, high = search["max_lr_range"] or suggested
    return SearchSpace((float(low), float(high)), tuple(search["l1_factor_range"]), (int(peaks[0]), int(peaks[1])))


def _read_if_there(file: Path, read: Callable[[str], Content]) -> Content | None:
    return read(file.read_text(encoding="utf-8")) if file.exists() else None
