"""Who gets at a Ray that is started here: where its dashboard listens, and the token that all of it asks for."""

import os
import secrets
import socket
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

    One that is there stays as it is: it may be a cluster's, whose every node has it.

    Raises:
        UserError: the file cannot be made.
    """
    given = {"RAY_AUTH_TOKEN", "RAY_AUTH_TOKEN_PATH"} & os.environ.keys()
    file = Path.home() / ".ray" / "auth_token"
    if given or file.exists() or not token_is_asked_for():
        return
    try:
        file.parent.mkdir(mode=0o700, exist_ok=True)
        with tempfile.NamedTemporaryFile("w", dir=file.parent) as written:  # which only its owner can read
            written.write(secrets.token_hex(32))
            written.flush()
            with suppress(FileExistsError):  # another search was quicker
                os.link(written.name, file)
    except OSError as error:
        raise UserError(f"{file}: Ray's token cannot be written ({error.strerror}); RAY_AUTH_TOKEN gives one") from None
