"""Fold every per-channel affine map into a neighbour, exactly; what has no neighbour becomes a 1x1 depthwise conv."""

from typing import cast

import torch
from torch import fx, nn

from qface_toolkit.canonical._affine import Affine, Pair, merge_affines
from qface_toolkit.canonical.edit import (
    by_input,
    bypass,
    calls,
    depthwise,
    is_flatten,
    module_of,
    only_user,
    own_module,
    shape_of,
    source,
)
from qface_toolkit.canonical.islands import Island


def fold_affines(graph_module: fx.GraphModule) -> None:
    """Remove every Affine: into the layer before it, or the one behind it, or as a depthwise convolution.

    One on vectors that has neither is an island.
    """
    for node, affine in list(calls(graph_module, Affine)):
        pair = affine.scale, affine.shift
        if _fold_backward(node, pair) or _fold_into_concat(node, pair) or _fold_forward(node, pair):
            bypass(node)
        elif _among_islands(node):
            own_module(node, Island.of("scaled", *(value.float().reshape(1, -1, 1, 1) for value in pair)))
        elif len(shape_of(node)) == 4:
            own_module(node, depthwise(*(value.float() for value in pair)))
        elif not _fold_before_flatten(node, pair):
            own_module(node, Island.of("scaled", *(value.float().unsqueeze(0) for value in pair)))


def _among_islands(node: fx.Node) -> bool:
    """Tell whether a convolution would only round what is float: between islands, or on the input itself."""
    around = [source(node), *node.users]
    between = all(module_of(one, Island) is not None for one in around)
    return len(shape_of(node)) == 4 and (between or source(node).op == "placeholder")


def _layer(node: object) -> nn.Conv2d | nn.Linear | None:
    return module_of(node, nn.Conv2d) or module_of(node, nn.Linear)


def _bias(layer: nn.Conv2d | nn.Linear) -> torch.Tensor:
    return torch.zeros(len(layer.weight)).double() if layer.bias is None else layer.bias.detach().double()


def _set(layer: nn.Conv2d | nn.Linear, weight: torch.Tensor, bias: torch.Tensor) -> None:
    layer.weight = nn.Parameter(weight.float())
    layer.bias = nn.Parameter(bias.float())


def _scale_outputs(layer: nn.Conv2d | nn.Linear, pair: Pair) -> None:
    scale, shift = pair
    shape = (-1,) + (1,) * (layer.weight.dim() - 1)
    _set(layer, layer.weight.detach().double() * scale.reshape(shape), _bias(layer) * scale + shift)


def _fold_backward(node: fx.Node, pair: Pair) -> bool:
    return _scale_layer(source(node), node, pair)


def _scale_layer(before: fx.Node, reader: fx.Node, pair: Pair) -> bool:
    """Scale the outputs of what a node computes, if that is a layer which one reader alone reads."""
    layer = _layer(before)
    if layer is None or only_user(before) is not reader:
        return False
    _scale_outputs(layer, pair)
    return True


def _fold_into_concat(node: fx.Node, pair: Pair) -> bool:
    """Fold an Affine behind a concatenation of convolutions that nobody else reads into each of them."""
    concat = source(node)
    if concat.target is not torch.cat or only_user(concat) is not node:
        return False
    parts = cast(list[fx.Node], concat.args[0])
    if len(set(parts)) < len(parts) or sum(shape_of(part)[1] for part in parts) != shape_of(concat)[1]:
        return False  # what stands there twice would be scaled twice; what is joined along rows has one scale in each
    if any(module_of(part, nn.Conv2d) is None or only_user(part) is not concat for part in parts):
        return False
    sizes = [shape_of(part)[1] for part in parts]
    scales, shifts = (torch.split(value, sizes) for value in pair)
    for part, scale, shift in zip(parts, scales, shifts, strict=True):
        _scale_outputs(cast(nn.Conv2d, module_of(part, nn.Conv2d)), (scale, shift))
    return True


