"""ONNX operators that compute with numbers: sums and products, matrices, means, and the embedding's length."""

import operator
from collections.abc import Callable, Mapping
from dataclasses import replace
from typing import Any

import numpy as np
import torch
import torch.nn.functional as F  # noqa: N812 - the name everybody knows it by
from torch import nn

from qface_toolkit.errors import CheckpointError, UnsupportedModel
from qface_toolkit.models.onnx.constants import listed
from qface_toolkit.models.onnx.graph import Activation, Network, Norm, Value, activation, broadcast, constant
from qface_toolkit.models.onnx.layers import Handler, Inputs, at
from qface_toolkit.models.onnx.reading import OnnxNode
from qface_toolkit.models.onnx.tensors import Array

_TINY = 1e-5
_DEFAULT_LEAST = 1e-12
"""What F.normalize divides by at least."""

_Function = Callable[[Any, Any], Any]


def _binary(function: _Function) -> Handler:
    def handle(network: Network, node: OnnxNode, inputs: Inputs) -> Value:
        one, other = at(inputs, 0), at(inputs, 1)
        if isinstance(one, Norm) or isinstance(other, Norm):
            return _with_norm(network, function, one, other)
        if isinstance(one, Activation) and isinstance(other, Activation):
            return _two(network, node, function, one, other)
        if isinstance(one, Activation):
            return _with_constant(network, node, function, one, constant(other, "second input"))
        return _constant_first(network, node, function, activation(other), constant(one, "first input"))

    return handle


def _with_norm(network: Network, function: _Function, one: Value | None, other: Value | None) -> Value:
    if function is operator.truediv and isinstance(one, Activation) and isinstance(other, Norm):
        same = other.of.node is one.node and other.of.shape == one.shape
        if same and len(one.shape) == 1:
            return _normalized(network, one, other.least)
    if function is operator.add and isinstance(one, Norm) and isinstance(other, np.ndarray) and other.size == 1:
        added = float(other.reshape(()))
        if 0 < added <= _TINY:
            return Norm(one.of, max(one.least, added))
    raise UnsupportedModel(
        "the length of the embedding serves another purpose than dividing the embedding by it",
        fix="end the network at the embedding, before it is normalised",
    )


def _normalized(network: Network, x: Activation, least: float) -> Activation:
    options = {} if least in (0.0, np.float32(_DEFAULT_LEAST), _DEFAULT_LEAST) else {"eps": least}
    result = network.call(F.normalize, (x.node,), x)
    result.node.kwargs = {"dim": 1, **options}
    return result


def _two(network: Network, node: OnnxNode, function: _Function, one: Activation, other: Activation) -> Value:
    if function is operator.mul and (gate := _gated(network, one, other)):
        return network.layer(node.name, *gate)
    if one.order != other.order or one.columns is not None or other.columns is not None:
        one, other = network.settled(one), network.settled(other)
    pairs = list(zip(one.shape, other.shape, strict=False))
    if len(one.shape) != len(other.shape) or any(a != b and 1 not in (a, b) for a, b in pairs):
        raise UnsupportedModel(f"it joins [N, {str(list(one.shape))[1:]} and [N, {str(list(other.shape))[1:]}")
    return network.call(function, (one.node, other.node), replace(one, shape=tuple(max(pair) for pair in pairs)))


def _gated(network: Network, one: Activation, other: Activation) -> tuple[nn.Module, Activation] | None:
    """Return the activation module and its input if one factor is the sigmoid, or the hard one, of the other."""
    for x, gate in ((one, other), (other, one)):
        module = network.module(gate)
        if module is None or gate.node.args != (x.node,) or gate.order != x.order:
            continue
        if isinstance(module, nn.Sigmoid):
            return nn.SiLU(), x
        if isinstance(module, nn.Hardsigmoid):
            return nn.Hardswish(), x
    return None


def _with_constant(network: Network, node: OnnxNode, function: _Function, x: Activation, values: Array) -> Value:
    factor = broadcast(values, x)
    linear = network.module(x)
    if function is operator.add and isinstance(linear, nn.Linear) and linear.bias is None and x.columns is None:
        return _linear(network, f"{node.name}_linear", replace(x, node=x.node.args[0]), linear.weight, factor)
    if function is operator.truediv and bool((np.asarray(factor) == 0).any()):
        raise CheckpointError("it divides by zero")
    if isinstance(factor, float) and not np.isfinite(factor):
        raise CheckpointError(f"its constant is {factor}")
    operand = factor if isinstance(factor, float) else network.constant(node.name, factor)
    return network.call(function, (x.node, operand), x)


