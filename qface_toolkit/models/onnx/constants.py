"""Compute what an ONNX graph computes without an image: the shape arithmetic of exporters, and weights turned around.

Everything stays small: results are counted before they are made, and shapes know the batch size as `BATCH`.
"""

import math
from collections.abc import Callable, Mapping, Sequence

import numpy as np

from qface_toolkit.errors import CheckpointError, UnsupportedModel
from qface_toolkit.models.onnx.graph import BATCH, Activation, Value, constant
from qface_toolkit.models.onnx.reading import OnnxNode
from qface_toolkit.models.onnx.tensors import FLOAT_TYPES, Array, TensorReader

_LONGEST_LIST = 1024
_MOST_COMPUTED = 1 << 26
_INTEGER_TYPES = (6, 7, 9)
_Inputs = Sequence[Value | None]


class Constants:
    """Evaluates the nodes that need no image, and counts what that makes."""

    def __init__(self, reader: TensorReader) -> None:
        self._reader = reader
        self._computed = 0

    def knows(self, node: OnnxNode, inputs: _Inputs) -> bool:
        """Tell whether a node's output can be computed without an image."""
        if node.op in ("Constant", "Shape"):
            return True
        given = [value for value in inputs if value is not None]
        return bool(given) and all(isinstance(value, np.ndarray) for value in given)

    def evaluate(self, node: OnnxNode, inputs: _Inputs) -> Array:
        """Return the output of a node that needs no image.

        Raises:
            UnsupportedModel: if it is no operator that exporters compute constants with.
            CheckpointError: if it makes more numbers than shape arithmetic does, or does not fit its inputs.
        """
        if node.op == "Constant":
            return self._constant(node)
        if node.op == "Shape":
            return _shape(node, inputs[0])
        arrays = [None if value is None else constant(value, "input") for value in inputs]
        if node.op in _VIEWS:
            x = _first(arrays)
            made = _VIEWS[node.op](node, x, [*arrays[1:], None])
            return made if np.may_share_memory(made, x) else self._counted((made.size, lambda: made))
        if node.op == "ConstantOfShape":
            fill = self._reader.read(node.tensor("value")) if node.has("value") else np.zeros(1, np.float32)
            return self._counted(_filled(whole_numbers(arrays[0], "shape"), fill.reshape(1)))
        if node.op not in _COMPUTED:
            raise UnsupportedModel(
                f"the operator {node.op} on constants is not known here",
                fix="simplify the file first (onnxsim), which computes constants ahead",
            )
        return self._counted(_COMPUTED[node.op](node, [array for array in arrays if array is not None]))

    def _counted(self, computation: "_Computation") -> Array:
        count, compute = computation
        self._computed += count
        if count < 0 or self._computed > _MOST_COMPUTED:
            raise CheckpointError(f"a constant of {count} numbers would be computed, more than shapes need")
        with np.errstate(all="ignore"):
            return compute()

    def _constant(self, node: OnnxNode) -> Array:
        if node.has("value"):
            return self._reader.read(node.tensor("value"))
        if node.has("value_float"):
            return np.array(node.real("value_float", 0), np.float32)
        if node.has("value_floats"):
            return np.array(node.reals("value_floats"), np.float32)
        if node.has("value_int"):
            return np.array(node.integer("value_int", 0), np.int64)
        return np.array(node.integers("value_ints"), np.int64)


def whole_numbers(value: Value | None, what: str) -> list[int]:
    """Return a short list of integers that a node is given as an input."""
    array = constant(value, what)
    if array.dtype != np.int64 or array.ndim > 1 or array.size > _LONGEST_LIST:
        raise CheckpointError(f"its {what} is no list of whole numbers")
    return [int(number) for number in array.reshape(-1)]


def listed(node: OnnxNode, key: str, inputs: _Inputs, place: int) -> list[int] | None:
    """Return a list of integers that older opsets give as an attribute and newer ones as an input, or None."""
    if node.has(key):
        return list(node.integers(key))
    given = inputs[place] if place < len(inputs) else None
    return None if given is None else whole_numbers(given, key)


def _first(arrays: Sequence[Array | None]) -> Array:
    if not arrays or arrays[0] is None:
        raise CheckpointError("it lacks its input")
    return arrays[0]


def _shape(node: OnnxNode, of: Value | None) -> Array:
    sizes = list(constant(of, "input").shape) if not isinstance(of, Activation) else [BATCH, *of.shape]
    first, last = node.integer("start", 0), node.integer("end", len(sizes))
    return np.array(sizes[first:last], np.int64)


def _cast(node: OnnxNode, x: Array, _rest: Sequence[Array | None]) -> Array:
    kind = node.integer("to", 0)
    if kind not in FLOAT_TYPES and kind not in _INTEGER_TYPES:
        raise UnsupportedModel(f"it casts a constant to ONNX element type {kind}")
    with np.errstate(all="ignore"):
        return x.astype(np.float32 if kind in FLOAT_TYPES else np.int64, copy=False)


def _axes(node: OnnxNode, rest: Sequence[Array | None]) -> list[int] | None:
    return listed(node, "axes", [None, *rest], 1)


def _unsqueeze(node: OnnxNode, x: Array, rest: Sequence[Array | None]) -> Array:
    return np.expand_dims(x, tuple(_axes(node, rest) or ()))


