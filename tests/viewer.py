"""A dashboard in a process of its own, which is asked all the time, as by someone who looks at it."""

import json
import socket
import subprocess
import sys
import threading
import time
import urllib.request
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path
from typing import Any

import psutil

OPTUNA_TRIALS = "/api/studies/1?after=0"


class Viewer:
    """A command of this environment on a free port of 127.0.0.1, asked `path` every `pause` seconds."""

    def __init__(self, path: str, *command: str, pause: float = 0.2) -> None:
        with socket.create_server(("127.0.0.1", 0)) as free:
            self.port = free.getsockname()[1]
        self.path = path
        self.pause = pause
        self.process = subprocess.Popen(
            [str(Path(sys.executable).parent / command[0]), *command[1:], "--port", str(self.port)],
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
        )
        self.answers: list[Any] = []
        self.closed = threading.Event()
        self.asking = threading.Thread(target=self._keep_asking)
        self.asking.start()

    @classmethod
    def of_study(cls, study: Path, pause: float = 0.2) -> "Viewer":
        return cls(OPTUNA_TRIALS, "optuna-dashboard", f"sqlite:///{study}", pause=pause)

    def ask(self) -> Any:
        with urllib.request.urlopen(f"http://127.0.0.1:{self.port}{self.path}", timeout=20) as answer:
            return json.load(answer)

    def wait_until(self, condition: Callable[[Any], bool], timeout: float = 60.0) -> Any:
        """Its first answer that is so."""
        deadline = time.monotonic() + timeout
        while True:
            with suppress(OSError):  # it is not up yet
                if condition(answer := self.ask()):
                    return answer
            assert time.monotonic() < deadline, self.answers[-1:]
            time.sleep(0.2)

    def listens_on(self) -> set[str]:
        processes = [psutil.Process(self.process.pid), *psutil.Process(self.process.pid).children(recursive=True)]
        connections = [connection for process in processes for connection in process.net_connections("inet")]
        return {connection.laddr.ip for connection in connections if connection.status == psutil.CONN_LISTEN}

    def close(self) -> None:
        self.closed.set()
        self.asking.join()
        self.process.terminate()
        self.process.wait(30)

    def _keep_asking(self) -> None:
        while not self.closed.wait(self.pause):
            with suppress(OSError):
                self.answers.append(self.ask())
