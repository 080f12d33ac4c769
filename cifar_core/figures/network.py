"""The network as a diagram, drawn from its graph."""

from collections.abc import Sequence
from typing import Any

from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.patches import FancyArrowPatch, FancyBboxPatch

from cifar_core.figures.style import COLOURS, NEUTRAL, new_axes, style
from cifar_core.summary import Block, shape_text

# Everything in inches, y downwards.
ROW, BOX_HEIGHT = 0.62, 0.36
LEFT, RIGHT = 0.6, 6.2
MIDDLE = (LEFT + RIGHT) / 2
OPERATION, PARAMETERS, FLOPS, WIDTH = LEFT + 1.6, RIGHT + 1.1, RIGHT + 2.0, RIGHT + 2.1
BOX = "round,pad=0,rounding_size=0.08"
ARROW: dict[str, Any] = {"arrowstyle": "-|>", "mutation_scale": 11, "color": NEUTRAL, "shrinkA": 0, "shrinkB": 0}


@style()
def network_diagram(blocks: Sequence[Block]) -> Figure:
    """From the image to the logits: operations, parameters and FLOPs of each block, and the shapes between them.

    Args:
        blocks: in the order in which they run; each one's inputs come before it.
    """
    height = ROW * (len(blocks) + 1.2)
    figure, axes = new_axes(panel_size=(WIDTH, height))
    axes.set(xlim=(0, WIDTH), ylim=(height, 0))
    axes.set_axis_off()
    _write_numbers(axes, 0.4, "parameters", "MFLOP")
    rows = {block.name: row for row, block in enumerate(blocks, start=1)}
    for block in blocks:
        _draw_box(axes, block, rows[block.name])
        for source in block.inputs:
            _connect(axes, rows[source], rows[block.name])
        if block.name != blocks[-1].name:
            _write_shape(axes, block, rows[block.name])
    parameters, flops = sum(block.parameters for block in blocks), sum(block.flops for block in blocks)
    _write_numbers(axes, len(blocks) + 0.8, f"{parameters:,}", f"{flops / 1e6:.2f}", weight="bold")
    return figure


def _draw_box(axes: Axes, block: Block, row: float) -> None:
    y = row * ROW
    corner, size = (LEFT, y - BOX_HEIGHT / 2), (RIGHT - LEFT, BOX_HEIGHT)
    axes.add_patch(FancyBboxPatch(corner, *size, boxstyle=BOX, fc=_tint(block), ec=NEUTRAL))
    axes.text(LEFT + 0.1, y, block.name, weight="bold", va="center")
    axes.text(OPERATION, y, block.operation, va="center", fontsize=10)
    if block.parameters or block.flops:
        _write_numbers(axes, row, f"{block.parameters:,}", f"{block.flops / 1e6:.2f}")


def _tint(block: Block) -> tuple[str, float]:
    """Colour and opacity: what computes, what adds, the rest."""
    if block.flops:
        return COLOURS[5], 0.35
    return (COLOURS[1], 0.45) if len(block.inputs) > 1 else ("#999999", 0.2)


def _connect(axes: Axes, start: int, end: int) -> None:
    """An arrow down to the next box, or around the boxes between."""
    if end == start + 1:
        points = (MIDDLE, start * ROW + BOX_HEIGHT / 2), (MIDDLE, end * ROW - BOX_HEIGHT / 2)
        axes.add_patch(FancyArrowPatch(*points, **ARROW))
        return
    around = "arc,angleA=180,angleB=180,armA=26,armB=26,rad=6"
    axes.add_patch(FancyArrowPatch((LEFT, start * ROW), (LEFT, end * ROW), connectionstyle=around, **ARROW))


def _write_shape(axes: Axes, block: Block, row: int) -> None:
    axes.text(MIDDLE + 0.1, (row + 0.5) * ROW, shape_text(block.output_shape), va="center", fontsize=9.5, color=NEUTRAL)


def _write_numbers(axes: Axes, row: float, parameters: str, flops: str, weight: str = "normal") -> None:
    axes.text(PARAMETERS, row * ROW, parameters, ha="right", va="center", weight=weight)
    axes.text(FLOPS, row * ROW, flops, ha="right", va="center", weight=weight)
