"""The experiment folder: its files, its lock, and writing them whole."""

import hashlib
import platform
import re
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Callable, Collection, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import UTC, datetime
from importlib.metadata import version
from pathlib import Path
from typing import Any

import yaml
from filelock import FileLock, Timeout

from cifar_core.errors import UserError
from cifar_core.options import read_yaml, to_mapping
from cifar_core.user_cache import cache_folder
from cifar_core.whole_file import PART, write_text_whole, write_whole
from tune_experiments.checkpoint_store import CheckpointStore
from tune_experiments.config import SECTIONS, Plan
from tune_experiments.credentials import command_without_secrets
from tune_experiments.lease import Lease
from tune_experiments.ledger import CONFIRM_LEDGER, LEDGER, Trial, TrialState
from tune_experiments.publisher import Publisher
from tune_experiments.records import epochs_frame, leaderboard, trials_frame
from tune_experiments.remote_folder import RemoteFolder, is_uri
from tune_experiments.verdict import Verdict

FORMAT = 2
PLAN_FILE = "search.yaml"
RANGE_TEST_FILE = "lr_range_test.json"
CHECKPOINTS = "checkpoints"
PACKAGES = ["torch", "torchvision", "ray", "optuna", "albumentations", "numpy", "pandas"]
LEAST_FREE_BYTES = 256 << 20
CHECKPOINTS_KEPT = 3  # of the best completed trials


