"""The experiment folder: its files, its lock, and writing them whole."""

import platform
import re
import shutil
import subprocess
import sys
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from importlib.metadata import version
from pathlib import Path
from typing import Any

import yaml
from filelock import FileLock, Timeout

from cifar_core.errors import UserError
from cifar_core.options import read_yaml, to_mapping
from tune_experiments.config import SECTIONS, Plan
from tune_experiments.ledger import LEDGER, Trial, TrialState
from tune_experiments.records import epochs_frame, leaderboard, trials_frame

FORMAT = 1
PACKAGES = ["torch", "torchvision", "ray", "optuna", "albumentations", "numpy", "pandas"]
LEAST_FREE_BYTES = 256 << 20
CHECKPOINTS_KEPT = 3  # of the best completed trials


@dataclass(frozen=True)
class Experiment:
    """A folder `<storage>/<name>`."""

    path: Path

    @classmethod
    def at(cls, storage: Path, name: str) -> "Experiment":
        """A new experiment, its folder not made yet; raises `UserError` for a name that is taken or no folder name."""
        if not re.fullmatch(r"[A-Za-z0-9][A-Za-z0-9._-]*", name):
            raise UserError(f"name is {name!r}; it must be letters, digits, '.', '_' and '-'")
        path = storage.expanduser().resolve() / name
        if _there(path.exists):
            raise UserError(f"{path}: this name is taken; choose another --name, or go on with --resume {name}")
        return cls(path)

    @classmethod
    def open(cls, storage: Path, name_or_path: str) -> "Experiment":
        """An existing folder, by name under `storage` or by path; raises `UserError` where it is no experiment."""
        candidates = [storage.expanduser() / name_or_path, Path(name_or_path).expanduser()]
        path = next((path for path in candidates if _there(path.is_dir)), None)
        if path is None:
            raise UserError(f"{candidates[0]}: no such experiment to resume")
        if not (path / "search.yaml").exists():
            raise UserError(f"{path}: not an experiment folder (no search.yaml in it)")
        return cls(path.resolve())

    def make(self) -> None:
        """Make the folder; raises `UserError` where it cannot be written or the disk is nearly full."""
        try:
            self.checkpoints.mkdir(parents=True, exist_ok=True)
        except OSError as error:
            raise UserError(f"{self.path}: cannot be created ({error.strerror})") from None
        free = shutil.disk_usage(self.path).free
        if free < LEAST_FREE_BYTES:
            raise UserError(f"{self.path}: only {free >> 20} MiB are free; a search wants {LEAST_FREE_BYTES >> 20} MiB")

    def file(self, name: str) -> Path:
        """A file of the folder."""
        return self.path / name

    @property
    def ledger(self) -> Path:
        """The append-only file that all tables are views of."""
        return self.path / LEDGER

    @property
    def plan_file(self) -> Path:
        """What was run: the plan, versions, data."""
        return self.path / "search.yaml"

    @property
    def study(self) -> Path:
        """Optuna's study."""
        return self.path / "optuna.db"

    @property
    def checkpoints(self) -> Path:
        """Where trials keep their state."""
        return self.path / "checkpoints"

    def checkpoint(self, trial_id: str) -> Path:
        """The file that holds a trial's state."""
        return self.checkpoints / f"{trial_id}.pt"

    @property
    def tensorboard(self) -> Path:
        """A folder of TensorBoard files for each trial."""
        return self.path / "tensorboard"

    def lock(self) -> FileLock:
        """Held while a search runs here; raises `UserError` where another process holds it."""
        lock = FileLock(self.path / ".lock")
        try:
            lock.acquire(timeout=0)
        except Timeout:
            raise UserError(f"{self.path}: another search is running in this folder") from None
        return lock

    def write_plan(self, plan: Plan, fingerprint: str) -> None:
        """`search.yaml`: enough to run the search again. Raises `UserError` where the data is not what it was."""
        if self.plan_file.exists():
            before = read_yaml(self.plan_file).get("data_fingerprint")
            if before != fingerprint:
                raise UserError(
                    f"{self.path}: the data has changed since the search began ({before}, now {fingerprint})"
                )
        content = {
            "format": FORMAT,
            **plan.to_mapping(),
            "data_fingerprint": fingerprint,
            "packages": {name: version(name) for name in PACKAGES},
            "python": platform.python_version(),
            "git_revision": git_revision(),
            "host": platform.node(),
            "command": sys.argv,
            "written": datetime.now(UTC).isoformat(timespec="seconds"),
        }
        text = yaml.safe_dump(content, sort_keys=False, allow_unicode=True)
        write_whole(self.plan_file, lambda path: path.write_text(text, encoding="utf-8"))

    def read_sections(self) -> dict[str, Any]:
        """The plan's sections in `search.yaml`; raises `UserError` for another version's file or a broken one."""
        content = read_yaml(self.plan_file)
        if content.get("format") != FORMAT:
            raise UserError(f"{self.path}: written by another version (format {content.get('format')}, not {FORMAT})")
        return {name: content.get(name, {}) for name in SECTIONS}

    def write_tables(self, trials: Sequence[Trial]) -> None:
        """`epochs.parquet`, `trials.parquet` and `leaderboard.csv`."""
        epochs, table = epochs_frame(trials), trials_frame(trials)
        write_whole(self.file("epochs.parquet"), lambda path: epochs.to_parquet(path, index=False))
        write_whole(self.file("trials.parquet"), lambda path: table.to_parquet(path, index=False))
        board = leaderboard(trials)
        write_whole(self.file("leaderboard.csv"), lambda path: board.to_csv(path, index=False))

    def write_best(self, best: Trial, plan: Plan) -> None:
        """`best/`: the config that repeats the run, and its checkpoint."""
        folder = self.path / "best"
        folder.mkdir(exist_ok=True)
        config = yaml.safe_dump(to_mapping(best.setting.applied_to(plan.train)), sort_keys=False)
        write_whole(folder / "config.yaml", lambda path: path.write_text(config, encoding="utf-8"))
        checkpoint = self.checkpoint(best.trial_id)
        if checkpoint.exists():
            write_whole(folder / "checkpoint.pt", lambda path: shutil.copyfile(checkpoint, path))

    def drop_checkpoints(self, trials: Sequence[Trial]) -> None:
        """Delete the checkpoints that neither a resume nor the best trials need."""
        needed = {trial.trial_id for trial in trials if not trial.ended}
        needed |= {trial.trial_id for trial in best_first(trials)[:CHECKPOINTS_KEPT]}
        for file in self.checkpoints.glob("*.pt"):
            if file.stem not in needed:
                file.unlink(missing_ok=True)


