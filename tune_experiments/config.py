"""`SearchConfig`: what to search and how. Presets are YAML files of it beside a `TrainConfig`."""

from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

from cifar_core.config import MAX_SEED, RangeTestConfig, TrainConfig
from cifar_core.errors import UserError
from cifar_core.options import (
    Parser,
    add_options,
    check_bounds,
    from_mapping,
    nearest,
    option,
    option_names,
    read_yaml,
    to_mapping,
)
from tune_experiments.early_stopping import Scheduler, rungs

PRESETS = Path(__file__).parent / "presets"
EMA_EPOCHS = 0.5  # the average's span in a search whose rungs look at it, where none is given
SEARCHED = ("max_lr", "l1_factor", "peak_epoch")  # a search sets these itself


@dataclass(frozen=True)
class SearchConfig:
    """The search: its space, its trials, and what each trial may use."""

    num_samples: int = option(64, "trials, the seed's setting (always the first) included", at_least=1)
    searcher: Literal["optuna", "random"] = option("optuna", "optuna: multivariate TPE; random: log-uniform draws")
    startup_trials: int = option(
        10, "trials that Optuna knows before its model takes over from random draws", at_least=1
    )
    scheduler: Scheduler = option(
        "asha",
        "asha stops trials that are behind at a rung by the accuracy of their averaged weights; stock-asha is Ray's, "
        "by validation accuracy; none runs all to the end",
    )
    grace_period: int | None = option(
        None, "epochs before the first rung; none is a twelfth of the schedule", at_least=1
    )
    reduction_factor: float = option(
        3.0, "a rung keeps about the best 1/factor; rungs of stock-asha are this factor apart too", at_least=1.1
    )
    audit: float = option(
        0.1,
        "share of the trials behind at a rung that run to the end all the same, out of the selection, to show what "
        "early stopping loses",
        at_least=0,
        at_most=1,
    )

    max_lr_range: tuple[float, float] | None = option(
        None, "bounds of max_lr; none takes them from an LR range test", above=0
    )
    l1_factor_range: tuple[float, float] = option(
        (1e-5, 10.0), "bounds of l1_factor; it takes about 1 to pull as hard as weight decay 1e-4", above=0
    )
    peak_epoch_range: tuple[int, int] | None = option(
        None, "bounds of peak_epoch; none is the first epoch to three quarters of the schedule", at_least=0
    )

    confirm_top: int = option(
        3,
        "best trials that are trained again with fresh seeds, beside the seed's setting, before the test set is "
        "opened; 0 confirms none and leaves it closed",
        at_least=0,
    )
    confirm_seeds: int = option(5, "fresh seeds of each setting that is confirmed", at_least=2)

    cpus_per_trial: int = option(1, "CPU cores, and threads, of each trial", at_least=1)
    gpus_per_trial: float | None = option(
        None, "GPUs of each trial, may be a fraction; none is 1 where there are GPUs", at_least=0
    )
    max_concurrent: int | None = option(None, "trials at a time; none is as many as fit", at_least=1)
    max_failures: int = option(2, "how often a trial whose worker died starts again from its checkpoint", at_least=0)
    time_budget: float | None = option(
        None, "seconds after which the search, with its confirmation, stops; --resume goes on", above=0
    )

    def __post_init__(self) -> None:
        check_bounds(self)
        gpus = self.gpus_per_trial
        if gpus is not None and gpus > 1 and gpus != int(gpus):
            raise UserError(f"gpus_per_trial is {gpus:g}; above 1 it must be a whole number")


SECTIONS = {"train": TrainConfig, "search": SearchConfig, "range_test": RangeTestConfig}
PREFIXES = {"train": "", "search": "", "range_test": "range_test_"}  # of the sections' flags


@dataclass(frozen=True)
class Plan:
    """Everything that decides a search's outcome, a section of the YAML file each."""

    train: TrainConfig  # the run that every trial starts from
    search: SearchConfig
    range_test: RangeTestConfig

    def __post_init__(self) -> None:
        if self.train.val_size == 0:
            raise UserError("val_size is 0; a search selects on validation images and never on the test set")
        if self.search.peak_epoch_range and self.search.peak_epoch_range[1] > self.train.epochs:
            raise UserError(f"peak_epoch_range ends above epochs ({self.train.epochs})")
        highest = MAX_SEED - self.search.confirm_seeds
        if self.search.confirm_top and self.train.seed > highest:
            raise UserError(f"seed is {self.train.seed}; it must be at most {highest}: confirm_seeds more follow it")

    @property
    def rungs(self) -> list[int]:
        """The epochs at which trials are judged."""
        search = self.search
        return rungs(search.scheduler, search.grace_period, search.reduction_factor, self.train.epochs)

    @property
    def fresh_seeds(self) -> list[int]:
        """The seeds of the confirmation: those after the search's own."""
        return [self.train.seed + number for number in range(1, self.search.confirm_seeds + 1)]

    def to_mapping(self) -> dict[str, Any]:
        """Plain YAML types; `from_mapping` of it gives an equal plan."""
        sections = {name: to_mapping(getattr(self, name)) for name in SECTIONS}
        sections["train"] = {key: value for key, value in sections["train"].items() if key not in SEARCHED}
        return sections

    @classmethod
    def from_mapping(cls, sections: dict[str, Any], flags: dict[str, Any], source: str) -> "Plan":
        """A plan from YAML sections, with the flags that were given on top.

        Raises:
            UserError: an unknown section or key, or a value that does not fit, naming the file or the command line.
        """
        for name, section in sections.items():
            if name not in SECTIONS:
                raise UserError(f"{source}: unknown section {name}{nearest(name, SECTIONS)}")
            if not isinstance(section, dict):
                raise UserError(f"{source}: section {name} must hold 'key: value' lines")
        for name in set(SEARCHED) & set(sections.get("train", {})):
            raise UserError(f"{source}: {name} is searched; {name}_range in section search bounds it")
        built: dict[str, Any] = {}
        for name, schema in SECTIONS.items():
            values, prefix = sections.get(name, {}), PREFIXES[name]
            from_mapping(schema, values, source)  # first without the flags, so that its errors name the file
            given = {key: flags[prefix + key] for key in option_names(schema) if prefix + key in flags}
            built[name] = from_mapping(schema, values | given, "command line")
        return cls(**built)


def add_plan_options(parser: Parser) -> None:
    """The flags of every section, but for what the search sets itself; `threads` follows `cpus_per_trial`."""
    for name, schema in SECTIONS.items():
        add_options(parser, schema, skip=(*SEARCHED, "threads"), prefix=PREFIXES[name])


def preset_names() -> list[str]:
    """The presets that ship with the package."""
    return sorted(path.stem for path in PRESETS.glob("*.yaml"))


def read_preset(name: str) -> dict[str, Any]:
    """The sections of a preset, by name or by the path of a YAML file of one's own."""
    if name in preset_names():
        return read_yaml(PRESETS / f"{name}.yaml")
    if name.endswith((".yaml", ".yml")):
        return read_yaml(Path(name))
    known = preset_names()
    raise UserError(f"unknown preset {name}{nearest(name, known)}; there are {', '.join(known)}, or give a .yaml file")
