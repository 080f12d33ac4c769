"""Who proposes the next setting, and what it is told.

Optuna learns what happened: a completed trial with its score; a stopped one as pruned, with the values it had;
a diverged one as pruned before its first value, which is the worst rank there is, so that its corner is avoided
and no NaN is in the study; a failed one as failed, which says nothing about its setting.
"""

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import asdict
from functools import cached_property
from pathlib import Path
from typing import Protocol

import numpy as np
import optuna
from optuna.distributions import BaseDistribution, FloatDistribution, IntDistribution
from optuna.exceptions import StorageInternalError
from optuna.trial import TrialState as OptunaState
from sqlalchemy.exc import SQLAlchemyError

from tune_experiments.ledger import Trial, TrialState
from tune_experiments.search_space import SearchSpace, Setting

STUDY = "search"
LOCKED_FOR = 0.5  # seconds to wait for another program's lock, each of the six times that Optuna tries
OPTUNA_STATES = {
    TrialState.COMPLETED: OptunaState.COMPLETE,
    TrialState.STOPPED: OptunaState.PRUNED,
    TrialState.AUDITED: OptunaState.PRUNED,
    TrialState.DIVERGED: OptunaState.PRUNED,
    TrialState.FAILED: OptunaState.FAIL,
}


class Proposer(Protocol):
    """Proposes settings. Proposal `number` is a pure function of the seed, the number and the trials so far."""

    def propose(self, number: int) -> Setting:
        """The setting of trial `number`."""

    def follow(self, trial: Trial) -> None:
        """Take note of a trial that this proposer did not propose itself, or that is from before a resume."""

    def tell(self, trial: Trial) -> None:
        """Take note of a trial's end, or that it was stopped and runs on for the audit."""


class RandomProposer:
    """Log-uniform and uniform draws, one independent stream per trial; learns nothing."""

    def __init__(self, space: SearchSpace, seed: int) -> None:
        self.space = space
        self.seed = seed

    def propose(self, number: int) -> Setting:
        """The setting of trial `number`."""
        rng = np.random.default_rng((self.seed, number))
        max_lr, l1_factor = (
            float(np.exp(rng.uniform(*np.log(bounds)))) for bounds in (self.space.max_lr, self.space.l1_factor)
        )
        return Setting(max_lr, l1_factor, int(rng.integers(*self.space.peak_epoch, endpoint=True)))

    def follow(self, trial: Trial) -> None:
        """Nothing to note."""

    def tell(self, trial: Trial) -> None:
        """Nothing to note."""


class OptunaProposer:
    """Optuna's multivariate TPE over a study in memory.

    The sampler is made anew for each proposal and seeded by (seed, number), so that no generator has to be saved.
    A trial outside the space (the seed's setting may be) is not told: it would take its parameters out of the
    joint model.
    """

    def __init__(self, space: SearchSpace, seed: int, startup_trials: int) -> None:
        _quiet()
        self.space = space
        self.seed = seed
        self.startup_trials = startup_trials
        self.study = optuna.create_study(direction="maximize")
        self.running: dict[Setting, optuna.Trial] = {}

    def propose(self, number: int) -> Setting:
        """The setting of trial `number`."""
        seed = int(np.random.SeedSequence((self.seed, number)).generate_state(1)[0])
        self.study.sampler = optuna.samplers.TPESampler(
            multivariate=True, constant_liar=True, n_startup_trials=self.startup_trials, seed=seed
        )
        return self._ask()

    def follow(self, trial: Trial) -> None:
        """Put a trial into the study as running."""
        if trial.setting in self.space:
            self.study.sampler = optuna.samplers.RandomSampler(seed=0)  # its draws go unused
            self.study.enqueue_trial(asdict(trial.setting))
            self._ask()

    def tell(self, trial: Trial) -> None:
        """Put a trial's end into the study."""
        asked = self.running.pop(trial.setting, None)
        if asked is not None:
            for epoch, value in intermediate_values(trial).items():
                asked.report(value, epoch)
            self.study.tell(asked, trial.score, optuna_state(trial))

    def _ask(self) -> Setting:
        asked = self.study.ask(distributions(self.space))
        setting = Setting(**asked.params)
        self.running[setting] = asked
        return setting


