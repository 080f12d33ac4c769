"""Keeps the experiment's files and the terminal up with what the trials report."""

import math
import time
from collections.abc import Callable
from contextlib import suppress

from tune_experiments.ledger import Trial
from tune_experiments.monitoring import Progress
from tune_experiments.publisher import Publisher

VIEWS_EVERY = 5.0  # seconds at least; the ledger has every epoch at once, its views follow


class Keeper:
    """Hears of every epoch.

    Args:
        progress: what the terminal shows.
        publisher: uploads the files, where they are below a URI.
        write_views: brings the files up to the ledger.
        on_end: is told each trial that has ended; what it cannot write now, a later trial's end will.
    """

    def __init__(
        self,
        progress: Progress,
        publisher: Publisher | None,
        write_views: Callable[[], object],
        on_end: Callable[[Trial], object] = lambda trial: None,
    ) -> None:
        self.progress = progress
        self.publisher = publisher
        self.write_views = write_views
        self.on_end = on_end
        self.written_at = -math.inf

    def on_report(self, trial: Trial) -> None:
        """A trial reported an epoch or ended; raises `OSError` where the storage is gone."""
        if self.publisher and self.publisher.error:
            raise self.publisher.error
        if trial.ended:
            with suppress(OSError):
                self.on_end(trial)
        if time.monotonic() - self.written_at > VIEWS_EVERY:
            self.write_views()
            self.written_at = time.monotonic()
        self.progress.update(trial)

    def close(self) -> None:
        """Leave the terminal as it is."""
        self.progress.close()
