"""The LR range test that a search began with, and where its good trials lie on it."""

import json
from typing import NamedTuple

import numpy as np
import pandas as pd

from cifar_core.errors import UserError

RANGE_TEST_FILE = "lr_range_test.json"
START_STEPS = 10  # whose median loss is the start level
EXPLODED = 2.0  # times the start level: more, or a loss that is not finite, is drawn there
SMOOTHING_DECADES = 0.1


class RangeTest(NamedTuple):
    """What a range test measured and suggests.

    Attributes:
        curves: one row per sweep and step: `sweep` (its seed and l1_factor), `lr` and `loss`, smoothed.
        max_lr_range: suggested.
        edge: the learning rate at which the loss first rises, None where no sweep got there.
    """

    curves: pd.DataFrame
    max_lr_range: tuple[float, float]
    edge: float | None


def read_range_test(text: str) -> RangeTest:
    """The content of `lr_range_test.json`; raises `UserError` where it is damaged."""
    try:
        content = json.loads(text)
        low, high = map(float, content["suggestion"]["max_lr_range"])
        edge = content["suggestion"]["edge"]
        curves = [
            pd.DataFrame(
                {
                    "sweep": f"seed {curve['seed']}, l1_factor {curve['l1_factor']:g}",
                    "lr": np.array(curve["lr"], np.float64),
                    "loss": np.array(curve["loss"], np.float64),
                }
            )
            for curve in content["curves"]
        ]
        return RangeTest(pd.concat([_smoothed(curve) for curve in curves]), (low, high), edge and float(edge))
    except (ValueError, KeyError, TypeError) as error:
        raise UserError(f"{RANGE_TEST_FILE} is damaged ({type(error).__name__}: {error})") from None


def _smoothed(curve: pd.DataFrame) -> pd.DataFrame:
    """Its losses capped and averaged with a Gaussian window over log lr; the steps are equal ones of log lr."""
    from scipy.ndimage import gaussian_filter1d

    cap = EXPLODED * curve["loss"].head(START_STEPS).median()
    step = np.log10(curve["lr"].iloc[-1] / curve["lr"].iloc[0]) / max(1, len(curve) - 1)
    capped = curve["loss"].fillna(cap).clip(upper=cap).to_numpy()
    return curve.assign(loss=gaussian_filter1d(capped, SMOOTHING_DECADES / step, mode="nearest") if step else capped)


def describe_range(test: RangeTest, top: pd.DataFrame) -> str:
    """Where on the curve the best trials lie, and whether at an end of what was searched.

    Args:
        test: the sweeps and the suggested range.
        top: as `ranking.top_settings` gives it.
    """
    row = top[top["parameter"] == "max_lr"].iloc[0]
    start, end, *values = np.log10([*test.max_lr_range, row["low"], row["high"], row["best"]])
    low, high, best = (f"{100 * (value - start) / max(end - start, 1e-12):.0f} %" for value in values)
    where = f"at {best}" if low == high else f"from {low} to {high}, the best one at {best},"
    to_edge = test.edge / row["best"] if test.edge else None
    return (
        f"The LR range test suggested max_lr {test.max_lr_range[0]:.3g} to {test.max_lr_range[1]:.3g}. "
        f"The best 10 % lie {where} of the way from its low end to its high one (on a log scale)"
        + (f"; the loss first rises at {to_edge:.2g} times the best one's max_lr" if to_edge else "")
        + f". Its max_lr lies {'at the ' + row['edge'] + ' end of' if row['edge'] else 'inside'} what was searched."
    )
