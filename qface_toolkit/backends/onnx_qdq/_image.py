"""The front of a graph that takes pixels: they are codes already, so nothing is computed; see quantize.image_input."""

import numpy as np
import onnx
from onnx import TensorProto, helper
from torch import fx

from qface_toolkit.backends._pixels import IMAGE
from qface_toolkit.backends.onnx_qdq._tensors import UNSIGNED, TensorWriter
from qface_toolkit.models import ModelSpec
from qface_toolkit.quantize.image_input import image_grid


def image_value(spec: ModelSpec) -> onnx.ValueInfoProto:
    """Return the declaration of the input: RGB pixels, uint8 [N, height, width, 3]."""
    return helper.make_tensor_value_info(IMAGE, TensorProto.UINT8, ["batch", *spec.input_size, 3])


def write_image(writer: TensorWriter, node: fx.Node) -> None:
    """Put the channels first and add the fourth one.

    The pixels stand in one row meanwhile. In the image's own shape the runtime would move the padding to where channels
    are last, because its convolutions want them there, and write a byte behind every three: that takes four times as
    long as padding a plane and turning the result.
    """
    spec, graph, codes = writer.model.spec, writer.graph, IMAGE
    (height, width), grid = spec.input_size, image_grid(spec)
    if writer.code_type is not UNSIGNED:
        codes = _shifted(writer)
    row = graph.node("Reshape", [codes, graph.constant([0, height * width, 3], np.int64)])
    planes = graph.node("Transpose", [row], perm=[0, 2, 1])
    pads = graph.constant([0, 0, 0, 0, 1, 0], np.int64)
    four = graph.node("Pad", [planes, pads, writer.code(grid.zero_point + grid.constant)])
    writer.keep(node.name, graph.node("Reshape", [four, graph.constant([0, 4, height, width], np.int64)]))


def _shifted(writer: TensorWriter) -> str:
    """Return pixels as signed codes, on a grid of step 1 whatever the network's is."""
    pixels = writer.graph.node("Cast", [IMAGE], to=TensorProto.FLOAT)
    return writer.graph.node("QuantizeLinear", [pixels, writer.graph.constant(1, np.float32), writer.code(0)])
