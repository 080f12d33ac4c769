"""The search as a state machine, free of Ray: it proposes trials, takes their epochs, and says which go on.

Everything it knows is in the ledger, so building it over an existing ledger is how a search resumes.
"""

from collections import deque

from cifar_core.history import EpochMetrics
from tune_experiments.early_stopping import Audit, Scheduler, SuccessiveHalving, gives_second_chances, rung_value
from tune_experiments.ledger import Ledger, Trial, TrialState, state_after
from tune_experiments.search_space import Setting
from tune_experiments.searcher import Proposer

ALIKE_FAILURES = 3  # this many trials and no other, all failed for one reason, end a search


class SearchState:
    """Trials of one search.

    Args:
        ledger: what happened so far.
        proposer: a fresh one; it is told the ledger's trials.
        halving: fresh rungs; they are given the ledger's values.
        reference: the setting of the first trial, which is never stopped: the yardstick runs to its end.
        epochs: of the whole schedule.
        num_samples: trials to propose in all.
        scheduler: says what of an epoch the rungs compare.
        audit: which of the trials that are behind run on to the end.
    """

    def __init__(
        self,
        ledger: Ledger,
        proposer: Proposer,
        halving: SuccessiveHalving,
        reference: Setting,
        epochs: int,
        num_samples: int,
        scheduler: Scheduler = "stock-asha",
        audit: Audit = Audit(),  # noqa: B008  # frozen
    ) -> None:
        self.ledger = ledger
        self.proposer = proposer
        self.halving = halving
        self.reference = reference
        self.epochs = epochs
        self.num_samples = num_samples
        self.scheduler = scheduler
        self.audit = audit
        self.storage_error: OSError | None = None  # that ended the search: what is not written did not happen
        self.to_continue = deque(ledger.unfinished())
        self.ended_before = {trial.trial_id for trial in ledger.trials.values() if trial.ended}
        for trial in ledger.trials.values():
            self._relearn(trial)

    @property
    def trials(self) -> list[Trial]:
        """All trials, in order of proposal."""
        return list(self.ledger.trials.values())

    @property
    def hopeless(self) -> str | None:
        """The reason for which every trial so far failed, once enough did so since the start or the resume.

        What stands in brackets, such as how much memory was free, may differ.
        """
        failed = []
        for trial in self.ledger.trials.values():
            if trial.ended and trial.state is not TrialState.FAILED:
                return None  # mostly the first, however many there are
            if trial.ended:
                failed.append(trial.reason)
        enough = len(failed) - len(self.ended_before) >= ALIKE_FAILURES
        alike = len({reason.partition(" (")[0] for reason in failed}) == 1
        return failed[-1] if enough and alike else None

    @property
    def remaining(self) -> int:
        """How many trials are still to be started or continued."""
        to_propose = max(0, self.num_samples - len(self.ledger.trials))
        return len(self.to_continue) + to_propose + len(self.second_chances())

    @property
    def unfinished(self) -> int:
        """How many of the trials asked for have not ended."""
        to_propose = max(0, self.num_samples - len(self.trials))
        return to_propose + sum(not trial.ended for trial in self.trials) + len(self.second_chances())

    def second_chances(self) -> list[Trial]:
        """Stopped trials that are to go on, now that none is left to propose: the furthest first, then the best."""
        return self.candidates() if len(self.ledger.trials) >= self.num_samples else []

    def candidates(self) -> list[Trial]:
        """Stopped trials that would pass their rung now. Those that were audited are out of the selection for good."""
        if not gives_second_chances(self.scheduler):
            return []
        reached = {level: self.halving.reached(level) for level in self.halving.levels}
        chosen = [
            trial
            for trial in self.ledger.trials.values()
            if trial.state is TrialState.STOPPED
            and trial.stopped_at == len(trial.epochs)
            and trial.trial_id in reached.get(trial.stopped_at, ())
        ]
        return sorted(chosen, key=lambda trial: (-len(trial.epochs), -self._last_value(trial), trial.trial_id))

    def _last_value(self, trial: Trial) -> float:
        return rung_value(trial.epochs[-1], self.scheduler)

    def next_trial(self) -> Trial | None:
        """The trial to start or continue next; none when all have been given out."""
        if self.to_continue:
            return self.to_continue.popleft()
        number = len(self.ledger.trials)
        if self.hopeless:
            return None
        if number >= self.num_samples:
            return self._second_chance()
        if number > 0:
            return self.ledger.propose(self.proposer.propose(number))
        trial = self.ledger.propose(self.reference)
        self.proposer.follow(trial)
        return trial

    def _second_chance(self) -> Trial | None:
        for trial in self.second_chances():
            self.ledger.give_second_chance(trial.trial_id)
            return trial
        return None

    def give_back(self, trial_id: str) -> None:
        """A trial that was given out and has not ended is to be given out again."""
        if not self.ledger.trials[trial_id].ended:
            self.to_continue.appendleft(self.ledger.trials[trial_id])

    def report(self, trial_id: str, metrics: EpochMetrics, worker: str) -> Trial:
        """Take a finished epoch and decide. One that is known already (its worker died after it) is passed over."""
        trial = self.ledger.trials[trial_id]
        if not trial.ended and metrics.epoch > len(trial.epochs):
            state, reason = self._verdict(trial, metrics)
            if trial.stopped_at is None:
                self.halving.record(trial_id, metrics.epoch, rung_value(metrics, self.scheduler))
            self.ledger.add_epoch(trial_id, metrics, worker, state, reason)
            if trial.stopped_at == metrics.epoch or (trial.ended and trial.stopped_at is None):
                self.proposer.tell(trial)
        return trial

    def fail(self, trial_id: str, reason: str) -> Trial:
        """The trial's workers died too often."""
        trial = self.ledger.trials[trial_id]
        if not trial.ended:
            self.ledger.fail(trial_id, reason)
            self.proposer.tell(trial)
        return trial

    def _verdict(self, trial: Trial, metrics: EpochMetrics) -> tuple[TrialState, str]:
        state, reason = state_after(metrics, self.epochs)
        if state is TrialState.DIVERGED:
            return state, reason
        if trial.stopped_at is not None:
            return TrialState.STOPPED if state is TrialState.COMPLETED else TrialState.AUDITED, trial.reason
        if state is TrialState.COMPLETED:
            return state, reason
        is_reference = trial.setting == self.reference
        value = rung_value(metrics, self.scheduler)
        if is_reference or self.halving.keeps(trial.trial_id, metrics.epoch, value):
            return TrialState.RUNNING, ""
        reason = f"behind at the rung of epoch {metrics.epoch}"
        if self.audit.picks(trial.trial_id):
            return TrialState.AUDITED, f"{reason}; runs on for the audit"
        return TrialState.STOPPED, reason

    def _relearn(self, trial: Trial) -> None:
        self.proposer.follow(trial)
        for metrics in trial.epochs[: trial.stopped_at]:
            self.halving.record(trial.trial_id, metrics.epoch, rung_value(metrics, self.scheduler))
        if trial.ended or trial.stopped_at is not None:
            self.proposer.tell(trial)
