"""ONNX operators that join tensors, or a tensor and a constant, number by number."""

import operator
from collections.abc import Callable, Mapping
from dataclasses import replace
from typing import Any

import numpy as np
import torch
import torch.nn.functional as F  # noqa: N812 - the name everybody knows it by
from torch import nn

from qface_toolkit.errors import CheckpointError, UnsupportedModel
from qface_toolkit.models.onnx.activations import at_least, clipped, power
from qface_toolkit.models.onnx.graph import Length, Network
from qface_toolkit.models.onnx.inputs import Handler, Inputs, at
from qface_toolkit.models.onnx.matrices import with_bias
from qface_toolkit.models.onnx.reading import OnnxNode
from qface_toolkit.models.onnx.tensors import Array
from qface_toolkit.models.onnx.views import Activation, Value, activation, broadcast, widened

_TINY = 1e-5
_DEFAULT_LEAST = 1e-12
"""What F.normalize divides by at least."""

_Function = Callable[[Any, Any], Any]


def joined(network: Network, node: OnnxNode, function: _Function, one: Value, other: Value) -> Value:
    """Return what a function of two numbers makes of two tensors, or of one and a constant."""
    if isinstance(one, Activation) and isinstance(other, Activation):
        return _two(network, node, function, one, other)
    if isinstance(one, Activation):
        return _with_constant(network, node, function, one, np.asarray(other))
    return _constant_first(network, node, function, activation(other), one)


def _binary(function: _Function) -> Handler:
    def handle(network: Network, node: OnnxNode, inputs: Inputs) -> Value:
        one, other = at(inputs, 0), at(inputs, 1)
        if one is None or other is None:
            raise CheckpointError("it lacks an input")
        return joined(network, node, function, one, other)

    return handle


def _many(function: _Function) -> Handler:
    def handle(network: Network, node: OnnxNode, inputs: Inputs) -> Value:
        values = [value for value in inputs if value is not None]
        total = values[0]
        for value in values[1:]:
            total = joined(network, node, function, total, value)
        if node.op == "Mean":
            x = activation(total)
            return network.call(operator.mul, (x.node, 1 / len(values)), x)
        return total

    return handle


def _two(network: Network, node: OnnxNode, function: _Function, one: Activation, other: Activation) -> Value:
    if function is operator.truediv and (length := _length_of(network, one, other)):
        return normalized(network, one, length.dim, length.least)
    if function is operator.mul and (gate := _gated(network, one, other)):
        return network.layer(node.name, *gate)
    one, other = _narrow(network, one, other), _narrow(network, other, one)
    if one.layout != other.layout or _ordered(one, other):
        one, other = network.aligned(one, other)
    pairs = list(zip(one.dims, other.dims, strict=True))
    if any(a != b and 1 not in (a, b) for a, b in pairs):
        raise UnsupportedModel(f"it joins {one.shown()} and {other.shown()}")
    shape = tuple(max(pair) for pair in zip(one.shape, other.shape, strict=True))
    return network.call(function, (one.node, other.node), replace(one, shape=shape))


def _ordered(one: Activation, other: Activation) -> bool:
    return one.columns is not None or other.columns is not None


def _narrow(network: Network, x: Activation, other: Activation) -> Activation:
    """Return what an expanded tensor was before, if the other tensor makes it as large again."""
    of = network.expanded.get(x.node)
    if of is None or len(x.dims) != len(of.dims) or len(x.dims) > len(other.dims):
        return x
    against = other.dims[len(other.dims) - len(x.dims) :]
    sizes = zip(of.dims, x.dims, against, strict=True)
    return of if all(before == size or reached == size for before, size, reached in sizes) else x


