"""The OneCycle schedule: what the optimizer is told at each step."""

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import MaxNLocator

from cifar_core.figures.style import BAD, COLOURS, new_figure, style
from cifar_core.schedule import OneCycle


@style()
def one_cycle_curve(schedule: OneCycle, steps_per_epoch: int) -> Figure:
    """Learning rate and momentum against the step, the peak marked, epochs along the top."""
    settings = np.array([schedule.at(step) for step in range(schedule.total_steps)])
    peak = int(settings[:, 0].argmax())
    figure, axes = new_figure(rows=2, panel_size=(6.4, 2.4))
    rate, momentum = axes[:, 0]
    rate.plot(settings[:, 0], color=COLOURS[0], linewidth=2)
    momentum.plot(settings[:, 1], color=COLOURS[2], linewidth=2)
    rate.set(ylabel="learning rate", ylim=(0, 1.3 * schedule.max_lr))
    momentum.set(ylabel="momentum", xlabel="step")
    momentum.margins(y=0.25)
    _mark(rate, peak, settings[peak, 0], f"peak {settings[peak, 0]:.3g} at step {peak}", above=True)
    _mark(momentum, peak, settings[peak, 1], f"{settings[peak, 1]:.3g}", above=False)
    rate.sharex(momentum)
    rate.tick_params(labelbottom=False)
    to_epoch, to_step = (lambda step: step / steps_per_epoch), (lambda epoch: epoch * steps_per_epoch)
    epochs = rate.secondary_xaxis("top", functions=(to_epoch, to_step))
    epochs.set_xlabel("epoch")
    epochs.xaxis.set_major_locator(MaxNLocator(integer=True))
    return figure


def _mark(axes: Axes, step: int, value: float, text: str, above: bool) -> None:
    axes.plot([step], [value], marker="o", color=BAD, label="peak")
    offset, side = (4, "bottom") if above else (-6, "top")
    axes.annotate(text, (step, value), xytext=(6, offset), textcoords="offset points", va=side, color=BAD)