def _squeeze(node: OnnxNode, x: Array, rest: Sequence[Array | None]) -> Array:
    axes = _axes(node, rest)
    return np.squeeze(x, None if axes is None else tuple(axes))


def _transpose(node: OnnxNode, x: Array, _rest: Sequence[Array | None]) -> Array:
    return x.transpose(node.integers("perm", tuple(reversed(range(x.ndim)))))


def _reshape(node: OnnxNode, x: Array, rest: Sequence[Array | None]) -> Array:
    wanted = whole_numbers(rest[0], "shape")
    if not node.integer("allowzero", 0):
        wanted = [x.shape[place] if size == 0 else size for place, size in enumerate(wanted)]
    return x.reshape(wanted)


def _flatten(node: OnnxNode, x: Array, _rest: Sequence[Array | None]) -> Array:
    axis = node.integer("axis", 1)
    return x.reshape(math.prod(x.shape[:axis]), -1)


def _slice(node: OnnxNode, x: Array, rest: Sequence[Array | None]) -> Array:
    for axis, first, last, step in slices(node, [x, *rest], x.ndim):
        x = x[(slice(None),) * axis + (slice(first, last, step),)]  # Python cuts as ONNX does, backwards too
    return x


def slices(node: OnnxNode, inputs: _Inputs, rank: int) -> list[tuple[int, int, int, int]]:
    """Return (axis, first, behind the last, step) for each axis that a Slice cuts."""
    starts, ends = (listed(node, key, inputs, place) for key, place in (("starts", 1), ("ends", 2)))
    if starts is None or ends is None:
        raise CheckpointError("it lacks its starts or ends")
    axes = listed(node, "axes", inputs, 3)
    axes = list(range(len(starts))) if axes is None else axes
    steps = listed(node, "steps", inputs, 4) or [1] * len(starts)
    if not len(starts) == len(ends) == len(axes) == len(steps) <= rank or 0 in steps:
        raise CheckpointError("its starts, ends, axes and steps do not belong together")
    if any(not -rank <= axis < rank for axis in axes):
        raise CheckpointError(f"it cuts the axes {axes} of a tensor that has {rank}")
    return [(axis % rank, first, last, step) for axis, first, last, step in zip(axes, starts, ends, steps, strict=True)]


def _kept(_node: OnnxNode, x: Array, _rest: Sequence[Array | None]) -> Array:
    return x


_VIEWS: Mapping[str, Callable[[OnnxNode, Array, Sequence[Array | None]], Array]] = {
    "Identity": _kept,
    "Dropout": _kept,
    "Cast": _cast,
    "Unsqueeze": _unsqueeze,
    "Squeeze": _squeeze,
    "Transpose": _transpose,
    "Reshape": _reshape,
    "Flatten": _flatten,
    "Slice": _slice,
}
"""Operators whose result is no larger than their input, and mostly the same memory."""

_Computation = tuple[int, Callable[[], Array]]
"""How many numbers a computation makes, and the computation."""


def _elementwise(function: Callable[[Array, Array], Array]) -> Callable[[OnnxNode, list[Array]], _Computation]:
    def prepare(_node: OnnxNode, arrays: list[Array]) -> _Computation:
        one, other = arrays
        return math.prod(np.broadcast_shapes(one.shape, other.shape)), lambda: np.asarray(function(one, other))

    return prepare


def _divide(one: Array, other: Array) -> Array:
    if one.dtype != np.int64:
        return np.asarray(one / other)
    if (other == 0).any():
        raise CheckpointError("it divides a whole number by zero")
    quotient = np.abs(one) // np.abs(other)
    return np.asarray(np.where((one < 0) == (other < 0), quotient, -quotient))


def _gather(node: OnnxNode, arrays: list[Array]) -> _Computation:
    x, places = arrays
    axis = node.integer("axis", 0)
    rest = math.prod(size for place, size in enumerate(x.shape) if place != axis % max(x.ndim, 1))
    return rest * places.size, lambda: np.asarray(np.take(x, places, axis))


def _concat(node: OnnxNode, arrays: list[Array]) -> _Computation:
    return sum(array.size for array in arrays), lambda: np.concatenate(arrays, node.integer("axis", 0))


def _filled(sizes: list[int], fill: Array) -> _Computation:
    if any(size < 0 for size in sizes) or len(sizes) > 8:
        raise CheckpointError("it makes a constant of a shape that none can have")
    return math.prod(sizes), lambda: np.array(np.broadcast_to(fill, sizes))


def _expand(_node: OnnxNode, arrays: list[Array]) -> _Computation:
    sizes = whole_numbers(arrays[1], "shape")
    return _filled(list(np.broadcast_shapes(arrays[0].shape, tuple(sizes))), arrays[0])


_COMPUTED: Mapping[str, Callable[[OnnxNode, list[Array]], _Computation]] = {
    "Add": _elementwise(lambda a, b: a + b),
    "Sub": _elementwise(lambda a, b: a - b),
    "Mul": _elementwise(lambda a, b: a * b),
    "Div": _elementwise(_divide),
    "Gather": _gather,
    "Concat": _concat,
    "Expand": _expand,
}
"""Operators whose result may be larger than their inputs; it is counted before it is made."""
