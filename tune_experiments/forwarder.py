"""Between Tune and Ray's integrations of MLflow and Weights & Biases.

Those take Tune's trials and results as they are. Ours differ: Tune's ids and iterations begin anew when a search is
resumed, and an error is a result. `Forwarder` stands between, and in a thread of its own, so that a server that is slow
or gone costs the search nothing.
"""

import json
import queue
import sys
import threading
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path
from typing import Any, Protocol

from ray import tune
from ray.tune.experiment import Trial as TuneTrial

from cifar_core.history import EpochMetrics
from tune_experiments.credentials import first_line
from tune_experiments.experiment import Experiment
from tune_experiments.ledger import Trial, TrialState

ENDS_WITHIN = 330.0  # seconds that what is not logged yet may take at the end
SILENT_FOR = 5.0  # of them


@dataclass(frozen=True)
class LoggedTrial:
    """A trial as Ray's integrations see one.

    Attributes:
        trial_id: no other search has it.
        name: our own id.
        config: the parameters.
        experiment_dir_name, local_path: of the experiment's folder.
    """

    trial_id: str
    name: str
    config: dict[str, Any] = field(compare=False)
    experiment_dir_name: str = field(compare=False)
    local_path: str = field(compare=False)

    def __str__(self) -> str:
        return self.name


class HasTrials(Protocol):
    """A search, or the confirmation after it."""

    @property
    def trials(self) -> Sequence[Trial]:
        """All trials so far."""


class Logger(Protocol):
    """One of Ray's integrations, with what a resume needs of it."""

    title: str

    def open(self, search_id: str) -> None:
        """Find what is there of this search. Called before the rest, and again where a confirmation follows."""

    def epochs_there(self, trial: Any) -> int:
        """How many epochs of a trial need not be logged again when it goes on."""

    def lacks_end(self, trial: Any) -> bool:
        """Whether it is known not to have a trial to its end."""

    def log_trial_start(self, trial: Any) -> None:
        """Begin a trial, or go on with it."""

    def log_trial_result(self, iteration: int, trial: Any, result: dict[str, Any]) -> None:
        """Log an epoch."""

    def log_trial_end(self, trial: Any, failed: bool = False) -> None:
        """The trial has ended."""

    def log_interruption(self, trial: Any) -> None:
        """The search has ended before the trial has."""

    def on_experiment_end(self, trials: list[Any]) -> None:
        """Wait for what is under way."""


def search_id(ledger: Path) -> str:
    """What tells this search from all others, wherever its folder is: the moment at which it began."""
    with ledger.open() as lines:
        return f"{int(json.loads(lines.readline())['time'] * 1e6):x}"


def catch_up(loggers: Sequence[Logger], experiment: Experiment, state: "HasTrials", seed: int) -> None:
    """Log the ended trials that a logger lacks, where no trial is left to run."""
    for logger in loggers:
        Forwarder(logger, experiment, state, seed).on_experiment_end([])


