"""A folder of images, one folder per class: read once, then from the user's cache."""

import hashlib
import os
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray
from PIL import Image
from tqdm import tqdm

from cifar_core.errors import UserError
from cifar_core.image_data import IMAGE_SHAPE, SIZE, ImageData
from cifar_core.user_cache import cache_folder

SUFFIXES = (".png", ".jpg", ".jpeg", ".bmp", ".webp")


class _Listing(NamedTuple):
    """The image files of one folder, in the order of their labels."""

    folder: Path
    class_names: tuple[str, ...]
    files: list[Path]
    labels: NDArray[np.int64]
    key: str  # changes with the folder, and with any file's name, size or modification time


def load_image_folder(folder: Path) -> ImageData:
    """Read `folder/<class>/*`; classes are numbered in the order of their sorted names.

    Raises:
        UserError: fewer than two classes, an empty class, a file that is no image or is truncated,
            an image that is not 32×32, or a folder that may not be read.
    """
    try:
        listing = _list_images(folder)
    except OSError as error:
        raise UserError(f"{error.filename or folder}: cannot be read ({error.strerror})") from None
    images = _read_cache(listing)
    if images is None:
        images = _decode(listing.files)
        _write_cache(listing, images)
    return ImageData(images, listing.labels, listing.class_names)


def class_folders(folder: Path) -> tuple[str, ...]:
    """Sorted names of the class folders in `folder`."""
    return tuple(sorted(entry.name for entry in folder.iterdir() if entry.is_dir() and entry.name[0] != "."))


def _list_images(folder: Path) -> _Listing:
    names = class_folders(folder)
    if len(names) < 2:
        raise UserError(f"{folder}: found {len(names)} class folders; at least two are needed, one for each class")
    digest = hashlib.sha256(os.fsencode(folder.resolve()))
    files: list[Path] = []
    labels: list[int] = []
    for label, name in enumerate(names):
        entries = list(_image_entries(folder / name))
        if not entries:
            raise UserError(f"{folder / name}: no images; a class needs at least one of *{', *'.join(SUFFIXES)}")
        for entry in entries:
            status = entry.stat()
            digest.update(os.fsencode(f"{name}/{entry.name}") + b"\0")
            digest.update(f"{status.st_size} {status.st_mtime_ns}\0".encode())
        files += [Path(entry.path) for entry in entries]
        labels += [label] * len(entries)
    return _Listing(folder, names, files, np.array(labels, np.int64), digest.hexdigest())


def _image_entries(folder: Path) -> Iterator["os.DirEntry[str]"]:
    with os.scandir(folder) as entries:
        for entry in sorted(entries, key=lambda entry: entry.name):
            if entry.name.lower().endswith(SUFFIXES) and not entry.name.startswith("."):
                yield entry


def _decode(files: list[Path]) -> NDArray[np.uint8]:
    """uint8 (N, 32, 32, 3), in the order of the files. Threads make it slower: the work holds the GIL."""
    images = np.empty((len(files), *IMAGE_SHAPE), np.uint8)
    for index, file in enumerate(tqdm(files, desc="reading images", unit="image", disable=None)):
        images[index] = _decode_one(file)
    return images


def _decode_one(file: Path) -> NDArray[np.uint8]:
    try:
        with Image.open(file) as image:
            size = image.size
            if size == (SIZE, SIZE):
                return np.asarray(image.convert("RGB"))
    except Exception as error:  # Pillow's decoders also raise SyntaxError, ValueError, struct.error and others
        reason = " ".join(str(error).split())
        raise UserError(f"{file}: not a readable image ({reason}); replace or remove it") from None
    raise UserError(f"{file}: the image is {size[0]}x{size[1]}; it must be {SIZE}x{SIZE}")


def _cache_file(listing: _Listing) -> Path:
    """One file for a folder, so that a changed folder replaces its old cache."""
    name = hashlib.sha256(os.fsencode(listing.folder.resolve())).hexdigest()[:16]
    return cache_folder() / f"{name}.npz"


def _read_cache(listing: _Listing) -> NDArray[np.uint8] | None:
    """The images, or None where there is no intact cache of exactly these files."""
    try:
        with np.load(_cache_file(listing), allow_pickle=False) as cache:
            key, images = str(cache["key"]), cache["images"]
    except Exception:  # a damaged archive makes zipfile and numpy raise nearly anything
        return None
    intact = key == listing.key and images.dtype == np.uint8
    return images if intact and images.shape == (len(listing.files), *IMAGE_SHAPE) else None


def _write_cache(listing: _Listing, images: NDArray[np.uint8]) -> None:
    """Best effort: where this fails the images are simply decoded again next time."""
    with suppress(OSError, RuntimeError):  # RuntimeError: the user has no home folder
        target = _cache_file(listing)
        target.parent.mkdir(parents=True, exist_ok=True)
        with TemporaryDirectory(dir=target.parent) as scratch:
            written = Path(scratch) / target.name
            np.savez(written, key=np.array(listing.key), images=images)
            written.replace(target)
