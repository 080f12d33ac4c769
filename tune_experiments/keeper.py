"""Keeps the experiment's files and the terminal up with what the trials report."""

import math
import time
from collections.abc import Callable
from typing import Protocol

from tune_experiments.exported_metrics import Slots, Stage, exported
from tune_experiments.ledger import Trial
from tune_experiments.monitoring import Progress, Watched
from tune_experiments.publisher import Publisher
from tune_experiments.tuning import Site, TrialSource, run_trials

VIEWS_EVERY = 5.0  # seconds at least; the ledger has every epoch at once, its views follow
VIEWS_SHARE = 0.1  # of the driver's time at most: the views of a large search take seconds


class Keeper:
    """Hears of every epoch.

    Args:
        progress: what the terminal shows.
        publisher: uploads the files, where they are below a URI.
        write_views: brings the files up to the ledger.
    """

    def __init__(self, progress: Progress, publisher: Publisher | None, write_views: Callable[[], object]) -> None:
        self.progress = progress
        self.publisher = publisher
        self.write_views = write_views
        self.next_views_at = -math.inf

    def on_report(self, trial: Trial) -> None:
        """A trial reported an epoch or ended; raises `OSError` where the storage is gone."""
        if self.publisher and self.publisher.error:
            raise self.publisher.error
        started_at = time.monotonic()
        if started_at > self.next_views_at:
            self.write_views()
            now = time.monotonic()
            self.next_views_at = now + max(VIEWS_EVERY, (now - started_at) / VIEWS_SHARE)
        self.progress.update(trial)

    def close(self) -> None:
        """Leave the terminal as it is."""
        self.progress.close()


class Watchable(TrialSource, Watched, Protocol):
    """A search, or the confirmation after it."""


def run_watched(
    site: Site,
    trials: Watchable,
    stage: Stage,
    progress: Progress,
    write_views: Callable[[], object],
    seconds: float | None,
) -> None:
    """`run_trials`, seen on the terminal, by Prometheus and in the experiment's files; raises what that does."""
    keeper = Keeper(progress, site.publisher, write_views)

    def slots() -> Slots:
        return Slots(progress.slots_busy, site.nodes.slots_seen())

    try:
        with exported(trials, site.experiment.path.name, stage, slots, site.images):
            run_trials(site, trials, keeper.on_report, progress.on_slots, seconds)
    finally:
        keeper.close()
