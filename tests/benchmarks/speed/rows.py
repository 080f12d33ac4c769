"""A measurement as a row of the table, and the machine that it was made on."""

import os
import platform
from collections.abc import Sequence
from dataclasses import dataclass, field
from importlib.metadata import version
from pathlib import Path
from statistics import median

import torch

PACKAGES = ("torch", "ray", "optuna", "albumentations", "numpy")


@dataclass(frozen=True)
class Row:
    """One line of the table.

    Attributes:
        what: was measured.
        goal: what it was to be.
        measured: what it was, with its spread.
        limit: what keeps it from being better.
        figures: the single measurements behind it.
    """

    what: str
    goal: str
    measured: str
    limit: str = ""
    figures: dict[str, object] = field(default_factory=dict)


def table(rows: Sequence[Row]) -> str:
    """The rows as Markdown."""
    lines = ["| what | goal | measured | what limits it |", "| --- | --- | --- | --- |"]
    return "\n".join([*lines, *(f"| {row.what} | {row.goal} | {row.measured} | {row.limit} |" for row in rows)])


def machine() -> dict[str, str]:
    """Where this runs: processor, cores, GPU, Python and packages."""
    cpu = platform.processor() or platform.machine()
    if (info := Path("/proc/cpuinfo")).exists():
        names = [line.partition(":")[2].strip() for line in info.read_text().splitlines() if "model name" in line]
        cpu = names[0] if names else cpu
    return {
        "cpu": f"{cpu}, {os.cpu_count()} cores",
        "bf16 in hardware": "AMX" if torch.cpu._is_amx_tile_supported() else "no AMX",
        "gpu": torch.cuda.get_device_name() if torch.cuda.is_available() else "none",
        "python": platform.python_version(),
        **{package: version(package) for package in PACKAGES},
    }


def cores_free() -> float:
    """How many cores other work leaves, by the load of the last minute."""
    return (os.cpu_count() or 1) - os.getloadavg()[0]


def spread(values: Sequence[float], form: str = "{:.2f}") -> str:
    """Median, and the range in brackets."""
    low, middle, high = (form.format(value) for value in (min(values), median(values), max(values)))
    return f"{middle} ({low} – {high}, n = {len(values)})"
