import io
import os
import pty

import pytest
from rich.console import Console

from tune_experiments.live_view import View, aligned, can_redraw, fitting, picture


def view(rows: int = 2, standing: str = "best 50.0% (00000)", seconds_left: float | None = 61.0) -> View:
    facts = ["2 running (2 of 2 slots busy)", "1 completed", "12 stopped"]
    cells = [[f"{number:05d}", f"epoch {number}/24", "val 25.0%", "max_lr 0.0655"] for number in range(rows)]
    return View(13, 40, "trial", facts, standing, cells, started_at=0.0, taken_at=100.0, seconds_left=seconds_left)


def drawn(view: View, width: int = 80, height: int = 24, now: float = 100.0, encoding: str = "utf-8") -> list[str]:
    stream = io.TextIOWrapper(io.BytesIO(), encoding)
    console = Console(file=stream, width=width, height=height, highlight=False)
    for line in picture(view, now, width, height):
        console.print(line)
    stream.seek(0)
    return [line.rstrip() for line in stream.read().splitlines()]


def test_one_line_for_each_thing() -> None:
    first, *others = drawn(view())
    assert first.startswith("13/40 trials  ━━━") and first.endswith("  1 min 40 s, about 1 min 01 s left")
    assert others == [
        "2 running (2 of 2 slots busy), 1 completed, 12 stopped",
        "best 50.0% (00000)",
        "00000  epoch 0/24  val 25.0%  max_lr 0.0655",
        "00001  epoch 1/24  val 25.0%  max_lr 0.0655",
    ]


def test_what_is_not_known_is_left_out() -> None:
    first, second, third, *_ = drawn(view(standing="", seconds_left=None))
    assert first.endswith("  1 min 40 s")
    assert (second[:9], third[:5]) == ("2 running", "00000")


def test_the_clock_goes_on_between_two_looks() -> None:
    assert drawn(view(), now=110.0)[0].endswith("1 min 50 s, about 51 s left")
    assert drawn(view(), now=200.0)[0].endswith("3 min 20 s, about 0 s left")


@pytest.mark.parametrize("width", range(1, 120, 7))
@pytest.mark.parametrize("height", [1, 2, 5, 9, 30])
def test_never_wider_or_higher_than_the_terminal(width: int, height: int) -> None:
    """A line less than the terminal has: what others print needs one."""
    lines = drawn(view(rows=30), width, height)
    assert 1 <= len(lines) <= max(1, height - 1)
    assert max(map(len, lines)) <= width
    assert lines[0].startswith("13/40 trials"[:width])


def test_a_narrow_terminal_shows_what_matters_most() -> None:
    assert drawn(view(), width=31) == [
        "13/40 trials, 1 min 40 s",
        "2 running (2 of 2 slots busy)",
        "best 50.0% (00000)",
        "00000  epoch 0/24  val 25.0%",
        "00001  epoch 1/24  val 25.0%",
    ]


def test_a_few_of_many_rows() -> None:
    assert [line[:10] for line in drawn(view(rows=30), height=7)[3:]] == ["00000  epo", "00001  epo", "and 28 mor"]
    assert drawn(view(rows=30), height=40)[-1] == "and 23 more"
    assert drawn(view(rows=8), height=40)[-1].startswith("00007")


def test_a_terminal_that_knows_ascii_alone() -> None:
    assert drawn(view(), encoding="ascii")[0].startswith("13/40 trials  ---")


def test_where_the_cursor_does_not_move_there_is_no_view(monkeypatch: pytest.MonkeyPatch) -> None:
    master, terminal = pty.openpty()
    with os.fdopen(master, "rb", buffering=0), os.fdopen(terminal, "w") as stream:
        for kind, can in (("xterm", True), ("dumb", False)):
            monkeypatch.setenv("TERM", kind)
            assert can_redraw(stream) == can
    monkeypatch.setenv("FORCE_COLOR", "1")
    assert not can_redraw(io.StringIO())


def test_parts_that_fit() -> None:
    assert [fitting(["one", "two", "three"], width) for width in (2, 3, 7, 8, 15)] == [
        "on", "one", "one", "one, two", "one, two, three",
    ]  # fmt: skip
    assert aligned([["a", "1"], ["bbb", ""]], 80) == ["a    1", "bbb   "]
