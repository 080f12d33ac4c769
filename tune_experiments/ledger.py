"""The search's memory: an append-only file of everything that happened, and the trials as it tells them.

All other files of an experiment are views of this one, and a resumed search rebuilds its searcher and its rungs
from it. A line is one event, written whole and flushed to the disk before the search acts on it; a line cut
short by a crash is dropped, as what it would have told did not happen yet.
"""

import json
import os
import time
from collections.abc import Iterable
from dataclasses import asdict, dataclass, field, replace
from enum import StrEnum
from pathlib import Path
from typing import Any

from cifar_core.config import TrainConfig
from cifar_core.errors import UserError
from cifar_core.history import EpochMetrics
from cifar_core.whole_file import sync_folder
from tune_experiments.search_space import Setting

LEDGER = "ledger.jsonl"  # of the search
CONFIRM_LEDGER = "confirm.jsonl"  # of the confirmation after it


class TrialState(StrEnum):
    """Where a trial is. The last four are ends."""

    PENDING = "pending"
    RUNNING = "running"
    AUDITED = "audited"  # behind at a rung, and runs on to show whether that was right: it is out of the selection
    COMPLETED = "completed"  # reached the end of its schedule
    STOPPED = "stopped"  # behind at a rung; one that was audited ends so too
    DIVERGED = "diverged"  # its loss is not finite
    FAILED = "failed"  # its workers died, more often than max_failures


@dataclass
class Trial:
    """One trial so far. `seed` is that of its training run where it is not the search's own."""

    trial_id: str
    setting: Setting
    state: TrialState = TrialState.PENDING
    epochs: list[EpochMetrics] = field(default_factory=list)
    workers: list[str] = field(default_factory=list)  # which worker ran each epoch, host:pid
    finished_at: list[float] = field(default_factory=list)  # when each epoch was reported, Unix seconds
    reason: str = ""
    seed: int | None = None
    stopped_at: int | None = None  # the rung's epoch at which it was behind
    second_chances: int = 0  # how often it went on after all

    @property
    def ended(self) -> bool:
        """Whether nothing more will come."""
        return self.state not in (TrialState.PENDING, TrialState.RUNNING, TrialState.AUDITED)

    @property
    def score(self) -> float | None:
        """Validation accuracy at the last scheduled epoch; a trial that did not get there has none."""
        return self.epochs[-1].val_accuracy if self.state is TrialState.COMPLETED else None

    @property
    def audit_score(self) -> float | None:
        """What a stopped trial scored that ran to the end all the same."""
        audited = self.state is TrialState.STOPPED and self.stopped_at != len(self.epochs)
        return self.epochs[-1].val_accuracy if audited else None

    def applied_to(self, config: TrainConfig) -> TrainConfig:
        """The training run of this trial."""
        config = self.setting.applied_to(config)
        return config if self.seed is None else replace(config, seed=self.seed)


class Ledger:
    """Append events; read trials. A file that exists is read first."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self.trials: dict[str, Trial] = {}
        self.size = 0  # bytes of whole lines
        if path.exists():
            self._read()

    def propose(self, setting: Setting, trial_id: str | None = None, seed: int | None = None) -> Trial:
        """A new trial; without an id of its own it is numbered in order of proposal."""
        trial_id = f"{len(self.trials):05d}" if trial_id is None else trial_id
        self._append({"event": "proposed", "trial_id": trial_id, "setting": asdict(setting), "seed": seed})
        return self.trials[trial_id]

    def add_epoch(self, trial_id: str, metrics: EpochMetrics, worker: str, state: TrialState, reason: str) -> None:
        """A finished epoch, and the state that it leaves the trial in: one line, so neither is known alone."""
        self._append(
            {
                "event": "epoch",
                "trial_id": trial_id,
                "metrics": asdict(metrics),
                "worker": worker,
                "state": state,
                "reason": reason,
            }
        )

    def fail(self, trial_id: str, reason: str) -> None:
        """The trial will not go on."""
        self._append({"event": "failed", "trial_id": trial_id, "reason": reason})

    def give_second_chance(self, trial_id: str) -> None:
        """A trial that was stopped goes on."""
        self._append({"event": "second chance", "trial_id": trial_id})

    def unfinished(self) -> list[Trial]:
        """Trials that were proposed and have not ended, oldest first."""
        return [trial for trial in self.trials.values() if not trial.ended]

    def _append(self, event: dict[str, Any]) -> None:
        event["time"] = time.time()
        line = (json.dumps(event) + "\n").encode()
        # Only a first event makes the file: where it has vanished, a new one would be a ledger without its beginning.
        with self.path.open("r+b" if self.size else "wb") as file:
            file.truncate(self.size)  # a write that failed on a full disk may have left a part of its line
            file.seek(self.size)
            file.write(line)
            file.flush()
            os.fsync(file.fileno())
        if not self.size:
            sync_folder(self.path.parent)
        self.size += len(line)
        self._apply(event)

    def _read(self) -> None:
        content = self.path.read_bytes()
        whole = content[: content.rfind(b"\n") + 1]
        try:
            for line in whole.splitlines():
                self._apply(json.loads(line))
        except (ValueError, KeyError, TypeError) as error:
            raise UserError(f"{self.path}: not a ledger of this version ({type(error).__name__}: {error})") from None
        self.size = len(whole)  # what is beyond goes with the next event: who only reads changes nothing

    def _apply(self, event: dict[str, Any]) -> None:
        trial_id = event["trial_id"]
        if event["event"] == "proposed":
            self.trials[trial_id] = Trial(trial_id, Setting(**event["setting"]), seed=event.get("seed"))
            return
        trial = self.trials[trial_id]
        if event["event"] == "second chance":
            trial.state, trial.reason, trial.stopped_at = TrialState.RUNNING, "", None
            trial.second_chances += 1
            return
        trial.reason = event["reason"]
        if event["event"] == "failed":
            trial.state = TrialState.FAILED
            return
        trial.epochs.append(EpochMetrics(**event["metrics"]))
        trial.workers.append(event["worker"])
        trial.finished_at.append(event["time"])
        trial.state = TrialState(event["state"])  # last: another thread may look
        if trial.state in (TrialState.AUDITED, TrialState.STOPPED) and trial.stopped_at is None:
            trial.stopped_at = len(trial.epochs)


def state_after(metrics: EpochMetrics, epochs: int) -> tuple[TrialState, str]:
    """Where an epoch leaves a trial that nobody stops, and why; `epochs` are those of the whole schedule."""
    if metrics.diverged:
        return TrialState.DIVERGED, f"the loss is not finite at epoch {metrics.epoch}"
    return (TrialState.COMPLETED if metrics.epoch >= epochs else TrialState.RUNNING), ""


def count_states(trials: Iterable[Trial]) -> dict[TrialState, int]:
    """How many trials are in each state, every state included."""
    counts = dict.fromkeys(TrialState, 0)
    for trial in trials:
        counts[trial.state] += 1
    return counts
