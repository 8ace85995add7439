"""ONNX operators that change each number by itself, as the torch modules and functions that compute the same."""

import math
import operator
from collections.abc import Callable, Mapping
from dataclasses import replace
from typing import Any

import torch
from torch import nn

from qface_toolkit.errors import CheckpointError, UnsupportedModel
from qface_toolkit.models.onnx.graph import Network
from qface_toolkit.models.onnx.inputs import Handler, Inputs, at, batch_error, number, read
from qface_toolkit.models.onnx.reading import OnnxNode
from qface_toolkit.models.onnx.views import Activation, Value

_INFINITE = 3.4e38
"""Exporters write the largest float32 where they mean that a clip has no bound."""
_SELU = (1.6732632, 1.0507010)
"""The numbers that the paper gives, which are torch's and ONNX's defaults."""


def clipped(network: Network, name: str, x: Activation, low: float, high: float) -> Activation:
    """Return a tensor within two bounds, which may be infinite; clips behind each other become one.

    Raises:
        CheckpointError: if nothing lies between the bounds.
    """
    low, high = (math.copysign(math.inf, bound) if abs(bound) >= _INFINITE else bound for bound in (low, high))
    if x.node in network.lengths and high == math.inf:
        return at_least(network, x, low)
    if not low < high:
        raise CheckpointError(f"it clips to nothing: {low} to {high}")
    if (low, high) == (-math.inf, math.inf):
        return x
    bounds = _bounds(network.module(x))
    if bounds and math.inf in (-low, high) and max(low, bounds[0]) < min(high, bounds[1]):
        low, high, x = max(low, bounds[0]), min(high, bounds[1]), network.before(x)
    module: nn.Module = nn.Hardtanh(low, high)
    if low == 0 and high in (6, math.inf):
        module = nn.ReLU6() if high == 6 else nn.ReLU()
    return network.layer(name, module, x)


def _bounds(module: nn.Module | None) -> tuple[float, float] | None:
    if isinstance(module, nn.Hardtanh):
        return module.min_val, module.max_val
    return (0.0, math.inf) if isinstance(module, nn.ReLU) else None


def at_least(network: Network, x: Activation, least: float) -> Activation:
    """Return lengths that are no less than a number."""
    length = network.lengths[x.node]
    least = max(length.least, least)
    floor = network.layer("length", nn.Hardtanh(least, math.inf), x)
    network.lengths[floor.node] = replace(length, least=least)
    return floor


def _clip(network: Network, node: OnnxNode, inputs: Inputs) -> Value:
    bounds = []
    for place, (key, default) in enumerate((("min", -math.inf), ("max", math.inf)), start=1):
        given = at(inputs, place)
        bound = node.real(key, default) if node.has(key) else default
        bounds.append(bound if given is None else number(given, key))
    return clipped(network, node.name, read(inputs), *bounds)


def _hard_sigmoid(network: Network, node: OnnxNode, inputs: Inputs) -> Value:
    x = read(inputs)
    alpha, beta = node.real("alpha", 0.2), node.real("beta", 0.5)
    if math.isclose(alpha, 1 / 6, rel_tol=1e-6) and beta == 0.5:
        return network.layer(node.name, nn.Hardsigmoid(), x)
    line = network.call(operator.add, (network.call(operator.mul, (x.node, alpha), x).node, beta), x)
    return network.layer(node.name, nn.Hardtanh(0.0, 1.0), line)


def _selu(node: OnnxNode) -> nn.Module:
    given = node.real("alpha", _SELU[0]), node.real("gamma", _SELU[1])
    if not all(math.isclose(one, other, rel_tol=1e-5) for one, other in zip(given, _SELU, strict=True)):
        raise UnsupportedModel(f"its alpha and gamma are {given}, not those of SELU")
    return nn.SELU()


def _gelu(node: OnnxNode) -> nn.Module:
    kind = node.text("approximate", "none")
    if kind not in ("none", "tanh"):
        raise CheckpointError("its way to approximate is unknown")
    return nn.GELU(approximate=kind)


def _swish(network: Network, node: OnnxNode, inputs: Inputs) -> Value:
    x, alpha = read(inputs), node.real("alpha", 1.0)
    if alpha == 1:
        return network.layer(node.name, nn.SiLU(), x)
    gate = network.layer(node.name, nn.Sigmoid(), network.call(operator.mul, (x.node, alpha), x))
    return network.call(operator.mul, (x.node, gate.node), x)


