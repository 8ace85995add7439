"""Write a quantized model as a QDQ ONNX graph: int8 weights, int32 biases, 8-bit activations, integers throughout.

ONNX Runtime turns DequantizeLinear -> op -> QuantizeLinear into an integer kernel only if the pattern is exact, so
each operation is written with the pattern in mind. Another runtime's patterns replace some of them (see _fused).
"""

from collections.abc import Callable, Mapping
from typing import cast

import numpy as np
import onnx
from torch import fx

from qface_toolkit.backends.onnx_qdq._activations import (
    write_hard_sigmoid,
    write_prelu,
    write_relu,
    write_relu6,
    write_sigmoid,
)
from qface_toolkit.backends.onnx_qdq._builder import INPUT, float_value
from qface_toolkit.backends.onnx_qdq._fused import FUSED
from qface_toolkit.backends.onnx_qdq._geometry import pool_attributes
from qface_toolkit.backends.onnx_qdq._image import image_value, write_image
from qface_toolkit.backends.onnx_qdq._kept import write_in_float
from qface_toolkit.backends.onnx_qdq._layer import dequantized
from qface_toolkit.backends.onnx_qdq._tensors import UNSIGNED, CodeType, TensorWriter
from qface_toolkit.canonical.edit import ensure_shapes
from qface_toolkit.canonical.graph import inputs, module, operation
from qface_toolkit.quantize.image_input import absorb_preprocessing, takes_pixels
from qface_toolkit.quantize.model import QuantizedModel
from qface_toolkit.quantize.plan import ONNX, Target


def write_qdq(model: QuantizedModel, code_type: CodeType = UNSIGNED, target: Target = ONNX) -> onnx.ModelProto:
    """Return the ONNX form of a model whose ranges are set: embeddings [N, D] float32 of what its deployment feeds it.

    Raises:
        UnsupportedModel: if it is to take pixels and cannot.
    """
    entering = image_value(model.spec) if takes_pixels(model, target) else float_value(model.spec.input_size)
    writer = _written(model, code_type, target)
    last = next(node for node in model.network.graph.nodes if operation(node) == "output")
    return writer.graph.model(writer.values[inputs(last)[0].name], entering, model.spec.embedding_size)


def code_names(model: QuantizedModel, code_type: CodeType = UNSIGNED, target: Target = ONNX) -> dict[str, str]:
    """Return the name that each tensor's codes have in the file that `write_qdq` makes of the same model."""
    codes = _written(model, code_type, target).codes
    return {tensor: name for tensor, name in codes.items() if model.plan.quantized(tensor, target.family)}


def value_names(model: QuantizedModel, target: Target, code_type: CodeType = UNSIGNED) -> dict[str, str]:
    """Return the name that each tensor's float values have in the file that `write_qdq` makes of the same model."""
    return dict(_written(model, code_type, target).values)


def _written(model: QuantizedModel, code_type: CodeType, target: Target) -> TensorWriter:
    ensure_shapes(model.network, model.spec.input_size)
    deployed = absorb_preprocessing(model) if takes_pixels(model, target) else model
    writer = TensorWriter(deployed, code_type, target)
    operations = _OPERATIONS if target.family == ONNX.family else {**_OPERATIONS, **FUSED}
    for node in writer.model.network.graph.nodes:
        if model.plan.in_float(node.name, target.family):
            write_in_float(writer, node)
        elif operation(node) != "output":
            operations[str(operation(node))](writer, node)
    return writer


def _input(writer: TensorWriter, node: fx.Node) -> None:
    if takes_pixels(writer.model, writer.target):
        write_image(writer, node)
    else:
        writer.rounded(node, INPUT)


def _conv(writer: TensorWriter, node: fx.Node) -> None:
    if not _is_run_by_prelu(node, writer.model):
        writer.rounded(node, writer.convolution(node, writer.layer(node)))


def _is_run_by_prelu(node: fx.Node, model: QuantizedModel) -> bool:
    """Tell whether the PReLU behind a convolution writes it, on its own grid."""
    return node.name in model.plan.tensors and not model.plan.quantized(node.name, ONNX.family)


def _linear(writer: TensorWriter, node: fx.Node) -> None:
    weight, bias = dequantized(writer.graph, writer.layer(node))
    writer.rounded(node, writer.graph.node("Gemm", [writer.read(node), weight, bias], transB=1))


def _pool(operator: str) -> Callable[[TensorWriter, fx.Node], None]:
    def write(writer: TensorWriter, node: fx.Node) -> None:
        writer.rounded(node, writer.graph.node(operator, [writer.read(node)], **pool_attributes(module(node))))

    return write


def _global_average_pool(writer: TensorWriter, node: fx.Node) -> None:
    writer.rounded(node, writer.graph.node("GlobalAveragePool", [writer.read(node)]))


def _flatten(writer: TensorWriter, node: fx.Node) -> None:
    writer.rounded(node, writer.graph.node("Flatten", [writer.read(node)]))


def _add(writer: TensorWriter, node: fx.Node) -> None:
    writer.rounded(node, writer.graph.node("Add", [writer.values[part.name] for part in inputs(node)]))


def _mul(writer: TensorWriter, node: fx.Node) -> None:
    writer.rounded(node, writer.graph.node("Mul", [writer.values[part.name] for part in inputs(node)]))


def _normalize(writer: TensorWriter, node: fx.Node) -> None:
    """Divide the embedding, which is float, by its length or `eps`, whichever is larger."""
    value, eps = writer.read(node), float(cast(float, node.kwargs["eps"]))
    length = writer.graph.node("ReduceL2", [value], axes=[1], keepdims=1)
    if eps > 0:
        length = writer.graph.node("Max", [length, writer.graph.constant(eps, np.float32)])
    writer.values[node.name] = writer.graph.node("Div", [value, length])


def _concat(writer: TensorWriter, node: fx.Node) -> None:
    writer.rounded(node, writer.graph.node("Concat", [writer.values[part.name] for part in inputs(node)], axis=1))


_OPERATIONS: Mapping[str, Callable[[TensorWriter, fx.Node], None]] = {
    "input": _input,
    "conv": _conv,
    "linear": _linear,
    "prelu": write_prelu,
    "relu": write_relu,
    "relu6": write_relu6,
    "sigmoid": write_sigmoid,
    "hard_sigmoid": write_hard_sigmoid,
    "max_pool": _pool("MaxPool"),
    "average_pool": _pool("AveragePool"),
    "global_average_pool": _global_average_pool,
    "flatten": _flatten,
    "add": _add,
    "mul": _mul,
    "normalize": _normalize,
    "concat": _concat,
}
