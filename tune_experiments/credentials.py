"""Users, passwords and keys in URIs: kept out of files and messages."""

import os
import re
from urllib.parse import unquote, urlsplit


def without_secrets(text: str) -> str:
    """A text without the user and password of its URIs, and without what it calls a password, secret, token or key."""
    text = re.sub(r"(?<=://)[^\s/]*@", "***@", text)
    return re.sub(r"(?i)((?:password|secret|token|key)\w*=)[^&\s]+", r"\1***", text)


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
