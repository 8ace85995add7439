"""Activations on codes. PReLU, which has no integer kernel, is the maximum of z and a z; see quantize.plan.Form.

Rounding and saturation are monotonic, so the maximum of codes is the code of the maximum: nothing is rounded twice.
"""

import numpy as np
from torch import fx

from qface_toolkit.backends.onnx_qdq._layer import dequantized, diagonal, layer_constants, scaled_constants
from qface_toolkit.backends.onnx_qdq._tensors import TensorWriter
from qface_toolkit.canonical.edit import shape_of
from qface_toolkit.canonical.graph import inputs, module
from qface_toolkit.quantize.model import QuantizedModel
from qface_toolkit.quantize.plan import ONNX
from qface_toolkit.quantize.scheme import ACTIVATION_MAX, weight_codes, weight_scales
from qface_toolkit.quantize.weights import Width, hard_sigmoid_layer, layer_grid

FEW_CHANNELS = 32
"""Up to so many channels ONNX Runtime runs a full 1x1 convolution in half the time of a depthwise one."""

MAX_ON_CODES = "1.24.1"
"""The first ONNX Runtime that takes the maximum of 8-bit tensors."""
OLDEST = "1.18.0"
"""The oldest one that runs everything else that is written here; older ones were not tried."""


def oldest_runtime(model: QuantizedModel) -> str:
    """Return the oldest ONNX Runtime that runs what is written for a model."""
    return MAX_ON_CODES if model.plan.forms and model.deployment.has_onnxruntime(MAX_ON_CODES) else OLDEST


def write_prelu(writer: TensorWriter, node: fx.Node) -> None:
    """Write a PReLU in the form that the plan gives it."""
    twin = writer.model.plan.forms[node.name] == "twin"
    branches = _twin(writer, node) if twin else _scaled(writer, node)
    writer.keep(node.name, _maximum(writer, node, branches))


def _twin(writer: TensorWriter, node: fx.Node) -> list[str]:
    """Return the codes of conv(x; W) and conv(x; a W) on the output's grid."""
    conv = inputs(node)[0]
    scale = writer.input_scale(conv)
    layer = writer.layer(conv)
    scaled = scaled_constants(writer.graph, layer, module(node).weight.detach().numpy(), scale)
    return [writer.quantized(writer.convolution(conv, constants), node.name) for constants in (layer, scaled)]


def _scaled(writer: TensorWriter, node: fx.Node) -> list[str]:
    """Return the codes of z and, made from them by a 1x1 convolution, of a z."""
    source, slopes = inputs(node)[0].name, module(node).weight.detach().numpy().reshape(-1, 1, 1, 1)
    scales = weight_scales(slopes)
    channels, codes = len(slopes), weight_codes(slopes, scales)
    groups = channels if channels > FEW_CHANNELS else 1
    stored = writer.graph.constant(codes if groups > 1 else diagonal(codes), np.int8)
    scaled = writer.graph.constant(scales, np.float32)
    weight = writer.graph.node("DequantizeLinear", [stored, scaled], axis=0)
    product = writer.graph.node("Conv", [writer.values[source], weight], group=groups)
    return [writer.codes[source], writer.quantized(product, node.name)]


def _maximum(writer: TensorWriter, node: fx.Node, branches: list[str]) -> str:
    """Return the larger of two codes; before MAX_ON_CODES by pooling over both, one below the other."""
    if writer.model.deployment.has_onnxruntime(MAX_ON_CODES):
        return writer.graph.node("Max", branches)
    height = shape_of(node)[2]
    both = writer.graph.node("Concat", branches, axis=2)
    return writer.graph.node("MaxPool", [both], kernel_shape=[2, 1], dilations=[height, 1])


def write_relu(writer: TensorWriter, node: fx.Node) -> None:
    """Saturation is the ReLU of the layer before, unless a shared range makes room for negative values."""
    _clip(writer, node, ACTIVATION_MAX)


def write_relu6(writer: TensorWriter, node: fx.Node) -> None:
    """Clip codes; there is nothing to clip where the range that it shares with its input ends at 0 and 6."""
    source = inputs(node)[0].name
    if writer.model.plan.tensors[node.name].owner in writer.model.plan.clamps:
        writer.codes[node.name], writer.values[node.name] = writer.codes[source], writer.values[source]
        return
    scale, zero_point = writer.grid(node.name)
    _clip(writer, node, zero_point + int(np.rint(np.float32(6) / scale)))


def write_sigmoid(writer: TensorWriter, node: fx.Node) -> None:
    """Write a sigmoid, which the runtime makes a table of codes."""
    writer.rounded(node, writer.graph.node("Sigmoid", [writer.read(node)]))


def write_hard_sigmoid(writer: TensorWriter, node: fx.Node) -> None:
    """Write x / 6 + 1/2 as a 1x1 depthwise convolution; the end of the grid is the clamp. Vectors become one pixel."""
    source, shape = inputs(node)[0].name, shape_of(node)
    scale, layer = writer.input_scale(node), hard_sigmoid_layer(shape[1])
    grid = layer_grid(layer, scale, ONNX, writer.model.deployment, Width())
    constants = layer_constants(writer.graph, layer, grid, scale)
    value = writer.values[source] if len(shape) == 4 else _reshaped(writer, writer.codes[source], source, [0, 0, 1, 1])
    output = writer.graph.node("Conv", [value, *dequantized(writer.graph, constants)], group=shape[1])
    codes = writer.quantized(output, node.name)
    if len(shape) == 4:
        writer.keep(node.name, codes)
    else:
        writer.keep(node.name, writer.graph.node("Flatten", [codes]))


def _reshaped(writer: TensorWriter, codes: str, tensor: str, shape: list[int]) -> str:
    """Return the float values of a tensor whose codes were given another shape."""
    target = writer.graph.constant(shape, np.int64)
    return writer.restored(writer.graph.node("Reshape", [codes, target]), tensor)


def _clip(writer: TensorWriter, node: fx.Node, largest: int) -> None:
    """Keep a node's input rounded on the node's grid, its codes between the zero point and `largest`."""
    codes = writer.quantized(writer.read(node), node.name)
    zero_point = writer.grid(node.name)[1]
    if zero_point > 0 or largest < ACTIVATION_MAX:
        codes = writer.graph.node("Clip", [codes, writer.code(zero_point), writer.code(largest)])
    writer.keep(node.name, codes)
