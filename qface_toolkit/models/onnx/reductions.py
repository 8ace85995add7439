"""ONNX operators that make one number of many: means, sums, the largest, and lengths."""

import operator
from collections.abc import Mapping, Sequence
from dataclasses import replace

import torch
from torch import nn

from qface_toolkit.errors import UnsupportedModel
from qface_toolkit.models.onnx.elementwise import normalized
from qface_toolkit.models.onnx.graph import Length, Network
from qface_toolkit.models.onnx.inputs import Handler, Inputs, batch_error, inner_axes, read
from qface_toolkit.models.onnx.lists import listed
from qface_toolkit.models.onnx.reading import OnnxNode
from qface_toolkit.models.onnx.views import Activation, Value


def _axes(node: OnnxNode, x: Activation, inputs: Inputs) -> list[int] | None:
    """Return the ONNX axes that a node reduces, None if it reduces nothing."""
    axes = listed(node, "axes", inputs, 1)
    if not axes:
        return None if node.integer("noop_with_empty_axes", 0) else list(range(len(x.dims)))
    return axes


def _reduced(x: Activation, axes: Sequence[int]) -> Activation:
    """Return the view of what is left with the reduced axes kept at size one."""
    gone = {x.part(axis) for axis in axes}
    return replace(x, shape=tuple(1 if part in gone else size for part, size in enumerate(x.shape)), columns=None)


def _kept(network: Network, node: OnnxNode, x: Activation, axes: Sequence[int], made: Activation) -> Activation:
    """Return a result without its reduced axes, if the node drops them."""
    if node.integer("keepdims", 1):
        return made
    gone = {x.part(axis) for axis in axes}
    shape = tuple(size for part, size in enumerate(made.shape) if part not in gone)
    before = sum(1 for axis in axes if x.place is not None and x.spot(axis) < x.place)
    place = None if x.place is None else x.place - before
    return network.reshaped(made, shape, place, x.many, leads=x.leads)


def _mean(network: Network, node: OnnxNode, inputs: Inputs) -> Value:
    x = read(inputs)
    axes = _axes(node, x, inputs)
    if axes is None:
        return x
    dims = inner_axes(x, axes)
    if len(x.sizes) == 3 and set(dims) == {2, 3}:
        made = network.layer(node.name, nn.AdaptiveAvgPool2d(1), x, _reduced(x, axes).shape)
    else:
        made = network.call(torch.mean, (x.node, dims, True), _reduced(x, axes))
    return _kept(network, node, x, axes, made)


def _sum(network: Network, node: OnnxNode, inputs: Inputs) -> Value:
    x = read(inputs)
    axes = _axes(node, x, inputs)
    if axes is None:
        return x
    summed = _BEFORE[node.op](network, x)
    made = network.call(torch.sum, (summed.node, inner_axes(x, axes), True), _reduced(x, axes))
    if node.op.startswith("ReduceLog"):
        made = network.call(torch.log, (made.node,), made)
    return _kept(network, node, x, axes, made)


def _same(_network: Network, x: Activation) -> Activation:
    return x


def _squared(network: Network, x: Activation) -> Activation:
    return network.call(operator.mul, (x.node, x.node), x)


def _absolute(network: Network, x: Activation) -> Activation:
    return network.call(torch.abs, (x.node,), x)


def _exponential(network: Network, x: Activation) -> Activation:
    return network.call(torch.exp, (x.node,), x)


_BEFORE = {
    "ReduceSum": _same,
    "ReduceL1": _absolute,
    "ReduceSumSquare": _squared,
    "ReduceLogSum": _same,
    "ReduceLogSumExp": _exponential,
}


def _largest(network: Network, node: OnnxNode, inputs: Inputs) -> Value:
    x = read(inputs)
    axes = _axes(node, x, inputs)
    if axes is None:
        return x
    sign = -1.0 if node.op == "ReduceMin" else 1.0
    source = x if sign == 1 else network.call(operator.mul, (x.node, sign), x)
    made = network.call(torch.amax, (source.node, inner_axes(x, axes), True), _reduced(x, axes))
    made = made if sign == 1 else network.call(operator.mul, (made.node, sign), made)
    return _kept(network, node, x, axes, made)


def _length(network: Network, node: OnnxNode, inputs: Inputs) -> Value:
    x = read(inputs)
    axes = _axes(node, x, inputs)
    if axes is None:
        return _absolute(network, x)
    dims = inner_axes(x, axes)
    made = network.call(torch.linalg.vector_norm, (x.node, 2, dims, True), _reduced(x, axes))
    if len(dims) == 1:
        network.lengths[made.node] = Length(x, dims[0])
    return _kept(network, node, x, axes, made)


def _lp_normalization(network: Network, node: OnnxNode, inputs: Inputs) -> Value:
    x = read(inputs)
    if node.integer("p", 2) != 2:
        raise UnsupportedModel("it normalises by another length than Euclid's")
    dim = x.axis(node.integer("axis", -1))
    if dim == 0:
        raise batch_error()
    return normalized(network, x, dim, 0.0)


def _arg(_network: Network, node: OnnxNode, _inputs: Inputs) -> Value:
    raise UnsupportedModel(f"{node.op} returns places, not features", fix="cut the graph at the embedding")


REDUCTIONS: Mapping[str, Handler] = {
    "ReduceMean": _mean,
    **dict.fromkeys(_BEFORE, _sum),
    "ReduceMax": _largest,
    "ReduceMin": _largest,
    "ReduceL2": _length,
    "LpNormalization": _lp_normalization,
    **dict.fromkeys(("ArgMax", "ArgMin", "TopK"), _arg),
}
"""Operator -> what adds it to the network."""
