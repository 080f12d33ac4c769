from pathlib import Path

import pytest

from cifar_core.whole_file import sync_folder, write_text_whole, write_whole


def test_a_failed_write_leaves_the_old_file(tmp_path: Path) -> None:
    path = tmp_path / "table"
    write_whole(path, lambda part: part.write_text("old"))

    def half(part: Path) -> None:
        part.write_text("ne")
        raise OSError(28, "No space left on device")

    with pytest.raises(OSError, match="No space left"):
        write_whole(path, half)
    assert path.read_text() == "old"
    write_whole(path, lambda part: part.write_text("new"))
    assert path.read_text() == "new"
    assert [file.name for file in tmp_path.iterdir()] == ["table"]


def test_text_is_in_utf8(tmp_path: Path) -> None:
    write_text_whole(tmp_path / "text", "0.5 × größer\n")
    assert (tmp_path / "text").read_bytes() == "0.5 × größer\n".encode()


def test_a_file_in_no_folder_is_an_error_and_makes_nothing(tmp_path: Path) -> None:
    with pytest.raises(FileNotFoundError):
        write_text_whole(tmp_path / "gone/text", "new")
    assert list(tmp_path.iterdir()) == []


def test_a_folder_that_cannot_be_synced_is_no_error(tmp_path: Path) -> None:
    sync_folder(tmp_path / "gone")
