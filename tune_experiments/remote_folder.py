"""A folder below a URI (s3://, gs://, …), for reading and writing whole files."""

from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

import pyarrow.fs
from pyarrow.fs import FileSelector, FileSystem, FileType

from cifar_core.errors import UserError
from cifar_core.whole_file import PART
from tune_experiments.credentials import holds_secret

OBJECT_STORES = ("s3", "gcs", "abfs")  # pyarrow's names for those that show a file only once it is whole


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
        if holds_secret(uri):
            raise UserError("the storage URI holds a secret; set AWS_ACCESS_KEY_ID and the like, or a profile, instead")
        try:
            file_system, path = FileSystem.from_uri(uri)
            file_system.get_file_info(path)
        except (OSError, ValueError) as error:
            raise UserError(f"{uri.split('?')[0]}: cannot be used as storage ({_one_line(error)})") from None
        if not path:
            raise UserError(f"{uri.split('?')[0]}: cannot be used as storage (it names no bucket)")
        return cls(file_system, path.rstrip("/"))

    def __str__(self) -> str:
        """Its URI, without what the store's options were."""
        return f"{self.file_system.type_name}://{self.path}"

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
        return list(self.modified())

    def modified(self) -> dict[str, float]:
        """The files in the folder, each with the Unix time of its last change by the store's clock."""
        infos = self.file_system.get_file_info(FileSelector(self.path, allow_not_found=True))
        return {info.base_name: info.mtime_ns / 1e9 for info in infos if info.type is FileType.File}

    def upload(self, file: Path, name: str) -> None:
        """Put a file into the folder; raises as `write` does."""
        self.write(name, file.read_bytes())

    def write(self, name: str, content: bytes) -> None:
        """Put a file into the folder, which is made where it is missing; raises `OSError`.

        An object store shows a file when its stream is closed, which even an exception does: so everything is handed
        over in one call. Elsewhere a file that is being written can be seen, and so has another name until it is whole.
        """
        target = f"{self.path}/{name}"
        written = target if self.file_system.type_name in OBJECT_STORES else target + PART
        self.file_system.create_dir(target.rpartition("/")[0], recursive=True)
        with self.file_system.open_output_stream(written) as sink:
            sink.write(content)
        if written != target:
            self.file_system.move(written, target)

    def read(self, name: str) -> bytes | None:
        """What a file holds; None where it is not there."""
        try:
            with self.file_system.open_input_stream(f"{self.path}/{name}") as source:
                return bytes(source.read())
        except FileNotFoundError:
            return None

    def download(self, name: str, file: Path) -> bool:
        """Fetch a file; False where it is not there."""
        if self.size(name) is None:
            return False
        pyarrow.fs.copy_files(
            f"{self.path}/{name}", str(file), source_filesystem=self.file_system, destination_filesystem=_HERE
        )
        return True

    def delete(self, name: str) -> None:
        """Delete a file, which may be gone."""
        with suppress(FileNotFoundError):
            self.file_system.delete_file(f"{self.path}/{name}")


_HERE = pyarrow.fs.LocalFileSystem()


def _one_line(error: Exception) -> str:
    return " ".join(str(error).split())
