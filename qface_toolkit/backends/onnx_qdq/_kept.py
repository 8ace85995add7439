"""What computes in float because layers are kept so, written as in float.fast.onnx; each node says why it is there."""

from torch import fx

from qface_toolkit.backends.onnx_qdq._floats import OPERATIONS, FloatWriter, scaled_sum
from qface_toolkit.backends.onnx_qdq._tensors import TensorWriter
from qface_toolkit.canonical.graph import operation
from qface_toolkit.runtimes.fusion import KEPT


def write_in_float(writer: TensorWriter, node: fx.Node) -> None:
    """Write an operation on the float values of what it reads; its output is rounded unless nobody reads codes."""
    floats = FloatWriter(scaled_sum, writer.graph)
    floats.values = {one: writer.values[one.name] for one in node.graph.nodes if one.name in writer.values}
    writer.graph.note = KEPT
    value = OPERATIONS[str(operation(node))](floats, node)
    writer.graph.note = None
    writer.rounded(node, value)
