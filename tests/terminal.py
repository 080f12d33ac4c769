"""A real pseudo-terminal with a process in it, and what a person would see there."""

import fcntl
import os
import pty
import select
import signal
import struct
import subprocess
import termios
import time
from collections.abc import Callable
from pathlib import Path

import pyte


class Terminal:
    """A command in a terminal of this size. `lines` is the screen, and `history` what has scrolled off its top."""

    def __init__(self, command: list[str], cwd: Path, columns: int = 80, rows: int = 24, **environment: str) -> None:
        self.screen = pyte.HistoryScreen(columns, rows, history=1000)
        self.stream = pyte.ByteStream(self.screen)
        self.raw = b""
        self.master, child = pty.openpty()
        self._tell_size(columns, rows)
        self.process = subprocess.Popen(
            command,
            stdin=child,
            stdout=child,
            stderr=child,
            cwd=cwd,
            env={**os.environ, "TERM": "xterm-256color", **environment},
            start_new_session=True,
            preexec_fn=lambda: fcntl.ioctl(0, termios.TIOCSCTTY, 0),  # so that Ctrl-C reaches it
        )
        os.close(child)

    @property
    def lines(self) -> list[str]:
        return [line.rstrip() for line in self.screen.display]

    @property
    def history(self) -> list[str]:
        columns = range(self.screen.columns)
        return ["".join(line[column].data for column in columns).rstrip() for line in self.screen.history.top]

    @property
    def text(self) -> str:
        """Everything that can be scrolled back to, without the empty lines below."""
        return "\n".join([*self.history, *self.lines]).rstrip()

    def read_until(self, condition: Callable[[], bool], timeout: float = 60.0) -> None:
        """Take in what is written until the condition holds; the process may end meanwhile."""
        deadline = time.monotonic() + timeout
        while not condition():
            assert time.monotonic() < deadline, self.text
            if not self._read():
                assert condition(), self.text
                return

    def wait(self, timeout: float = 60.0) -> int:
        """Take in the rest, and return the exit code."""
        deadline = time.monotonic() + timeout
        while self._read():
            assert time.monotonic() < deadline, self.text
        return self.process.wait(timeout)

    def press_ctrl_c(self) -> None:
        os.write(self.master, b"\x03")

    def resize(self, columns: int, rows: int) -> None:
        self._tell_size(columns, rows)
        self.screen.resize(rows, columns)

    def close(self) -> None:
        if self.process.poll() is None:
            os.killpg(self.process.pid, signal.SIGKILL)
            self.process.wait()
        os.close(self.master)

    def _read(self) -> bool:
        """Whether there may be more."""
        if not select.select([self.master], [], [], 0.1)[0]:
            return self.process.poll() is None
        try:
            written = os.read(self.master, 65536)
        except OSError:  # its other end is closed
            return False
        self.raw += written
        self.stream.feed(written)
        return bool(written)

    def _tell_size(self, columns: int, rows: int) -> None:
        fcntl.ioctl(self.master, termios.TIOCSWINSZ, struct.pack("HHHH", rows, columns, 0, 0))
