"""Numbers as a reader wants them."""

from collections.abc import Mapping
from typing import Any


def percent(share: float) -> str:
    """`0.8951` as `89.5 %`."""
    return f"{100 * share:.1f} %"


def count(number: int, noun: str) -> str:
    """`1 trial`, `2 trials`, `10,000 trials`."""
    return f"{number:,} {noun}" + ("" if number == 1 else "s")


def duration(seconds: float) -> str:
    """`95 s`, `12 min`, `3.4 h`."""
    if seconds < 120:
        return f"{seconds:.0f} s"
    return f"{seconds / 60:.0f} min" if seconds < 7200 else f"{seconds / 3600:.1f} h"


def setting_text(row: Mapping[Any, Any] | Any) -> str:
    """A trial's three parameters."""
    return f"max_lr {row['max_lr']:.3g}, l1_factor {row['l1_factor']:.2g}, peak_epoch {row['peak_epoch']}"
