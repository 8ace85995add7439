"""How constants are computed with constants: each result is counted before it is made."""

import math
from collections.abc import Callable, Mapping

import numpy as np

from qface_toolkit.errors import CheckpointError, UnsupportedModel
from qface_toolkit.models.onnx.lists import listed, whole_numbers
from qface_toolkit.models.onnx.reading import OnnxNode
from qface_toolkit.models.onnx.tensors import Array
from qface_toolkit.models.onnx.views import BATCH

Computation = tuple[int, Callable[[], Array]]
"""How many numbers a computation makes, and the computation."""

_Prepare = Callable[[OnnxNode, list[Array]], Computation]


def _elementwise(function: Callable[..., Array]) -> _Prepare:
    def prepare(_node: OnnxNode, arrays: list[Array]) -> Computation:
        return math.prod(np.broadcast_shapes(*(array.shape for array in arrays))), lambda: _typed(function(*arrays))

    return prepare


def _typed(values: Array) -> Array:
    """Return numbers in the two types that constants have here: whole ones (truths are such) and float32."""
    array = np.asarray(values)
    return array.astype(np.int64 if array.dtype.kind in "biu" else np.float32, copy=False)


def _folded(function: Callable[[Array, Array], Array]) -> _Prepare:
    """Return how a function of two is computed of as many as there are."""

    def many(*arrays: Array) -> Array:
        total = arrays[0]
        for array in arrays[1:]:
            total = function(total, array)
        return total

    return _elementwise(many)


def _divide(one: Array, other: Array) -> Array:
    if one.dtype != np.int64:
        return np.asarray(one / other)
    if (other == 0).any():
        raise CheckpointError("it divides a whole number by zero")
    quotient = np.abs(one) // np.abs(other)
    return np.asarray(np.where((one < 0) == (other < 0), quotient, -quotient))


def _remainder(node: OnnxNode, arrays: list[Array]) -> Computation:
    if arrays[1].dtype == np.int64 and (arrays[1] == 0).any():
        raise CheckpointError("it divides a whole number by zero")
    return _elementwise(np.fmod if node.integer("fmod", 0) else np.mod)(node, arrays)


def _gather(node: OnnxNode, arrays: list[Array]) -> Computation:
    x, places = arrays
    axis = node.integer("axis", 0)
    rest = math.prod(size for place, size in enumerate(x.shape) if place != axis % max(x.ndim, 1))
    return rest * places.size, lambda: np.asarray(np.take(x, places, axis))


def _concat(node: OnnxNode, arrays: list[Array]) -> Computation:
    return sum(array.size for array in arrays), lambda: np.concatenate(arrays, node.integer("axis", 0))


def filled(sizes: list[int], fill: Array) -> Computation:
    """Return how a constant of a shape is made of one number or a smaller constant; of all images, for one."""
    sizes = [1 if size == BATCH else size for size in sizes]
    if any(size < 0 for size in sizes) or len(sizes) > 8:
        raise CheckpointError("it makes a constant of a shape that none can have")
    return math.prod(sizes), lambda: np.array(np.broadcast_to(fill, sizes))


def _expand(_node: OnnxNode, arrays: list[Array]) -> Computation:
    sizes = whole_numbers(arrays[1], "shape")
    return filled(list(np.broadcast_shapes(arrays[0].shape, tuple(sizes))), arrays[0])


def _tile(_node: OnnxNode, arrays: list[Array]) -> Computation:
    times = whole_numbers(arrays[1], "repeats")
    if any(one < 0 for one in times) or len(times) != arrays[0].ndim:
        raise CheckpointError(f"it repeats a constant of {arrays[0].ndim} axes {times[:8]} times")
    return arrays[0].size * math.prod(times), lambda: np.tile(arrays[0], times)


def _range(_node: OnnxNode, arrays: list[Array]) -> Computation:
    start, limit, step = (array.reshape(()) for array in arrays)
    if not np.isfinite([start, limit, step]).all() or step == 0:
        raise CheckpointError("it counts in steps of zero, or to what is no number")
    count = max(0, math.ceil((float(limit) - float(start)) / float(step)))
    return count, lambda: _typed(start + np.arange(count) * step)


def _sum_so_far(node: OnnxNode, arrays: list[Array]) -> Computation:
    x, axis = arrays[0], int(arrays[1].reshape(()))

    def compute() -> Array:
        y = np.flip(x, axis) if node.integer("reverse", 0) else x
        sums = np.cumsum(y, axis)
        sums = sums - y if node.integer("exclusive", 0) else sums
        return _typed(np.flip(sums, axis) if node.integer("reverse", 0) else sums)

    return x.size, compute


