"""What ONNX Runtime makes of an integer program, operator by operator, and what the table of times says of each."""

from collections.abc import Callable, Iterator, Mapping
from math import prod
from typing import Any

from torch import nn

from qface_toolkit.backends.onnx_qdq._float_times import FLOAT_KERNELS
from qface_toolkit.backends.onnx_qdq._groups import Fold, Join
from qface_toolkit.integer import program as ops
from qface_toolkit.quantize.forms import scale_shape
from qface_toolkit.quantize.groups import layer_shape
from qface_toolkit.times import ConvShape, TimeTable


class Operators:
    """The operators that an integer program becomes."""

    def __init__(self, program: ops.Program, times: TimeTable) -> None:
        self.program, self.times = program, times
        self.sources = {one.output: one.sources for one in program.operations}
        self.grids = program.grids
        self.padded: set[str] = set()
        folded = (one for one in program.operations if isinstance(one, Fold))
        self.folds = {one.output: one.shape[0] // one.groups for one in folded}

    def operators(self) -> Iterator[tuple[str, float]]:
        """Yield the layer and the microseconds of each operator."""
        for one in self.program.operations:
            layer = self._layer(one.output)
            for time in _INTEGER.get(type(one), Operators._moved)(self, one):
                yield layer, time
            for source in one.sources:
                if isinstance(one, ops.Float) and source in self.grids:
                    yield layer, self.times.other("DequantizeLinear", self.numbers(source))
        if self.program.embedding in self.grids:
            yield self.program.embedding, self.times.other("DequantizeLinear", self.program.spec.embedding_size)

    def _layer(self, value: str) -> str:
        """Return the tensor of the network that a value is made for: the first part of a name with a dot."""
        return value.partition(".")[0]

    def shape(self, value: str) -> tuple[int, ...]:
        """Return the shape of a value, for a batch of two."""
        while value not in self.program.shapes and self.sources[value]:
            value = self.sources[value][0]
        return self.program.shapes[value]

    def numbers(self, value: str) -> int:
        """Return the numbers of a value, for one image."""
        return prod(self.shape(value)[1:])

    def _other(self, operator: str, value: str) -> float:
        return self.times.other(operator, self.numbers(value))

    def _conv(self, one: ops.Conv | ops.Twin) -> Iterator[float]:
        shape = self._shape(one)
        if one.extra_inputs and one.source not in self.padded:
            self.padded.add(one.source)
            yield self._other("Pad", one.source)
        for _ in range(2 if isinstance(one, ops.Twin) else 1):
            yield self.times.convolution(shape, "integer")
        if isinstance(one, ops.Twin):
            yield self._other("Max", one.output)

    def _shape(self, one: ops.Conv | ops.Twin) -> ConvShape:
        window, codes = one.window, one.constants.codes
        height, width = self.shape(one.output)[2:]
        groups = window.groups // window.together
        reads = codes.shape[1] * window.groups + one.extra_inputs
        rows, columns, fold = codes.shape[2], codes.shape[3], self.folds.get(one.source, 1)
        stride = max(window.stride[0], window.stride[1] // fold)
        return ConvShape(reads, len(codes), rows, columns // fold, stride, groups, height, width, fold)

    def _linear(self, one: ops.Linear) -> Iterator[float]:
        outputs, reads = one.constants.codes.shape
        yield self.times.convolution(ConvShape(reads, outputs, 1, 1, 1, 1, 1, 1), "integer")

    def _scale(self, one: ops.Scale) -> Iterator[float]:
        yield self.times.convolution(scale_shape(*self.shape(one.output)[1:]), "integer")

    def _float(self, one: ops.Float) -> Iterator[float]:
        if isinstance(one.module, nn.Conv2d | nn.Linear):
            yield self.times.convolution(layer_shape(one.module, self.shape(one.output)), "float")
        else:
            yield self.times.other(FLOAT_KERNELS.get(one.name, one.name), self.numbers(one.output))
        if one.grid is not None:
            yield self._other("QuantizeLinear", one.output)

    def _moved(self, one: ops.Operation) -> Iterator[float]:
        yield self._other("move", one.output)

    def _named(self, one: ops.Operation) -> Iterator[float]:
        yield self._other(_KERNELS[type(one)], one.output)

    def _pool(self, one: ops.Operation) -> Iterator[float]:
        yield self._other(_KERNELS[type(one)], one.source)

    def _image(self, one: ops.Image) -> Iterator[float]:
        if one.grid is not None:
            yield self._other("QuantizeLinear", one.output)

    def _nothing(self, one: ops.Operation) -> Iterator[float]:
        return iter(())

    def _clip(self, one: ops.Clip) -> Iterator[float]:
        if one.low > 0 or (one.grid is not None and one.high < one.grid.largest_code):
            yield self._other("Clip", one.output)

    def _fold(self, one: Fold) -> Iterator[float]:
        if not one.turned:
            yield self._other("Transpose", one.source)

    def _join(self, one: Join) -> Iterator[float]:
        if len(one.sources) > 1:
            yield self._other("concat", one.output)
            if not one.turned:
                yield self._other("Transpose", one.output)

    def _flatten(self, one: ops.Flatten) -> Iterator[float]:
        if prod(self.shape(one.source)[2:]) > 1:
            yield self._other("Transpose", one.source)


_KERNELS: Mapping[type[ops.Operation], str] = {
    ops.Max: "Max",
    ops.Table: "QLinearSigmoid",
    ops.Add: "QLinearAdd",
    ops.Mul: "QLinearMul",
    ops.MaxPool: "NhwcMaxPool",
    ops.AveragePool: "QLinearAveragePool",
    ops.GlobalAveragePool: "QLinearGlobalAveragePool",
    ops.Concat: "concat",
    ops.Requantize: "move",
    ops.Normalize: "move",
}
"""What ONNX Runtime calls the kernels of operations."""

_INTEGER: Mapping[type[ops.Operation], Callable[[Operators, Any], Iterator[float]]] = {
    ops.Conv: Operators._conv,
    ops.Twin: Operators._conv,
    ops.Linear: Operators._linear,
    ops.Scale: Operators._scale,
    ops.Float: Operators._float,
    ops.Image: Operators._image,
    ops.Pixels: Operators._moved,
    ops.Clip: Operators._clip,
    ops.Same: Operators._nothing,
    ops.Flatten: Operators._flatten,
    ops.OnePixel: Operators._nothing,
    ops.Vectors: Operators._nothing,
    Fold: Operators._fold,
    Join: Operators._join,
    **dict.fromkeys((ops.Max, ops.Table, ops.Add, ops.Mul, ops.Concat, ops.Normalize), Operators._named),
    **dict.fromkeys((ops.MaxPool, ops.AveragePool, ops.GlobalAveragePool), Operators._pool),
}
