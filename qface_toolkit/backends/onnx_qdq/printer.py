"""Print an integer program as a QDQ ONNX graph: int8 weights, int32 biases, 8-bit activations, integers throughout.

ONNX Runtime turns DequantizeLinear -> op -> QuantizeLinear into an integer kernel only if the pattern is exact, so
each operation is printed with the pattern in mind. Another runtime's patterns replace some of them (see _fused).
"""

from collections.abc import Callable, Mapping
from typing import Any

import numpy as np

from qface_toolkit.backends.onnx_qdq._builder import (
    INPUT,
    UNSIGNED,
    CodeType,
    GraphBuilder,
    convolution_attributes,
    float_value,
    image_value,
    planes,
    pool_attributes,
)
from qface_toolkit.backends.onnx_qdq._floats import FloatPrinter, scaled_sum
from qface_toolkit.backends.onnx_qdq._groups import Fold, Join, print_fold, print_join
from qface_toolkit.backends.onnx_qdq._islands import print_move
from qface_toolkit.backends.onnx_qdq._layer import StoredLayer, dequantized, diagonal, scaled, stored
from qface_toolkit.backends.onnx_qdq._printed import Printed
from qface_toolkit.canonical.islands import Island, Move
from qface_toolkit.integer import program as ops
from qface_toolkit.quantize.forms import FEW_CHANNELS
from qface_toolkit.quantize.scheme import ACTIVATION_MAX, Grid
from qface_toolkit.runtimes.fusion import KEPT, NO_INTEGERS

MAX_ON_CODES = "1.24.1"
"""The first ONNX Runtime that takes the maximum of 8-bit tensors."""
OLDEST = "1.18.0"
"""The oldest one that runs everything else that is printed here; older ones were not tried."""

TABLES = {"sigmoid": "Sigmoid"}
"""Functions on codes, by the operator that computes them."""


def oldest_runtime(program: ops.Program) -> str:
    """Return the oldest ONNX Runtime that runs what is printed of a program."""
    takes_maximum = any(isinstance(one, ops.Twin | ops.Max) for one in program.operations)
    return MAX_ON_CODES if takes_maximum and program.deployment.has_onnxruntime(MAX_ON_CODES) else OLDEST


