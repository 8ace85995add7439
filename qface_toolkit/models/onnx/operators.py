"""Every ONNX operator that is read, and what adds it to the network."""

from collections.abc import Mapping

from qface_toolkit.models.onnx.activations import ACTIVATIONS
from qface_toolkit.models.onnx.choices import CHOICES
from qface_toolkit.models.onnx.elementwise import ELEMENTWISE
from qface_toolkit.models.onnx.inputs import Handler
from qface_toolkit.models.onnx.layers import LAYERS
from qface_toolkit.models.onnx.matrices import MATRICES
from qface_toolkit.models.onnx.pieces import PIECES
from qface_toolkit.models.onnx.reductions import REDUCTIONS
from qface_toolkit.models.onnx.resizing import RESIZING
from qface_toolkit.models.onnx.shapes import SHAPES
from qface_toolkit.models.onnx.windows import WINDOWS

OPERATORS: Mapping[str, Handler] = {
    **LAYERS,
    **WINDOWS,
    **ACTIVATIONS,
    **ELEMENTWISE,
    **MATRICES,
    **REDUCTIONS,
    **SHAPES,
    **PIECES,
    **RESIZING,
    **CHOICES,
}
