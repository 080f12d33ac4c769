"""95 % confidence intervals."""

import numpy as np
from numpy.typing import NDArray

NORMAL_QUANTILE = 1.959964  # 97.5 %


def wilson_interval(
    hits: NDArray[np.int64], trials: NDArray[np.int64]
) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Interval of a share, `hits` of `trials`, element by element; 0 to 1 where there are no trials.

    Source: Wilson, "Probable inference, the law of succession, and statistical inference" (1927).
    """
    weight = NORMAL_QUANTILE**2
    centre = (hits + weight / 2) / (trials + weight)
    variance = hits * (trials - hits) / np.maximum(trials, 1) + weight / 4
    spread = NORMAL_QUANTILE * np.sqrt(variance) / (trials + weight)
    return np.clip(centre - spread, 0, 1), np.clip(centre + spread, 0, 1)


def mean_interval(samples: NDArray[np.float64]) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Student's interval of the mean along axis 0 of normal `samples` (N, …); NaN where N is 1."""
    from scipy.special import stdtrit

    count = len(samples)
    mean = samples.mean(axis=0)
    if count == 1:
        return np.full_like(mean, np.nan), np.full_like(mean, np.nan)
    spread = stdtrit(count - 1, 0.975) * samples.std(axis=0, ddof=1) / np.sqrt(count)
    return mean - spread, mean + spread