def _there(question: Callable[[], bool]) -> bool:
    """The answer of `Path.exists` or `is_dir`, which raise for a name that is too long or a folder that is closed."""
    try:
        return question()
    except OSError as error:
        raise UserError(f"{error.filename}: cannot be used ({error.strerror})") from None


def best_first(trials: Sequence[Trial]) -> list[Trial]:
    """The completed trials by score; the earlier one first where two are equal."""
    completed = [trial for trial in trials if trial.state is TrialState.COMPLETED]
    return sorted(completed, key=lambda trial: -(trial.score or 0.0))


def write_whole(path: Path, write: Callable[[Path], object]) -> None:
    """Write a file so that readers, and a crash, see the old one or the new one."""
    temporary = path.with_name(path.name + ".part")
    write(temporary)
    temporary.replace(path)


def git_revision() -> str | None:
    """The revision of the code that runs, with `-dirty` where it was changed; none outside a checkout."""
    command = ["git", "describe", "--always", "--dirty", "--abbrev=40", "--exclude=*"]
    try:
        done = subprocess.run(command, cwd=Path(__file__).parent, capture_output=True, text=True, timeout=10)
    except (OSError, subprocess.TimeoutExpired):
        return None
    return done.stdout.strip() or None


def default_name(preset: str) -> str:
    """A name that tells preset and time apart."""
    return f"{Path(preset).stem}-{datetime.now():%Y%m%d-%H%M%S}"
