"""Operations as a runtime wants them that fuses a convolution with its activation itself: OpenVINO.

Nothing is quantized between the two, activations stay the operators they are, biases stay float. Weights have no zero
points: the runtime unpacks weights to float that share their zero points with a layer which it runs otherwise.
"""

from collections.abc import Mapping
from typing import cast

import numpy as np

from qface_toolkit.backends.onnx_qdq._builder import convolution_attributes
from qface_toolkit.backends.onnx_qdq._floats import FloatPrinter, own_operator
from qface_toolkit.backends.onnx_qdq._islands import MOVES
from qface_toolkit.backends.onnx_qdq.printer import PRINTERS, Print, QdqPrinter, grid_of
from qface_toolkit.canonical.islands import Move
from qface_toolkit.integer import program as ops


class FusedPrinter(QdqPrinter):
    """Prints operations for a runtime that fuses them itself."""

    def __init__(self, program: ops.Program) -> None:
        super().__init__(program)
        self.printers = _FUSED
        self._floats = FloatPrinter(own_operator, self.graph)

    def weight(self, layer: ops.Constants) -> str:
        """Store a layer's weight and return its float name."""
        codes = self.graph.constant(layer.codes, np.int8)
        return self.graph.node("DequantizeLinear", [codes, self.graph.constant(layer.scales, np.float32)], axis=0)


def _conv(printer: FusedPrinter, one: ops.Conv) -> None:
    graph, bias = printer.graph, one.constants.bias
    if one.bias_from_zero is None:
        value = printer.read(one.source)
    else:
        scale, bias = graph.constant(one.constants.input_scale, np.float32), one.bias_from_zero
        value = graph.node("DequantizeLinear", [printer.codes[one.source], scale, printer.code(0)])
    read = [value, printer.weight(one.constants), graph.constant(bias, np.float32)]
    printer.rounded(one, graph.node("Conv", read, **convolution_attributes(one.window)))


def _affine(printer: FusedPrinter, one: ops.Affine) -> None:
    """Multiply and shift each channel by itself: as a 1x1 convolution it would run in float."""
    factors, shifts = one.factors.reshape(-1, 1, 1), one.shifts.reshape(-1, 1, 1)
    product = printer.graph.node("Mul", [printer.read(one.source), printer.graph.constant(factors, np.float32)])
    printer.rounded(one, printer.graph.node("Add", [product, printer.graph.constant(shifts, np.float32)]))


def _linear(printer: FusedPrinter, one: ops.Linear) -> None:
    bias = printer.graph.constant(one.constants.bias, np.float32)
    read = [printer.read(one.source), printer.weight(one.constants), bias]
    printer.rounded(one, printer.graph.node("Gemm", read, transB=1))


def _pad(printer: FusedPrinter, one: ops.Pad) -> None:
    """Print a border of codes of zero; what was only moved is quantized for it."""
    grid = grid_of(one)
    codes = printer.codes.get(one.source) or printer.quantized(printer.values[one.source], grid)
    rows, columns = one.padding
    widths = printer.graph.constant([0, 0, rows, columns, 0, 0, rows, columns], np.int64)
    printer.keep(one, printer.graph.node("Pad", [codes, widths, printer.code(grid.zero_point)]))


def _move(printer: FusedPrinter, one: ops.Move) -> None:
    """Print a move; channels of zeros are joined on, because OpenVINO's passes break a border that has some."""
    shape, (source, *_) = printer.program.shapes[one.output], one.sources
    before = printer.program.shapes[source][1]
    if one.module.kind != "border" or len(shape) != 4 or shape[1] == before:
        PRINTERS[ops.Move](printer, one)
        return
    sides, graph = cast(tuple[int, ...], one.module.options["sides"]), printer.graph
    value = printer.read(source)
    if any(sides[:4]):
        inner = Move.of("border", sides=(*sides[:4], 0, 0))
        value = MOVES["border"](graph, [value], inner)
    batch = graph.node("Slice", [graph.node("Shape", [value]), *(graph.constant([end], np.int64) for end in (0, 1))])
    parts = [_zeros(printer, batch, channels, shape) for channels in sides[4:6]]
    joined = [part for part in (parts[0], value, parts[1]) if part]
    printer.rounded(one, graph.node("Concat", joined, axis=1))


def _zeros(printer: FusedPrinter, batch: str, channels: int, shape: tuple[int, ...]) -> str:
    """Return so many channels of zeros for each image of a batch, or nothing for none."""
    if not channels:
        return ""
    sizes = printer.graph.constant([channels, *shape[2:]], np.int64)
    return printer.graph.node("ConstantOfShape", [printer.graph.node("Concat", [batch, sizes], axis=0)])


def _in_float(printer: FusedPrinter, one: ops.Float) -> None:
    printer.rounded(one, printer.in_float(one))


_FUSED: Mapping[type[ops.Operation], Print] = {
    **PRINTERS,
    ops.Conv: _conv,
    ops.Affine: _affine,
    ops.Linear: _linear,
    ops.Pad: _pad,
    ops.Move: _move,
    ops.Float: _in_float,
}
