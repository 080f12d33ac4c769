"""The LR range test: sweep the learning rate from very low to too high, and read a range for `max_lr` off the loss.

`sweep` measures one curve, `suggest_range` reads curves and is pure, `run` does both. A suggestion is a range: it
reaches up to `edge`, where the loss first rises, and down to `low`, where it starts to fall, but at least to
edge / 10 and at most to edge / 30. Three sweeps against whole runs (validation %, mean of two seeds), at width 1/8
in batches of 128:

    max_lr                            0.006   0.015   0.03   0.06   0.1    0.2      low      edge
    synthetic, 3,000, 8 epochs        63.3    74.1    74.9   72.7   69.7   54.5     0.0050   0.057
    CIFAR-10, 5,000, 6 epochs         40.1    45.1    46.7   45.5   41.4   36.6     0.0053   0.053

The best is near edge / 2. Twenty epochs of synthetic are alike (one seed; 0.03: 86.9, 0.06: 85.9, 0.12: 85.1). The
edge stays within 0.05–0.07 for l1_factor 1, head_scale 1, and 20 steps a decade instead of 33, but single seeds differ
by up to 1.8 times. Made by `python tests/benchmarks/lr_range_calibration.py` (torch 2.15, CPU, fp32).

Source: Smith, "Cyclical Learning Rates" (arXiv 1506.01186), section 3.3.
"""

import json
import math
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import asdict, dataclass, replace
from itertools import count
from typing import NamedTuple

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from cifar_core.config import RangeTestConfig, TrainConfig
from cifar_core.device import resolve_compute
from cifar_core.errors import UserError
from cifar_core.image_data import ImageData
from cifar_core.loader import TrainLoader
from cifar_core.schedule import StepSetting
from cifar_core.train import Optimizer, build_model, train_step

Floats = NDArray[np.float64]

CHECK_EVERY = 10  # steps between two looks at the loss: each look waits for the device
EXPLODED = 2.0  # times the start level. Cross-entropy starts near ln(classes): "4 times the best" would come late

START_STEPS = 10  # the median of their losses is the start level: little is learned so soon
SMOOTHING_DECADES = 0.1  # standard deviation of the Gaussian window; 3.3 steps of the default sweep
FALL_SHARE = 0.2  # `low` is where this share of the whole fall is done, and stays done
RISE_SHARE = 0.05  # `edge` is where the loss is this share of the start level above the lowest so far
FLAT_SHARE = 0.03  # a fall of less than this share of the start level is none,
FLAT_ERRORS = 4.0  # nor is one of fewer standard errors: the lowest of 30 noisy values alone is 2 below
NARROWEST = 10.0  # high / low of a suggestion, as far down as the sweep goes
WIDEST = 30.0  # high / low of a suggestion
FALLBACK = 100.0  # high / low of a fallback, at least


@dataclass(frozen=True, eq=False)
class Curve:
    """One sweep, float64 (S,) arrays: rising learning rates, and each batch's mean cross-entropy, maybe not finite."""

    lr: Floats
    loss: Floats
    seed: int
    l1_factor: float

    @property
    def start_level(self) -> float:
        """The loss before anything was learned; NaN where it was never finite."""
        start = self.loss[:START_STEPS]
        return float(np.median(start[np.isfinite(start)])) if np.isfinite(start).any() else math.nan

    @property
    def capped(self) -> Floats:
        """The losses with whatever is above `EXPLODED` times the start level, or not finite, put down to there."""
        cap = EXPLODED * self.start_level
        return np.where(self.loss < cap, self.loss, cap)

    @property
    def smoothed(self) -> Floats:
        """`capped`, smoothed."""
        return smooth(np.log10(self.lr), self.capped)


class Reading(NamedTuple):
    """What one curve says. `low` and `edge` are learning rates, None where the loss neither fell nor rose."""

    low: float | None
    edge: float | None


@dataclass(frozen=True)
class Suggestion:
    """A range for `max_lr`.

    Attributes:
        max_lr_range: low and high.
        low: where the loss starts a sustained fall; None in a refusal.
        edge: where it first rises or becomes unstable; None where no sweep got there.
        refusal: why the curves allow no answer, so that the range is only a wide guess; None where they do.
    """

    max_lr_range: tuple[float, float]
    low: float | None
    edge: float | None
    refusal: str | None = None


