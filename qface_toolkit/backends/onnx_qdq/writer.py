"""Write a quantized model as a QDQ ONNX graph: int8 weights, int32 biases, uint8 activations, integers throughout.

ONNX Runtime turns DequantizeLinear -> op -> QuantizeLinear into an integer kernel only if the pattern is exact, so
each operation is written with the pattern in mind. PReLU, which has no integer kernel, becomes the maximum of two
convolutions that share the output's scale: rounding and saturation are monotonic, so Max over codes is exact.
"""

from collections.abc import Callable, Mapping

import numpy as np
import onnx
from torch import fx

from qface_toolkit.backends.onnx_qdq._builder import INPUT, GraphBuilder
from qface_toolkit.backends.onnx_qdq._geometry import convolution_attributes, pool_attributes
from qface_toolkit.backends.onnx_qdq._layer import LayerConstants, dequantized, layer_constants, scaled_constants
from qface_toolkit.quantize.graph import inputs, module, operation
from qface_toolkit.quantize.model import QuantizedModel
from qface_toolkit.quantize.plan import ONNX
from qface_toolkit.quantize.scheme import ACTIVATION_MAX, activation_qparams


def write_qdq(model: QuantizedModel) -> onnx.ModelProto:
    """Return the ONNX form of a model whose ranges are set: input [N, 3, H, W] float32, embedding [N, D] float32."""
    writer = _Writer(model)
    for node in model.network.graph.nodes:
        if operation(node) == "output":
            return writer.graph.model(
                writer.values[inputs(node)[0].name], (3, *model.spec.input_size), model.spec.embedding_size
            )
        writer.write(node)
    raise AssertionError("a network without an output")


class _Writer:
    """Walks the canonical network; `values` maps each tensor to the float name that its readers shall read."""

    def __init__(self, model: QuantizedModel) -> None:
        self.model = model
        self.graph = GraphBuilder()
        self.values: dict[str, str] = {}

    def write(self, node: fx.Node) -> None:
        """Write one operation; a convolution with a PReLU behind it is written together with that."""
        if not (operation(node) == "conv" and _is_read_by(node, "prelu")):
            self.values[node.name] = _OPERATIONS[str(operation(node))](self, node)

    def read(self, node: fx.Node) -> str:
        """Return the name of a node's first input."""
        return self.values[inputs(node)[0].name]

    def scale_and_zero(self, tensor: str) -> list[str]:
        """Return the names of a tensor's scale and zero point."""
        scale, zero_point = activation_qparams(self.model.range_of(tensor), ONNX.levels)
        return [self.graph.constant(scale, np.float32), self.graph.constant(zero_point, np.uint8)]

    def rounded(self, node: fx.Node, value: str) -> str:
        """Return a float tensor after its trip through codes, or as it is where the plan leaves it float."""
        if not self.model.plan.quantized(node.name, ONNX.family):
            return value
        return self.restored(self.codes(node, value), node)

    def codes(self, node: fx.Node, value: str) -> str:
        """Return the codes of a float tensor on the grid of `node`."""
        return self.graph.node("QuantizeLinear", [value, *self.scale_and_zero(node.name)])

    def restored(self, codes: str, node: fx.Node) -> str:
        """Return the float tensor behind codes on the grid of `node`."""
        return self.graph.node("DequantizeLinear", [codes, *self.scale_and_zero(node.name)])

    def clipped(self, node: fx.Node, largest: int) -> str:
        """Return a node's input rounded on the node's grid, its codes kept between the zero point and `largest`."""
        codes = self.codes(node, self.read(node))
        zero_point = activation_qparams(self.model.range_of(node.name), ONNX.levels)[1]
        if zero_point > 0 or largest < ACTIVATION_MAX:
            limits = [zero_point, min(largest, ACTIVATION_MAX)]
            codes = self.graph.node("Clip", [codes, *(self.graph.constant(limit, np.uint8) for limit in limits)])
        return self.restored(codes, node)

    def input_scale(self, node: fx.Node) -> np.float32:
        """Return the scale of the tensor that a layer reads."""
        return activation_qparams(self.model.range_of(inputs(node)[0].name), ONNX.levels)[0]

    def convolution(self, node: fx.Node, layer: LayerConstants) -> str:
        """Write a convolution with these constants and the geometry of `node`."""
        sources = [self.read(node), *dequantized(self.graph, layer)]
        return self.graph.node("Conv", sources, **convolution_attributes(module(node)))