def _fold_before_flatten(node: fx.Node, pair: Pair) -> bool:
    """Scale what is flattened instead of the vectors, where all pixels of a channel are scaled alike."""
    flatten, graph = source(node), node.graph
    if not is_flatten(flatten) or len(shape_of(source(flatten))) != 4:
        return False
    channels = shape_of(source(flatten))[1]
    by_pixel = [value.reshape(channels, -1) for value in pair]
    if any((value != value[:, :1]).any() for value in by_pixel):
        return False
    scale, shift = (value[:, 0] for value in by_pixel)
    if only_user(flatten) is node and _scale_layer(source(flatten), flatten, (scale, shift)):
        bypass(node)
        return True
    own_module(node, depthwise(scale.float(), shift.float()))
    node.args = (source(flatten),)
    with graph.inserting_after(node):
        scaled = graph.call_function(torch.flatten, (node, 1))
    node.replace_all_uses_with(scaled, delete_user_cb=lambda user: user is not scaled)
    return True


def _fold_forward(node: fx.Node, pair: Pair) -> bool:
    """Fold into the layer behind, through a flatten; a shift not into a padded one, whose border would not be zero."""
    reader, (scale, shift) = only_user(node), pair
    if is_flatten(reader):
        pixels = shape_of(node)[2] * shape_of(node)[3]
        scale, shift = (value.repeat_interleave(pixels) for value in pair)
        reader = only_user(cast(fx.Node, reader))
    layer = _layer(reader)
    if layer is None or (isinstance(layer, nn.Conv2d) and layer.padding != (0, 0) and shift.any()):
        return False
    weight = layer.weight.detach().double()
    added = (weight * by_input(layer, shift)).flatten(1).sum(1)
    _set(layer, weight * by_input(layer, scale), _bias(layer) + added)
    return True


def fold_pointwise_scales(graph_module: fx.GraphModule) -> None:
    """Fold a 1x1 depthwise convolution into the unpadded full convolution behind it (PocketNet's redundant scales)."""
    for node, scale in list(calls(graph_module, nn.Conv2d)):
        reader = only_user(node)
        conv = module_of(reader, nn.Conv2d)
        if conv is None or not _is_scale(scale) or conv.groups != 1 or conv.padding != (0, 0):
            continue
        if scale.stride != (1, 1) and conv.kernel_size != (1, 1):
            continue
        if conv.kernel_size == (1, 1):
            conv.stride = (conv.stride[0] * scale.stride[0], conv.stride[1] * scale.stride[1])
        factors = scale.weight.detach().double().flatten()
        weight = conv.weight.detach().double()
        added = (weight * _bias(scale).reshape(1, -1, 1, 1)).flatten(1).sum(1)
        _set(conv, weight * factors.reshape(1, -1, 1, 1), _bias(conv) + added)
        bypass(node)


def _is_scale(conv: nn.Conv2d) -> bool:
    return (
        conv.kernel_size == (1, 1) and conv.padding == (0, 0) and conv.groups == conv.in_channels == conv.out_channels
    )


def linear_for_last_conv(graph_module: fx.GraphModule) -> None:
    """Replace a 1x1 convolution over a single pixel, flattened behind, by flatten and Linear: that may stay float."""
    for node, conv in list(calls(graph_module, nn.Conv2d)):
        flatten = only_user(node)
        if not is_flatten(flatten) or shape_of(source(node))[2:] != (1, 1) or conv.groups != 1:
            continue
        if conv.kernel_size != (1, 1) or conv.padding != (0, 0):
            continue
        linear = nn.Linear(conv.in_channels, conv.out_channels, bias=conv.bias is not None)
        linear.weight.data.copy_(conv.weight.detach().flatten(1))
        if conv.bias is not None:
            linear.bias.data.copy_(conv.bias.detach())
        bypass(cast(fx.Node, flatten))
        with graph_module.graph.inserting_before(node):
            node.args = (graph_module.graph.call_function(torch.flatten, (source(node), 1)),)
        own_module(node, linear)


def biases_everywhere(graph_module: fx.GraphModule) -> None:
    """Give each layer a bias, so that whoever shifts outputs finds one."""
    for kind in (nn.Conv2d, nn.Linear):
        for _, layer in calls(graph_module, kind):
            if layer.bias is None:
                layer.bias = nn.Parameter(torch.zeros(len(layer.weight)))


PASSES = (merge_affines, fold_pointwise_scales, fold_affines, linear_for_last_conv, biases_everywhere)