def _product(_node: OnnxNode, arrays: list[Array]) -> Computation:
    one, other = arrays
    rows = math.prod(np.broadcast_shapes(one.shape[:-2], other.shape[:-2]))
    work = rows * math.prod(one.shape[-2:]) * (other.shape[-1] if other.ndim > 1 else 1)
    return work, lambda: np.asarray(one @ other)


def _reduced(function: Callable[..., Array]) -> _Prepare:
    def prepare(node: OnnxNode, arrays: list[Array]) -> Computation:
        axes = listed(node, "axes", arrays, 1)
        keep = bool(node.integer("keepdims", 1))
        if axes is None and node.integer("noop_with_empty_axes", 0):
            return arrays[0].size, lambda: arrays[0]
        over = None if axes is None else tuple(axes)
        return arrays[0].size, lambda: _typed(function(arrays[0], axis=over, keepdims=keep))

    return prepare


def _length(x: Array, axis: tuple[int, ...] | None, *, keepdims: bool) -> Array:
    return np.asarray(np.sqrt(np.sum(x * x, axis=axis, keepdims=keepdims)))


def _scatter(node: OnnxNode, arrays: list[Array]) -> Computation:
    x, places, updates = arrays
    if node.has("reduction") and node.text("reduction", "none") != "none":
        raise UnsupportedModel("it adds to places of a constant")

    def compute() -> Array:
        made = np.array(x)
        made[tuple(np.moveaxis(places, -1, 0))] = updates
        return made

    return x.size, compute


def _triangle(node: OnnxNode, arrays: list[Array]) -> Computation:
    k = int(arrays[1].reshape(())) if len(arrays) > 1 else 0
    half = np.triu if node.integer("upper", 1) else np.tril
    return arrays[0].size, lambda: np.asarray(half(arrays[0], k))


def _clip(node: OnnxNode, arrays: list[Array]) -> Computation:
    low = arrays[1] if len(arrays) > 1 else node.real("min", -3.4e38)
    high = arrays[2] if len(arrays) > 2 else node.real("max", 3.4e38)
    return arrays[0].size, lambda: _typed(np.clip(arrays[0], low, high))


def _sigmoid(x: Array) -> Array:
    return np.asarray(1 / (1 + np.exp(-x)))


_ONE_OR_TWO: Mapping[str, Callable[..., Array]] = {
    "Sub": np.subtract,
    "Div": _divide,
    "Pow": np.power,
    "Neg": np.negative,
    "Abs": np.abs,
    "Sqrt": np.sqrt,
    "Exp": np.exp,
    "Log": np.log,
    "Sin": np.sin,
    "Cos": np.cos,
    "Tanh": np.tanh,
    "Sigmoid": _sigmoid,
    "Reciprocal": np.reciprocal,
    "Floor": np.floor,
    "Ceil": np.ceil,
    "Round": np.rint,
    "Sign": np.sign,
    "Not": np.logical_not,
    "And": np.logical_and,
    "Or": np.logical_or,
    "Xor": np.logical_xor,
    "Equal": np.equal,
    "Less": np.less,
    "LessOrEqual": np.less_equal,
    "Greater": np.greater,
    "GreaterOrEqual": np.greater_equal,
    "Where": np.where,
}
_REDUCED: Mapping[str, Callable[..., Array]] = {
    "ReduceSum": np.sum,
    "ReduceMean": np.mean,
    "ReduceProd": np.prod,
    "ReduceMax": np.max,
    "ReduceMin": np.min,
    "ReduceL2": _length,
}
COMPUTED: Mapping[str, _Prepare] = {
    "Add": _folded(np.add),
    "Mul": _folded(np.multiply),
    "Sum": _folded(np.add),
    "Max": _folded(np.maximum),
    "Min": _folded(np.minimum),
    **{name: _elementwise(function) for name, function in _ONE_OR_TWO.items()},
    **{name: _reduced(function) for name, function in _REDUCED.items()},
    "Mod": _remainder,
    "Gather": _gather,
    "Concat": _concat,
    "Expand": _expand,
    "Tile": _tile,
    "Range": _range,
    "CumSum": _sum_so_far,
    "MatMul": _product,
    "ScatterND": _scatter,
    "Trilu": _triangle,
    "Clip": _clip,
}
"""Operators whose result may be larger than their inputs, or is made of new numbers."""