@dataclass(frozen=True)
class Experiment:
    """A folder `<storage>/<name>`.

    Attributes:
        path: the folder; where the storage is a URI, a copy of it here that is worked on and kept.
        remote: the folder below the URI.
    """

    path: Path
    remote: RemoteFolder | None = None

    @classmethod
    def at(cls, storage: str, name: str) -> "Experiment":
        """A new experiment, its folder not made yet; raises `UserError` for a name that is taken or no folder name."""
        if not re.fullmatch(r"[A-Za-z0-9][A-Za-z0-9._-]*", name):
            raise UserError(f"name is {name!r}; it must be letters, digits, '.', '_' and '-'")
        experiment = cls._located(storage, name)
        if _there(lambda: _in_use(experiment.path)) or (experiment.remote and experiment.remote.size(PLAN_FILE)):
            raise experiment._taken()
        return experiment

    @classmethod
    def open(cls, storage: str, name_or_path: str) -> "Experiment":
        """An existing folder, by name under `storage` or by path or URI.

        Where there are a copy here and one below a URI, the one whose ledger tells more is gone on with.

        Raises:
            UserError: it is no experiment.
        """
        if is_uri(name_or_path):
            storage, name_or_path = _split_uri(name_or_path)
        experiment = cls._located(storage, name_or_path)
        if not experiment.remote and not _there(experiment.path.is_dir):
            experiment = cls(Path(name_or_path).expanduser().resolve())
        if experiment.remote:
            experiment._fetch(experiment.remote)
        if not _there(experiment.path.is_dir):
            raise UserError(f"{Path(storage).expanduser() / name_or_path}: no such experiment to resume")
        if not experiment.plan_file.exists():
            raise UserError(f"{experiment}: not an experiment folder (no {PLAN_FILE} in it)")
        return experiment

    @classmethod
    def _located(cls, storage: str, name: str) -> "Experiment":
        if not is_uri(storage):
            if set("?%") & set(f"{storage}{name}"):  # SQLite is given the folder in a URL
                raise UserError(f"{storage}/{name}: a folder with '?' or '%' in its path cannot be used")
            return cls(Path(storage).expanduser().resolve() / name)
        remote = RemoteFolder.at(storage)
        key = hashlib.sha256(f"{remote.file_system.type_name} {remote.path}".encode()).hexdigest()[:12]
        return cls(cache_folder() / "experiments" / key / name, remote.child(name))

    def _taken(self) -> UserError:
        name = self.path.name
        return UserError(f"{self}: this name is taken; choose another --name, or go on with --resume {name}")

    def _fetch(self, remote: RemoteFolder) -> None:
        ledgers = LEDGER, CONFIRM_LEDGER  # the second is told only once the first has ended
        here = [self.file(name).stat().st_size if self.file(name).exists() else -1 for name in ledgers]
        if [remote.size(name) or 0 for name in ledgers] > here or not self.plan_file.exists():
            for file in (self.study, self.file(CONFIRM_LEDGER)):
                file.unlink(missing_ok=True)  # of the ledger that is replaced
            for name in (PLAN_FILE, RANGE_TEST_FILE, *ledgers):
                if remote.size(name) is not None:
                    self.path.mkdir(parents=True, exist_ok=True)
                    remote.download(name, self.path / name)

    def __str__(self) -> str:
        """Where a user finds it."""
        return str(self.remote or self.path)

    @property
    def how_to_resume(self) -> str:
        """The flags that go on with this search."""
        return f"--storage … --resume {self.path.name}" if self.remote else f"--resume {self.path}"

    def make(self) -> None:
        """Make the folder; raises `UserError` where it cannot be written or the disk is nearly full."""
        try:
            (self.path / CHECKPOINTS).mkdir(parents=True, exist_ok=True)
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
        return self.path / PLAN_FILE

    @property
    def range_test(self) -> Path:
        """The LR range test's curves and suggestion."""
        return self.path / RANGE_TEST_FILE

    @property
    def study(self) -> Path:
        """Optuna's study."""
        return self.path / "optuna.db"

    @property
    def checkpoints(self) -> CheckpointStore:
        """Where trials keep their state."""
        return CheckpointStore(self.path / CHECKPOINTS, self.remote and self.remote.child(CHECKPOINTS))

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
            "command": command_without_secrets(sys.argv),
            "written": datetime.now(UTC).isoformat(timespec="seconds"),
        }
        text = yaml.safe_dump(content, sort_keys=False, allow_unicode=True)
        write_text_whole(self.plan_file, text)

    def read_sections(self) -> dict[str, Any]:
        """The plan's sections in `search.yaml`; raises `UserError` for another version's file or a broken one."""
        content = read_yaml(self.plan_file)
        if content.get("format") != FORMAT:
            raise UserError(f"{self.path}: written by another version (format {content.get('format')}, not {FORMAT})")
        missing = [name for name in (*SECTIONS, "data_fingerprint") if name not in content]
        if missing:
            raise UserError(f"{self.plan_file}: not whole ({', '.join(missing)} missing)")
        return {name: content[name] for name in SECTIONS}

    def write_tables(self, trials: Sequence[Trial], verdict: Verdict | None = None) -> None:
        """`epochs.parquet`, `trials.parquet` and `leaderboard.csv`."""
        epochs, table = epochs_frame(trials), trials_frame(trials)
        write_whole(self.file("epochs.parquet"), lambda path: epochs.to_parquet(path, index=False))
        write_whole(self.file("trials.parquet"), lambda path: table.to_parquet(path, index=False))
        board = leaderboard(trials, verdict)
        write_whole(self.file("leaderboard.csv"), lambda path: board.to_csv(path, index=False))

    def write_best(self, best: Trial, plan: Plan) -> None:
        """`best/`: the config that repeats the run, and its checkpoint."""
        folder = self.path / "best"
        folder.mkdir(exist_ok=True)
        (folder / "checkpoint.pt").unlink(missing_ok=True)  # it may be another trial's
        with tempfile.TemporaryDirectory() as temporary:
            checkpoint = self.checkpoints.fetch(best.trial_id, Path(temporary) / best.trial_id)
            if checkpoint:
                write_whole(folder / "checkpoint.pt", lambda path: shutil.copyfile(checkpoint, path))
        config = yaml.safe_dump(to_mapping(best.applied_to(plan.train)), sort_keys=False)
        write_text_whole(folder / "config.yaml", config)

    def drop_checkpoints(self, trials: Sequence[Trial], others: Collection[str] = ()) -> None:
        """Delete the checkpoints that neither a resume nor the best trials need, but for `others`, by their ids."""
        needed = {trial.trial_id for trial in trials if not trial.ended} | set(others)
        self.checkpoints.keep_only(needed | {trial.trial_id for trial in best_first(trials)[:CHECKPOINTS_KEPT]})

    @contextmanager
    def published(self) -> Iterator[Publisher | None]:
        """While the block runs, the folder below the URI follows the one here; nothing to do without a URI.

        Raises:
            UserError: another search is at work below the URI, or has begun one of this name since we looked.
        """
        if self.remote is None:
            yield None
            return
        with Lease(self.remote) as lease:
            is_new = not self.plan_file.exists()
            self._fetch(self.remote)  # the last holder may have gone on since `open`
            if is_new and self.plan_file.exists():
                raise self._taken()
            with Publisher(self.path, self.remote, lease) as publisher:
                yield publisher


def _split_uri(uri: str) -> tuple[str, str]:
    """The URI of the folder that something is in, and its name: the query belongs to the storage."""
    path, mark, query = uri.partition("?")
    storage, _, name = path.rstrip("/").rpartition("/")
    return storage + mark + query, name


def _in_use(path: Path) -> bool:
    """Whether a folder holds more than a start that was killed before it wrote its plan."""
    if not path.is_dir():
        return path.exists()
    return any(file.name not in (".lock", CHECKPOINTS) and file.suffix != PART for file in path.iterdir())


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
