import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from cifar_core.intervals import mean_interval, wilson_interval


def test_wilson_on_published_cases() -> None:
    # Brown, Cai & DasGupta (2001) and the closed form at 0: z² / (n + z²)
    low, high = wilson_interval(np.array([5, 0, 10]), np.array([10, 10, 10]))
    np.testing.assert_allclose(low, [0.2366, 0.0, 0.7225], atol=1e-4)
    np.testing.assert_allclose(high, [0.7634, 0.2775, 1.0], atol=1e-4)


def test_wilson_knows_nothing_without_trials() -> None:
    low, high = wilson_interval(np.array([0]), np.array([0]))
    np.testing.assert_allclose([low[0], high[0]], [0, 1], atol=1e-9)


@given(st.integers(1, 10_000), st.floats(0, 1))
def test_wilson_holds_the_share_and_narrows(trials: int, share: float) -> None:
    hits = np.array([round(share * trials)])
    low, high = wilson_interval(hits, np.array([trials]))
    assert 0 <= low[0] <= hits[0] / trials + 1e-12 and hits[0] / trials - 1e-12 <= high[0] <= 1
    more_low, more_high = wilson_interval(hits * 100, np.array([trials * 100]))
    assert more_high[0] - more_low[0] < high[0] - low[0]


def test_mean_interval_on_a_hand_made_case() -> None:
    low, high = mean_interval(np.array([[1.0, 5.0], [2.0, 5.0], [3.0, 5.0]]))
    np.testing.assert_allclose(low, [2 - 4.3027 / 3**0.5, 5], atol=1e-4)
    np.testing.assert_allclose(high, [2 + 4.3027 / 3**0.5, 5], atol=1e-4)


def test_one_sample_has_no_interval() -> None:
    assert np.isnan(mean_interval(np.array([[0.9]]))).all()


def test_mean_interval_covers_as_often_as_it_says() -> None:
    samples = np.random.default_rng(0).standard_normal((5, 4000))
    low, high = mean_interval(samples)
    assert np.mean((low < 0) & (high > 0)) == pytest.approx(0.95, abs=0.01)
