"""The float model once more, its PReLUs spelled so that ONNX Runtime runs them fast: the baseline int8 must beat."""

import onnx
from torch import fx

from qface_toolkit.backends._base import Facts
from qface_toolkit.backends.onnx_qdq._builder import float_value
from qface_toolkit.backends.onnx_qdq._floats import OPERATIONS, Activation, FloatWriter, scaled_sum
from qface_toolkit.canonical.graph import operation
from qface_toolkit.models import ModelSpec


def export_float_fast(network: fx.GraphModule, spec: ModelSpec, facts: Facts) -> bytes:
    """Return the ONNX file of a canonical network: "input" [N, 3, height, width] to "embedding" [N, D], any N."""
    written = write_float(network, spec)
    onnx.checker.check_model(written)
    onnx.helper.set_model_props(written, dict(facts))
    content: bytes = written.SerializeToString(deterministic=True)
    return content


def write_float(network: fx.GraphModule, spec: ModelSpec, prelu: Activation = scaled_sum) -> onnx.ModelProto:
    """Return the plain ONNX form of a canonical network, each PReLU written by `prelu`."""
    writer = FloatWriter(prelu)
    for node in network.graph.nodes:
        if operation(node) == "output":
            return writer.graph.model(writer.read(node), float_value(spec.input_size), spec.embedding_size)
        writer.values[node] = OPERATIONS[str(operation(node))](writer, node)
    raise AssertionError("a network without an output")
