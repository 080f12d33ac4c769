"""A thread that keeps a folder below a URI equal to a folder here."""

import threading
import time
from pathlib import Path
from types import TracebackType

from cifar_core.whole_file import PART
from tune_experiments.lease import Lease, LeaseLostError
from tune_experiments.remote_folder import RemoteFolder

PASS_EVERY = 1.0  # seconds
GIVE_UP_AFTER = 60.0  # seconds without one pass that worked
PRIVATE = (PART, ".lock", "-journal")  # endings of files that are nobody's business elsewhere
AT_THE_END = ("mlflow.db", "wandb")  # until then somebody writes them, and a resume elsewhere needs none of them


class Publisher:
    """While the block runs, uploads whatever changes in `folder`; when it ends, once more."""

    def __init__(self, folder: Path, remote: RemoteFolder, lease: Lease) -> None:
        self.folder = folder
        self.remote = remote
        self.lease = lease
        self.uploaded: dict[str, tuple[int, int]] = {}
        self.worked_at = time.monotonic()
        self.error: OSError | None = None  # that ends the search
        self.ended = threading.Event()
        self.thread = threading.Thread(target=self._keep_publishing, daemon=True)

    def __enter__(self) -> "Publisher":
        self.thread.start()
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, at: TracebackType | None) -> None:
        self.ended.set()
        self.thread.join()
        self.publish()

    def publish(self) -> None:
        """Upload the files that changed since the last pass; raises `OSError`, also where the lease is another's."""
        self.lease.renew()
        for file in sorted(self.folder.rglob("*")):
            if self._is_due(file):
                self._upload_if_changed(file)

    def _is_due(self, file: Path) -> bool:
        too_early = file.relative_to(self.folder).parts[0] in AT_THE_END and not self.ended.is_set()
        return file.is_file() and not file.name.endswith(PRIVATE) and not too_early

    def _upload_if_changed(self, file: Path) -> None:
        name = file.relative_to(self.folder).as_posix()
        try:
            version = file.stat().st_mtime_ns, file.stat().st_size
            if self.uploaded.get(name) == version:
                return
            content = file.read_bytes()
        except FileNotFoundError:  # replaced by its next version just now
            return
        self.lease.renew()
        self.remote.write(name, content)
        self.uploaded[name] = version

    def _keep_publishing(self) -> None:
        while not self.error and not self.ended.wait(PASS_EVERY):
            try:
                self.publish()
                self.worked_at = time.monotonic()
            except LeaseLostError as error:
                self.error = error
            except OSError as error:
                if time.monotonic() - self.worked_at > GIVE_UP_AFTER:
                    self.error = error