def _length_of(network: Network, x: Activation, divisor: Activation) -> Length | None:
    """Return what a divisor measures, if that is the length of the very rows that it divides."""
    divisor = _narrow(network, divisor, x)
    length = network.lengths.get(divisor.node)
    if length is None or length.of.node is not x.node or length.of.dims != x.dims or len(divisor.dims) != len(x.dims):
        return None
    differs = [spot for spot, (one, other) in enumerate(zip(divisor.dims, x.dims, strict=True)) if one != other]
    along = [spot for spot in range(len(x.dims)) if x.axis(spot) == length.dim]
    return length if differs in (along, []) else None


def normalized(network: Network, x: Activation, dim: int, least: float) -> Activation:
    """Return a tensor whose rows along an FX axis have length one, or less where they are shorter than `least`."""
    x = network.settled(x) if x.columns is not None else x
    options = {} if least in (0.0, np.float32(_DEFAULT_LEAST), _DEFAULT_LEAST) else {"eps": least}
    return network.call(F.normalize, (x.node,), x, dim=dim, **options)


def _gated(network: Network, one: Activation, other: Activation) -> tuple[nn.Module, Activation] | None:
    """Return the activation module and its input if one factor is the sigmoid, or the hard one, of the other."""
    for x, gate in ((one, other), (other, one)):
        module = network.module(gate)
        if module is None or gate.node.args != (x.node,) or gate.order != x.order or gate.dims != x.dims:
            continue
        if isinstance(module, nn.Sigmoid):
            return nn.SiLU(), x
        if isinstance(module, nn.Hardsigmoid):
            return nn.Hardswish(), x
    return None


def _with_constant(network: Network, node: OnnxNode, function: _Function, x: Activation, values: Array) -> Value:
    if x.node in network.lengths and function is operator.add and values.size == 1 and 0 < values.item() <= _TINY:
        return at_least(network, x, float(values.item()))
    if values.ndim > len(x.dims):
        x = network.aligned_to(x, values.ndim)
    factor = broadcast(values, x)
    if function is operator.add and (biased := with_bias(network, node, x, factor)):
        return biased
    if function is operator.truediv and bool((np.asarray(factor) == 0).any()):
        raise CheckpointError("it divides by zero")
    if isinstance(factor, float) and not np.isfinite(factor):
        raise CheckpointError(f"its constant is {factor}")
    if function in (torch.maximum, torch.minimum):
        return _bounded(network, node, function, x, factor)
    operand = factor if isinstance(factor, float) else network.constant(node.name, factor)
    return network.call(function, (x.node, operand), widened(x, factor))


def _bounded(network: Network, node: OnnxNode, function: _Function, x: Activation, bound: float | Array) -> Activation:
    """Return the larger, or smaller, of a tensor and a constant."""
    above = function is torch.maximum
    if isinstance(bound, float):
        return clipped(network, node.name, x, *((bound, np.inf) if above else (-np.inf, bound)))
    limit, wide = network.constant(node.name, bound), widened(x, bound)
    beyond = network.call(operator.sub, (x.node, limit), wide)
    kept = clipped(network, node.name, beyond, *((0.0, np.inf) if above else (-np.inf, 0.0)))
    return network.call(operator.add, (kept.node, limit), wide)


def _constant_first(network: Network, node: OnnxNode, function: _Function, x: Activation, values: Array) -> Value:
    if function is operator.sub:
        negated = network.call(operator.mul, (x.node, -1.0), x)
        return _with_constant(network, node, operator.add, negated, values)
    if function is operator.truediv:
        return _with_constant(network, node, operator.mul, power(network, x, -1.0), values)
    return _with_constant(network, node, function, x, values)


ELEMENTWISE: Mapping[str, Handler] = {
    "Add": _binary(operator.add),
    "Sub": _binary(operator.sub),
    "Mul": _binary(operator.mul),
    "Div": _binary(operator.truediv),
    "Sum": _many(operator.add),
    "Mean": _many(operator.add),
    "Max": _many(torch.maximum),
    "Min": _many(torch.minimum),
}
"""Operator -> what adds it to the network."""
