"""The state of a QDQ graph being written: which codes and floats stand for each tensor, and on what grid they lie."""

from dataclasses import dataclass

import numpy as np
from torch import fx

from qface_toolkit.backends.onnx_qdq._builder import GraphBuilder
from qface_toolkit.backends.onnx_qdq._geometry import convolution_attributes
from qface_toolkit.backends.onnx_qdq._layer import LayerConstants, dequantized, layer_constants
from qface_toolkit.canonical.graph import inputs, module
from qface_toolkit.quantize.model import QuantizedModel
from qface_toolkit.quantize.plan import ONNX, Target
from qface_toolkit.quantize.scheme import ACTIVATION_MAX, activation_qparams
from qface_toolkit.quantize.weights import missing_channels, weight_grid


@dataclass(frozen=True)
class CodeType:
    """How activation codes are stored: unsigned, or the same codes less 128 in signed bytes."""

    dtype: type[np.uint8] | type[np.int8]
    offset: int


UNSIGNED = CodeType(np.uint8, 0)
SIGNED = CodeType(np.int8, -128)


class TensorWriter:
    """Writes tensors; `values` maps each to the float name that its readers shall read, `codes` to its codes."""

    def __init__(self, model: QuantizedModel, code_type: CodeType, target: Target = ONNX) -> None:
        self.model = model
        self.code_type = code_type
        self.target = target
        self.graph = GraphBuilder()
        self.values: dict[str, str] = {}
        self.codes: dict[str, str] = {}
        self._blocked: dict[str, str] = {}

    def grid(self, tensor: str) -> tuple[np.float32, int]:
        """Return a tensor's scale and zero point, as unsigned codes count."""
        return activation_qparams(self.model.range_of(tensor, self.target), self.target.levels)

    def code(self, value: int) -> str:
        """Store an unsigned code the way this file's codes are stored."""
        return self.graph.constant(min(value, ACTIVATION_MAX) + self.code_type.offset, self.code_type.dtype)

    def scale_and_zero(self, tensor: str) -> list[str]:
        """Return the names of a tensor's scale and zero point."""
        scale, zero_point = self.grid(tensor)
        return [self.graph.constant(scale, np.float32), self.code(zero_point)]

    def read(self, node: fx.Node) -> str:
        """Return the float name of a node's first input."""
        return self.values[inputs(node)[0].name]

    def quantized(self, value: str, tensor: str) -> str:
        """Return the codes of a float tensor on the grid of `tensor`."""
        return self.graph.node("QuantizeLinear", [value, *self.scale_and_zero(tensor)])

    def keep(self, tensor: str, codes: str) -> None:
        """Let whoever reads `tensor` read these codes, or the float values behind them."""
        self.codes[tensor] = codes
        self.values[tensor] = self.restored(codes, tensor)

    def restored(self, codes: str, tensor: str) -> str:
        """Return the float values behind codes on the grid of `tensor`."""
        return self.graph.node("DequantizeLinear", [codes, *self.scale_and_zero(tensor)])

    def rounded(self, node: fx.Node, value: str) -> None:
        """Keep a float tensor after its trip through codes, or as it is where the plan leaves it float."""
        if self.quantizes(node):
            self.keep(node.name, self.quantized(value, node.name))
        else:
            self.values[node.name] = value

    def quantizes(self, node: fx.Node) -> bool:
        """Tell whether the file holds a node's output as codes."""
        return self.model.plan.quantized(node.name, self.target.family)

    def input_scale(self, node: fx.Node) -> np.float32:
        """Return the scale of the tensor that a layer reads."""
        return self.grid(inputs(node)[0].name)[0]

    def layer(self, node: fx.Node) -> LayerConstants:
        """Store the constants of a convolution or linear layer."""
        scale, layer, model = self.input_scale(node), module(node), self.model
        grid = weight_grid(node, scale, self.target, model.deployment, model.scheme)
        return layer_constants(self.graph, layer, grid, scale, missing_channels(layer))

    def convolution(self, node: fx.Node, layer: LayerConstants) -> str:
        """Write a convolution with these constants and the geometry of `node`."""
        source = inputs(node)[0].name
        value = self._in_blocks(source, layer.extra_inputs) if layer.extra_inputs else self.values[source]
        return self.graph.node("Conv", [value, *dequantized(self.graph, layer)], **convolution_attributes(module(node)))

    def _in_blocks(self, tensor: str, extra: int) -> str:
        """Return a tensor with zero channels added; the weights that meet them are zero too."""
        if tensor not in self._blocked:
            pads = self.graph.constant([0, 0, 0, 0, 0, extra, 0, 0], np.int64)
            codes = self.graph.node("Pad", [self.codes[tensor], pads, self.code(self.grid(tensor)[1])])
            self._blocked[tensor] = self.restored(codes, tensor)
        return self._blocked[tensor]
