import io
import pickle
import random
from collections.abc import Callable
from dataclasses import replace
from itertools import count
from typing import Any

import matplotlib as mpl
import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from cifar_core.config import EXTENSION, RangeTestConfig, TrainConfig
from cifar_core.device import resolve_compute
from cifar_core.errors import UserError
from cifar_core.figures.lr_range import lr_range
from cifar_core.loader import TrainLoader
from cifar_core.lr_range_test import (
    NARROWEST,
    WIDEST,
    Curve,
    RangeTest,
    Suggestion,
    read_curve,
    run,
    smooth,
    suggest_range,
    sweep,
    sweep_configs,
)
from cifar_core.schedule import StepSetting
from cifar_core.synthetic import make_images
from cifar_core.train import Optimizer, build_model, train_step

START = 2.3
Floats = np.ndarray[Any, np.dtype[np.float64]]
Shape = Callable[[Floats], Floats]


def fall_and_rise(low: float, edge: float, depth: float = 0.8) -> Shape:
    """Flat to `low`, straight down (over log lr) to `edge`, then up by 4 a decade."""

    def loss(lr: Floats) -> Floats:
        x, x_low, x_edge = np.log10(lr), np.log10(low), np.log10(edge)
        fall = depth * np.clip((x - x_low) / (x_edge - x_low), 0, 1)
        return np.asarray(START - fall + 4 * np.maximum(0, x - x_edge))

    return loss


def fall_and_explode(low: float, edge: float, depth: float = 0.8) -> Shape:
    """The same fall, then a loss that doubles from step to step."""

    def loss(lr: Floats) -> Floats:
        calm = fall_and_rise(low, edge, depth)(np.minimum(lr, edge))
        steps_after = np.cumsum(lr > edge)
        return np.where(lr > edge, START * 2.0**steps_after, calm).astype(np.float64)

    return loss


def fall_and_plateau(low: float, edge: float, depth: float = 0.8) -> Shape:
    """The same fall, then back at the start level at once, as a network that died."""
    calm = fall_and_rise(low, edge, depth)

    def loss(lr: Floats) -> Floats:
        return np.where(lr > edge, START, calm(np.minimum(lr, edge)))

    return loss


def make_curve(
    shape: Shape, noise: float = 0.0, seed: int = 0, l1_factor: float = 0.0, ends: tuple[float, float] = (1e-3, 1.0)
) -> Curve:
    lr = np.geomspace(*ends, 100)
    return Curve(lr, shape(lr) + noise * np.random.default_rng(seed).standard_normal(100), seed, l1_factor)


# --- reading a curve ---


@pytest.mark.parametrize("shape", [fall_and_rise, fall_and_explode, fall_and_plateau])
@pytest.mark.parametrize(("low", "edge"), [(3e-3, 0.1), (0.01, 0.3), (0.03, 0.5)])
@pytest.mark.parametrize("noise", [0.0, 0.03])
def test_reads_the_low_and_edge_that_are_there(
    shape: Callable[[float, float], Shape], low: float, edge: float, noise: float
) -> None:
    reading = read_curve(make_curve(shape(low, edge), noise))
    assert reading.edge is not None and reading.low is not None
    assert edge * 0.93 < reading.edge < edge * 1.25
    fifth_of_the_fall = low * (edge / low) ** 0.2
    assert fifth_of_the_fall / 1.3 < reading.low < fifth_of_the_fall * 1.3


def test_explosion_is_placed_at_its_very_step() -> None:
    """However high the loss jumps, smoothing must not bring the edge forward."""
    curve = make_curve(fall_and_explode(0.01, 0.2))
    assert read_curve(curve).edge == curve.lr[curve.lr > 0.2][0]


@pytest.mark.parametrize("bad", [np.nan, np.inf])
def test_a_loss_that_is_not_finite_is_the_edge(bad: float) -> None:
    curve = make_curve(fall_and_rise(0.01, 0.3))
    curve.loss[60:] = bad
    assert read_curve(curve).edge == curve.lr[60]
    curve.loss[0] = bad
    assert read_curve(curve) == (None, curve.lr[0])


def test_a_passing_bump_before_the_fall_does_not_count_as_low() -> None:
    shape = fall_and_rise(0.03, 0.5)
    curve = make_curve(lambda lr: shape(lr) - 0.3 * np.exp(-0.5 * ((np.log10(lr) + 2.5) / 0.12) ** 2))
    reading = read_curve(curve)
    assert reading.edge is not None and reading.edge < 0.02  # the bump's own end is the first rise
    smaller = make_curve(lambda lr: shape(lr) - 0.08 * np.exp(-0.5 * ((np.log10(lr) + 2.5) / 0.12) ** 2))
    low = read_curve(smaller).low
    assert low is not None and low > 0.03


