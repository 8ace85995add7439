"""ONNX operators that compare numbers, and choose between tensors by what was compared."""

import operator
from collections.abc import Callable, Mapping
from dataclasses import replace
from typing import Any

import numpy as np
import torch
from torch import fx

from qface_toolkit.errors import CheckpointError, UnsupportedModel
from qface_toolkit.models.onnx.elementwise import joined
from qface_toolkit.models.onnx.graph import Network
from qface_toolkit.models.onnx.inputs import Handler, Inputs, at, read
from qface_toolkit.models.onnx.reading import OnnxNode
from qface_toolkit.models.onnx.tensors import Array
from qface_toolkit.models.onnx.views import Activation, Value, activation, broadcast, constant, widened

_MIRRORED: Mapping[Callable[..., Any], Callable[..., Any]] = {
    torch.gt: torch.lt,
    torch.ge: torch.le,
    torch.lt: torch.gt,
    torch.le: torch.ge,
}
"""What compares the same with both sides exchanged."""


def _comparison(function: Callable[..., Any]) -> Handler:
    def handle(network: Network, node: OnnxNode, inputs: Inputs) -> Value:
        one, other = at(inputs, 0), at(inputs, 1)
        if one is None or other is None:
            raise CheckpointError("it lacks an input")
        given = (function, one, other) if isinstance(one, Activation) else (_MIRRORED[function], other, one)
        truths = activation(joined(network, node, *given))
        return network.call(operator.mul, (truths.node, 1.0), truths)  # ones and zeros, as every tensor here is float

    return handle


def _sign(network: Network, _node: OnnxNode, inputs: Inputs) -> Value:
    x = read(inputs)
    return network.call(torch.sign, (x.node,), x)


def _where(network: Network, node: OnnxNode, inputs: Inputs) -> Value:
    condition, one, other = at(inputs, 0), at(inputs, 1), at(inputs, 2)
    if one is None or other is None:
        raise CheckpointError("it lacks an input")
    if isinstance(condition, Activation):
        return _chosen(network, node, condition, (one, other))
    mask = constant(condition, "condition") != 0
    return joined(network, node, operator.add, _masked(network, node, one, mask), _masked(network, node, other, ~mask))


def _masked(network: Network, node: OnnxNode, value: Value, mask: Array) -> Value:
    """Return a value where a constant mask is true, and zero elsewhere."""
    if isinstance(value, Activation):
        return joined(network, node, operator.mul, value, mask.astype(np.float32))
    return np.where(mask, value, np.float32(0))


def _chosen(network: Network, node: OnnxNode, condition: Activation, values: tuple[Value, Value]) -> Activation:
    """Choose between values by a condition that is computed from the image."""
    tensors = [value for value in values if isinstance(value, Activation)]
    for tensor in tensors:
        if tensor.layout != condition.layout or tensor.columns is not None or condition.columns is not None:
            raise UnsupportedModel("it chooses between tensors whose axes stand in different orders")
        if any(1 not in pair and pair[0] != pair[1] for pair in zip(tensor.dims, condition.dims, strict=True)):
            raise CheckpointError(f"it chooses between {tensor.shown()} by {condition.shown()}")
    sizes = zip(*(tensor.shape for tensor in (condition, *tensors)), strict=True)
    made = replace(condition, shape=tuple(max(size) for size in sizes))
    operands = [_operand(network, node, value, made) for value in values]
    for value in values:
        if not isinstance(value, Activation):
            made = widened(made, broadcast(np.asarray(value), made))
    return network.call(torch.where, (_truths(network, condition).node, *operands), made)


def _truths(network: Network, condition: Activation) -> Activation:
    """Return as truths what is held as ones and zeros: what was compared itself, where nothing else was done to it."""
    before = condition.node.args[0]
    if isinstance(before, fx.Node) and before.target in _MIRRORED:
        return replace(condition, node=before)
    return network.call(torch.gt, (condition.node, 0.5), condition)


def _operand(network: Network, node: OnnxNode, value: Value, like: Activation) -> Any:  # noqa: ANN401 - of torch.where
    if isinstance(value, Activation):
        return value.node
    factor = broadcast(np.asarray(value), like)
    return factor if isinstance(factor, float) else network.constant(node.name, factor)


CHOICES: Mapping[str, Handler] = {
    "Greater": _comparison(torch.gt),
    "GreaterOrEqual": _comparison(torch.ge),
    "Less": _comparison(torch.lt),
    "LessOrEqual": _comparison(torch.le),
    "Sign": _sign,
    "Where": _where,
}
"""Operator -> what adds it to the network."""
