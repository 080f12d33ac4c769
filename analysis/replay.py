"""Replay of schedulers over recorded learning curves: what each would have found, and for how many epochs.

    python -m analysis.replay EXPERIMENT|CURVES.parquet

says which grace period, reduction factor and rung value to use.

A search draws settings from the recorded ones and starts them in a random order on asynchronous workers; the scheduler
sees at its rungs what it would have seen. That costs microseconds an epoch, so thousands of searches tell apart what
one search never could.
"""

import argparse
import heapq
import sys
from collections.abc import Callable, Iterable, Sequence
from itertools import islice
from pathlib import Path
from typing import NamedTuple

import numpy as np
import pandas as pd
from numpy.typing import NDArray
from tqdm import tqdm

from analysis.figures.replay import regret_against_epochs
from analysis.learning_curves import LearningCurves, read_curves
from analysis.schedulers import Policy, Rule, halvings, usual
from analysis.tables import rows
from analysis.words import count, percent
from cifar_core.errors import UserError, one_line_errors
from cifar_core.options import Parser

JITTER = 0.1  # trials differ by up to this share in their seconds an epoch


class Found(NamedTuple):
    """What one replayed search found."""

    epochs: int  # that were trained
    readings: int  # values that were looked at
    completed: list[int]  # trials that ran to the end


def replay_search(
    rule: Rule,
    values: Sequence[Sequence[float]],
    epochs: int,
    workers: int,
    rng: np.random.Generator,
    second_chances: bool = False,
) -> Found:
    """One search over trials in the order of `values`, each a trial's value after every epoch."""
    paces = (1 + JITTER * rng.random(len(values))).tolist()
    clock: list[tuple[float, int, int]] = []  # time, trial, the epoch that it has then reached
    waiting = iter(range(len(values)))
    spent = readings = 0
    completed: list[int] = []
    stopped: dict[int, int] = {}  # trials, each with the rung's epoch

    def go_on(now: float, trial: int, reached: int) -> None:
        nonlocal spent
        target = next((level for level in rule.levels if level > reached), epochs)
        spent += target - reached
        heapq.heappush(clock, (now + (target - reached) * paces[trial], trial, target))

    def fill(now: float) -> None:
        for fresh in islice(waiting, workers - len(clock)):
            go_on(now, fresh, 0)
        if second_chances and len(clock) < workers:
            passing = {level: rule.reached(level) for level in rule.levels}
            again = [trial for trial, level in stopped.items() if str(trial) in passing[level]]
            again.sort(key=lambda trial: (-stopped[trial], -values[trial][stopped[trial] - 1], trial))
            for trial in again[: workers - len(clock)]:
                go_on(now, trial, stopped.pop(trial))

    fill(0.0)
    while clock:
        now, trial, reached = heapq.heappop(clock)
        if reached == epochs:
            completed.append(trial)
        else:
            value, name = values[trial][reached - 1], str(trial)
            goes_on = rule.keeps(name, reached, value)
            rule.record(name, reached, value)
            readings += 1
            if goes_on:
                go_on(now, trial, reached)
            else:
                stopped[trial] = reached
        fill(now)
    return Found(spent, readings, completed)


def replay_pick(
    pick: Callable[[Sequence[float]], list[int]], values: Sequence[Sequence[float]], epochs: int, rung: int
) -> Found:
    """One search in which all trials wait for each other at a rung; at 0 there is none, and the others do not start."""
    picked = pick([trial[rung - 1] for trial in values])
    return Found(len(values) * rung + len(picked) * (epochs - rung), len(values) * bool(rung), picked)