def _softmax(network: Network, node: OnnxNode, inputs: Inputs) -> Value:
    x = read(inputs)
    axis = x.spot(node.integer("axis", -1 if network.opset >= 13 else 1))
    if network.opset < 13 and math.prod(x.dims[axis + 1 :]) != 1:  # over all axes from this one on, until then
        if x.place is not None and x.place >= axis:
            raise batch_error()
        flat = network.reshaped(
            x, (*x.shape[: axis - (x.place is not None)], math.prod(x.dims[axis:])), x.place, x.many
        )
        made = network.layer(node.name, nn.Softmax(len(flat.sizes)), flat)
        return network.reshaped(made, x.shape, x.place, x.many, leads=x.leads)
    if x.axis(axis) == 0:
        raise batch_error()
    soft = network.layer(node.name, nn.Softmax(x.axis(axis)), x)
    return network.call(torch.log, (soft.node,), soft) if node.op == "LogSoftmax" else soft


def _softsign(network: Network, _node: OnnxNode, inputs: Inputs) -> Value:
    x = read(inputs)
    size = network.call(operator.add, (network.call(torch.abs, (x.node,), x).node, 1.0), x)
    return network.call(operator.truediv, (x.node, size.node), x)


def _abs(network: Network, node: OnnxNode, inputs: Inputs) -> Value:
    x = read(inputs)
    if len(x.sizes) != 3:
        return network.call(torch.abs, (x.node,), x)
    prelu = nn.PReLU(1)
    nn.init.constant_(prelu.weight, -1.0)
    return network.layer(node.name, prelu, x)


def _negative(network: Network, _node: OnnxNode, inputs: Inputs) -> Value:
    x = read(inputs)
    return network.call(operator.mul, (x.node, -1.0), x)


def power(network: Network, x: Activation, exponent: float) -> Activation:
    """Return a tensor's power, by the operation that computes it most plainly."""
    if exponent == 1:
        return x
    if exponent in _ROOTS:
        return network.call(_ROOTS[exponent], (x.node,), x)
    if exponent in (2, 3):
        square = network.call(operator.mul, (x.node, x.node), x)
        return square if exponent == 2 else network.call(operator.mul, (square.node, x.node), x)
    return network.call(torch.pow, (x.node, exponent), x)


_ROOTS: Mapping[float, Callable[..., Any]] = {0.5: torch.sqrt, -0.5: torch.rsqrt}


def _power(network: Network, _node: OnnxNode, inputs: Inputs) -> Value:
    return power(network, read(inputs), number(at(inputs, 1), "exponent"))


def _reciprocal(network: Network, _node: OnnxNode, inputs: Inputs) -> Value:
    x = read(inputs)
    if x.node.target is torch.sqrt and isinstance(x.node.args[0], torch.fx.Node):
        return network.call(torch.rsqrt, x.node.args[:1], x)
    return power(network, x, -1.0)


def _module(make: Callable[[OnnxNode], nn.Module]) -> Handler:
    def handle(network: Network, node: OnnxNode, inputs: Inputs) -> Value:
        return network.layer(node.name, make(node), read(inputs))

    return handle


def _function(function: Callable[..., Any]) -> Handler:
    def handle(network: Network, _node: OnnxNode, inputs: Inputs) -> Value:
        x = read(inputs)
        return network.call(function, (x.node,), x)

    return handle


ACTIVATIONS: Mapping[str, Handler] = {
    "Relu": _module(lambda _: nn.ReLU()),
    "LeakyRelu": _module(lambda node: nn.LeakyReLU(node.real("alpha", 0.01))),
    "Elu": _module(lambda node: nn.ELU(node.real("alpha", 1.0))),
    "Selu": _module(_selu),
    "Softplus": _module(lambda _: nn.Softplus()),
    "Mish": _module(lambda _: nn.Mish()),
    "Gelu": _module(_gelu),
    "Tanh": _module(lambda _: nn.Tanh()),
    "Sigmoid": _module(lambda _: nn.Sigmoid()),
    "HardSwish": _module(lambda _: nn.Hardswish()),
    "HardSigmoid": _hard_sigmoid,
    "Swish": _swish,
    "Softsign": _softsign,
    "Clip": _clip,
    "Softmax": _softmax,
    "LogSoftmax": _softmax,
    "Abs": _abs,
    "Neg": _negative,
    "Pow": _power,
    "Reciprocal": _reciprocal,
    "Sqrt": _function(torch.sqrt),
    "Exp": _function(torch.exp),
    "Log": _function(torch.log),
    "Erf": _function(torch.erf),
}
"""Operator -> what adds it to the network."""
