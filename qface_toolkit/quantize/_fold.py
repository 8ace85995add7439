"""Fold every per-channel affine map into a neighbour, exactly; what has no neighbour becomes a 1x1 depthwise conv."""

import operator
from typing import cast

import torch
import torch.nn.functional as F  # noqa: N812 - the name everybody knows it by
from torch import fx, nn
from torch.nn.modules.batchnorm import _BatchNorm

from qface_toolkit.errors import UnsupportedModel
from qface_toolkit.quantize._edit import (
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

Affine = tuple[torch.Tensor, torch.Tensor]
_BATCH_NORMS: tuple[type[_BatchNorm], ...] = (nn.BatchNorm2d, nn.BatchNorm1d)


def fold_batch_norms(graph_module: fx.GraphModule) -> None:
    """Remove every BatchNorm: into the layer before it, or the one behind it, or as a depthwise convolution."""
    for kind in _BATCH_NORMS:
        for node, norm in list(calls(graph_module, kind)):
            affine = _affine(norm)
            if _fold_backward(node, affine) or _fold_into_concat(node, affine) or _fold_forward(node, affine):
                bypass(node)
            elif len(shape_of(node)) == 4:
                own_module(node, depthwise(*(value.float() for value in affine)))
            else:
                raise UnsupportedModel(
                    "a BatchNorm1d stands alone: there is no linear layer before or behind it to fold it into",
                    where=str(node.target),
                    fix="fold it by hand, or end the network before it",
                )


def _affine(norm: _BatchNorm) -> Affine:
    """Return (scale, shift) of a BatchNorm at inference, in float64 so that folding costs no precision."""
    if norm.running_mean is None or norm.running_var is None:
        raise UnsupportedModel("a BatchNorm keeps no running statistics", fix="fold it by hand before compressing")
    mean, var = norm.running_mean.double(), norm.running_var.double()
    gamma = torch.ones_like(mean) if norm.weight is None else norm.weight.detach().double()
    beta = torch.zeros_like(mean) if norm.bias is None else norm.bias.detach().double()
    scale = gamma / torch.sqrt(var + norm.eps)
    return scale, beta - mean * scale


def _layer(node: object) -> nn.Conv2d | nn.Linear | None:
    return module_of(node, nn.Conv2d) or module_of(node, nn.Linear)


def _bias(layer: nn.Conv2d | nn.Linear) -> torch.Tensor:
    return torch.zeros(len(layer.weight)).double() if layer.bias is None else layer.bias.detach().double()


def _set(layer: nn.Conv2d | nn.Linear, weight: torch.Tensor, bias: torch.Tensor) -> None:
    layer.weight = nn.Parameter(weight.float())
    layer.bias = nn.Parameter(bias.float())


def _scale_outputs(layer: nn.Conv2d | nn.Linear, affine: Affine) -> None:
    scale, shift = affine
    shape = (-1,) + (1,) * (layer.weight.dim() - 1)
    _set(layer, layer.weight.detach().double() * scale.reshape(shape), _bias(layer) * scale + shift)


def _fold_backward(node: fx.Node, affine: Affine) -> bool:
    layer = _layer(source(node))
    if layer is None or only_user(source(node)) is not node:
        return False
    _scale_outputs(layer, affine)
    return True


def _fold_into_concat(node: fx.Node, affine: Affine) -> bool:
    """Fold a BatchNorm behind a concatenation of convolutions that nobody else reads into each of them."""
    concat = source(node)
    if concat.target is not torch.cat or only_user(concat) is not node:
        return False
    parts = cast(list[fx.Node], concat.args[0])
    if any(module_of(part, nn.Conv2d) is None or only_user(part) is not concat for part in parts):
        return False
    sizes = [shape_of(part)[1] for part in parts]
    scales, shifts = (torch.split(value, sizes) for value in affine)
    for part, scale, shift in zip(parts, scales, shifts, strict=True):
        _scale_outputs(cast(nn.Conv2d, module_of(part, nn.Conv2d)), (scale, shift))
    return True


def _fold_forward(node: fx.Node, affine: Affine) -> bool:
    """Fold into the layer behind, through a flatten; not into a padded one, whose border would not stay zero."""
    reader = only_user(node)
    pixels = 1
    if is_flatten(reader):
        pixels = shape_of(node)[2] * shape_of(node)[3]
        reader = only_user(cast(fx.Node, reader))
    layer = _layer(reader)
    if layer is None or (isinstance(layer, nn.Conv2d) and (layer.padding != (0, 0) or layer.groups != 1)):
        return False
    scale, shift = (value.repeat_interleave(pixels) for value in affine)
    weight = layer.weight.detach().double()
    shape = (1, -1) + (1,) * (weight.dim() - 2)
    added = (weight * shift.reshape(shape)).flatten(1).sum(1)
    _set(layer, weight * scale.reshape(shape), _bias(layer) + added)
    return True


def merge_shifts(graph_module: fx.GraphModule) -> None:
    """Absorb `x[:, :, r:, c:]` into the unpadded convolution behind it, as zero rows and columns of its kernel."""
    for node, conv in calls(graph_module, nn.Conv2d):
        offsets = _shift(source(node))
        if offsets is None or conv.padding != (0, 0) or conv.dilation != (1, 1):
            continue
        down, right = offsets
        weight = F.pad(conv.weight.detach(), (right, 0, down, 0))
        height, width = weight.shape[2:]
        wider = nn.Conv2d(
            conv.in_channels, conv.out_channels, (height, width), _pair(conv.stride), groups=conv.groups,
            bias=conv.bias is not None,
        )  # fmt: skip
        wider.weight.data.copy_(weight)
        if conv.bias is not None and wider.bias is not None:
            wider.bias.data.copy_(conv.bias.detach())
        own_module(node, wider)
        node.args = (source(source(node)),)


def _shift(node: fx.Node) -> tuple[int, int] | None:
    """Return (rows, columns) that a node cuts off at the top and the left, or None if it does anything else."""
    if node.target is not operator.getitem or not isinstance(node.args[1], tuple) or len(node.args[1]) != 4:
        return None
    whole, rest = node.args[1][:2], node.args[1][2:]
    if any(part != slice(None) for part in whole):
        return None
    cut = [part for part in rest if isinstance(part, slice) and part.stop is None and part.step in (None, 1)]
    offsets = [part.start or 0 for part in cut if part.start is None or isinstance(part.start, int)]
    return (offsets[0], offsets[1]) if len(offsets) == 2 and min(offsets) >= 0 else None


def _pair(value: tuple[int, ...]) -> tuple[int, int]:
    return value[0], value[1]


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


PASSES = (merge_shifts, fold_pointwise_scales, fold_batch_norms, linear_for_last_conv, biases_everywhere)
