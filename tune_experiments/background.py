"""Work that goes on in a thread for as long as a block runs."""

import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager


@contextmanager
def in_background(work: Callable[[threading.Event], object], name: str) -> Iterator[None]:
    """Run `work` beside the block. It is given an event, which is set when the block is left, and is waited for."""
    left = threading.Event()
    thread = threading.Thread(target=work, args=(left,), name=name, daemon=True)
    thread.start()
    try:
        yield
    finally:
        left.set()
        thread.join()
