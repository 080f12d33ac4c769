import os
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from cifar_core import image_folder
from cifar_core.errors import UserError
from cifar_core.image_folder import class_folders, load_image_folder

RNG = np.random.default_rng(0)


@pytest.fixture(autouse=True)
def cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    return tmp_path / "cache" / "cifar-search"


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """Two classes of two lossless images."""
    for name in ("zebra", "ant"):
        for file in ("1.png", "0.png"):
            save(tmp_path / "images" / name / file)
    return tmp_path / "images"


def save(path: Path, size: tuple[int, int] = (32, 32)) -> np.ndarray:
    path.parent.mkdir(parents=True, exist_ok=True)
    pixels = RNG.integers(0, 256, (size[1], size[0], 3), dtype=np.uint8)
    Image.fromarray(pixels).save(path)
    return pixels


def refuse_to_decode(monkeypatch: pytest.MonkeyPatch) -> None:
    def decode(files: list[Path]) -> np.ndarray:
        raise AssertionError("decoded although it was cached")

    monkeypatch.setattr(image_folder, "_decode", decode)


def test_reads_pixels_labels_and_names_in_sorted_order(folder: Path) -> None:
    pixels = save(folder / "ant" / "0.png")
    data = load_image_folder(folder)
    assert data.class_names == ("ant", "zebra") == class_folders(folder)
    np.testing.assert_array_equal(data.labels, [0, 0, 1, 1])
    np.testing.assert_array_equal(data.images[0], pixels)


@pytest.mark.parametrize("suffix", [".png", ".jpg", ".jpeg", ".bmp", ".webp", ".JPG"])
def test_reads_every_format(folder: Path, suffix: str) -> None:
    save(folder / "ant" / f"2{suffix}")
    assert len(load_image_folder(folder)) == 5


@pytest.mark.parametrize("mode", ["L", "P", "RGBA", "1", "CMYK"])
def test_every_colour_mode_becomes_rgb(folder: Path, mode: str) -> None:
    path = folder / "ant" / ("0.jpg" if mode == "CMYK" else "0.png")
    Image.new(mode, (32, 32)).save(path)
    assert load_image_folder(folder).images.shape[1:] == (32, 32, 3)


def test_leaves_out_hidden_and_other_files(folder: Path) -> None:
    (folder / ".cache").mkdir()
    (folder / "README.txt").write_text("not a class")
    (folder / "ant" / "Thumbs.db").write_text("not an image")
    (folder / "ant" / "._0.png").write_text("not an image")
    data = load_image_folder(folder)
    assert (len(data), data.class_names) == (4, ("ant", "zebra"))


def test_second_reading_comes_from_the_cache(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    first = load_image_folder(folder)
    refuse_to_decode(monkeypatch)
    assert load_image_folder(folder).fingerprint == first.fingerprint


def test_one_cache_file_a_folder_without_leftovers(folder: Path, cache: Path) -> None:
    load_image_folder(folder)
    save(folder / "ant" / "2.png")
    load_image_folder(folder)
    assert [file.suffix for file in cache.iterdir()] == [".npz"]


def test_any_change_of_a_file_is_seen(folder: Path) -> None:
    before = load_image_folder(folder)
    changed = folder / "ant" / "0.png"
    save(changed)
    os.utime(changed, ns=(0, 12345))
    after_edit = load_image_folder(folder)
    changed.rename(folder / "ant" / "9.png")
    after_renaming = load_image_folder(folder)
    assert len({data.fingerprint for data in (before, after_edit, after_renaming)}) == 3


def truncate(file: Path) -> None:
    file.write_bytes(file.read_bytes()[:-1000])


def flip_a_byte(file: Path) -> None:
    content = bytearray(file.read_bytes())
    content[len(content) // 2] ^= 255
    file.write_bytes(content)


def make_a_pickle(file: Path) -> None:
    with file.open("wb") as stream:
        np.savez(stream, key=np.array([object()]), images=np.array([object()]))


def make_empty(file: Path) -> None:
    file.write_bytes(b"")


@pytest.mark.parametrize("damage", [truncate, flip_a_byte, make_a_pickle, make_empty])
def test_a_damaged_cache_is_rebuilt(folder: Path, cache: Path, damage: object, monkeypatch: pytest.MonkeyPatch) -> None:
    first = load_image_folder(folder)
    (file,) = cache.iterdir()
    damage(file)  # type: ignore[operator]
    assert load_image_folder(folder).fingerprint == first.fingerprint
    refuse_to_decode(monkeypatch)
    assert load_image_folder(folder).fingerprint == first.fingerprint


def test_a_cache_that_cannot_be_written_is_skipped(
    folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "file").write_text("not a folder")
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "file"))
    assert len(load_image_folder(folder)) == 4


def test_any_damaged_byte_of_the_cache_is_survived(folder: Path, cache: Path) -> None:
    first = load_image_folder(folder)
    (file,) = cache.iterdir()
    intact = file.read_bytes()
    for position in [*range(0, 200, 4), *range(len(intact) - 300, len(intact), 4)]:  # the headers and the directory
        file.write_bytes(intact[:position] + bytes([intact[position] ^ 255]) + intact[position + 1 :])
        assert load_image_folder(folder).fingerprint == first.fingerprint


def test_works_without_a_home_folder(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def home() -> Path:
        raise RuntimeError("Could not determine home directory.")

    monkeypatch.delenv("XDG_CACHE_HOME")
    monkeypatch.setattr(Path, "home", home)
    assert len(load_image_folder(folder)) == 4


def test_one_line_for_a_dangling_link(folder: Path) -> None:
    (folder / "ant" / "link.png").symlink_to(folder / "nowhere.png")
    with pytest.raises(UserError, match=r"link\.png: cannot be read \(No such file or directory\)"):
        load_image_folder(folder)


def test_one_line_for_too_few_classes(tmp_path: Path) -> None:
    save(tmp_path / "images" / "only" / "0.png")
    with pytest.raises(UserError, match="found 1 class folders; at least two"):
        load_image_folder(tmp_path / "images")


def test_one_line_for_an_empty_class(folder: Path) -> None:
    (folder / "bee").mkdir()
    with pytest.raises(UserError, match=r"bee: no images; .*\*\.png"):
        load_image_folder(folder)


def test_one_line_for_another_size(folder: Path) -> None:
    save(folder / "zebra" / "big.png", size=(48, 32))
    with pytest.raises(UserError, match=r"big\.png: the image is 48x32; it must be 32x32"):
        load_image_folder(folder)


@pytest.mark.parametrize("suffix", [".png", ".jpg", ".webp"])
@pytest.mark.parametrize("kept", [0, 20, 0.6])
def test_one_line_for_a_truncated_image(folder: Path, suffix: str, kept: float) -> None:
    file = folder / "zebra" / f"broken{suffix}"
    save(file)
    content = file.read_bytes()
    file.write_bytes(content[: int(kept * len(content)) if kept < 1 else int(kept)])
    with pytest.raises(UserError, match=rf"broken{suffix}: not a readable image") as caught:
        load_image_folder(folder)
    assert "\n" not in str(caught.value)
