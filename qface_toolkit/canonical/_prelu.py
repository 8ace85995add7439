"""Bring activations into the form that every lowering needs: slopes in [-1, 1], ReLUs behind a layer of their own."""

from typing import cast

import torch
from torch import fx, nn

from qface_toolkit.canonical.edit import (
    by_input,
    calls,
    depthwise,
    free_name,
    insert_module,
    is_add,
    is_flatten,
    module_of,
    only_user,
    own_module,
    shape_of,
    source,
)
from qface_toolkit.errors import UnsupportedModel

_KEEP_RANGES = (nn.MaxPool2d, nn.AvgPool2d, nn.AdaptiveAvgPool2d)


def one_slope_a_channel(graph_module: fx.GraphModule) -> None:
    """Spread a shared slope over the channels."""
    for node, prelu in calls(graph_module, nn.PReLU):
        if len(shape_of(node)) != 4:
            raise UnsupportedModel(
                "a PReLU stands behind a linear layer, where no lowering knows it",
                where=node.name,
                fix="use ReLU there",
            )
        channels = shape_of(node)[1]
        if prelu.num_parameters != channels:
            wide = nn.PReLU(channels)
            wide.weight.data.copy_(prelu.weight.detach().expand(channels))
            own_module(node, wide)


def convolution_before(graph_module: fx.GraphModule) -> None:
    """Put an identity convolution before a steep PReLU that has none to itself, for its weights to take the slopes."""
    for node, prelu in calls(graph_module, nn.PReLU):
        before = source(node)
        alone = module_of(before, nn.Conv2d) is None or only_user(before) is not node
        if alone and bool((prelu.weight.detach().abs() > 1).any()):
            _insert_identity(node)


def layer_before(graph_module: fx.GraphModule) -> None:
    """Put an identity layer before a ReLU or ReLU6 that has no layer or addition to itself to be fused with."""
    for kind in (nn.ReLU, nn.ReLU6):
        for node, _ in calls(graph_module, kind):
            before = source(node)
            layer = module_of(before, nn.Conv2d) or module_of(before, nn.Linear)
            if (layer is None and not is_add(before)) or only_user(before) is not node:
                _insert_identity(node)


def layer_behind_gates(graph_module: fx.GraphModule) -> None:
    """Put an identity layer between a gate and what shares a range with its input: a gate's is always [0, 1]."""
    for node in list(graph_module.graph.nodes):
        shares = node.target is torch.cat or module_of(node, nn.PReLU) is not None
        for part in node.all_input_nodes if shares else ():
            if _holds_gate(part):
                name = _add_identity(graph_module, f"{part.name}_output", shape_of(part))
                with graph_module.graph.inserting_before(node):
                    node.replace_input_with(part, graph_module.graph.call_module(name, (part,)))


def _holds_gate(node: fx.Node) -> bool:
    """Tell whether a tensor's values come from a sigmoid or hard sigmoid through nothing but what keeps ranges."""
    while is_flatten(node) or any(module_of(node, kind) is not None for kind in _KEEP_RANGES):
        node = source(node)
    return module_of(node, nn.Sigmoid) is not None or module_of(node, nn.Hardsigmoid) is not None


def _insert_identity(node: fx.Node) -> None:
    """Let a node read its input through a layer that changes nothing; its weights quantize without error."""
    owner = cast(fx.GraphModule, node.graph.owning_module)
    name = _add_identity(owner, f"{node.target}_input", shape_of(node))
    with node.graph.inserting_before(node):
        node.args = (node.graph.call_module(name, (source(node),)),)


def _add_identity(owner: fx.GraphModule, wanted: str, shape: tuple[int, ...]) -> str:
    """Add a layer that changes nothing to a network, and return its path."""
    size, name = shape[1], free_name(owner, wanted)
    identity: nn.Module = depthwise(torch.ones(size), torch.zeros(size))
    if len(shape) == 2:
        identity = nn.Linear(size, size)
        nn.init.eye_(identity.weight)
        nn.init.zeros_(identity.bias)
    owner.add_submodule(name, identity)
    return name


def tame_slopes(graph_module: fx.GraphModule) -> None:
    """Bring every slope into [-1, 1] without changing the function.

    For a < -1, prelu_a(z) = prelu_1/a(a*z). For a > 1, prelu_a(z) = -prelu_1/a(-a*z), and whoever reads the channel
    reads it negated.
    """
    for node, prelu in list(calls(graph_module, nn.PReLU)):
        slopes = prelu.weight.detach()
        steep = slopes.abs() > 1
        if not steep.any():
            continue
        conv = cast(nn.Conv2d, module_of(source(node), nn.Conv2d))
        factor = torch.where(steep, -slopes.abs(), torch.ones_like(slopes))
        conv.weight.data *= factor.reshape(-1, 1, 1, 1)
        cast(nn.Parameter, conv.bias).data *= factor
        prelu.weight.data = torch.where(steep, 1 / slopes, slopes)
        _negate(node, slopes > 1)


def _negate(node: fx.Node, channels: torch.Tensor) -> None:
    if not channels.any():
        return
    signs = 1.0 - 2.0 * channels.float()
    readers = [module_of(user, nn.Conv2d) for user in node.users]
    if any(reader is None for reader in readers):
        insert_module(node, f"{node.target}_sign", depthwise(signs, torch.zeros_like(signs)))
        return
    for conv in cast(list[nn.Conv2d], readers):
        conv.weight.data *= by_input(conv, signs)


PASSES = (one_slope_a_channel, convolution_before, tame_slopes, layer_before, layer_behind_gates)
