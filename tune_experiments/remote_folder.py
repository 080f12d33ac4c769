"""A folder below a URI (s3://, gs://, …), and a thread that keeps it equal to a folder here."""

import threading
import time
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from types import TracebackType
from urllib.parse import parse_qs, urlsplit

import pyarrow.fs
from pyarrow.fs import FileSelector, FileSystem, FileType

from cifar_core.errors import UserError

PASS_EVERY = 1.0  # seconds
GIVE_UP_AFTER = 60.0  # seconds without one pass that worked
SECRETS = ("secret", "token", "password", "sig")  # in the names of a URI's query
PRIVATE = (".part", ".lock", "-journal")  # endings of files that are nobody's business elsewhere


def is_uri(location: str) -> bool:
    """Whether a storage location is a URI and not a folder here."""
    return "://" in location


@dataclass(frozen=True)
class RemoteFolder:
    """A folder of any file system that pyarrow knows. Files appear whole or not at all."""

    file_system: FileSystem
    path: str

    @classmethod
    def at(cls, uri: str) -> "RemoteFolder":
        """The folder of a URI; raises `UserError` where it holds a secret, is of no known kind or cannot be reached.

        Secrets are refused, as the URI is in the shell's history and in the list of processes, and what is made of
        it is in Ray's files. The environment, a profile or the node's role has them for every process.
        """
        if _holds_secret(uri):
            raise UserError("the storage URI holds a secret; set AWS_ACCESS_KEY_ID and the like, or a profile, instead")
        try:
            file_system, path = FileSystem.from_uri(uri)
            file_system.get_file_info(path)
        except (OSError, ValueError) as error:
            raise UserError(f"{uri.split('?')[0]}: cannot be used as storage ({_one_line(error)})") from None
        return cls(file_system, path.rstrip("/"))

    @property
    def parent(self) -> str:
        """The path of the folder that this one is in."""
        return self.path.rpartition("/")[0]

    def child(self, name: str) -> "RemoteFolder":
        """A folder in this one."""
        return RemoteFolder(self.file_system, f"{self.path}/{name}")

    def size(self, name: str) -> int | None:
        """Bytes of a file; None where it is not there."""
        info = self.file_system.get_file_info(f"{self.path}/{name}")
        return int(info.size) if info.type is FileType.File else None

    def names(self) -> list[str]:
        """The files in the folder."""
        infos = self.file_system.get_file_info(FileSelector(self.path, allow_not_found=True))
        return [info.base_name for info in infos if info.type is FileType.File]

    def upload(self, file: Path, name: str) -> None:
        """Put a file into the folder, which is made where it is missing."""
        target = f"{self.path}/{name}"
        self.file_system.create_dir(target.rpartition("/")[0], recursive=True)
        with file.open("rb") as source, self.file_system.open_output_stream(target) as sink:
            while chunk := source.read(1 << 22):
                sink.write(chunk)

    def download(self, name: str, file: Path) -> bool:
        """Fetch a file; False where it is not there."""
        if self.size(name) is None:
            return False
        pyarrow.fs.copy_files(
            f"{self.path}/{name}", str(file), source_filesystem=self.file_system, destination_filesystem=_HERE
        )
        return True

    def delete(self, name: str) -> None:
        """Delete a file."""
        self.file_system.delete_file(f"{self.path}/{name}")


_HERE = pyarrow.fs.LocalFileSystem()


class Publisher:
    """While the block runs, uploads whatever changes in `folder`; when it ends, once more."""

    def __init__(self, folder: Path, remote: RemoteFolder) -> None:
        self.folder = folder
        self.remote = remote
        self.uploaded: dict[str, tuple[int, int]] = {}
        self.worked_at = time.monotonic()
        self.error: OSError | None = None  # that has lasted for `GIVE_UP_AFTER`
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
        """Upload the files that changed since the last pass; raises `OSError`."""
        for file in sorted(self.folder.rglob("*")):
            with suppress(FileNotFoundError):  # replaced by its next version just now
                name, stat = file.relative_to(self.folder).as_posix(), file.stat()
                version = stat.st_mtime_ns, stat.st_size
                if file.is_file() and not name.endswith(PRIVATE) and self.uploaded.get(name) != version:
                    self.remote.upload(file, name)
                    self.uploaded[name] = version

    def _keep_publishing(self) -> None:
        while not self.ended.wait(PASS_EVERY):
            try:
                self.publish()
                self.worked_at = time.monotonic()
            except OSError as error:
                if time.monotonic() - self.worked_at > GIVE_UP_AFTER:
                    self.error = error


def _holds_secret(uri: str) -> bool:
    parts = urlsplit(uri)
    in_query = any(word in key.lower() for key in parse_qs(parts.query) for word in SECRETS)
    return in_query or parts.password is not None


def _one_line(error: Exception) -> str:
    return " ".join(str(error).split())