def test_noise_alone_is_neither_a_fall_nor_a_rise() -> None:
    noisy = [make_curve(lambda lr: np.full_like(lr, START), 0.04, seed) for seed in range(60)]
    assert sum(read_curve(curve) != (None, None) for curve in noisy) <= 5
    assert all(suggest_range(noisy[first : first + 3]).refusal for first in range(0, 60, 3))


@pytest.mark.parametrize("length", [1, 2, 3])
def test_short_curves_say_nothing(length: int) -> None:
    curve = Curve(np.geomspace(1e-3, 2e-3, length), np.full(length, START), 0, 0.0)
    assert read_curve(curve) == (None, None)


# --- smoothing ---


def test_smoothing_has_no_lag() -> None:
    x = np.linspace(-3, 0, 100)
    jump = np.where(x < -1, 0.0, 1.0)
    crossing = np.interp(0.5, smooth(x, jump), x)
    assert crossing == pytest.approx(-1, abs=x[1] - x[0])
    np.testing.assert_allclose(smooth(x, 2 * x + 1), 2 * x + 1, atol=1e-9)
    np.testing.assert_allclose(smooth(-x[::-1], jump[::-1]), smooth(x, jump)[::-1], atol=1e-9)


# --- suggesting a range ---


def test_range_follows_the_rule() -> None:
    suggestion = suggest_range([make_curve(fall_and_explode(0.002, 0.5), seed=seed) for seed in range(3)])
    assert suggestion.refusal is None and suggestion.edge is not None
    low, high = suggestion.max_lr_range
    assert high == suggestion.edge
    assert low == pytest.approx(high / WIDEST)


def test_a_late_fall_raises_the_low_end_but_leaves_a_wide_enough_range() -> None:
    suggestion = suggest_range([make_curve(fall_and_explode(0.1, 0.5))])
    low, high = suggestion.max_lr_range
    assert suggestion.low is not None and suggestion.low > 0.1
    assert high / low == pytest.approx(NARROWEST)


def test_seeds_are_combined_by_the_median() -> None:
    edges = (0.05, 0.2, 0.9)
    curves = [make_curve(fall_and_explode(0.01, edge), seed=seed) for seed, edge in enumerate(edges)]
    assert suggest_range(curves).edge == pytest.approx(read_curve(curves[1]).edge)


def test_without_an_edge_the_range_ends_where_the_sweep_did() -> None:
    suggestion = suggest_range([make_curve(fall_and_rise(0.01, 10.0))])
    assert suggestion.edge is None and suggestion.refusal is None
    assert suggestion.max_lr_range[1] == pytest.approx(1)


def test_flat_curves_are_refused_with_a_wide_range() -> None:
    suggestion = suggest_range([make_curve(lambda lr: np.full_like(lr, START), 0.02, seed) for seed in range(3)])
    assert suggestion.refusal is not None and "does not fall in 3 of 3 sweeps" in suggestion.refusal
    low, high = suggestion.max_lr_range
    assert high / low >= 100 and suggestion.low is None


def test_curves_that_explode_at_once_are_refused_and_point_below_the_sweep() -> None:
    lr = np.geomspace(1e-3, 1, 100)[:10]
    for loss in ([START, 9.0, 300.0] + [np.nan] * 7, [np.nan] * 10):
        suggestion = suggest_range([Curve(lr, np.array(loss), 0, 0.0)])
        assert suggestion.refusal is not None and "lower learning rate" in suggestion.refusal
        assert suggestion.max_lr_range[0] < suggestion.max_lr_range[1] < 1.2e-3


def test_l1_factors_give_the_union_and_a_dead_one_no_vote() -> None:
    weak = make_curve(fall_and_explode(0.003, 0.3), l1_factor=1e-5)
    strong = make_curve(fall_and_explode(0.01, 0.06), l1_factor=1.0)
    dead = make_curve(lambda lr: np.full_like(lr, START), l1_factor=10.0)
    alone = [suggest_range([curve]).max_lr_range for curve in (weak, strong)]
    together = suggest_range([weak, strong, dead])
    assert together.refusal is None and together.edge == read_curve(weak).edge
    assert together.max_lr_range == (min(low for low, _ in alone), max(high for _, high in alone))


def test_no_curves_is_a_programming_error() -> None:
    with pytest.raises(ValueError, match="no curve"):
        suggest_range([])


