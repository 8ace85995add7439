"""Why ONNX Runtime left an operator in float, read off the quantize/dequantize pattern around it in the file.

The runtime says nothing when a pattern does not fit, so its conditions (onnxruntime/core/optimizer/qdq_transformer,
selectors_actions) are checked here one by one, each with words for what to mend.
"""

from collections.abc import Callable

import numpy as np
import numpy.typing as npt
import onnx
from onnx import TensorProto, numpy_helper

LAYERS = frozenset({"Conv", "ConvTranspose", "Gemm", "MatMul"})
SAME_SCALE = frozenset({"MaxPool", "Resize", "ReduceMax", "ReduceMin"})
"""Operators that pick values: they run on codes if the codes mean the same before and after."""
ARITHMETIC = frozenset({"Add", "Mul", "AveragePool", "GlobalAveragePool", "LeakyRelu", "Sigmoid", "Softmax"})
FLOAT_OUTPUT = frozenset({"Gemm", "MatMul"})
"""Layers that have an integer kernel with a float output too."""
OPSET_OF_INTEGER_MAX_POOL = 12

WITHOUT_KERNEL = "has no integer kernel in ONNX Runtime"
HINTS = {
    "PRelu": "qface writes it as Max of two convolutions",
    "BatchNormalization": "fold it into the convolution beside it",
    "Relu": "it goes away only where the QuantizeLinear behind it cuts off the same values",
    "Clip": "it goes away only where the QuantizeLinear behind it cuts off the same values",
    "Elu": "train with ReLU or PReLU instead",
    "HardSwish": "train with ReLU or PReLU instead",
}
COMPLETE = "ONNX Runtime left it in float although the pattern around it looks complete"
SIGNED = (
    "its activations are int8 and this processor's build of ONNX Runtime runs only uint8 (session.qdqisint8allowed)"
)
_TYPES = {TensorProto.UINT8: "uint8", TensorProto.INT8: "int8", TensorProto.INT32: "int32"}


class QdqGraph:
    """A graph whose constants are folded and whose quantize/dequantize pairs are all there yet."""

    def __init__(self, model: onnx.ModelProto, *, signed_allowed: bool) -> None:
        graph = model.graph
        self.signed_allowed = signed_allowed
        self.opset = max((entry.version for entry in model.opset_import if not entry.domain), default=0)
        self.nodes = {node.name: node for node in graph.node}
        self.constants = {tensor.name: tensor for tensor in graph.initializer}
        self.entering = {value.name for value in graph.input} - self.constants.keys()
        self.leaving = {value.name for value in graph.output}
        self.writer = {tensor: node for node in graph.node for tensor in node.output if tensor}
        self.readers: dict[str, list[onnx.NodeProto]] = {}
        for node in graph.node:
            for tensor in node.input:
                self.readers.setdefault(tensor, []).append(node)

    def explain(self, name: str) -> str:
        """Return why the node of this name does not run on integers."""
        node = self.nodes[name]
        if node.op_type not in LAYERS | SAME_SCALE | ARITHMETIC:
            missing, hint = f"{node.op_type} {WITHOUT_KERNEL}", HINTS.get(node.op_type)
            return f"{missing} ({hint})" if hint else missing
        reasons = (check(self, node) for check in _CHECKS)
        return f"{node.op_type}: {next((reason for reason in reasons if reason), COMPLETE)}"

    def dequantizer(self, tensor: str) -> onnx.NodeProto | None:
        """Return the DequantizeLinear that writes a tensor."""
        writer = self.writer.get(tensor)
        return writer if writer is not None and writer.op_type == "DequantizeLinear" else None

    def code_type(self, node: onnx.NodeProto) -> str:
        """Return the type of the codes that a QuantizeLinear writes or a DequantizeLinear reads."""
        zero_point = self.constants.get(node.input[2]) if len(node.input) > 2 else None
        stored = zero_point or self.constants.get(node.input[0])
        return _TYPES.get(stored.data_type, "other codes") if stored is not None else "uint8"

    def scale(self, node: onnx.NodeProto) -> npt.NDArray[np.float32] | None:
        """Return the constant scale of a QuantizeLinear or DequantizeLinear."""
        stored = self.constants.get(node.input[1])
        return None if stored is None else numpy_helper.to_array(stored).astype(np.float32)

    def described(self, tensor: str) -> str:
        """Return what a tensor comes from, in words."""
        if tensor in self.constants:
            return "a float constant"
        if tensor in self.entering:
            return "the graph's input"
        return self.writer[tensor].op_type if tensor in self.writer else "nothing"


