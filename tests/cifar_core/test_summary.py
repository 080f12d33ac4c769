import torch

from cifar_core import summary
from cifar_core.model import ResNetC


def test_the_recipes_totals() -> None:
    frame = summary.layer_frame(ResNetC())
    total = frame.iloc[-1]
    assert (total["name"], total["parameters"], total["flops"]) == ("total", 6_573_120, 758_523_904)
    assert frame["parameters"].iloc[:-1].sum() == 6_573_120


def test_a_layers_flops_are_two_per_multiply_add() -> None:
    prep = summary.layers(ResNetC(0.125, classes=7))[0]
    assert (prep.name, prep.operation, prep.output_shape) == ("prep.0", "conv 3×3, 3→8", (8, 32, 32))
    assert prep.flops == 2 * 3 * 9 * 8 * 32 * 32


def test_shapes_are_those_of_a_real_forward_pass() -> None:
    model = ResNetC(1 / 16).eval()
    seen = {}
    for name, module in model.named_modules():
        module.register_forward_hook(lambda _, __, output, name=name: seen.update({name: tuple(output.shape[1:])}))
    model(torch.zeros(1, 3, 32, 32))
    rows = summary.layers(model)
    assert [row.name for row in rows] == [name for name in seen if not list(model.get_submodule(name).children())]
    assert all(row.output_shape == seen[row.name] for row in rows)


def test_the_graph_has_both_residual_additions() -> None:
    blocks = {block.name: block for block in summary.blocks(ResNetC(1 / 16))}
    assert blocks["add"].inputs == ("layer1.0", "layer1.1.block.1")
    assert blocks["layer2"].inputs == ("add",)
    assert blocks["add_1"].inputs == ("layer3.0", "layer3.1.block.1")
    assert blocks["prep"].inputs == ("images",)


def test_the_graphs_blocks_add_up_to_the_network() -> None:
    model = ResNetC(0.25)
    blocks = summary.blocks(model)
    assert sum(block.parameters for block in blocks) == summary.count_parameters(model)
    assert sum(block.flops for block in blocks) == summary.count_flops(model)


def test_the_model_itself_is_left_alone() -> None:
    model = ResNetC(1 / 16).train()
    before = {name: value.clone() for name, value in model.state_dict().items()}
    summary.layers(model), summary.blocks(model)
    assert model.training and not any(module._forward_hooks for module in model.modules())
    assert all(torch.equal(before[name], value) for name, value in model.state_dict().items())