class QdqPrinter:
    """Prints operations; `codes` maps each value to the name of its codes, `values` to the float name for readers.

    A tensor of the network is dequantized at once, for a graph in which whoever reads it finds the pair complete; what
    lies between two of them when somebody needs it.
    """

    def __init__(
        self, program: ops.Program, code_type: CodeType = UNSIGNED, turned: frozenset[str] = frozenset()
    ) -> None:
        self.program, self.code_type, self.turned = program, code_type, turned
        self.graph = GraphBuilder()
        self.values: dict[str, str] = {}
        self.codes: dict[str, str] = {}
        self.grids = program.grids
        self.printers: Mapping[type[ops.Operation], Print] = PRINTERS
        self._floats = FloatPrinter(scaled_sum, self.graph)
        self._blocked: dict[str, str] = {}
        self._tensors = frozenset(program.tensors)

    def printed(self) -> Printed:
        """Print the whole program: embeddings [N, D] float32 of what its deployment feeds it."""
        for one in self.program.operations:
            self.printers[type(one)](self, one)
        spec = self.program.spec
        entering = image_value(spec) if self.program.takes_pixels else float_value(spec)
        model = self.graph.model(self.values[self.program.embedding], entering, spec.embedding_size)
        held = {tensor: self.codes[tensor] for tensor in self.program.tensors if tensor in self.codes}
        return Printed(self.program, model, held, dict(self.values), self.turned)

    def code(self, value: int) -> str:
        """Store an unsigned code the way this file's codes are stored."""
        return self.graph.constant(min(value, ACTIVATION_MAX) + self.code_type.offset, self.code_type.dtype)

    def read(self, value: str) -> str:
        """Return the float name of a value."""
        if value not in self.values:
            self.values[value] = self.restored(self.codes[value], self.grids[value])
        return self.values[value]

    def quantized(self, value: str, grid: Grid) -> str:
        """Return the codes of a float name on a grid."""
        return self.graph.node("QuantizeLinear", [value, *self._scale_and_zero(grid)])

    def restored(self, codes: str, grid: Grid) -> str:
        """Return the float name behind codes on a grid."""
        return self.graph.node("DequantizeLinear", [codes, *self._scale_and_zero(grid)])

    def _scale_and_zero(self, grid: Grid) -> list[str]:
        return [self.graph.constant(grid.scale, np.float32), self.code(grid.zero_point)]

    def keep(self, one: ops.Operation, codes: str) -> None:
        """Let whoever reads what an operation makes read these codes, or the float values behind them."""
        self.codes[one.output] = codes
        if one.output in self._tensors:
            self.read(one.output)

    def rounded(self, one: ops.Operation, value: str) -> None:
        """Keep a float name after its trip through codes, or as it is where there is no grid."""
        if one.grid is None:
            self.values[one.output] = value
        else:
            self.keep(one, self.quantized(value, one.grid))

    def convolution(self, one: ops.Conv | ops.Twin, layer: StoredLayer) -> str:
        """Print a convolution with these constants and return its float name."""
        value = self._in_blocks(one.source, layer.extra_inputs) if layer.extra_inputs else self.read(one.source)
        return self.graph.node("Conv", [value, *dequantized(self.graph, layer)], **convolution_attributes(one.window))

    def _in_blocks(self, source: str, extra: int) -> str:
        """Return a tensor with zero channels added; the weights that meet them are zero too."""
        if source not in self._blocked:
            grid, pads = self.grids[source], self.graph.constant([0, 0, 0, 0, 0, extra, 0, 0], np.int64)
            codes = self.graph.node("Pad", [self.codes[source], pads, self.code(grid.zero_point)])
            self._blocked[source] = self.restored(codes, grid)
        return self._blocked[source]

    def maximum(self, one: ops.Twin | ops.Max, branches: list[str]) -> str:
        """Return the larger of two codes; before MAX_ON_CODES by pooling over both, one below the other."""
        if self.program.deployment.has_onnxruntime(MAX_ON_CODES):
            return self.graph.node("Max", branches)
        height = self.program.shapes[one.output][2]
        both = self.graph.node("Concat", branches, axis=2)
        return self.graph.node("MaxPool", [both], kernel_shape=[2, 1], dilations=[height, 1])

    def in_float(self, one: ops.Float, note: str | None = None) -> str:
        """Print an operation of the float network on float values, noted so, and return its float name."""
        self._floats.values |= {source: self.read(source) for source in one.sources}
        self.graph.note = note
        value = self._floats.print(one)
        self.graph.note = None
        return value


Print = Callable[[Any, Any], None]


def _image(printer: QdqPrinter, one: ops.Image) -> None:
    printer.rounded(one, INPUT)


def _pixels(printer: QdqPrinter, one: ops.Pixels) -> None:
    border, signed = one.image.zero_point + one.image.constant, printer.code_type is not UNSIGNED
    printer.keep(one, planes(printer.graph, printer.program.spec, border, printer.code, signed=signed))


def _conv(printer: QdqPrinter, one: ops.Conv) -> None:
    printer.rounded(one, printer.convolution(one, stored(printer.graph, one.constants, one.extra_inputs, one.window)))


def _twin(printer: QdqPrinter, one: ops.Twin) -> None:
    plain = stored(printer.graph, one.constants, one.extra_inputs, one.window)
    layers = (plain, scaled(printer.graph, plain, one.slopes, one.constants.input_scale))
    branches = [printer.quantized(printer.convolution(one, layer), grid_of(one)) for layer in layers]
    printer.keep(one, printer.maximum(one, branches))


def _scale(printer: QdqPrinter, one: ops.Scale) -> None:
    """Print a 1x1 convolution, full for few channels."""
    graph, channels = printer.graph, len(one.codes)
    groups, codes = (channels, one.codes.reshape(-1, 1, 1, 1)) if channels > FEW_CHANNELS else (1, diagonal(one.codes))
    stored_codes, scales = graph.constant(codes, np.int8), graph.constant(one.scales, np.float32)
    weight = graph.node("DequantizeLinear", [stored_codes, scales], axis=0)
    printer.rounded(one, graph.node("Conv", [printer.read(one.source), weight], group=groups))