def distributions(space: SearchSpace) -> dict[str, BaseDistribution]:
    """The space in Optuna's terms."""
    return {
        "max_lr": FloatDistribution(*space.max_lr, log=True),
        "l1_factor": FloatDistribution(*space.l1_factor, log=True),
        "peak_epoch": IntDistribution(*space.peak_epoch),
    }


def optuna_state(trial: Trial) -> OptunaState:
    """A trial that was stopped is pruned, whatever its audit showed."""
    return OptunaState.PRUNED if trial.stopped_at is not None else OPTUNA_STATES[trial.state]


def intermediate_values(trial: Trial) -> dict[int, float]:
    """Validation accuracy by epoch, up to where it was stopped.

    None of a diverged trial's, whose early epochs would flatter it.
    """
    if trial.state is TrialState.DIVERGED and trial.stopped_at is None:
        return {}
    return {epoch.epoch: epoch.val_accuracy for epoch in trial.epochs[: trial.stopped_at]}


class StudyFile:
    """The study as an SQLite file for optuna-dashboard and importance: a view of the ledger's ended trials.

    A file that cannot be read, such as one that a crash left with half of its tables, is made anew; so is one of
    another space, as Optuna compares only trials of one. It is opened when it is first needed, and where that fails, as
    another program keeps it locked, the next time.
    """

    def __init__(self, path: Path, space: SearchSpace) -> None:
        _quiet()
        self.space = space
        self.path = path

    @property
    def study(self) -> optuna.Study:
        """What the file holds; raises `OSError`."""
        return self._opened[0]

    @property
    def known(self) -> dict[str, str]:
        """The states of its trials, by their ids; raises `OSError`."""
        return self._opened[1]

    @cached_property
    def _opened(self) -> tuple[optuna.Study, dict[str, str]]:
        try:
            return self._open()
        except Exception as error:  # ours, or one of Optuna, SQLAlchemy, Alembic or SQLite
            if "locked" in str(error):  # by someone who looks at it
                raise OSError(f"{self.path}: locked by another program") from error
            self.path.unlink(missing_ok=True)
            with _as_os_error():
                return self._open()

    def bring_up_to(self, trials: Sequence[Trial]) -> None:
        """Hold these ended trials as they are now: made anew where one went on after it had been written as stopped.

        Raises:
            OSError: it cannot be read or written.
        """
        if any(self.known.get(trial.trial_id, trial.state.value) != trial.state.value for trial in trials):
            self.path.unlink()
            del self._opened
        for trial in trials:
            self.add(trial)

    def _open(self) -> tuple[optuna.Study, dict[str, str]]:
        waits = {"connect_args": {"timeout": LOCKED_FOR}}
        storage = optuna.storages.RDBStorage(f"sqlite:///{self.path}", engine_kwargs=waits)
        study = optuna.create_study(storage=storage, study_name=STUDY, direction="maximize", load_if_exists=True)
        trials = study.get_trials(deepcopy=False)
        if any(trial.distributions != distributions(self.space) for trial in trials):
            raise ValueError("of another space")
        return study, {trial.user_attrs["trial_id"]: trial.user_attrs["state"] for trial in trials}

    def add(self, trial: Trial) -> None:
        """Write an ended trial, once however often it is given; raises `OSError`."""
        if trial.trial_id in self.known:
            return
        frozen = optuna.trial.create_trial(
            state=optuna_state(trial),
            value=trial.score,
            params=asdict(trial.setting),
            distributions=distributions(self.space),
            intermediate_values=intermediate_values(trial),
            user_attrs={"trial_id": trial.trial_id, "state": trial.state.value},
        )
        with _as_os_error():
            self.study.add_trial(frozen)
        self.known[trial.trial_id] = trial.state.value


@contextmanager
def _as_os_error() -> Iterator[None]:
    """A full disk is an `OperationalError` to SQLite, which Optuna wraps once more."""
    try:
        yield
    except (StorageInternalError, SQLAlchemyError) as error:
        cause = error.__cause__ if isinstance(error, StorageInternalError) else error
        raise OSError(str(getattr(cause, "orig", cause)).splitlines()[0]) from error  # orig: SQLite's own words


def _quiet() -> None:
    optuna.logging.set_verbosity(optuna.logging.WARNING)
