"""ONNX operators that carry weights, as the torch modules that compute the same: convolutions and normalisations."""

import math
import operator
from collections.abc import Mapping, Sequence
from dataclasses import replace

import numpy as np
import torch
from torch import nn

from qface_toolkit.errors import CheckpointError, UnsupportedModel
from qface_toolkit.models.onnx.graph import Network
from qface_toolkit.models.onnx.inputs import (
    Handler,
    Inputs,
    at,
    batch_error,
    image,
    images_first,
    inner_axes,
    read,
    vector,
)
from qface_toolkit.models.onnx.reading import OnnxNode
from qface_toolkit.models.onnx.tensors import Array
from qface_toolkit.models.onnx.views import Activation, Value, broadcast, constant, widened
from qface_toolkit.models.onnx.windows import Window, over_lines, pad, pair


def _conv(network: Network, node: OnnxNode, inputs: Inputs) -> Value:
    x, weight = image(network, at(inputs, 0)), constant(at(inputs, 1), "weight")
    groups = node.integer("group", 1)
    if weight.ndim != 4 or weight.size == 0 or groups < 1 or len(weight) % groups:
        raise CheckpointError(f"its weight of shape {list(weight.shape)} does not fit {groups} groups")
    if x.shape[0] != weight.shape[1] * groups:
        raise CheckpointError(f"its weight is for {weight.shape[1] * groups} channels, and {x.shape[0]} come in")
    if node.integers("kernel_shape", weight.shape[2:]) != weight.shape[2:]:
        raise CheckpointError("its kernel_shape is not that of its weight")
    window = Window(node, x, weight.shape[2:])
    shape, padding = (len(weight), *window.sizes(x)), pair(window.pads[:2])
    if not window.symmetric:
        x, padding = pad(network, x, window.pads), (0, 0)
    with torch.device("meta"):
        conv = nn.Conv2d(x.shape[0], len(weight), window.kernel, window.stride, padding, window.dilation, groups)
    _fill(network, conv, weight, at(inputs, 2))
    return network.layer(node.name, conv, x, shape)


def _fill(network: Network, conv: nn.Conv2d | nn.ConvTranspose2d, weight: Array, bias: Value | None) -> None:
    conv.weight = nn.Parameter(network.weights(weight))
    conv.bias = None
    if bias is not None:
        conv.bias = nn.Parameter(network.weights(vector(constant(bias, "bias"), conv.out_channels, "bias")))


def _transposed_conv(network: Network, node: OnnxNode, inputs: Inputs) -> Value:
    x, weight = image(network, at(inputs, 0)), constant(at(inputs, 1), "weight")
    groups, more = node.integer("group", 1), pair(node.integers("output_padding", (0, 0)))
    if weight.ndim != 4 or weight.size == 0 or groups < 1 or x.shape[0] != len(weight) or x.shape[0] % groups:
        raise CheckpointError(f"its weight of shape {list(weight.shape)} does not fit {groups} groups of {x.shown()}")
    if node.has("output_shape") or node.text("auto_pad", "NOTSET") not in ("NOTSET", "VALID"):
        raise UnsupportedModel("it says the size of its result, not its padding", fix="export it with pads alone")
    window = Window(node, x, weight.shape[2:])
    leaving = weight.shape[1] * groups
    with torch.device("meta"):
        conv = nn.ConvTranspose2d(
            x.shape[0], leaving, window.kernel, window.stride, 0, more, groups, dilation=window.dilation
        )
    _fill(network, conv, weight, at(inputs, 2))
    sizes = [(x.shape[1 + a] - 1) * window.stride[a] + window.reach(a) + more[a] for a in (0, 1)]
    if not window.symmetric:
        whole = network.layer(node.name, conv, x, (leaving, *sizes))
        spans = [(window.pads[a], sizes[a] - window.pads[a + 2], 1) for a in (0, 1)]
        return network.cut(whole, [(0, leaving, 1), *spans])
    conv.padding = pair(window.pads[:2])
    return network.layer(node.name, conv, x, (leaving, *(sizes[a] - 2 * window.pads[a] for a in (0, 1))))


