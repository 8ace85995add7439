"""The front of a graph that takes pixels: they are codes already, so nothing is computed; see quantize.image_input."""

from collections.abc import Callable

import numpy as np
import onnx
from onnx import TensorProto, helper

from qface_toolkit.backends._pixels import IMAGE
from qface_toolkit.backends.onnx_qdq._builder import GraphBuilder
from qface_toolkit.models import ModelSpec


def image_value(spec: ModelSpec) -> onnx.ValueInfoProto:
    """Return the declaration of the input: RGB pixels, uint8 [N, height, width, 3]."""
    return helper.make_tensor_value_info(IMAGE, TensorProto.UINT8, ["batch", *spec.input_size, 3])


def planes(graph: GraphBuilder, spec: ModelSpec, fourth: int, code: Callable[[int], str], *, signed: bool) -> str:
    """Put the channels first and add a fourth one of this unsigned code; `code` stores codes as the graph holds them.

    The pixels stand in one row meanwhile. In the image's own shape the runtime would move the padding to where channels
    are last, because its convolutions want them there, and write a byte behind every three: that takes four times as
    long as padding a plane and turning the result.
    """
    height, width = spec.input_size
    codes = _shifted(graph, code) if signed else IMAGE
    row = graph.node("Reshape", [codes, graph.constant([0, height * width, 3], np.int64)])
    turned = graph.node("Transpose", [row], perm=[0, 2, 1])
    four = graph.node("Pad", [turned, graph.constant([0, 0, 0, 0, 1, 0], np.int64), code(fourth)])
    return graph.node("Reshape", [four, graph.constant([0, 4, height, width], np.int64)])


def _shifted(graph: GraphBuilder, code: Callable[[int], str]) -> str:
    """Return pixels as signed codes, on a grid of step 1 whatever the network's is."""
    pixels = graph.node("Cast", [IMAGE], to=TensorProto.FLOAT)
    return graph.node("QuantizeLinear", [pixels, graph.constant(1, np.float32), code(0)])