def _linear(printer: QdqPrinter, one: ops.Linear) -> None:
    weight, bias = dequantized(printer.graph, stored(printer.graph, one.constants))
    printer.rounded(one, printer.graph.node("Gemm", [printer.read(one.source), weight, bias], transB=1))


def _max(printer: QdqPrinter, one: ops.Max) -> None:
    printer.keep(one, printer.maximum(one, [printer.codes[source] for source in one.sources]))


def _clip(printer: QdqPrinter, one: ops.Clip) -> None:
    codes = printer.codes[one.source]
    if one.low > 0 or one.high < ACTIVATION_MAX:
        codes = printer.graph.node("Clip", [codes, printer.code(one.low), printer.code(one.high)])
    printer.keep(one, codes)


def _table(printer: QdqPrinter, one: ops.Table) -> None:
    """Print a function, which the runtime makes a table of codes."""
    printer.rounded(one, printer.graph.node(TABLES[one.function], [printer.read(one.source)]))


def _max_pool(printer: QdqPrinter, one: ops.MaxPool) -> None:
    printer.rounded(one, printer.graph.node("MaxPool", [printer.read(one.source)], **pool_attributes(one.window)))


def _average_pool(printer: QdqPrinter, one: ops.AveragePool) -> None:
    value, attributes = printer.read(one.source), pool_attributes(one.window, average=True)
    printer.rounded(one, printer.graph.node("AveragePool", [value], **attributes))


def _one_pixel(printer: QdqPrinter, one: ops.OnePixel) -> None:
    shape = printer.graph.constant([0, 0, 1, 1], np.int64)
    printer.keep(one, printer.graph.node("Reshape", [printer.codes[one.source], shape]))


def _vectors(printer: QdqPrinter, one: ops.Vectors) -> None:
    printer.keep(one, printer.graph.node("Flatten", [printer.codes[one.source]]))


def _requantize(printer: QdqPrinter, one: ops.Requantize) -> None:
    printer.rounded(one, printer.read(one.source))


def _same(printer: QdqPrinter, one: ops.Same) -> None:
    printer.codes[one.output], printer.values[one.output] = printer.codes[one.source], printer.read(one.source)


def _normalize(printer: QdqPrinter, one: ops.Normalize) -> None:
    """Divide the embedding, which is float, by its length or `eps`, whichever is larger."""
    value, graph = printer.read(one.source), printer.graph
    length = graph.node("ReduceL2", [value], axes=[1], keepdims=1)
    if one.eps > 0:
        length = graph.node("Max", [length, graph.constant(one.eps, np.float32)])
    printer.rounded(one, graph.node("Div", [value, length]))


def _kept(printer: QdqPrinter, one: ops.Float) -> None:
    """Print what computes in float; each node says why it is there."""
    alone = isinstance(one.module, Island | Move)
    printer.rounded(one, printer.in_float(one, NO_INTEGERS if alone else KEPT))


def _plain(operator: str, **attributes: int) -> Print:
    """Return what prints an operator that reads the same values, in the same order."""

    def printed(printer: QdqPrinter, one: ops.Operation) -> None:
        printer.rounded(one, printer.graph.node(operator, list(map(printer.read, one.sources)), **attributes))

    return printed


def grid_of(one: ops.Operation) -> Grid:
    """Return the grid of an operation that makes codes."""
    assert one.grid is not None, f"{one.output} is float"
    return one.grid


PRINTERS: Mapping[type[ops.Operation], Print] = {
    ops.Image: _image,
    ops.Pixels: _pixels,
    ops.Conv: _conv,
    ops.Twin: _twin,
    ops.Scale: _scale,
    ops.Linear: _linear,
    ops.Max: _max,
    ops.Clip: _clip,
    ops.Table: _table,
    ops.MaxPool: _max_pool,
    ops.AveragePool: _average_pool,
    ops.GlobalAveragePool: _plain("GlobalAveragePool"),
    ops.Flatten: _plain("Flatten"),
    ops.Vectors: _vectors,
    ops.OnePixel: _one_pixel,
    ops.Add: _plain("Add"),
    ops.Mul: _plain("Mul"),
    ops.Concat: _plain("Concat", axis=1),
    ops.Move: print_move,
    ops.Requantize: _requantize,
    ops.Same: _same,
    ops.Normalize: _normalize,
    ops.Float: _kept,
    Fold: print_fold,
    Join: print_join,
}
