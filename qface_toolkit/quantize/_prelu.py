"""Bring PReLU into the form that every lowering needs: one slope a channel, in [-1, 1], behind a conv of its own."""

from typing import cast

import torch
from torch import fx, nn

from qface_toolkit.quantize._edit import (
    calls,
    depthwise,
    insert_module,
    module_of,
    only_user,
    own_module,
    shape_of,
    source,
)


def one_slope_a_channel(graph_module: fx.GraphModule) -> None:
    """Spread a shared slope over the channels."""
    for node, prelu in calls(graph_module, nn.PReLU):
        channels = shape_of(node)[1]
        if prelu.num_parameters != channels:
            wide = nn.PReLU(channels)
            wide.weight.data.copy_(prelu.weight.detach().expand(channels))
            own_module(node, wide)


def convolution_before(graph_module: fx.GraphModule) -> None:
    """Put an identity convolution before a PReLU that has none to itself: lowerings scale its weights by the slopes."""
    for node, _ in calls(graph_module, nn.PReLU):
        before = source(node)
        if module_of(before, nn.Conv2d) is None or only_user(before) is not node:
            channels = shape_of(node)[1]
            identity = depthwise(torch.ones(channels), torch.zeros(channels))
            graph_module.add_submodule(f"{node.target}_input", identity)
            with graph_module.graph.inserting_before(node):
                node.args = (graph_module.graph.call_module(f"{node.target}_input", (before,)),)


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
        by_group = signs.reshape(conv.groups, -1)
        rows = by_group.repeat_interleave(conv.out_channels // conv.groups, dim=0)
        conv.weight.data *= rows.reshape(conv.out_channels, -1, 1, 1)


PASSES = (one_slope_a_channel, convolution_before, tame_slopes)