curves = st.builds(
    lambda shape, low, ratio, depth, noise, seed, l1_factor: make_curve(
        shape(low, low * ratio, depth), noise, seed, l1_factor
    ),
    shape=st.sampled_from([fall_and_rise, fall_and_explode, fall_and_plateau]),
    low=st.floats(1e-3, 0.5),
    ratio=st.floats(1.2, 100),
    depth=st.floats(0, 2),
    noise=st.floats(0, 0.2),
    seed=st.integers(0, 1000),
    l1_factor=st.sampled_from([0.0, 1.0]),
)


@given(st.lists(curves, min_size=1, max_size=5), st.randoms(use_true_random=False))
def test_properties_of_every_suggestion(sweeps: list[Curve], shuffler: random.Random) -> None:
    suggestion = suggest_range(sweeps)
    low, high = suggestion.max_lr_range
    assert 0 < low < high
    if suggestion.refusal is None:
        assert low >= 1e-3 * (1 - 1e-12) and high <= 1.0 + 1e-12
    shuffled = list(sweeps)
    shuffler.shuffle(shuffled)
    assert suggest_range(shuffled) == suggestion
    scaled = suggest_range([replace(curve, lr=8 * curve.lr) for curve in sweeps])
    np.testing.assert_allclose(scaled.max_lr_range, (8 * low, 8 * high), rtol=1e-9)


# --- sweeping ---


@pytest.fixture(autouse=True)
def one_thread() -> None:
    torch.set_num_threads(1)


CONFIG = TrainConfig(width=1 / 64, head_scale=0.1, batch_size=8, device="cpu", precision="fp32", threads=1)
ONE_SEED = RangeTestConfig(seeds=1)
STEEP = RangeTestConfig(lowest_lr=0.1, highest_lr=1e12)  # explodes within some 30 steps
DATA = make_images(20, seed=0, stream=0)  # batches of 8, 8 and 4, of which sweeps leave out the 4


@pytest.fixture(scope="module")
def curve() -> Curve:
    """An ordinary sweep."""
    return sweep(CONFIG, DATA, ONE_SEED)


def test_learning_rates_are_exponential_and_bounded() -> None:
    test = RangeTestConfig(steps=120, lowest_lr=1e-4, highest_lr=0.5)
    lrs = list(test.learning_rates())
    np.testing.assert_allclose(lrs[:120], np.geomspace(1e-4, 0.5, 120))
    assert 0.5 * EXTENSION * 0.9 < lrs[-1] <= 0.5 * EXTENSION


def test_a_sweep_is_the_training_loop_on_full_batches_at_the_lowest_momentum(curve: Curve) -> None:
    compute = resolve_compute(CONFIG)
    model = build_model(CONFIG, 10, compute).train()
    optimizer = Optimizer(model.parameters(), CONFIG.weight_decay, CONFIG.l1_factor)
    loader = TrainLoader(DATA, CONFIG, compute.device)
    batches = (batch for epoch in count() for batch in list(loader.batches(epoch))[:2])
    losses = [
        train_step(model, optimizer, *next(batches), StepSetting(lr, CONFIG.momentum_low), compute).loss.item()
        for lr in curve.lr[:40]
    ]
    np.testing.assert_array_equal(curve.loss[:40], losses)


def test_a_sweep_runs_through_its_learning_rates(curve: Curve) -> None:
    assert len(curve.lr) == len(curve.loss) >= 60
    np.testing.assert_allclose(curve.lr[:100], np.geomspace(1e-3, 1, 100)[: len(curve.lr)])
    assert (curve.seed, curve.l1_factor) == (CONFIG.seed, CONFIG.l1_factor)


def test_a_sweep_leaves_no_trace_and_can_be_repeated(curve: Curve) -> None:
    def state() -> bytes:
        states = (torch.get_rng_state().numpy().tobytes(), np.random.get_state(), random.getstate())
        return pickle.dumps((states, torch.get_num_threads()))

    torch.set_num_threads(2)
    before = state()
    again = sweep(CONFIG, DATA, ONE_SEED)
    assert state() == before
    np.testing.assert_array_equal(curve.loss, again.loss)


def test_a_sweep_stops_where_the_loss_explodes() -> None:
    curve = sweep(CONFIG, DATA, STEEP)
    assert len(curve.lr) < 100 and len(curve.lr) % 10 == 0
    assert not curve.loss[-10:].max() < 2 * START


def test_a_sweep_without_an_edge_goes_on_and_ends() -> None:
    gentle = RangeTestConfig(lowest_lr=1e-7, highest_lr=1e-5)
    curve = sweep(CONFIG, DATA, gentle)
    assert len(curve.lr) == len(list(gentle.learning_rates())) > 190
    assert curve.lr[-1] == pytest.approx(1e-5 * EXTENSION, rel=0.05)


