"""Operations as a runtime wants them that fuses a convolution with its activation itself: OpenVINO.

Nothing is quantized between the two, activations stay the operators they are, biases stay float. Weights have no zero
points: the runtime unpacks weights to float that share their zero points with a layer which it runs otherwise.
"""

import math
from collections.abc import Callable, Mapping

import numpy as np
from torch import fx, nn

from qface_toolkit.backends.onnx_qdq._geometry import convolution_attributes, pool_attributes
from qface_toolkit.backends.onnx_qdq._tensors import TensorWriter
from qface_toolkit.canonical.edit import shape_of
from qface_toolkit.canonical.graph import inputs, module
from qface_toolkit.quantize.weights import WeightGrid, bias_of_codes, is_affine, layer_bias, pads_codes, weight_grid


def _conv(writer: TensorWriter, node: fx.Node) -> None:
    layer, source = module(node), inputs(node)[0]
    if is_affine(layer):
        writer.rounded(node, _affine(writer, writer.read(node), layer))
        return
    value, bias, attributes = writer.read(node), layer_bias(layer), convolution_attributes(layer)
    scale, zero_point = writer.grid(source.name)
    if pads_codes(layer, zero_point, math.prod(shape_of(source)[2:])):
        codes = _padded(writer, source.name, attributes.pop("pads"))
        value = writer.graph.node("DequantizeLinear", [codes, writer.graph.constant(scale, np.float32), writer.code(0)])
        bias = bias_of_codes(layer, _grid(writer, node), scale, zero_point)
    read = [value, _weight(writer, node), writer.graph.constant(bias, np.float32)]
    writer.rounded(node, writer.graph.node("Conv", read, **attributes))


def _affine(writer: TensorWriter, value: str, layer: nn.Conv2d) -> str:
    """Write what multiplies and shifts each channel by itself: as a 1x1 convolution it would run in float."""
    factor = layer.weight.detach().numpy().reshape(-1, 1, 1)
    product = writer.graph.node("Mul", [value, writer.graph.constant(factor, np.float32)])
    return writer.graph.node("Add", [product, writer.graph.constant(layer_bias(layer).reshape(-1, 1, 1), np.float32)])


def _linear(writer: TensorWriter, node: fx.Node) -> None:
    bias = writer.graph.constant(layer_bias(module(node)), np.float32)
    writer.rounded(node, writer.graph.node("Gemm", [writer.read(node), _weight(writer, node), bias], transB=1))


def _weight(writer: TensorWriter, node: fx.Node) -> str:
    grid = _grid(writer, node)
    codes = writer.graph.constant(grid.codes(module(node).weight), np.int8)
    return writer.graph.node("DequantizeLinear", [codes, writer.graph.constant(grid.scales, np.float32)], axis=0)


def _grid(writer: TensorWriter, node: fx.Node) -> WeightGrid:
    model = writer.model
    return weight_grid(node, writer.input_scale(node), writer.target, model.deployment, model.scheme)


def _prelu(writer: TensorWriter, node: fx.Node) -> None:
    slopes = writer.graph.constant(module(node).weight.detach().numpy().reshape(-1, 1, 1), np.float32)
    writer.rounded(node, writer.graph.node("PRelu", [writer.read(node), slopes]))


def _relu(writer: TensorWriter, node: fx.Node) -> None:
    """Saturation is the ReLU of the layer before, unless a shared range makes room for negative values."""
    value = writer.read(node)
    if not writer.quantizes(node) or writer.grid(node.name)[1] > 0:
        value = writer.graph.node("Relu", [value])
    writer.rounded(node, value)


def _relu6(writer: TensorWriter, node: fx.Node) -> None:
    """Clip, unless saturation does it: where the range that a ReLU6 shares with its input ends at 0 and 6."""
    value = writer.read(node)
    if writer.model.plan.tensors[node.name].owner not in writer.model.plan.clamps:
        value = writer.graph.node("Clip", [value, *(writer.graph.constant(end, np.float32) for end in (0, 6))])
    writer.rounded(node, value)


def _hard_sigmoid(writer: TensorWriter, node: fx.Node) -> None:
    writer.rounded(node, writer.graph.node("HardSigmoid", [writer.read(node)], alpha=1 / 6, beta=0.5))


def _average_pool(writer: TensorWriter, node: fx.Node) -> None:
    """Write a pool whose padding, if any, is done on codes before: the runtime would average code 0, not value 0."""
    value, attributes = writer.read(node), pool_attributes(module(node))
    if any(attributes.get("pads", ())):
        source = inputs(node)[0].name
        value = writer.restored(_padded(writer, source, attributes.pop("pads")), source)
    writer.rounded(node, writer.graph.node("AveragePool", [value], **attributes))


def _padded(writer: TensorWriter, tensor: str, pads: list[int]) -> str:
    """Return the codes of a tensor with a border of those of zero."""
    codes = writer.codes.get(tensor) or writer.quantized(writer.values[tensor], tensor)
    widths = writer.graph.constant([0, 0, *pads[:2], 0, 0, *pads[2:]], np.int64)
    return writer.graph.node("Pad", [codes, widths, writer.code(writer.grid(tensor)[1])])


def _max_pool(writer: TensorWriter, node: fx.Node) -> None:
    writer.values[node.name] = writer.graph.node("MaxPool", [writer.read(node)], **pool_attributes(module(node)))


def _flatten(writer: TensorWriter, node: fx.Node) -> None:
    writer.values[node.name] = writer.graph.node("Flatten", [writer.read(node)])


def _concat(writer: TensorWriter, node: fx.Node) -> None:
    writer.values[node.name] = writer.graph.node("Concat", [writer.values[part.name] for part in inputs(node)], axis=1)


FUSED: Mapping[str, Callable[[TensorWriter, fx.Node], None]] = {
    "conv": _conv,
    "linear": _linear,
    "prelu": _prelu,
    "relu": _relu,
    "relu6": _relu6,
    "hard_sigmoid": _hard_sigmoid,
    "average_pool": _average_pool,
    "max_pool": _max_pool,
    "flatten": _flatten,
    "concat": _concat,
}
"""The operations that are written otherwise than for ONNX Runtime; what only moves codes is not quantized again."""