@dataclass(frozen=True, eq=False)
class RangeTest:
    """The sweeps and what they suggest."""

    curves: tuple[Curve, ...]
    suggestion: Suggestion

    def to_json(self) -> str:
        """Standard JSON: a loss that is not finite is null."""
        curves = [
            {
                "seed": curve.seed,
                "l1_factor": curve.l1_factor,
                "lr": curve.lr.tolist(),
                "loss": [loss if math.isfinite(loss) else None for loss in curve.loss.tolist()],
            }
            for curve in self.curves
        ]
        return json.dumps({"suggestion": asdict(self.suggestion), "curves": curves}, allow_nan=False)

    @classmethod
    def from_json(cls, text: str) -> "RangeTest":
        """The inverse of `to_json`, a loss that was not finite becoming NaN; raises `UserError` for other text."""
        try:
            content = json.loads(text)
            suggestion = content["suggestion"] | {"max_lr_range": tuple(content["suggestion"]["max_lr_range"])}
            curves = (
                curve | {name: np.array(curve[name], np.float64) for name in ("lr", "loss")}
                for curve in content["curves"]
            )
            return cls(tuple(Curve(**curve) for curve in curves), Suggestion(**suggestion))
        except (ValueError, KeyError, TypeError) as error:
            raise UserError(f"not an LR range test as this version writes it ({error})") from None


def run(
    config: TrainConfig,
    data: ImageData,
    test: RangeTestConfig,
    on_curve: Callable[[Curve], object] = lambda curve: None,
) -> RangeTest:
    """Sweep once for each of `sweep_configs`, one after the other, and suggest a range."""
    curves = []
    for sweep_config in sweep_configs(config, test):
        curves.append(sweep(sweep_config, data, test))
        on_curve(curves[-1])
    return RangeTest(tuple(curves), suggest_range(curves))


def sweep_configs(config: TrainConfig, test: RangeTestConfig) -> list[TrainConfig]:
    """The training configs to sweep with: `test.seeds` seeds from the config's own on, at each `l1_factor`."""
    return [
        replace(config, l1_factor=l1_factor, seed=config.seed + offset)
        for l1_factor in test.l1_factors or (config.l1_factor,)
        for offset in range(test.seeds)
    ]


def sweep(config: TrainConfig, data: ImageData, test: RangeTestConfig) -> Curve:
    """Train fresh weights at rising learning rates, with the batches, augmentation and penalties of a real run.

    Momentum is `momentum_low` throughout: what a run has when its learning rate is at `max_lr`. Goes on beyond
    `highest_lr` until there is an edge, and stops where the loss explodes. Leaves the process's random state and
    its number of threads as they were.
    """
    compute = resolve_compute(config)
    losses: list[Tensor] = []
    lrs: list[float] = []
    with _threads(config.threads):
        model = build_model(config, len(data.class_names), compute).train()
        optimizer = Optimizer(model.parameters(), config.weight_decay, config.l1_factor, config.nesterov)
        batches = _full_batches(TrainLoader(data, config, compute.device), min(config.batch_size, len(data)))
        for (images, labels), lr in zip(batches, test.learning_rates(), strict=False):
            setting = StepSetting(lr, config.momentum_low)
            result = train_step(model, optimizer, images, labels, setting, compute, config.label_smoothing)
            losses.append(result.loss)
            lrs.append(lr)
            if len(lrs) % CHECK_EVERY == 0 or len(lrs) == test.steps:
                curve = _curve(lrs, losses, config)
                if _exploded(curve) or (len(lrs) >= test.steps and _is_past_its_edge(curve)):
                    return curve
    return _curve(lrs, losses, config)


def _full_batches(loader: TrainLoader, size: int) -> Iterator[tuple[Tensor, Tensor]]:
    """Batches without end, but for the short last one of each epoch.

    Its loss and its step are mostly noise: with a batch of 8 in 40, seeds put the edge at 0.06, 0.11 and 0.17
    instead of 0.053, 0.053 and 0.066.
    """
    for epoch in count():
        for images, labels in loader.batches(epoch):
            if len(labels) == size:
                yield images, labels


def _curve(lrs: list[float], losses: list[Tensor], config: TrainConfig) -> Curve:
    return Curve(np.array(lrs), torch.stack(losses).cpu().double().numpy(), config.seed, config.l1_factor)


def _exploded(curve: Curve) -> bool:
    recent = curve.loss[-CHECK_EVERY:]
    return not np.isfinite(recent).all() or bool(np.median(recent) > EXPLODED * curve.start_level)


def _is_past_its_edge(curve: Curve) -> bool:
    """Whether there is an edge, and enough after it to tell it from noise at the end of a smoothed curve."""
    edge = read_curve(curve).edge
    return edge is not None and edge < curve.lr[-CHECK_EVERY]


@contextmanager
def _threads(number: int) -> Iterator[None]:
    before = torch.get_num_threads()
    torch.set_num_threads(number or before)
    try:
        yield
    finally:
        torch.set_num_threads(before)


