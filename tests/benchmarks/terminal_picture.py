"""A picture of the terminal in the middle of a real search, as SVG.

python tests/benchmarks/terminal_picture.py docs/watching/terminal.svg [flags of search.py]
"""

import re
import sys
import tempfile
from pathlib import Path

from rich.console import Console
from rich.text import Text

ROOT = Path(__file__).parents[2]
sys.path.insert(0, str(ROOT))

from tests.end_to_end.tiny_search import search_command  # noqa: E402
from tests.terminal import Terminal  # noqa: E402

COLUMNS, ROWS = 100, 30


def main(picture: Path, *flags: str) -> None:
    """Run a search until a third of its trials have ended and all slots train, and take the view's lines."""
    with tempfile.TemporaryDirectory() as storage:
        terminal = Terminal(search_command(Path(storage), "--name", "pictured", *flags), Path(storage), COLUMNS, ROWS)
        try:
            terminal.read_until(lambda: in_the_middle(terminal.lines), 1800)
            lines = [styled(terminal, row) for row in range(first_row(terminal.lines), ROWS)]
            terminal.press_ctrl_c()
            terminal.wait(120)
        finally:
            terminal.close()
    console = Console(record=True, width=COLUMNS, file=sys.stderr)
    console.print(Text("\n").join(line for line in lines if line.plain.strip()))
    svg = console.export_svg(title="python tune_experiments/search.py")
    picture.parent.mkdir(parents=True, exist_ok=True)
    picture.write_text(re.sub(r"@font-face \{.*?\}", "", svg, flags=re.DOTALL))  # no font from elsewhere


def first_row(lines: list[str]) -> int:
    return next((row for row, line in enumerate(lines) if re.match(r"\d+/\d+ trials", line)), 0)


def in_the_middle(lines: list[str]) -> bool:
    found = re.match(r"(\d+)/(\d+) trials.* left$", lines[first_row(lines)])
    running = [line for line in lines if re.match(r"\d{5}  epoch .*  val ", line)]
    return bool(found) and 3 * int(found[1]) >= int(found[2]) and len(running) > 1


def styled(terminal: Terminal, row: int) -> Text:
    """A line of the screen with its colours."""
    text = Text()
    for column in range(COLUMNS):
        char = terminal.screen.buffer[row][column]
        colour = f"#{char.fg}" if re.fullmatch("[0-9a-f]{6}", char.fg) else char.fg.replace("brown", "yellow")
        text.append(char.data, f"{'bold ' if char.bold else ''}{'' if char.fg == 'default' else colour}")
    return text


if __name__ == "__main__":
    main(Path(sys.argv[1]), *sys.argv[2:])
