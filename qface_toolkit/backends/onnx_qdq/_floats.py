"""Operations in float as ONNX Runtime runs them fast: those of float.fast.onnx, and those of layers kept in float.

On x86 the runtime keeps channels in blocks between convolutions, and it has no PReLU on blocks: each PRelu node costs a
slow kernel and two changes of layout. For a slope a <= 1, prelu(z) = a*z + relu((1 - a)*z). With both products written
as 1x1 depthwise convolutions the runtime fuses the ReLU into one and the sum into the other, and no layout changes.
benchmarks/float_forms.py compares this spelling with others.
"""

from collections.abc import Callable, Mapping
from dataclasses import replace
from typing import Any

import numpy as np
import numpy.typing as npt
from onnx import TensorProto

from qface_toolkit.backends.onnx_qdq._builder import GraphBuilder, convolution_attributes, pool_attributes
from qface_toolkit.backends.onnx_qdq._islands import ISLANDS, MOVES, Printing
from qface_toolkit.backends.onnx_qdq._layer import spread
from qface_toolkit.integer.program import Float, PoolWindow, Window
from qface_toolkit.quantize.groups import GroupForm
from qface_toolkit.quantize.weights import is_affine

Floats = npt.NDArray[np.float64]
Activation = Callable[["FloatPrinter", Float], str]
"""Prints an operation, a PReLU above all, and returns the name of its output."""


class FloatPrinter:
    """Prints operations of the float network; `values` maps each value to its name, `made` to what made it.

    `groups` says how convolutions of groups are written.
    """

    def __init__(
        self, prelu: Activation, graph: GraphBuilder | None = None, groups: Mapping[str, GroupForm] | None = None
    ) -> None:
        self.prelu, self.groups = prelu, groups or {}
        self.graph = graph or GraphBuilder()
        self.values: dict[str, str] = {}
        self.made: dict[str, Float] = {}

    def print(self, one: Float) -> str:
        """Print an operation and return the name of its output."""
        self.made[one.output] = one
        self.values[one.output] = OPERATIONS[one.name](self, one)
        return self.values[one.output]

    def read(self, one: Float) -> str:
        """Return the name of an operation's first input."""
        return self.values[one.source]

    def slopes(self, one: Float) -> Floats:
        """Return a PReLU's slopes, one a channel and none above 1."""
        return _array(_module(one).weight)

    def scaled(self, source: str, factors: Floats | float, shifts: Floats | float = 0.0) -> str:
        """Print a value times one factor a channel, plus one shift a channel, as a 1x1 depthwise convolution."""
        weight = np.reshape(factors, (-1, 1, 1, 1))
        bias = [self.graph.constant(shifts, np.float32)] if np.any(shifts) else []
        sources = [self.values[source], self.graph.constant(weight, np.float32), *bias]
        return self.graph.node("Conv", sources, group=len(weight))

    def convolution(self, one: Float, factors: Floats | float = 1.0) -> str:
        """Print a convolution, each output channel multiplied by its factor."""
        conv = _module(one)
        window = replace(Window.of(conv), together=self.groups.get(one.output, GroupForm()).together)
        weight = self.weight(one, np.reshape(factors, (-1, 1, 1, 1)))
        weight = spread(self.graph, weight, window, conv.weight.shape, TensorProto.FLOAT, TensorProto.FLOAT)
        bias = self.graph.constant(_array(conv.bias) * factors, np.float32)
        return self.graph.node("Conv", [self.read(one), weight, bias], **convolution_attributes(window))

    def weight(self, one: Float, factors: Floats | float = 1.0) -> str:
        """Store the weight of a layer times factors, as codes if it has some: the runtime makes floats of them once."""
        if one.constants is None:
            return self.graph.constant(_array(_module(one).weight) * factors, np.float32)
        codes, scales = one.constants.codes, one.constants.scales
        spread = (scales * np.reshape(factors, -1)).reshape((-1,) + (1,) * (codes.ndim - 1))
        values = self.graph.node("Cast", [self.graph.constant(codes, np.int8)], to=TensorProto.FLOAT)
        return self.graph.node("Mul", [values, self.graph.constant(spread, np.float32)])