def test_an_edge_beyond_the_highest_learning_rate_is_found() -> None:
    curve = sweep(CONFIG, DATA, RangeTestConfig(lowest_lr=1e-4, highest_lr=5e-3))
    edge = read_curve(curve).edge
    assert edge is not None and 5e-3 < edge < curve.lr[-10]


@pytest.mark.parametrize("change", [{"seed": 1}, {"l1_factor": 10.0}, {"batch_size": 512}])
def test_a_sweep_depends_on_its_config(change: dict[str, Any]) -> None:
    """A batch larger than the data is the whole data."""
    changed, usual = (sweep(config, DATA, STEEP) for config in (replace(CONFIG, **change), CONFIG))
    assert min(len(changed.lr), len(usual.lr)) >= 10
    assert not np.array_equal(changed.loss[:10], usual.loss[:10])


def test_configs_are_each_seed_at_each_l1_factor() -> None:
    assert sweep_configs(CONFIG, RangeTestConfig()) == [replace(CONFIG, seed=seed) for seed in range(3)]
    extremes = sweep_configs(replace(CONFIG, seed=5), RangeTestConfig(seeds=2, l1_factors=(0.1, 2.0)))
    assert [(c.l1_factor, c.seed) for c in extremes] == [(0.1, 5), (0.1, 6), (2.0, 5), (2.0, 6)]


def test_run_sweeps_and_suggests(curve: Curve) -> None:
    seen: list[Curve] = []
    result = run(CONFIG, DATA, ONE_SEED, on_curve=seen.append)
    assert result.curves == tuple(seen)
    np.testing.assert_array_equal(result.curves[0].loss, curve.loss)
    assert result.suggestion == suggest_range([curve])


@pytest.mark.parametrize(
    ("values", "message"),
    [
        ({"steps": 99}, "steps is 99; it must be at least 100"),
        ({"lowest_lr": 1.0}, "it must be below highest_lr"),
        ({"lowest_lr": 0.0}, "lowest_lr is 0; it must be above 0"),
        ({"l1_factors": (-1.0, 1.0)}, "l1_factors is -1"),
    ],
)
def test_refuses_settings_that_make_no_sense(values: dict[str, Any], message: str) -> None:
    with pytest.raises(UserError, match=message):
        RangeTestConfig(**values)


# --- keeping and drawing ---


def example(*shapes: Shape) -> RangeTest:
    sweeps = tuple(make_curve(shape, 0.03, seed) for seed, shape in enumerate(shapes))
    return RangeTest(sweeps, suggest_range(sweeps))


def test_json_keeps_everything_and_is_standard() -> None:
    test = example(fall_and_rise(0.01, 0.3), fall_and_rise(0.02, 10.0))
    test.curves[0].loss[-2:] = np.nan, np.inf
    text = test.to_json()
    assert "NaN" not in text and "Infinity" not in text
    back = RangeTest.from_json(text)
    assert back.suggestion == test.suggestion
    for ours, theirs in zip(test.curves, back.curves, strict=True):
        np.testing.assert_array_equal(ours.lr, theirs.lr)
        np.testing.assert_array_equal(np.where(np.isfinite(ours.loss), ours.loss, np.nan), theirs.loss)
        assert (ours.seed, ours.l1_factor) == (theirs.seed, theirs.l1_factor)


@pytest.mark.parametrize("text", ["", "[]", "{}", '{"suggestion": {"max_lr_range": 3}, "curves": []}'])
def test_other_json_is_refused(text: str) -> None:
    with pytest.raises(UserError, match="not an LR range test"):
        RangeTest.from_json(text)


def test_figure_shows_the_sweeps_and_the_suggestion() -> None:
    test = example(fall_and_rise(0.01, 0.3), fall_and_explode(0.01, 0.4))
    settings = dict(mpl.rcParams)
    figure = lr_range(test)
    assert dict(mpl.rcParams) == settings
    (axes,) = figure.axes
    assert axes.get_xscale() == "log" and "learning rate" in axes.get_xlabel() and "nats" in axes.get_ylabel()
    (legend,) = figure.legends
    labels = " | ".join(text.get_text() for text in legend.get_texts())
    low, high = test.suggestion.max_lr_range
    for part in ("seed 0", "seed 1", "fall starts", f"edge, {test.suggestion.edge:.2g}", f"{low:.2g} to {high:.2g}"):
        assert part in labels
    picture = io.BytesIO()
    figure.savefig(picture)
    assert picture.tell() > 10_000


def test_figure_of_a_refusal_says_so() -> None:
    sweeps = example(lambda lr: np.full_like(lr, START)).curves
    figure = lr_range(RangeTest(sweeps, Suggestion((1e-3, 1.0), None, None, "flat")))
    assert "no answer" in figure.axes[0].get_title()
