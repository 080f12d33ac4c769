"""The confirmation as a state machine, free of Ray: the finalists of a search, each with the same fresh seeds.

Nothing is proposed and nothing stopped early. Everything it knows is in its ledger, so building it over an existing
one is how a confirmation resumes, and how the runs that are there serve a search that was extended.
"""

from collections import deque
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from cifar_core.history import EpochMetrics
from tune_experiments.ledger import Ledger, Trial, state_after
from tune_experiments.verdict import Finalist, Opening, Verdict, judge, tested_finalists, untested_runs


class ConfirmLedger(Ledger):
    """The ledger of runs with fresh seeds. It also knows each time that the test set was opened, and what it said."""

    def __init__(self, path: Path) -> None:
        self.openings: list[Opening] = []
        super().__init__(path)

    def add_opening(self, images: int, results: Mapping[str, tuple[float, float]]) -> None:
        """The test set was opened for these runs: loss and accuracy by run id, all of them in one line."""
        self._append({"event": "tested", "images": images, "results": results})

    def _apply(self, event: dict[str, Any]) -> None:
        if event["event"] == "tested":
            results = {run_id: (float(loss), float(accuracy)) for run_id, (loss, accuracy) in event["results"].items()}
            self.openings.append(Opening(float(event["time"]), int(event["images"]), results))
        else:
            super()._apply(event)


class Confirmation:
    """Runs of the finalists of one search.

    Args:
        ledger: what happened so far; it may hold runs of other finalists and seeds.
        finalists: trials of the search, best first.
        reference: the id of the one with the seed's setting.
        seeds: of the training runs, the same for each finalist.
        epochs: of the whole schedule.
        val_images: that a run is scored on.
    """

    def __init__(
        self,
        ledger: ConfirmLedger,
        finalists: Sequence[Trial],
        reference: str,
        seeds: Sequence[int],
        epochs: int,
        val_images: int,
    ) -> None:
        self.ledger = ledger
        self.chosen = list(finalists)
        self.reference = reference
        self.seeds = list(seeds)
        self.epochs = epochs
        self.val_images = val_images
        self.storage_error: OSError | None = None  # that ended it: what is not written did not happen
        self.waiting = deque(run for run in self.trials if not run.ended)

    @property
    def trials(self) -> list[Trial]:
        """All runs, those of one seed together, so that a confirmation that is cut short has whole pairs."""
        return [self._run(trial, seed) for seed in self.seeds for trial in self.chosen]

    @property
    def num_samples(self) -> int:
        """Runs in all."""
        return len(self.seeds) * len(self.chosen)

    @property
    def finalists(self) -> list[Finalist]:
        """The finalists with their runs so far."""
        return [
            Finalist(trial, trial.trial_id == self.reference, [self._run(trial, seed) for seed in self.seeds])
            for trial in self.chosen
        ]

    @property
    def remaining(self) -> int:
        """How many runs are still to be started or continued."""
        return len(self.waiting)

    @property
    def verdict(self) -> Verdict:
        """What is decided so far."""
        return judge(self.finalists, self.seeds, self.epochs, self.val_images, self.ledger.openings)

    def next_trial(self) -> Trial | None:
        """The run to start or continue next; none when all have been given out."""
        if not self.waiting:
            return None
        run = self.waiting.popleft()
        known = self.ledger.trials.get(run.trial_id)
        return known or self.ledger.propose(run.setting, run.trial_id, run.seed)

    def give_back(self, trial_id: str) -> None:
        """A run that was given out and has not ended is to be given out again."""
        if not self.ledger.trials[trial_id].ended:
            self.waiting.appendleft(self.ledger.trials[trial_id])

    def report(self, trial_id: str, metrics: EpochMetrics, worker: str) -> Trial:
        """Take a finished epoch. One that is known already (its worker died after it) is passed over."""
        run = self.ledger.trials[trial_id]
        if not run.ended and metrics.epoch > len(run.epochs):
            self.ledger.add_epoch(trial_id, metrics, worker, *state_after(metrics, self.epochs))
        return run

    def fail(self, trial_id: str, reason: str) -> Trial:
        """The run's workers died too often."""
        run = self.ledger.trials[trial_id]
        if not run.ended:
            self.ledger.fail(trial_id, reason)
        return run

    def runs_to_test(self) -> list[Trial]:
        """The runs that the test set is to be opened for, once all have ended; none where it was already."""
        winner = self.verdict.winner
        return untested_runs(tested_finalists(self.finalists, winner), self.ledger.openings) if winner else []

    def _run(self, trial: Trial, seed: int) -> Trial:
        run_id = f"{trial.trial_id}-seed{seed}"
        return self.ledger.trials.get(run_id) or Trial(run_id, trial.setting, seed=seed)