def scaled_sum(printer: FloatPrinter, one: Float) -> str:
    """Print a*z + relu((1 - a)*z); a scale that the canonical form put before the PReLU costs nothing here."""
    slopes = printer.slopes(one)
    source, factors, shifts = _unscaled(printer, one.source)
    rest = printer.scaled(source, (1 - slopes) * factors, (1 - slopes) * shifts)
    parts = [printer.scaled(source, slopes * factors, slopes * shifts), printer.graph.node("Relu", [rest])]
    return printer.graph.node("Add", parts)


def own_operator(printer: FloatPrinter, one: Float) -> str:
    """Print ONNX's own PRelu."""
    slopes = printer.graph.constant(printer.slopes(one).reshape(-1, 1, 1), np.float32)
    return printer.graph.node("PRelu", [printer.read(one), slopes])


def _unscaled(printer: FloatPrinter, value: str) -> tuple[str, Floats | float, Floats | float]:
    """Return the value that a 1x1 depthwise convolution reads, with its factors and shifts, or the value as it is."""
    before = printer.made.get(value)
    if before is not None and before.module is not None and is_affine(before.module):
        conv = _module(before)
        return before.source, _array(conv.weight).ravel(), _array(conv.bias)
    return value, 1.0, 0.0


def _module(one: Float) -> Any:  # noqa: ANN401 - each caller knows which module its operation has
    return one.module


def _array(parameter: object) -> Floats:
    array: Floats = parameter.detach().double().numpy()  # type: ignore[attr-defined]  # a torch Parameter
    return array


def _plain(operator: str, **attributes: float) -> Activation:
    """Return what prints an operator that reads the same values, in the same order."""

    def printed(printer: FloatPrinter, one: Float) -> str:
        return printer.graph.node(operator, [printer.values[source] for source in one.sources], **attributes)

    return printed


def _pool(operator: str) -> Activation:
    def printed(printer: FloatPrinter, one: Float) -> str:
        attributes = pool_attributes(PoolWindow.of(_module(one)), average=operator == "AveragePool")
        return printer.graph.node(operator, [printer.read(one)], **attributes)

    return printed


def _linear(printer: FloatPrinter, one: Float) -> str:
    linear = _module(one)
    constants = [printer.weight(one), printer.graph.constant(_array(linear.bias), np.float32)]
    return printer.graph.node("Gemm", [printer.read(one), *constants], transB=1)


def _relu6(printer: FloatPrinter, one: Float) -> str:
    limits = [printer.graph.constant(limit, np.float32) for limit in (0, 6)]
    return printer.graph.node("Clip", [printer.read(one), *limits])


def _normalize(printer: FloatPrinter, one: Float) -> str:
    length = printer.graph.node("ReduceL2", [printer.read(one)], axes=[1], keepdims=1)
    least = printer.graph.constant(one.options["eps"], np.float32)
    return printer.graph.node("Div", [printer.read(one), printer.graph.node("Max", [length, least])])


def _operation(printing: Printing) -> Activation:
    """Return what prints an island or a move."""
    return lambda printer, one: printing(printer.graph, [printer.values[name] for name in one.sources], _module(one))


OPERATIONS: Mapping[str, Activation] = {
    **{kind: _operation(printing) for kind, printing in {**ISLANDS, **MOVES}.items()},
    "conv": lambda printer, one: printer.convolution(one),
    "linear": _linear,
    "prelu": lambda printer, one: printer.prelu(printer, one),
    "relu": _plain("Relu"),
    "relu6": _relu6,
    "sigmoid": _plain("Sigmoid"),
    "hard_sigmoid": _plain("HardSigmoid", alpha=1 / 6, beta=0.5),
    "max_pool": _pool("MaxPool"),
    "average_pool": _pool("AveragePool"),
    "global_average_pool": _plain("GlobalAveragePool"),
    "flatten": _plain("Flatten"),
    "add": _plain("Add"),
    "mul": _plain("Mul"),
    "concat": _plain("Concat", axis=1),
    "normalize": _normalize,
}