def _is_read_by(node: fx.Node, name: str) -> bool:
    return len(node.users) == 1 and operation(next(iter(node.users))) == name


def _input(writer: _Writer, node: fx.Node) -> str:
    return writer.rounded(node, INPUT)


def _conv(writer: _Writer, node: fx.Node) -> str:
    layer = layer_constants(writer.graph, module(node), writer.input_scale(node))
    return writer.rounded(node, writer.convolution(node, layer))


def _prelu(writer: _Writer, node: fx.Node) -> str:
    """Write max(conv(x; W), conv(x; a*W)) over codes: for slopes up to 1 that is the PReLU, negative ones included."""
    conv = inputs(node)[0]
    scale = writer.input_scale(conv)
    layer = layer_constants(writer.graph, module(conv), scale)
    scaled = scaled_constants(writer.graph, layer, module(node).weight.detach().numpy(), scale)
    branches = [writer.codes(node, writer.convolution(conv, constants)) for constants in (layer, scaled)]
    return writer.restored(writer.graph.node("Max", branches), node)


def _linear(writer: _Writer, node: fx.Node) -> str:
    layer = layer_constants(writer.graph, module(node), writer.input_scale(node))
    gemm = writer.graph.node("Gemm", [writer.read(node), *dequantized(writer.graph, layer)], transB=1)
    return writer.rounded(node, gemm)


def _relu(writer: _Writer, node: fx.Node) -> str:
    """Saturation is the ReLU of the layer before, unless a concatenation's range makes room for negative values."""
    return writer.clipped(node, ACTIVATION_MAX)


def _relu6(writer: _Writer, node: fx.Node) -> str:
    """Clip codes; there is nothing to clip where the range that it shares with its input ends at 0 and 6."""
    if writer.model.plan.tensors[node.name].owner in writer.model.plan.clamps:
        return writer.read(node)
    scale, zero_point = activation_qparams(writer.model.range_of(node.name), ONNX.levels)
    return writer.clipped(node, zero_point + int(np.rint(np.float32(6) / scale)))


def _max_pool(writer: _Writer, node: fx.Node) -> str:
    return writer.rounded(node, writer.graph.node("MaxPool", [writer.read(node)], **pool_attributes(module(node))))


def _average_pool(writer: _Writer, node: fx.Node) -> str:
    pool = writer.graph.node("AveragePool", [writer.read(node)], **pool_attributes(module(node)))
    return writer.rounded(node, pool)


def _global_average_pool(writer: _Writer, node: fx.Node) -> str:
    return writer.rounded(node, writer.graph.node("GlobalAveragePool", [writer.read(node)]))


def _flatten(writer: _Writer, node: fx.Node) -> str:
    return writer.rounded(node, writer.graph.node("Flatten", [writer.read(node)]))


def _add(writer: _Writer, node: fx.Node) -> str:
    return writer.rounded(node, writer.graph.node("Add", [writer.values[part.name] for part in inputs(node)]))


def _concat(writer: _Writer, node: fx.Node) -> str:
    parts = [writer.values[part.name] for part in inputs(node)]
    return writer.rounded(node, writer.graph.node("Concat", parts, axis=1))


_OPERATIONS: Mapping[str, Callable[[_Writer, fx.Node], str]] = {
    "input": _input,
    "conv": _conv,
    "linear": _linear,
    "prelu": _prelu,
    "relu": _relu,
    "relu6": _relu6,
    "max_pool": _max_pool,
    "average_pool": _average_pool,
    "global_average_pool": _global_average_pool,
    "flatten": _flatten,
    "add": _add,
    "concat": _concat,
}
