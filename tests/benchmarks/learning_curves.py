"""Record the learning curves that early stopping is chosen on: docs/learning_curves/.

    python tests/benchmarks/learning_curves.py docs/learning_curves --dataset images --data-dir DIR

draws settings as a search without a model does, from the range of an LR range test, and trains each to its end; then
the best half and a random half of `--repeated` of them with more seeds. Every epoch is scored by the weights and by
their moving average. With the first seed there is also an annealed probe after a few epochs: a fork of the run that
goes on for half an epoch with the learning rate falling to nothing, is scored and thrown away. Started again, it goes
on where it was stopped.
"""

import argparse
import json
import math
import multiprocessing
import platform
import sys
import time
from collections.abc import Iterator, Sequence
from concurrent.futures import ProcessPoolExecutor, as_completed
from copy import deepcopy
from dataclasses import asdict, replace
from functools import partial
from importlib.metadata import version
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import yaml
from tqdm import tqdm

from cifar_core.config import RangeTestConfig, TrainConfig
from cifar_core.datasets import TrainingData, load_training_data
from cifar_core.errors import one_line_errors
from cifar_core.lr_range_test import Curve, suggest_range, sweep, sweep_configs
from cifar_core.options import Parser, add_options, from_mapping, to_mapping
from cifar_core.schedule import OneCycle
from cifar_core.train import Trainer, evaluate, train_epoch
from tune_experiments.config import SEARCHED, SearchConfig
from tune_experiments.experiment import git_revision
from tune_experiments.search_space import SearchSpace, Setting, default_peak_range, seed_setting
from tune_experiments.searcher import RandomProposer

DEFAULTS = {
    "train_size": 5000, "val_size": 5000, "width": 0.125, "head_scale": 0.1, "epochs": 12, "batch_size": 128,
    "ema_epochs": 0.5, "threads": 1, "device": "cpu", "precision": "fp32",
}  # fmt: skip
PROBE_EPOCHS = 0.5  # length of a probe
UNTOLD = {*SEARCHED, "seed", "data_dir"}
PROBE_END = 0.01  # its last learning rate, as a share of its first
Run = tuple[str, Setting, int]  # trial id, setting, seed


def main(arguments: Sequence[str]) -> None:
    """Find the range, train what is missing, and write the table."""
    with one_line_errors(debug="--debug" in arguments):
        chosen = _parser().parse(arguments)
        given = {key: value for key, value in vars(chosen).items() if key in TrainConfig.__dataclass_fields__}
        config = from_mapping(TrainConfig, DEFAULTS | given, "command line")
        load_training_data(config)  # whose errors have a line
        chosen.output.mkdir(parents=True, exist_ok=True)
        context = multiprocessing.get_context("spawn")
        with ProcessPoolExecutor(chosen.processes, context, _load, (config,)) as pool:
            space = _space(pool, config)
            proposer = RandomProposer(space, config.seed)
            settings = [seed_setting(config), *map(proposer.propose, range(1, chosen.settings))]
            first = [(f"{number:05d}", setting, config.seed) for number, setting in enumerate(settings)]
            journal = chosen.output / "runs.jsonl"
            records = _run_all(pool, config, first, chosen.probes, journal)
            again = [
                (trial_id, setting, seed)
                for seed in range(config.seed + 1, config.seed + chosen.seeds)
                for trial_id, setting, _ in _to_repeat(first, records, chosen.repeated)
            ]
            records = _run_all(pool, config, [*first, *again], [], journal)
        table = pd.DataFrame(records).sort_values(["trial_id", "seed", "epoch"], ignore_index=True)
        table = table.assign(train_images=config.train_size, val_images=config.val_size)
        table.to_parquet(chosen.output / "learning_curves.parquet", index=False, compression="zstd")
        _write_origin(chosen.output / "learning_curves.yaml", config, space, chosen)


def _parser() -> Parser:
    parser = Parser(description=__doc__)
    parser.add_argument("output", type=Path, help="folder of the table")
    add = partial(parser.add_argument, type=int, metavar="N", help="(default: %(default)s)")
    add("--settings", default=100)
    add("--repeated", default=20)
    add("--seeds", default=3)
    add("--processes", default=2)
    add("--probes", default=[2, 4, 8], nargs="*")
    parser.add_argument("--debug", action="store_true", help="show the traceback of an error")
    add_options(parser, TrainConfig, skip=SEARCHED)
    return parser


def _load(config: TrainConfig) -> None:
    """In each process once: the images that all its runs use."""
    global _data
    _data = load_training_data(config)


_data: TrainingData


