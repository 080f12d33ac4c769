"""One search at a time below a URI, where no lock reaches from one machine to another."""

import json
import os
import platform
import secrets
import time
from contextlib import suppress
from pathlib import Path
from types import TracebackType

from cifar_core.errors import UserError
from tune_experiments.remote_folder import RemoteFolder

LEASES = "leases"
LOOK_EVERY = 1.0  # seconds between two looks whether it is still held
RENEW_EVERY = 10.0  # seconds
STALE_AFTER = 120.0  # seconds without a renewal; a search that cannot reach its storage has given up by then


class LeaseLostError(OSError):
    """Another search has taken over."""


class Lease:
    """The right to write into a remote folder while the block runs: a small file there, of this search's own.

    Object stores cannot make a file only where there is none. So each search writes a file of its own and then looks
    for those of others: of two that begin at once, at least one sees the other and gives way. Ages are differences
    of the store's own times; the machines' clocks do not matter. The file of a process of this machine that has ended
    counts for nothing, and that of another machine becomes stale.

    What it cannot guarantee: a search that was suspended, cut off or busy with one upload for longer than `STALE_AFTER`
    may have been taken over. It notices before it uploads anything more, but looks only every `LOOK_EVERY` seconds:
    what it has begun to upload by then can replace a newer file, until the new holder's next version of that file. Its
    trials may write a checkpoint more; that is of the same run and does no harm. And a store that lists a file later
    than it was written lets two searches begin at once.
    """

    def __init__(self, remote: RemoteFolder) -> None:
        self.remote = remote
        self.folder = remote.child(LEASES)
        self.name = f"{secrets.token_hex(8)}.json"
        self.renewed_at = self.looked_at = 0.0  # Unix time, which goes on while a machine sleeps

    def __enter__(self) -> "Lease":
        """Take it; raises `UserError` where another search holds it, or the storage cannot be written."""
        try:
            self._take()
        except OSError as error:
            raise UserError(f"{self.remote}: cannot be written ({' '.join(str(error).split())})") from None
        return self

    def _take(self) -> None:
        self._write()
        files = self.folder.modified()
        others = {name: files[self.name] - at for name, at in files.items() if name != self.name}
        for name, age in others.items():
            if age < STALE_AFTER and (holder := self._holder(name)):
                self._release()
                wait = f"wait for its end, or, if it was killed, for {STALE_AFTER - age:.0f} seconds"
                raise UserError(f"{self.remote}: {holder} is at work on this experiment; {wait}")
        for name in others:
            self.folder.delete(name)

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, at: TracebackType | None) -> None:
        if not isinstance(error, OSError):  # the store cannot be reached: it would only be tried for long
            self._release()

    def renew(self) -> None:
        """Say that this search still goes on. To be called before each upload.

        Raises:
            LeaseLostError: another search has taken over, as this one was away for too long.
            OSError: the storage cannot be reached.
        """
        now = time.time()
        if abs(now - self.looked_at) >= LOOK_EVERY:
            if self.folder.size(self.name) is None:
                raise LeaseLostError("another search has taken this one over, or its folder was emptied")
            self.looked_at = now
        if abs(now - self.renewed_at) >= RENEW_EVERY:
            self._write()

    def _write(self) -> None:
        holder = {"host": platform.node(), "machine": _machine(), "pid": os.getpid()}
        self.folder.write(self.name, json.dumps(holder).encode())
        self.renewed_at = time.time()

    def _release(self) -> None:
        with suppress(OSError):  # the lease becomes stale
            self.folder.delete(self.name)

    def _holder(self, name: str) -> str | None:
        """Who holds another lease; None where it was released, or its process was one of this machine and has ended."""
        content = self.folder.read(name)
        if content is None:
            return None
        try:
            holder = json.loads(content)
            ended = holder["machine"] == _machine() and not _is_running(holder["pid"])
            return None if ended else f"a search on {holder['host']} (process {holder['pid']})"
        except (ValueError, KeyError, TypeError):
            return "a search of another version"


def _is_running(process: int) -> bool:
    try:
        os.kill(process, 0)
    except ProcessLookupError:
        return False
    except PermissionError:  # another user's
        return True
    return True


def _machine() -> str:
    """What tells machines apart, and containers of one machine, whose process ids are not each other's."""
    parts = [platform.node()]
    with suppress(OSError):  # there is no /proc outside Linux
        parts.append(Path("/proc/sys/kernel/random/boot_id").read_text().strip())
        parts.append(str(Path("/proc/self/ns/pid").readlink()))
    return " ".join(parts)
