"""Operations in float as ONNX Runtime runs them fast: those of float.fast.onnx, and those of layers kept in float.

On x86 the runtime keeps channels in blocks between convolutions, and it has no PReLU on blocks: each PRelu node costs a
slow kernel and two changes of layout. For a slope a <= 1, prelu(z) = a*z + relu((1 - a)*z). With both products written
as 1x1 depthwise convolutions the runtime fuses the ReLU into one and the sum into the other, and no layout changes.
benchmarks/float_forms.py compares this spelling with others.
"""

from collections.abc import Callable, Mapping
from typing import cast

import numpy as np
import numpy.typing as npt
from torch import fx

from qface_toolkit.backends.onnx_qdq._builder import INPUT, GraphBuilder
from qface_toolkit.backends.onnx_qdq._geometry import convolution_attributes, pool_attributes
from qface_toolkit.canonical.graph import inputs, module, operation

Floats = npt.NDArray[np.float64]
Activation = Callable[["FloatWriter", fx.Node], str]
"""Writes a PReLU and returns the name of its output."""


class FloatWriter:
    """Walks the canonical network; `values` maps each node to the name of its output."""

    def __init__(self, prelu: Activation, graph: GraphBuilder | None = None) -> None:
        self.prelu = prelu
        self.graph = graph or GraphBuilder()
        self.values: dict[fx.Node, str] = {}

    def read(self, node: fx.Node) -> str:
        """Return the name of a node's first input."""
        return self.values[inputs(node)[0]]

    def slopes(self, node: fx.Node) -> Floats:
        """Return a PReLU's slopes, one a channel and none above 1."""
        return _array(module(node).weight)

    def scaled(self, source: fx.Node, factors: Floats | float, shifts: Floats | float = 0.0) -> str:
        """Write a tensor times one factor a channel, plus one shift a channel, as a 1x1 depthwise convolution."""
        weight = np.reshape(factors, (-1, 1, 1, 1))
        bias = [self.graph.constant(shifts, np.float32)] if np.any(shifts) else []
        sources = [self.values[source], self.graph.constant(weight, np.float32), *bias]
        return self.graph.node("Conv", sources, group=len(weight))

    def convolution(self, node: fx.Node, factors: Floats | float = 1.0) -> str:
        """Write a convolution, each output channel multiplied by its factor."""
        conv = module(node)
        weight = _array(conv.weight) * np.reshape(factors, (-1, 1, 1, 1))
        constants = [self.graph.constant(value, np.float32) for value in (weight, _array(conv.bias) * factors)]
        return self.graph.node("Conv", [self.read(node), *constants], **convolution_attributes(conv))


def scaled_sum(writer: "FloatWriter", node: fx.Node) -> str:
    """Write a*z + relu((1 - a)*z); a scale that the canonical form put before the PReLU costs nothing here."""
    slopes = writer.slopes(node)
    source, factors, shifts = _unscaled(inputs(node)[0])
    rest = writer.scaled(source, (1 - slopes) * factors, (1 - slopes) * shifts)
    parts = [writer.scaled(source, slopes * factors, slopes * shifts), writer.graph.node("Relu", [rest])]
    return writer.graph.node("Add", parts)


def _unscaled(node: fx.Node) -> tuple[fx.Node, Floats | float, Floats | float]:
    """Return the tensor that a 1x1 depthwise convolution reads, with its factors and shifts, or the tensor as it is."""
    if operation(node) == "conv":
        conv = module(node)
        one_to_one = conv.groups == conv.in_channels == conv.out_channels
        if one_to_one and (conv.kernel_size, conv.stride, conv.padding) == ((1, 1), (1, 1), (0, 0)):
            return inputs(node)[0], _array(conv.weight).ravel(), _array(conv.bias)
    return node, 1.0, 0.0


def _array(parameter: object) -> Floats:
    array: Floats = parameter.detach().double().numpy()  # type: ignore[attr-defined]  # a torch Parameter
    return array


def _plain(operator: str, **attributes: float) -> Activation:
    """Return what writes an operator that reads the same tensors as the node, in the same order."""

    def write(writer: FloatWriter, node: fx.Node) -> str:
        return writer.graph.node(operator, [writer.values[part] for part in inputs(node)], **attributes)

    return write


def _pool(operator: str) -> Activation:
    return lambda writer, node: writer.graph.node(operator, [writer.read(node)], **pool_attributes(module(node)))


def _linear(writer: FloatWriter, node: fx.Node) -> str:
    linear = module(node)
    constants = [writer.graph.constant(_array(value), np.float32) for value in (linear.weight, linear.bias)]
    return writer.graph.node("Gemm", [writer.read(node), *constants], transB=1)


def _relu6(writer: FloatWriter, node: fx.Node) -> str:
    limits = [writer.graph.constant(limit, np.float32) for limit in (0, 6)]
    return writer.graph.node("Clip", [writer.read(node), *limits])


def _normalize(writer: FloatWriter, node: fx.Node) -> str:
    length = writer.graph.node("ReduceL2", [writer.read(node)], axes=[1], keepdims=1)
    least = writer.graph.constant(cast(float, node.kwargs["eps"]), np.float32)
    return writer.graph.node("Div", [writer.read(node), writer.graph.node("Max", [length, least])])


OPERATIONS: Mapping[str, Activation] = {
    "input": lambda writer, node: INPUT,
    "conv": lambda writer, node: writer.convolution(node),
    "linear": _linear,
    "prelu": lambda writer, node: writer.prelu(writer, node),
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
