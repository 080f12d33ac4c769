import pytest

from cifar_core.errors import UserError, one_line_errors


def test_a_user_error_becomes_one_line_and_exit_code_2(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as caught, one_line_errors(debug=False):
        raise UserError("epochs is 0; it must be at least 1")
    assert caught.value.code == 2
    printed = capsys.readouterr()
    assert (printed.out, printed.err) == ("", "error: epochs is 0; it must be at least 1\n")


def test_what_the_user_gave_may_hold_line_breaks(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit), one_line_errors(debug=False):
        raise UserError("name is a\nb\r\nc; it must be a word")
    assert capsys.readouterr().err == "error: name is a b c; it must be a word\n"


def test_debug_lets_it_through() -> None:
    with pytest.raises(UserError, match="wrong"), one_line_errors(debug=True):
        raise UserError("wrong")


def test_other_errors_keep_their_traceback(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(ZeroDivisionError), one_line_errors(debug=False):
        1 / 0  # noqa: B018
    assert capsys.readouterr().err == ""


def test_nothing_happens_without_an_error() -> None:
    with one_line_errors(debug=False):
        value = 1
    assert value == 1
