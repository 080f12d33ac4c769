"""Users, passwords and keys in URIs: kept out of files and messages."""

import os
import re
from collections.abc import Sequence
from itertools import pairwise
from urllib.parse import parse_qs, unquote, urlsplit

NAMES = r"(?:password|passwd|pwd|secret|token|key|signature|\bsig\b)"  # of what must not be told
USER = r"(?<=://)[^\s/]*@"
PASSWORD = r"(?<=://)[^\s/:@]*:(?!\d+(?:[/?\s]|$))\S*@"  # with slashes in it, as AWS makes them; no port


def without_secrets(text: str) -> str:
    """A text without the user and password of its URIs, and without what it calls a password, secret, token or key."""
    text = re.sub(PASSWORD, "***@", re.sub(USER, "***@", text))
    return re.sub(rf"(?i)({NAMES}\w*=)[^&\s]+", r"\1***", text)


def holds_secret(uri: str) -> bool:
    """Whether a URI has a password, or an option that is called like a secret. A user alone is none."""
    options = parse_qs(uri.partition("?")[2])
    return bool(re.search(PASSWORD, uri)) or any(re.search(NAMES, name, re.IGNORECASE) for name in options)


def command_without_secrets(arguments: Sequence[str]) -> list[str]:
    """A command; where the value of its --mlflow holds anything secret, nothing of that value is left."""
    kept = []
    for before, argument in pairwise(["", *arguments]):
        flag = "--mlflow=" if argument.startswith("--mlflow=") else ""
        shown = without_secrets(argument)
        kept.append(f"{flag}***" if shown != argument and (flag or before == "--mlflow") else shown)
    return kept


def credentials_to_environment(uri: str) -> str:
    """The URI of an MLflow server without user and password, which go where MLflow looks for them."""
    parts = urlsplit(uri)
    if parts.scheme not in ("http", "https") or parts.username is None:
        return uri
    os.environ["MLFLOW_TRACKING_USERNAME"] = unquote(parts.username)
    os.environ["MLFLOW_TRACKING_PASSWORD"] = unquote(parts.password or "")
    return parts._replace(netloc=parts.netloc.rpartition("@")[2]).geturl()


def first_line(error: Exception) -> str:
    """What went wrong, with nothing secret in it."""
    return without_secrets(next(iter(str(error).strip().splitlines()), type(error).__name__))
