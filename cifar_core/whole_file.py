"""Writing a file whole: readers, a crash and a power cut find the old one or the new one, never a part."""

import os
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path

PART = ".part"  # the ending of a file that is being written


def write_whole(path: Path, write: Callable[[Path], object]) -> None:
    """Have `write` make a file beside `path`, and put it in the place of `path` once it is on the disk.

    Raises:
        OSError: it cannot be written; `path` is as it was.
    """
    temporary = path.with_name(path.name + PART)
    write(temporary)
    with temporary.open("rb") as file:
        os.fsync(file.fileno())
    temporary.replace(path)
    sync_folder(path.parent)


def write_text_whole(path: Path, text: str) -> None:
    """Write a text in UTF-8; raises as `write_whole` does."""
    write_whole(path, lambda part: part.write_text(text, encoding="utf-8"))


def sync_folder(folder: Path) -> None:
    """Put on the disk which files a folder has: those made or replaced last are not, until then."""
    with suppress(OSError):  # some network file systems know no such thing
        descriptor = os.open(folder, os.O_RDONLY)
        try:
            os.fsync(descriptor)
        finally:
            os.close(descriptor)
