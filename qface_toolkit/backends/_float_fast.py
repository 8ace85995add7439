"""The float model once more, its PReLUs spelled so that ONNX Runtime runs them fast: the baseline int8 must beat."""

import onnx
from torch import fx

from qface_toolkit.backends._base import Facts
from qface_toolkit.backends.onnx_qdq._builder import INPUT, float_value
from qface_toolkit.backends.onnx_qdq._floats import Activation, FloatPrinter, scaled_sum
from qface_toolkit.canonical.graph import inputs
from qface_toolkit.integer.making import float_program
from qface_toolkit.models import ModelSpec


def export_float_fast(network: fx.GraphModule, spec: ModelSpec, facts: Facts) -> bytes:
    """Return the ONNX file of a canonical network: "input" [N, 3, height, width] to "embedding" [N, D], any N."""
    written = write_float(network, spec)
    onnx.checker.check_model(written)
    onnx.helper.set_model_props(written, dict(facts))
    content: bytes = written.SerializeToString(deterministic=True)
    return content


def write_float(network: fx.GraphModule, spec: ModelSpec, prelu: Activation = scaled_sum) -> onnx.ModelProto:
    """Return the plain ONNX form of a canonical network, each PReLU printed by `prelu`."""
    printer = FloatPrinter(prelu)
    entering, *_, last = network.graph.nodes
    printer.values[entering.name] = INPUT
    for one in float_program(network):
        printer.print(one)
    embedding = printer.values[inputs(last)[0].name]
    return printer.graph.model(embedding, float_value(spec.input_size), spec.embedding_size)