def _data(node: onnx.NodeProto) -> list[str]:
    """Return the inputs that are activations: of a layer the first one, of a Resize too."""
    return list(node.input)[: 1 if node.op_type in LAYERS | SAME_SCALE else None]


def _input(graph: QdqGraph, node: onnx.NodeProto) -> str | None:
    missing = [tensor for tensor in _data(node) if graph.dequantizer(tensor) is None]
    return f"it reads {graph.described(missing[0])} and not DequantizeLinear" if missing else None


def _weight(graph: QdqGraph, node: onnx.NodeProto) -> str | None:
    if node.op_type not in LAYERS:
        return None
    if graph.dequantizer(node.input[1]) is None:
        return f"its weight is {graph.described(node.input[1])}, without DequantizeLinear"
    return None


def _output(graph: QdqGraph, node: onnx.NodeProto) -> str | None:
    readers = graph.readers.get(node.output[0], [])
    leaves = node.output[0] in graph.leaving
    if node.op_type in FLOAT_OUTPUT and not any(one.op_type == "QuantizeLinear" for one in readers):
        return None
    others = dict.fromkeys(one.op_type for one in readers if one.op_type != "QuantizeLinear")
    words = [*others, *(["the graph's output"] if leaves else [])]
    if words:
        return f"its output is not followed by QuantizeLinear alone (read by {', '.join(words)})"
    return "its output is read by several QuantizeLinear" if len(readers) > 1 else None


def _types(graph: QdqGraph, node: onnx.NodeProto) -> str | None:
    """Find codes of unlike types, or of a type that this build does not run."""
    converters = [found for tensor in _data(node) if (found := graph.dequantizer(tensor)) is not None]
    converters += [one for one in graph.readers.get(node.output[0], []) if one.op_type == "QuantizeLinear"]
    types = list(dict.fromkeys(graph.code_type(converter) for converter in converters))
    if "int8" in types and not graph.signed_allowed:
        return SIGNED
    return f"its inputs and its output have codes of unlike types ({', '.join(types)})" if len(types) > 1 else None


def _bias(graph: QdqGraph, node: onnx.NodeProto) -> str | None:
    """Find a bias whose codes are not those of the integer sum."""
    bias = node.input[2] if node.op_type in LAYERS and len(node.input) > 2 else ""
    converters = [graph.dequantizer(tensor) for tensor in (node.input[0], node.input[1], bias)] if bias else [None]
    if converters[-1] is None:
        return None
    if graph.code_type(converters[-1]) != "int32":
        return f"its bias is {graph.code_type(converters[-1])} and not int32"
    scales = [graph.scale(converter) for converter in converters if converter is not None]
    entering, weight, stored = (scales + [None] * 3)[:3]
    if entering is None or weight is None or stored is None:
        return None
    product = np.ravel(entering.ravel()[:1] * weight)
    fits = product.size in (1, stored.size) and bool(np.all(product == stored.ravel()))
    return None if fits else "its bias scale is not input scale x weight scale"


def _scales(graph: QdqGraph, node: onnx.NodeProto) -> str | None:
    """Find an operator that picks values whose codes would change their meaning."""
    if node.op_type not in SAME_SCALE:
        return None
    if node.op_type == "MaxPool" and graph.opset < OPSET_OF_INTEGER_MAX_POOL:
        newer = f"convert the file to opset {OPSET_OF_INTEGER_MAX_POOL} or later"
        return f"opset {graph.opset} has no integer form of it; {newer}"
    before, behind = graph.dequantizer(node.input[0]), graph.readers.get(node.output[0], [])
    if before is None or not behind or list(before.input[1:]) == list(behind[0].input[1:]):
        return None
    if not np.array_equal(graph.scale(before), graph.scale(behind[0])):  # type: ignore[arg-type]  # None equals itself
        return "its input and its output have different scales"
    return None


def _attributes(graph: QdqGraph, node: onnx.NodeProto) -> str | None:
    """Find a Gemm that is more than a product and a bias."""
    values = {attribute.name: attribute.f for attribute in node.attribute}
    if node.op_type == "Gemm" and values.get("beta", 1.0) != 1.0:
        return f"its beta is {values['beta']:g} and not 1"
    return None


_CHECKS: tuple[Callable[[QdqGraph, onnx.NodeProto], str | None], ...] = (
    _input,
    _weight,
    _output,
    _types,
    _bias,
    _scales,
    _attributes,
)