def suggest_range(curves: Sequence[Curve]) -> Suggestion:
    """Turn curves into a range for `max_lr`; pure, and indifferent to the order of the curves.

    Curves of one `l1_factor` are read one by one and combined by the median of their logarithms. Over several
    `l1_factor`s the range is the union of those that give an answer, for the search space is a box: a `max_lr` too
    many is a trial stopped early, one too few can never be found. An `l1_factor` at which nothing learns says nothing.
    """
    if not curves:
        raise ValueError("there is no curve")
    groups = [[curve for curve in curves if curve.l1_factor == l1] for l1 in sorted({c.l1_factor for c in curves})]
    suggestions = [_suggest(group) for group in groups]
    answers = [suggestion for suggestion in suggestions if suggestion.refusal is None] or suggestions
    return Suggestion(
        max_lr_range=(min(a.max_lr_range[0] for a in answers), max(a.max_lr_range[1] for a in answers)),
        low=min((answer.low for answer in answers if answer.low is not None), default=None),
        edge=None if any(a.edge is None for a in answers) else max(a.edge for a in answers if a.edge is not None),
        refusal=answers[0].refusal,
    )


def _suggest(curves: Sequence[Curve]) -> Suggestion:
    """The suggestion of curves that differ only in their seed."""
    readings = [read_curve(curve) for curve in curves]
    lows = [reading.low for reading in readings if reading.low is not None]
    edge = _log_median([reading.edge or math.inf for reading in readings])
    lowest = float(min(curve.lr[0] for curve in curves))
    high = min(edge, float(max(curve.lr[-1] for curve in curves)))
    reached = edge if math.isfinite(edge) else None
    refusal = None
    if high <= max(curve.lr[:START_STEPS][-1] for curve in curves):
        refusal = f"the loss rises at the start of the sweep, at {high:.2g}; sweep from a lower learning rate"
    elif 2 * len(lows) <= len(curves):
        refusal = f"the loss does not fall in {len(curves) - len(lows)} of {len(curves)} sweeps; sweep in more steps"
    if refusal:
        return Suggestion((min(lowest, high / FALLBACK), high), None, reached, refusal)
    low = _log_median(lows)
    bottom = max(lowest, min(max(low, high / WIDEST), high / NARROWEST))
    return Suggestion((bottom, high), low, reached)


def _log_median(values: Sequence[float]) -> float:
    return float(np.exp(np.median(np.log(values))))


def read_curve(curve: Curve) -> Reading:
    """Where the loss of one sweep starts a sustained fall, and where it first rises."""
    if not np.isfinite(curve.loss[0]):
        return Reading(None, float(curve.lr[0]))
    capped, smoothed, start = curve.capped, curve.smoothed, curve.start_level
    level = np.minimum.accumulate(smoothed) + RISE_SHARE * start
    # Smoothing spreads a jump to both sides: the batch itself must be up, too.
    risen = np.flatnonzero((smoothed > level) & (capped > level))
    edge = float(curve.lr[risen[0]]) if len(risen) else None
    before = slice(0, risen[0] if len(risen) else None)
    return Reading(_read_low(curve.lr[before], capped[before], smoothed[before], start), edge)


def _read_low(lr: Floats, loss: Floats, smoothed: Floats, start: float) -> float | None:
    """Where the fall to the lowest loss starts; None where there is no fall beyond the noise."""
    if len(lr) == 0:
        return None
    best = int(smoothed.argmin())
    fall = start - smoothed[best]
    if fall <= max(FLAT_SHARE * start, FLAT_ERRORS * _standard_error(np.log10(lr), loss - smoothed)):
        return None
    not_yet = np.flatnonzero(smoothed[: best + 1] > start - FALL_SHARE * fall)
    return float(lr[min(not_yet[-1] + 1, best)] if len(not_yet) else lr[0])


def _standard_error(x: Floats, residuals: Floats) -> float:
    """Of the difference between a smoothed loss and the start level, from the scatter about the smoothed curve."""
    scatter = 1.4826 * float(np.median(np.abs(residuals)))
    spacing = (x[-1] - x[0]) / max(1, len(x) - 1)
    window = max(1.0, 2 * math.sqrt(math.pi) * SMOOTHING_DECADES / spacing) if spacing else 1.0
    return scatter * math.sqrt(1 / window + math.pi / 2 / START_STEPS)


def smooth(x: Floats, y: Floats) -> Floats:
    """Local linear regression with a Gaussian window of `SMOOTHING_DECADES`: no lag, no pull at the ends.

    Source: Hastie, Tibshirani & Friedman, "The Elements of Statistical Learning", section 6.1.1.

    Args:
        x: log10 of the learning rate, (S,).
        y: (S,), finite.
    """
    offset = x - x[:, None]
    weight = np.exp(-0.5 * (offset / SMOOTHING_DECADES) ** 2)
    s0, s1, s2 = (np.sum(weight * offset**power, axis=1) for power in range(3))
    t0, t1 = weight @ y, (weight * offset) @ y
    spread = s0 * s2 - s1**2
    line = np.divide(s2 * t0 - s1 * t1, spread, out=t0 / s0, where=spread > 1e-12 * s0**2)
    return np.asarray(line)