class Searches:
    """Searches drawn once, over which policies are compared: all see the same settings in the same order.

    Args:
        curves: what was recorded.
        trials: of one search; where they are more than half of the recorded settings, settings come more than once.
        workers: that run trials at the same time.
        number: of searches.
        halves: random halves of the settings that the searches are shared among: how much the halves' means differ says
            what other settings would change (the delete-half jackknife of Shao & Wu, 1989).
        seed: of all draws.
    """

    def __init__(
        self, curves: LearningCurves, trials: int, workers: int, number: int = 2000, halves: int = 50, seed: int = 0
    ) -> None:
        self.curves = curves
        self.workers = workers
        self.halves = halves
        self.seed = seed
        rng = np.random.default_rng(seed)
        self.draws: list[NDArray[np.int64]] = []
        for _ in range(halves):
            half = rng.permutation(len(curves))[: max(1, len(curves) // 2)]
            several = range(max(1, number // halves))
            self.draws += [rng.choice(half, trials, replace=trials > len(half)) for _ in several]

    def outcomes(self, policy: Policy) -> NDArray[np.float64]:
        """What a policy does in each search.

        Returns: float64 (searches, 3): the share of all trials' epochs that it took, reading values included; its
        regret, the points of accuracy between the best recorded score among the search's settings and that of the trial
        it would pick; and whether that best one ran to its end.
        """
        rows = self.curves.values[policy.value].tolist()
        return np.array([self._one(policy, rows, draw, number) for number, draw in enumerate(self.draws)])

    def replay(self, policy: Policy) -> dict[str, object]:
        """A policy's `scheduler`, `value`, `rungs` and `factor`, and the means of its `outcomes`.

        They are `epochs`, `regret` and `kept`; `regret_low`, `regret_high`, `kept_low` and `kept_high` are 95 %
        intervals for other settings.
        """
        outcomes = self.outcomes(policy)
        means = outcomes.mean(axis=0)
        epochs, regret, kept = means
        spread = 1.96 * outcomes.reshape(self.halves, -1, 3).mean(axis=1).std(axis=0)
        low, high = np.maximum(means - spread, 0), means + spread
        return {
            "scheduler": policy.scheduler, "value": policy.value, "rungs": policy.rungs, "factor": policy.factor,
            "epochs": float(epochs),
            "regret": float(regret), "regret_low": float(low[1]), "regret_high": float(high[1]),
            "kept": float(kept), "kept_low": float(low[2]), "kept_high": min(1.0, float(high[2])),
        }  # fmt: skip

    def _one(
        self, policy: Policy, rows: list[list[float]], draw: NDArray[np.int64], number: int
    ) -> tuple[float, float, bool]:
        values, epochs = [rows[index] for index in draw], self.curves.epochs
        if policy.rule:
            rng = np.random.default_rng((self.seed, number))
            found = replay_search(policy.rule(), values, epochs, self.workers, rng, policy.second_chances)
        else:
            assert policy.pick is not None
            found = replay_pick(policy.pick, values, epochs, policy.rungs[0] if policy.rungs else 0)
        scores = self.curves.scores[draw]
        regret = 100 * float(scores.max() - scores[found.completed].max(initial=0.0))
        reading = self.curves.costs.get(policy.value, 0.0) * found.readings
        return (found.epochs + reading) / (len(draw) * epochs), regret, regret == 0


def compare(searches: Searches, policies: Iterable[Policy]) -> pd.DataFrame:
    """A row for each policy, as `Searches.replay` gives it, the least regret first."""
    table = pd.DataFrame([searches.replay(policy) for policy in policies])
    return table.sort_values(["regret", "epochs"], ignore_index=True)


def best_within(table: pd.DataFrame, budget: float) -> pd.DataFrame:
    """Of each scheduler and value in a table of `compare`, the row of least regret within a share of the epochs."""
    affordable = table[table["epochs"] <= budget]
    return affordable.drop_duplicates(["scheduler", "value"]).reset_index(drop=True)


def policies(curves: LearningCurves) -> Iterable[Policy]:
    """The usual schedulers, and ours judged by everything that was recorded, each with all its settings."""
    yield from usual(curves.known_epochs("raw"), curves.epochs)
    for value in curves.values.keys() - {"raw"}:
        yield from halvings("asha", value, curves.known_epochs(value), curves.epochs)


def describe(table: pd.DataFrame, budget: float) -> str:
    """The best of each scheduler within the budget, and the flags of the best that a search can use."""
    lines = [
        f"{'scheduler':<16}{'judged by':<11}{'rungs':<14}{'factor':<8}{'epochs':<9}{'regret, points':<22}best kept"
    ]
    for row in rows(best_within(table, budget)):
        rungs = " ".join(map(str, row.rungs)) or "-"
        regret = f"{row.regret:.2f} ({row.regret_low:.2f} to {row.regret_high:.2f})"
        kept = f"{percent(row.kept)} ({percent(row.kept_low)} to {percent(row.kept_high)})"
        lines.append(
            f"{row.scheduler:<16}{row.value:<11}{rungs:<14}{row.factor:<8.3g}{percent(row.epochs):<9}{regret:<22}{kept}"
        )
    usable = table[["scheduler", "value"]].apply(tuple, axis=1).isin([("asha", "ema"), ("stock-asha", "raw")])
    for row in rows(table[usable & (table["epochs"] <= budget)].head(1)):
        lines.append(f"Use --scheduler {row.scheduler} --grace-period {row.rungs[0]} --reduction-factor {row.factor:g}")
    return "\n".join(lines)


def build_parser() -> Parser:
    """Every flag, with its help."""
    parser = Parser(prog="python -m analysis.replay", description=__doc__)
    parser.add_argument("curves", metavar="EXPERIMENT|CURVES.parquet", help="a search, or a table of learning curves")
    parser.add_argument("--trials", type=int, default=40, metavar="N", help="of a search (default: %(default)s)")
    parser.add_argument("--workers", type=int, default=2, metavar="N", help="trials at a time (default: %(default)s)")
    parser.add_argument("--searches", type=int, default=2000, metavar="N", help="to replay (default: %(default)s)")
    parser.add_argument(
        "--budget", type=float, default=0.4, metavar="SHARE", help="of the epochs of all trials (default: %(default)s)"
    )
    parser.add_argument("--output", type=Path, metavar="DIR", help="also write replay.csv and replay.png there")
    parser.add_argument("--debug", action="store_true", help="show the traceback of an error")
    return parser


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the command; returns its exit code, 2 for bad input."""
    arguments = sys.argv[1:] if arguments is None else arguments
    with one_line_errors(debug="--debug" in arguments):
        chosen = build_parser().parse(arguments)
        _check(chosen)
        curves = read_curves(chosen.curves)
        searches = Searches(curves, chosen.trials, chosen.workers, chosen.searches)
        progress = tqdm(list(policies(curves)), desc="replay", unit="scheduler", disable=None)
        table = compare(searches, progress)
        print(
            f"{count(len(curves), 'recorded setting')} of {count(curves.epochs, 'epoch')}; searches of {chosen.trials} "
            f"trials on {count(chosen.workers, 'worker')}, {chosen.searches:,} each; within {percent(chosen.budget)}:"
        )
        print(describe(table, chosen.budget))
        if chosen.output:
            chosen.output.mkdir(parents=True, exist_ok=True)
            table.to_csv(chosen.output / "replay.csv", index=False)
            regret_against_epochs(table, chosen.budget).savefig(chosen.output / "replay.png")
    return 0


def _check(chosen: argparse.Namespace) -> None:
    for name in ("trials", "workers", "searches"):
        if getattr(chosen, name) < 1:
            raise UserError(f"--{name} is {getattr(chosen, name)}; it must be at least 1")
    if not 0 < chosen.budget <= 1:
        raise UserError(f"--budget is {chosen.budget:g}; it must be above 0 and at most 1")


if __name__ == "__main__":
    sys.exit(main())
