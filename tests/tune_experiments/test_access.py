import stat
from pathlib import Path
from typing import Any

import pytest

from cifar_core.errors import UserError
from tune_experiments.access import check_dashboard_host, ensure_token_file


@pytest.fixture
def home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A new home, in an environment that says nothing of tokens."""
    for name in ("RAY_AUTH_MODE", "RAY_AUTH_TOKEN", "RAY_AUTH_TOKEN_PATH"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("HOME", str(tmp_path))
    return tmp_path


def test_a_new_token_is_its_owners_only(home: Path) -> None:
    ensure_token_file()
    token = home / ".ray/auth_token"
    assert stat.S_IMODE(token.stat().st_mode) == 0o600
    assert len(token.read_text()) == 64 and list(token.parent.iterdir()) == [token]


def test_a_token_that_is_there_stays(home: Path) -> None:
    (home / ".ray").mkdir()
    (home / ".ray/auth_token").write_text("a cluster's")
    ensure_token_file()
    assert (home / ".ray/auth_token").read_text() == "a cluster's"


@pytest.mark.parametrize("variable", [None, "RAY_AUTH_TOKEN_PATH"])
@pytest.mark.parametrize(
    ("file", "folder", "told"),
    [(0o600, 0o755, False), (0o644, 0o700, False), (0o644, 0o755, True), (0o640, 0o750, True), (0o640, 0o701, False)],
)
def test_a_line_where_others_can_read_the_token(
    home: Path, file: int, folder: int, told: bool, variable: str | None, monkeypatch: pytest.MonkeyPatch, capsys: Any
) -> None:
    token = home / ("elsewhere/token" if variable else ".ray/auth_token")
    if variable:
        monkeypatch.setenv(variable, str(token))
    token.parent.mkdir()
    token.write_text("a cluster's")
    for path, mode in ((home, 0o755), (token.parent, folder), (token, file)):
        path.chmod(mode)
    ensure_token_file()
    line = f"{token}: other users can read it, and with it run code here; chmod 600 {token}\n"
    assert capsys.readouterr().err == (line if told else "")
    assert token.read_text() == "a cluster's"


@pytest.mark.parametrize(
    ("name", "value"), [("RAY_AUTH_TOKEN", "x"), ("RAY_AUTH_TOKEN_PATH", "/x"), ("RAY_AUTH_MODE", "disabled")]
)
def test_no_token_is_made_where_none_is_used(
    home: Path, name: str, value: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv(name, value)
    ensure_token_file()
    assert list(home.iterdir()) == []


def test_one_line_where_no_token_can_be_written(home: Path) -> None:
    (home / ".ray").write_text("a file")
    with pytest.raises(UserError, match=r"auth_token: Ray's token cannot be written \(.*\); RAY_AUTH_TOKEN gives one"):
        ensure_token_file()


@pytest.mark.parametrize("host", ["127.0.0.1", "0.0.0.0"])
def test_a_dashboard_may_be_opened_while_it_asks_for_a_token(home: Path, host: str) -> None:
    check_dashboard_host(host)


def test_a_dashboard_without_a_token_stays_here(home: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("RAY_AUTH_MODE", "disabled")
    check_dashboard_host("127.0.0.1")
    with pytest.raises(UserError, match=r"dashboard_host is 0\.0\.0\.0, but RAY_AUTH_MODE turns Ray's token off"):
        check_dashboard_host("0.0.0.0")


def test_one_line_for_an_address_that_is_not_ours(home: Path) -> None:
    with pytest.raises(UserError, match=r"dashboard_host is 203\.0\.113\.1: not an address of this machine \("):
        check_dashboard_host("203.0.113.1")
