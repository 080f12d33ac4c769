"""Who gets at a Ray that is started here: where its dashboard listens, and the token that all of it asks for."""

import os
import secrets
import socket
import stat
import sys
import tempfile
from contextlib import suppress
from pathlib import Path

from cifar_core.errors import UserError

LOOPBACK = "127.0.0.1"


def check_dashboard_host(host: str) -> None:
    """Whether the dashboard, through which whoever may use it runs code here, may listen on `host`.

    Raises:
        UserError: it would ask for no token, or `host` is no address of this machine.
    """
    if host == LOOPBACK:
        return
    if not token_is_asked_for():
        raise UserError(
            f"dashboard_host is {host}, but RAY_AUTH_MODE turns Ray's token off: anyone could run code here"
        )
    try:
        socket.create_server((host, 0)).close()
    except OSError as error:
        raise UserError(f"dashboard_host is {host}: not an address of this machine ({error.strerror})") from None


def token_is_asked_for() -> bool:
    """Whether a Ray that is started here asks for its token: it does, where `RAY_AUTH_MODE` does not say otherwise."""
    return os.environ.get("RAY_AUTH_MODE", "token").lower() == "token"


def ensure_token_file() -> None:
    """Make a token where there is none; Ray would make it, too, but in a file that every user can read.

    One that is there stays as it is: it may be a cluster's, whose every node has it. A line says where others than its
    owner can read it.

    Raises:
        UserError: the file cannot be made.
    """
    if "RAY_AUTH_TOKEN" in os.environ or not token_is_asked_for():
        return
    given = os.environ.get("RAY_AUTH_TOKEN_PATH")
    file = Path(given) if given else Path.home() / ".ray" / "auth_token"
    if file.exists():
        if _others_read(file):
            print(f"{file}: other users can read it, and with it run code here; chmod 600 {file}", file=sys.stderr)
    elif not given:
        _make_token(file)


def _others_read(file: Path) -> bool:
    """Whether its group or everyone may, and may enter its folder and the one around that, mostly a home."""
    mode, *folders = (path.stat().st_mode for path in (file, file.parent, file.parent.parent))
    ways = (stat.S_IRGRP, stat.S_IXGRP), (stat.S_IROTH, stat.S_IXOTH)
    return any(mode & read and all(folder & enter for folder in folders) for read, enter in ways)


def _make_token(file: Path) -> None:
    try:
        file.parent.mkdir(mode=0o700, exist_ok=True)
        with tempfile.NamedTemporaryFile("w", dir=file.parent) as written:  # which only its owner can read
            written.write(secrets.token_hex(32))
            written.flush()
            with suppress(FileExistsError):  # another search was quicker
                os.link(written.name, file)
    except OSError as error:
        raise UserError(f"{file}: Ray's token cannot be written ({error.strerror}); RAY_AUTH_TOKEN gives one") from None
