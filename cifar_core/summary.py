"""What the network consists of, read off the model itself: its layers, and the graph that connects its blocks.

FLOPs are those of one forward pass of one image, two for each multiply-add, in convolutions alone: the rest
(BatchNorm, ReLU, pooling, addition) is limited by memory, not by arithmetic.
"""

from __future__ import annotations

import copy
from functools import partial
from typing import TYPE_CHECKING, NamedTuple

import torch
from torch import Tensor, fx, nn
from torch.fx.passes.shape_prop import ShapeProp
from torch.utils.flop_counter import conv_flop_count

from cifar_core.model import ConvBlock

if TYPE_CHECKING:
    import pandas as pd

IMAGE = (1, 3, 32, 32)


class Layer(NamedTuple):
    """One module without children, in the order in which they run."""

    name: str
    operation: str
    output_shape: tuple[int, ...]  # of one image
    parameters: int
    flops: int


class Block(NamedTuple):
    """A node of the network's graph: a block of layers, an addition or the input."""

    name: str
    operation: str  # in words; empty where the name says it
    inputs: tuple[str, ...]  # names of the blocks whose outputs it takes
    output_shape: tuple[int, ...]  # of one image
    parameters: int
    flops: int


@torch.no_grad()
def layers(model: nn.Module) -> list[Layer]:
    """Every layer that an image passes, by forward hooks on a copy."""
    network = _copy(model)
    rows: list[Layer] = []
    for name, module in network.named_modules():
        if not list(module.children()):
            module.register_forward_hook(partial(_record, rows, name))
    network(torch.zeros(IMAGE))
    return rows


def _record(rows: list[Layer], name: str, module: nn.Module, inputs: tuple[Tensor], output: Tensor) -> None:
    flops = 0
    if isinstance(module, nn.Conv2d):
        flops = conv_flop_count(list(inputs[0].shape), list(module.weight.shape), list(output.shape))
    rows.append(Layer(name, describe(module), tuple(output.shape[1:]), count_parameters(module), flops))


def layer_frame(model: nn.Module) -> pd.DataFrame:
    """`layers` as a table, shapes as C×H×W, with a row of totals at its end."""
    import pandas as pd

    rows = layers(model)
    frame = pd.DataFrame(rows).assign(output_shape=[shape_text(row.output_shape) for row in rows])
    total = {
        "name": "total",
        "parameters": sum(row.parameters for row in rows),
        "flops": sum(row.flops for row in rows),
    }
    return pd.concat([frame, pd.DataFrame([total])], ignore_index=True).fillna("")


@torch.no_grad()
def blocks(model: nn.Module) -> list[Block]:
    """The network as a graph, convolution blocks whole, traced by torch.fx on a copy."""
    network = _copy(model)
    graph = _BlockTracer().trace(network)
    ShapeProp(fx.GraphModule(network, graph)).propagate(torch.zeros(IMAGE))
    flops = {layer.name: layer.flops for layer in layers(model)}
    return [_block(node, network, flops) for node in graph.nodes if node.op != "output"]


def _block(node: fx.Node, network: nn.Module, layer_flops: dict[str, int]) -> Block:
    name, shape = _node_name(node), tuple(node.meta["tensor_meta"].shape[1:])
    inputs = tuple(_node_name(source) for source in node.all_input_nodes)
    if node.op != "call_module":
        return Block(name, "", inputs, shape, 0, 0)
    module = network.get_submodule(name)
    flops = sum(count for layer, count in layer_flops.items() if f"{layer}.".startswith(f"{name}."))
    return Block(name, describe(module), inputs, shape, count_parameters(module), flops)


def _node_name(node: fx.Node) -> str:
    return str(node.target) if node.op == "call_module" else node.name


def describe(module: nn.Module) -> str:
    """What a layer, or a block of them, does, in a few words."""
    match module:
        case nn.Conv2d():
            side, inputs, outputs = module.kernel_size[0], module.in_channels, module.out_channels
            return f"conv {side}×{side}, {inputs}→{outputs}"
        case nn.MaxPool2d():
            return f"max pool {module.kernel_size}"
        case nn.BatchNorm2d():
            return "BatchNorm"
        case nn.Sequential():
            return " · ".join(describe(child) for child in module)
        case _:
            return type(module).__name__


def shape_text(shape: tuple[int, ...]) -> str:
    """`64×32×32`."""
    return "×".join(map(str, shape))


def count_parameters(module: nn.Module) -> int:
    """Number of trained values."""
    return sum(parameter.numel() for parameter in module.parameters())


def count_flops(model: nn.Module) -> int:
    """FLOPs of one image's forward pass."""
    return sum(layer.flops for layer in layers(model))


class _BlockTracer(fx.Tracer):
    """Stops at convolution blocks, so that the graph has one node for each."""

    def is_leaf_module(self, m: nn.Module, module_qualified_name: str) -> bool:
        return isinstance(m, ConvBlock) or super().is_leaf_module(m, module_qualified_name)


def _copy(model: nn.Module) -> nn.Module:
    """A copy to run an image through, so that the model's own statistics and hooks stay."""
    return copy.deepcopy(model).cpu().eval()