def _constant_first(network: Network, node: OnnxNode, function: _Function, x: Activation, values: Array) -> Value:
    if function in (operator.add, operator.mul):
        return _with_constant(network, node, function, x, values)
    if function is operator.sub:
        negated = network.call(operator.mul, (x.node, -1.0), x)
        return _with_constant(network, node, operator.add, negated, values)
    raise UnsupportedModel("it divides a constant by the image", fix="export a network without it")


def _linear(
    network: Network, name: str, x: Activation, weight: Array | torch.Tensor, bias: float | Array | None
) -> Activation:  # noqa: E501 - one line of arguments
    """Call a linear layer whose weight is [leaving, entering]; `bias` is one number or one for each that leaves."""
    leaving, entering = weight.shape
    with torch.device("meta"):
        linear = nn.Linear(entering, leaving, bias is not None)
    linear.weight = nn.Parameter(weight if isinstance(weight, torch.Tensor) else network.weights(weight))
    if bias is not None:
        linear.bias = nn.Parameter(network.weights(np.broadcast_to(np.asarray(bias, np.float32), (leaving,))))
    plain = Activation(x.node, x.shape, (0,))
    return network.layer(name, linear, plain, (leaving,))


def _vector(x: Activation, entering: int) -> Activation:
    if x.shape != (entering,):
        raise CheckpointError(f"its matrix takes {entering} numbers and [N, {str(list(x.shape))[1:]} comes in")
    return x


def _columns(weight: Array, x: Activation) -> Array:
    """Return a weight [leaving, entering] whose columns stand as the numbers of the flattened image do."""
    return weight if x.columns is None else weight[:, np.argsort(x.columns)]


def _gemm(network: Network, node: OnnxNode, inputs: Inputs) -> Value:
    x, weight, bias = activation(at(inputs, 0)), constant(at(inputs, 1), "matrix"), at(inputs, 2)
    if weight.ndim != 2 or weight.size == 0 or node.integer("transA", 0):
        raise UnsupportedModel(f"its matrix has the shape {list(weight.shape)}, or it transposes the images")
    weight = weight if node.integer("transB", 0) else weight.T
    alpha, beta = np.float32(node.real("alpha", 1.0)), np.float32(node.real("beta", 1.0))
    weight = _columns(weight, _vector(x, weight.shape[1]))
    weight = weight if alpha == 1 else weight * alpha
    if bias is None:
        return _linear(network, node.name, x, weight, None)
    added = broadcast(constant(bias, "bias"), Activation(x.node, (len(weight),), (0,)))
    return _linear(network, node.name, x, weight, np.asarray(added, np.float32) * beta)


def _matmul(network: Network, node: OnnxNode, inputs: Inputs) -> Value:
    x, weight = activation(at(inputs, 0)), constant(at(inputs, 1), "second matrix")
    if weight.ndim != 2 or weight.size == 0:
        raise UnsupportedModel(f"its matrix has the shape {list(weight.shape)}")
    _vector(x, len(weight))
    return _linear(network, node.name, x, _columns(weight.T, x), None)


def _reduce_mean(network: Network, node: OnnxNode, inputs: Inputs) -> Value:
    x, axes = activation(at(inputs, 0)), listed(node, "axes", inputs, 1)
    if len(x.shape) != 3 or axes is None or {x.axis(axis) for axis in axes} != {2, 3}:
        raise UnsupportedModel("it averages over other axes than height and width")
    shape = tuple(size if axis == 0 else 1 for axis, size in zip(x.order, x.shape, strict=True))
    mean = network.layer(node.name, nn.AdaptiveAvgPool2d(1), x, shape)
    return mean if node.integer("keepdims", 1) else network.reshaped(mean, (max(shape),))


def _is_over_embedding(x: Activation, axes: list[int] | None) -> bool:
    return len(x.shape) == 1 and axes in ([1], [-1])


def _reduce_l2(_network: Network, node: OnnxNode, inputs: Inputs) -> Value:
    x = activation(at(inputs, 0))
    if not _is_over_embedding(x, listed(node, "axes", inputs, 1)):
        raise UnsupportedModel("it measures the length of something else than an embedding [N, D]")
    return Norm(x)


def _lp_normalization(network: Network, node: OnnxNode, inputs: Inputs) -> Value:
    x = activation(at(inputs, 0))
    if node.integer("p", 2) != 2 or not _is_over_embedding(x, [node.integer("axis", -1)]):
        raise UnsupportedModel("it normalises something else than embeddings [N, D] to length one")
    return _normalized(network, x, 0.0)


ARITHMETIC: Mapping[str, Handler] = {
    "Add": _binary(operator.add),
    "Sub": _binary(operator.sub),
    "Mul": _binary(operator.mul),
    "Div": _binary(operator.truediv),
    "Gemm": _gemm,
    "MatMul": _matmul,
    "ReduceMean": _reduce_mean,
    "ReduceL2": _reduce_l2,
    "LpNormalization": _lp_normalization,
}
"""Operator -> what adds it to the network."""
