"""The trials' checkpoints: a file each, in a folder or below a URI, written whole by whatever node runs the trial."""

import tempfile
from collections.abc import Collection
from pathlib import Path

from cifar_core import checkpoint
from cifar_core.train import Trainer
from tune_experiments.remote_folder import RemoteFolder

SUFFIX = ".pt"


class CheckpointStore:
    """Checkpoints by trial id. `remote` is None where the experiment's folder is on a disk that all nodes share."""

    def __init__(self, folder: Path, remote: RemoteFolder | None) -> None:
        self.folder = folder
        self.remote = remote

    def save(self, trainer: Trainer, trial_id: str) -> None:
        """Write the run's state in place of what there was; raises `OSError` where that is not possible."""
        if self.remote is None:
            checkpoint.save(trainer, self._file(trial_id))
            return
        with tempfile.TemporaryDirectory() as folder:
            file = Path(folder) / trial_id
            checkpoint.save(trainer, file)
            self.remote.upload(file, trial_id + SUFFIX)

    def restore(self, trainer: Trainer, trial_id: str) -> bool:
        """Put a saved state into a fresh trainer; False where there is none. Raises `UserError` for a broken file."""
        with tempfile.TemporaryDirectory() as folder:
            file = self.fetch(trial_id, Path(folder) / trial_id)
            if file is not None:
                checkpoint.restore(trainer, file)
        return file is not None

    def fetch(self, trial_id: str, copy: Path) -> Path | None:
        """The trial's file: where it is, or `copy` where it has to be downloaded; None where there is none."""
        if self.remote is None:
            return self._file(trial_id) if self._file(trial_id).exists() else None
        return copy if self.remote.download(trial_id + SUFFIX, copy) else None

    def has(self, trial_id: str) -> bool:
        """Whether the trial's file is there."""
        return self._file(trial_id).exists() if self.remote is None else self.remote.size(trial_id + SUFFIX) is not None

    def keep_only(self, trial_ids: Collection[str]) -> None:
        """Delete the checkpoints of all other trials."""
        names = self.remote.names() if self.remote else [file.name for file in self.folder.glob("*" + SUFFIX)]
        for name in names:
            if name.endswith(SUFFIX) and name.removesuffix(SUFFIX) not in trial_ids:
                if self.remote:
                    self.remote.delete(name)
                else:
                    (self.folder / name).unlink(missing_ok=True)

    def _file(self, trial_id: str) -> Path:
        return self.folder / (trial_id + SUFFIX)