def _batch_norm(network: Network, node: OnnxNode, inputs: Inputs) -> Value:
    x = read(inputs)
    x = x if len(x.shape) == 1 and x.plain else images_first(network, x)
    parts = [constant(at(inputs, 1 + n), name) for n, name in enumerate(("scale", "bias", "mean", "variance"))]
    epsilon = node.real("epsilon", 1e-5)
    if node.integer("training_mode", 0) or epsilon < 0 or bool((parts[3] + epsilon <= 0).any()):
        raise CheckpointError(
            "it normalises by the batch (training mode), or its variances are not above zero",
            fix="export in eval mode: model.eval()",
        )
    if len(x.shape) > 1 and all(part.shape == x.shape for part in parts):  # opset 7 and 8 with spatial = 0
        return _norm_of_each(network, node, x, parts, epsilon)
    parts = [vector(part, x.shape[0], "scale, bias, mean or variance") for part in parts]
    if x.columns is not None:
        parts = [part[np.argsort(x.columns)] for part in parts]
    flat = network.reshaped(x, _as_picture(x.shape))
    kind = nn.BatchNorm1d if len(flat.shape) == 1 else nn.BatchNorm2d
    norm = kind(1, eps=epsilon)
    norm.num_features = flat.shape[0]
    scale, bias, mean, variance = map(network.weights, parts)
    norm.weight, norm.bias = nn.Parameter(scale), nn.Parameter(bias)
    norm.running_mean, norm.running_var = mean, variance
    return network.reshaped(network.layer(node.name, norm, flat), x.shape)


def _as_picture(shape: tuple[int, ...]) -> tuple[int, ...]:
    """Return a shape of one or three axes, channels first, for numbers of any shape."""
    if len(shape) in (1, 3):
        return shape
    pixels = math.prod(shape[1:])
    return shape[:1] if pixels == 1 else (shape[0], pixels, 1)


def _norm_of_each(
    network: Network, node: OnnxNode, x: Activation, parts: Sequence[Array], epsilon: float
) -> Activation:  # noqa: E501 - one line of arguments
    """Add a normalisation whose statistics are of each number of the image, not of each channel."""
    scale, bias, mean, variance = (part.astype(np.float64) for part in parts)
    factor = scale / np.sqrt(variance + epsilon)
    scaled = network.call(operator.mul, (x.node, network.constant(node.name, factor)), x)
    return network.call(operator.add, (scaled.node, network.constant(node.name, bias - mean * factor)), x)


def _prelu(network: Network, node: OnnxNode, inputs: Inputs) -> Value:
    x, slopes = read(inputs), constant(at(inputs, 1), "slope")
    if len(x.shape) == 3 and slopes.ndim == 1 and len(slopes) == x.shape[0] != 1:
        certain = x.shape[0] != x.shape[2]
        network.slopes.add(certain)
        if certain or network.slopes_of_channels:
            slopes = slopes.reshape(-1, 1, 1)  # older exporters write one a channel so, against the letter of ONNX
    values = broadcast(slopes, x)
    if isinstance(values, np.ndarray) and math.prod(values.shape[1:]) != 1:
        return _slopes_elsewhere(network, node, x, values)
    prelu = nn.PReLU(1)
    flat = np.atleast_1d(values).reshape(-1)
    prelu.num_parameters = flat.size
    prelu.weight = nn.Parameter(network.weights(flat))
    return network.layer(node.name, prelu, x)


def _slopes_elsewhere(network: Network, node: OnnxNode, x: Activation, values: Array) -> Activation:
    """Add a PReLU whose slopes are not one a channel: relu(x) + slope * (x - relu(x))."""
    if widened(x, values).shape != x.shape:
        raise CheckpointError(f"its slopes, of shape {list(values.shape)}, are more than {x.shown()} holds")
    above = network.layer(node.name, nn.ReLU(), x)
    below = network.call(operator.sub, (x.node, above.node), x)
    scaled = network.call(operator.mul, (below.node, network.constant(node.name, values)), x)
    return network.call(operator.add, (above.node, scaled.node), x)


