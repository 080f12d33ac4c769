"""Bad input ends with one clear line and exit code 2."""

import sys
from collections.abc import Iterator
from contextlib import contextmanager

EXIT_BAD_INPUT = 2


class UserError(Exception):
    """Something the user gave is wrong. The message is one line: what, where, and what would be valid."""


@contextmanager
def one_line_errors(debug: bool) -> Iterator[None]:
    """Turn a `UserError` inside the block into its line on stderr and exit code 2; `debug` lets it through."""
    try:
        yield
    except UserError as error:
        if debug:
            raise
        print("error:", *str(error).splitlines(), file=sys.stderr)  # one line, whatever text the user gave
        raise SystemExit(EXIT_BAD_INPUT) from None
