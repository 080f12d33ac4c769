"""The picture of a search under way that a terminal shows, redrawn in place. It knows nothing of Ray or trials.

`rich` does the drawing: unlike several bars of tqdm, it redraws all lines at once, follows the terminal's size, and
takes in what others print meanwhile, so that it stands above the picture.
"""

import sys
import time
from collections.abc import Sequence
from dataclasses import dataclass
from typing import TextIO

from rich.console import Console, Group, RenderableType
from rich.control import Control
from rich.live import Live
from rich.progress_bar import ProgressBar
from rich.segment import ControlType
from rich.table import Table
from rich.text import Text

from tune_experiments.time_left import in_words

REDRAWN_PER_SECOND = 2.0  # the clock moves, and the terminal's size may have changed
MOST_ROWS = 8  # a few of many
WIDEST = 100  # columns; beyond, the eye has to travel
GAP = "  "


@dataclass(frozen=True)
class View:
    """What there is to see at one moment.

    Attributes:
        ended: how many of all have ended.
        unit: what they are called.
        counts: short facts, the most important first.
        standing: how it stands, in one line; may be empty.
        rows: of what runs, its cells: the most important first.
        taken_at, seconds_left: when this was so (by `time.monotonic`), and what was left then, if that is known.
    """

    ended: int
    of: int
    unit: str
    counts: Sequence[str]
    standing: str
    rows: Sequence[Sequence[str]]
    started_at: float
    taken_at: float
    seconds_left: float | None


class LiveView:
    """Draws the latest view, from `start` to `close`. The cursor is never hidden: a kill leaves nothing to repair."""

    def __init__(self, view: View, stream: TextIO) -> None:
        self.view = view
        self.console = _Console(file=stream, highlight=False, markup=False, emoji=False)
        self.drawn: list[int] = []  # widths of the lines on the screen
        self.drawn_in = self.console.width
        self.live = Live(
            console=self.console,
            get_renderable=self._draw,
            refresh_per_second=REDRAWN_PER_SECOND,
            vertical_overflow="crop",
            redirect_stdout=sys.stdout.isatty(),  # else it goes to a file, and is to arrive there
        )
        self.live.start()

    def close(self, view: View) -> None:
        """Leave this view as the last."""
        self.view = view
        self.live.stop()

    def _draw(self) -> RenderableType:
        width, height = self.console.size
        self._erase_wrapped_lines(width)
        lines = picture(self.view, time.monotonic(), min(width, WIDEST), height)
        self.drawn = [self.console.measure(line).maximum for line in lines]
        self.drawn_in = width
        return Group(*lines)

    def _erase_wrapped_lines(self, width: int) -> None:
        """Terminals wrap the lines on the screen when they get narrower: more of them than `Live` will erase."""
        if width < self.drawn_in:
            more = sum((line - 1) // width for line in self.drawn if line)
            self.console.control(Control(*[(ControlType.ERASE_IN_LINE, 2), (ControlType.CURSOR_UP, 1)] * more))


def can_redraw(stream: TextIO) -> bool:
    """Whether it is a terminal on which the cursor moves, and nobody has asked rich to take it for something else."""
    console = Console(file=stream)
    return stream.isatty() and console.is_terminal and not console.is_dumb_terminal


class _Console(Console):
    def show_cursor(self, show: bool = True) -> bool:
        return False


def picture(view: View, now: float, width: int, height: int) -> list[RenderableType]:
    """The view's lines, each within `width` columns, and no more than fit in `height`."""
    lines: list[RenderableType] = [_bar_line(view, now, width)]
    if view.counts:
        lines.append(_line(fitting(view.counts, width)))
    if view.standing:
        lines.append(_line(view.standing[:width], "bold"))
    room = min(MOST_ROWS, height - 1 - len(lines))
    if len(view.rows) > room:
        room = max(0, room - 1)
    lines += [_line(row, "dim") for row in aligned(view.rows[:room], width)]
    if len(view.rows) > room > 0:
        lines.append(_line(f"and {len(view.rows) - room} more"[:width], "dim"))
    return lines[: max(1, height - 1)]


def _bar_line(view: View, now: float, width: int) -> RenderableType:
    count = f"{view.ended}/{view.of} {view.unit}s"
    clock = _clock(view, now)
    bar_width = width - len(count) - len(clock) - 2 * len(GAP)
    if bar_width < 8:
        return _line(fitting([count, *clock.split(", ")], width))
    grid = Table.grid(padding=(0, len(GAP), 0, 0), pad_edge=False)
    bar = ProgressBar(max(1, view.of), view.ended, bar_width, complete_style="green", finished_style="green")
    grid.add_row(Text(count), bar, Text(clock))
    return grid


def _clock(view: View, now: float) -> str:
    elapsed = in_words(now - view.started_at)
    if view.seconds_left is None:
        return elapsed
    return f"{elapsed}, about {in_words(max(0.0, view.seconds_left - (now - view.taken_at)))} left"


def _line(text: str, style: str = "") -> Text:
    return Text(text, style, no_wrap=True, overflow="crop")  # rich's ellipsis is no ASCII


def fitting(parts: Sequence[str], width: int, gap: str = ", ") -> str:
    """As many of the parts as there is room for, the first ones first; part of the first where not even that fits."""
    text = parts[0][:width]
    for part in parts[1:]:
        if len(text) + len(gap) + len(part) > width:
            break
        text += gap + part
    return text


def aligned(rows: Sequence[Sequence[str]], width: int) -> list[str]:
    """The cells of each row below each other, as many columns as there is room for."""
    columns = [max(map(len, column)) for column in zip(*rows, strict=True)]
    return [fitting([cell.ljust(size) for cell, size in zip(row, columns, strict=True)], width, GAP) for row in rows]