def _layer_norm(network: Network, node: OnnxNode, inputs: Inputs) -> Value:
    x = read(inputs)
    first = x.spot(node.integer("axis", -1))
    axes = inner_axes(x, range(first, len(x.dims)))
    if x.place is not None and x.place > first:
        raise batch_error()
    x = network.settled(x)
    shape = x.sizes[len(x.sizes) - len(axes) :]
    bias = at(inputs, 2)
    norm = nn.LayerNorm(shape, node.real("epsilon", 1e-5), bias=bias is not None, device="meta")
    norm.weight = nn.Parameter(network.weights(_spread(at(inputs, 1), shape)))
    if bias is not None:
        norm.bias = nn.Parameter(network.weights(_spread(bias, shape)))
    return network.layer(node.name, norm, x)


def _root_mean_square_norm(network: Network, node: OnnxNode, inputs: Inputs) -> Value:
    x = read(inputs)
    axes = range(x.spot(node.integer("axis", -1)), len(x.dims))
    dims = inner_axes(x, axes)
    one = replace(x, shape=tuple(1 if axis + 1 in dims else size for size, axis in zip(x.shape, x.order, strict=True)))
    square = network.call(torch.mean, (network.call(operator.mul, (x.node, x.node), x).node, dims, True), one)
    raised = network.call(operator.add, (square.node, node.real("epsilon", 1e-5)), one)
    normed = network.call(operator.mul, (x.node, network.call(torch.rsqrt, (raised.node,), one).node), x)
    scale = broadcast(constant(at(inputs, 1), "scale"), x)
    factor = scale if isinstance(scale, float) else network.constant(node.name, scale)
    return network.call(operator.mul, (normed.node, factor), x)


def _spread(values: Value | None, shape: tuple[int, ...]) -> Array:
    return np.broadcast_to(constant(values, "scale or bias"), shape)


def _group_norm(network: Network, node: OnnxNode, inputs: Inputs) -> Value:
    x = images_first(network, read(inputs))
    groups = node.integer("num_groups", x.shape[0] if node.op == "InstanceNormalization" else 0)
    scale, bias = (constant(at(inputs, place), "scale or bias") for place in (1, 2))
    if groups < 1 or x.shape[0] % groups:
        raise CheckpointError(f"it makes {groups} groups of {x.shape[0]} channels")
    if network.opset < 21 and len(scale) == len(bias) == groups:  # one number a group, until then
        scale, bias = (np.repeat(values, x.shape[0] // groups) for values in (scale, bias))
    norm = nn.GroupNorm(groups, x.shape[0], node.real("epsilon", 1e-5), device="meta")
    norm.weight = nn.Parameter(network.weights(vector(scale, x.shape[0], "scale")))
    norm.bias = nn.Parameter(network.weights(vector(bias, x.shape[0], "bias")))
    return network.layer(node.name, norm, x)


def _local_norm(network: Network, node: OnnxNode, inputs: Inputs) -> Value:
    size = node.integer("size", 0)
    if not 0 < size <= 1024:
        raise CheckpointError(f"it normalises over {size} channels")
    norm = nn.LocalResponseNorm(size, node.real("alpha", 1e-4), node.real("beta", 0.75), node.real("bias", 1.0))
    if size % 2 == 0:
        raise UnsupportedModel("it normalises over an even number of channels, which runtimes center differently")
    return network.layer(node.name, norm, image(network, at(inputs, 0)))


LAYERS: Mapping[str, Handler] = {
    "Conv": over_lines(_conv),
    "ConvTranspose": _transposed_conv,
    "BatchNormalization": _batch_norm,
    "PRelu": _prelu,
    "LayerNormalization": _layer_norm,
    "RMSNormalization": _root_mean_square_norm,
    "GroupNormalization": _group_norm,
    "InstanceNormalization": _group_norm,
    "LRN": _local_norm,
}
"""Operator -> what adds it to the network."""
