"""`SearchConfig`: what to search and how. Presets are YAML files of it beside a `TrainConfig`."""

from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

from cifar_core.config import RangeTestConfig, TrainConfig
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

PRESETS = Path(__file__).parent / "presets"
SEARCHED = ("max_lr", "l1_factor", "peak_epoch")  # a search sets these itself


@dataclass(frozen=True)
class SearchConfig:
    """The search: its space, its trials, and what each trial may use."""

    num_samples: int = option(64, "trials, the seed's setting (always the first) included", at_least=1)
    searcher: Literal["optuna", "random"] = option("optuna", "optuna: multivariate TPE; random: log-uniform draws")
    startup_trials: int = option(
        10, "trials that Optuna knows before its model takes over from random draws", at_least=1
    )
    scheduler: Literal["asha", "none"] = option("asha", "asha stops trials that are behind at a rung; none runs all")
    grace_period: int = option(3, "epochs before the first rung", at_least=1)
    reduction_factor: float = option(3.0, "a rung keeps the best 1/factor and multiplies epochs by it", at_least=1.1)

    max_lr_range: tuple[float, float] | None = option(
        None, "bounds of max_lr; none takes them from an LR range test", above=0
    )
    l1_factor_range: tuple[float, float] = option(
        (1e-5, 10.0), "bounds of l1_factor; it takes about 1 to pull as hard as weight decay 1e-4", above=0
    )
    peak_epoch_range: tuple[int, int] | None = option(
        None, "bounds of peak_epoch; none is the first epoch to three quarters of the schedule", at_least=0
    )

    cpus_per_trial: int = option(1, "CPU cores, and threads, of each trial", at_least=1)
    gpus_per_trial: float | None = option(
        None, "GPUs of each trial, may be a fraction; none is 1 where there are GPUs", at_least=0
    )
    max_concurrent: int | None = option(None, "trials at a time; none is as many as fit", at_least=1)
    max_failures: int = option(2, "how often a trial whose worker died starts again from its checkpoint", at_least=0)
    time_budget: float | None = option(None, "seconds after which the search stops; --resume goes on", above=0)

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