def _space(pool: ProcessPoolExecutor, config: TrainConfig) -> SearchSpace:
    test = RangeTestConfig()
    curves = list(pool.map(partial(_sweep, test=test), sweep_configs(config, test)))
    peaks = default_peak_range(config.epochs)
    return SearchSpace(suggest_range(curves).max_lr_range, SearchConfig().l1_factor_range, peaks)


def _sweep(config: TrainConfig, test: RangeTestConfig) -> Curve:
    return sweep(config, _data.train, test)


def _run_all(
    pool: ProcessPoolExecutor, config: TrainConfig, runs: Sequence[Run], probes: Sequence[int], journal: Path
) -> list[dict[str, Any]]:
    """The records of the runs: those in the journal, and the others' after training them."""
    known = [json.loads(line) for line in journal.read_text().splitlines()] if journal.exists() else []
    done = {(record[0]["trial_id"], record[0]["seed"]) for record in known}
    missing = [run for run in runs if (run[0], run[2]) not in done]
    futures = [pool.submit(_record, config, run, probes) for run in missing]
    for future in tqdm(as_completed(futures), total=len(futures), unit="run", mininterval=30):
        known.append(future.result())
        with journal.open("a") as file:
            file.write(json.dumps(known[-1]) + "\n")
    return [row for record in known for row in record]


def _to_repeat(runs: Sequence[Run], records: Sequence[dict[str, Any]], number: int) -> list[Run]:
    """Half of them the best, for the noise where it matters; half drawn from the others."""
    score = {row["trial_id"]: row["val_accuracy"] for row in records if row["seed"] == runs[0][2]}
    ranked = sorted(runs, key=lambda run: -np.nan_to_num(score[run[0]]))
    best, others = ranked[: number // 2], ranked[number // 2 :]
    drawn = np.random.default_rng(0).choice(len(others), number - len(best), replace=False)
    return best + [others[index] for index in sorted(drawn)]


def _record(config: TrainConfig, run: Run, probes: Sequence[int]) -> list[dict[str, Any]]:
    trial_id, setting, seed = run
    trainer = Trainer(replace(setting.applied_to(config), seed=seed), _data)
    rows = []
    while not trainer.done:
        metrics = trainer.run_epoch()
        probe = _probe(trainer) if metrics.epoch in probes and not metrics.diverged else {}
        rows.append({"trial_id": trial_id, "seed": seed, **asdict(setting), **asdict(metrics), **probe})
    return rows


def _probe(trainer: Trainer) -> dict[str, float]:
    """Half an epoch on a fork of the run, the learning rate falling to nothing; the run itself is left as it was."""
    start = time.perf_counter()
    steps = max(1, round(PROBE_EPOCHS * trainer.loader.steps_per_epoch))
    model, optimizer = deepcopy((trainer.model, trainer.optimizer))
    optimizer.parameters = list(model.parameters())
    at = trainer.schedule.at(trainer.finished_epochs * trainer.loader.steps_per_epoch - 1)
    cooldown = OneCycle(steps, 0, at.lr, at.lr, PROBE_END * at.lr, at.momentum, trainer.config.momentum_high)
    batches = _first(trainer.loader.batches(trainer.finished_epochs), steps)
    train_epoch(model, optimizer, batches, cooldown, 0, trainer.compute)
    loss, accuracy = evaluate(model, trainer.data.val, trainer.compute)
    return {
        "probe_val_loss": loss if math.isfinite(loss) else math.nan,
        "probe_val_accuracy": accuracy,
        "probe_seconds": time.perf_counter() - start,
    }


def _first(batches: Iterator[Any], number: int) -> Iterator[Any]:
    return (batch for batch, _ in zip(batches, range(number), strict=False))


def _write_origin(file: Path, config: TrainConfig, space: SearchSpace, chosen: argparse.Namespace) -> None:
    origin = {
        "train": {
            key: value for key, value in to_mapping(config).items() if key not in (*SEARCHED, "seed", "data_dir")
        },
        "space": {name: list(bounds) for name, bounds in asdict(space).items()},
        "settings": chosen.settings,
        "repeated": chosen.repeated,
        "seeds": chosen.seeds,
        "probes": {"after_epochs": chosen.probes, "epochs": PROBE_EPOCHS, "last_lr_share": PROBE_END},
        "packages": {name: version(name) for name in ("torch", "numpy")},
        "python": platform.python_version(),
        "git_revision": git_revision(),
    }
    file.write_text(yaml.safe_dump(origin, sort_keys=False), encoding="utf-8")


if __name__ == "__main__":
    main(sys.argv[1:])