class Forwarder(tune.Callback):
    """Passes trials on to one logger: each epoch once, with its number as the step.

    A trial that goes on after a resume, or whose end a kill kept from the logger, first gets the epochs that it lacks.

    Args:
        logger: where to.
        experiment: whose trials they are.
        state: has the trials with their epochs.
        seed: of the trials that have none of their own.
    """

    def __init__(self, logger: Logger, experiment: Experiment, state: HasTrials, seed: int) -> None:
        self.logger = logger
        self.experiment = experiment
        self.state = state
        self.seed = seed
        self.ended_before = [replace(trial, epochs=list(trial.epochs)) for trial in state.trials if trial.ended]
        self.logged: dict[str, int] = {}  # epochs, by trial
        self.under_way: dict[str, LoggedTrial] = {}
        self.todo = queue.SimpleQueue[Callable[[], None] | None]()
        self.thread = threading.Thread(target=self._forward, daemon=True)

    def __reduce__(self) -> tuple[type[tune.Callback], tuple[()]]:
        return tune.Callback, ()  # Tune pickles what it runs with; what is in here may be secret

    def on_trial_start(self, iteration: int, trials: list[TuneTrial], trial: TuneTrial, **info: Any) -> None:
        """It has its worker."""
        if self.thread.ident is None:
            self.thread.start()
        ours = next(known for known in self.state.trials if known.trial_id == trial.config["trial_id"])
        epochs = list(ours.epochs)
        self._put(lambda: self._start(ours, epochs))

    def on_trial_result(
        self, iteration: int, trials: list[TuneTrial], trial: TuneTrial, result: dict[str, Any], **info: Any
    ) -> None:
        """An epoch, or the error that ends the trial."""
        name = trial.config["trial_id"]
        if "error" in result:
            self._put(lambda: self._end(name, failed=True))
        else:
            metrics = EpochMetrics.of(result)
            self._put(lambda: self._log(name, metrics))

    def on_trial_complete(self, iteration: int, trials: list[TuneTrial], trial: TuneTrial, **info: Any) -> None:
        """It has ended."""
        name = trial.config["trial_id"]
        self._put(lambda: self._end(name, failed=False))

    def on_trial_error(self, iteration: int, trials: list[TuneTrial], trial: TuneTrial, **info: Any) -> None:
        """Its workers died too often."""
        name = trial.config["trial_id"]
        self._put(lambda: self._end(name, failed=True))

    def on_experiment_end(self, trials: list[TuneTrial], **info: Any) -> None:
        """Log what is left, for a while."""
        if self.thread.ident is None:
            if not self.ended_before:
                return
            self.thread.start()
        self.todo.put(self._close)
        self.todo.put(None)
        self.thread.join(SILENT_FOR)
        if self.thread.is_alive():
            self._say(f"still writing, for {ENDS_WITHIN:.0f} s at most")
            self.thread.join(ENDS_WITHIN)
        if self.thread.is_alive():
            self._say(f"not all was logged within {ENDS_WITHIN:.0f} s of the end")

    def _put(self, call: Callable[[], None]) -> None:
        if self.thread.is_alive():  # or nobody would take it away again
            self.todo.put(call)

    def _forward(self) -> None:
        try:
            self.logger.open(search_id(self.experiment.ledger))
            for trial in self.ended_before:
                if self.logger.lacks_end(self._as_logged(trial)):
                    self._start(trial, trial.epochs)
                    self._end(trial.trial_id, trial.state is TrialState.FAILED)
            while (call := self.todo.get()) is not None:
                call()
        except Exception as error:  # whatever a client of a server raises
            self._say(f"{first_line(error)}; nothing more is logged there, the search goes on")

    def _start(self, trial: Trial, epochs: Sequence[EpochMetrics]) -> None:
        logged = self.under_way[trial.trial_id] = self._as_logged(trial)
        self.logger.log_trial_start(logged)
        self.logged[trial.trial_id] = self.logger.epochs_there(logged)
        for metrics in epochs:
            self._log(trial.trial_id, metrics)

    def _log(self, name: str, metrics: EpochMetrics) -> None:
        if metrics.epoch <= self.logged[name]:  # its worker died after this epoch
            return
        numbers = {key: value for key, value in asdict(metrics).items() if value is not None}
        result = {**numbers, "training_iteration": metrics.epoch}  # Ray's name for what becomes the step
        self.logger.log_trial_result(metrics.epoch, self.under_way[name], result)
        self.logged[name] = metrics.epoch

    def _end(self, name: str, failed: bool) -> None:
        if trial := self.under_way.pop(name, None):
            self.logger.log_trial_end(trial, failed)

    def _close(self) -> None:
        for trial in self.under_way.values():
            self.logger.log_interruption(trial)
        self.logger.on_experiment_end([])

    def _as_logged(self, trial: Trial) -> LoggedTrial:
        return LoggedTrial(
            trial_id=f"{search_id(self.experiment.ledger)}-{trial.trial_id}",
            name=trial.trial_id,
            config={**asdict(trial.setting), "seed": self.seed if trial.seed is None else trial.seed},
            experiment_dir_name=self.experiment.path.name,
            local_path=str(self.experiment.path),
        )

    def _say(self, text: str) -> None:
        print(f"{self.logger.title}: {text}", file=sys.stderr)
