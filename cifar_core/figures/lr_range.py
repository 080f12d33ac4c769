"""The picture of an LR range test."""

from matplotlib.axes import Axes
from matplotlib.figure import Figure

from cifar_core.figures.style import BAD, COLOURS, GOOD, NEUTRAL, RAW_LINE, SMOOTH_LINE, new_axes, style
from cifar_core.lr_range_test import Curve, RangeTest, Suggestion


@style()
def lr_range(test: RangeTest) -> Figure:
    """Loss against learning rate, each sweep as measured and smoothed, and the range for `max_lr` shaded."""
    figure, axes = new_axes()
    for number, curve in enumerate(test.curves):
        _draw_curve(axes, curve, COLOURS[number % len(COLOURS)])
    _draw_suggestion(axes, test.suggestion)
    axes.set_xscale("log")
    axes.set_xlabel("learning rate")
    axes.set_ylabel("training loss (nats per image)")
    axes.set_title("LR range test" if test.suggestion.refusal is None else "LR range test: no answer, a wide guess")
    figure.legend(loc="outside lower center", ncols=2)  # outside, as there may be many sweeps
    return figure


def _draw_curve(axes: Axes, curve: Curve, colour: str) -> None:
    axes.plot(curve.lr, curve.capped, color=colour, **RAW_LINE)
    label = f"seed {curve.seed}, l1_factor {curve.l1_factor:g}"
    axes.plot(curve.lr, curve.smoothed, color=colour, label=label, **SMOOTH_LINE)


def _draw_suggestion(axes: Axes, suggestion: Suggestion) -> None:
    low, high = suggestion.max_lr_range
    axes.axvspan(low, high, color=GOOD, alpha=0.15, linewidth=0, label=f"max_lr {low:.2g} to {high:.2g}")
    if suggestion.low is not None:
        axes.axvline(suggestion.low, color=NEUTRAL, linestyle=":", label=f"fall starts, {suggestion.low:.2g}")
    if suggestion.edge is not None:
        axes.axvline(suggestion.edge, color=BAD, linestyle="--", label=f"edge, {suggestion.edge:.2g}")
