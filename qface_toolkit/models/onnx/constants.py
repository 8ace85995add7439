"""Compute what an ONNX graph computes without an image: the shape arithmetic of exporters, and weights turned around.

Everything stays small: results are counted before they are made, and shapes know the batch size as `BATCH`.
"""

import math
from collections.abc import Callable, Mapping, Sequence

import numpy as np
import torch

from qface_toolkit.errors import CheckpointError, UnsupportedModel
from qface_toolkit.models.onnx.ends import Image
from qface_toolkit.models.onnx.folding import COMPUTED, Computation, filled
from qface_toolkit.models.onnx.graph import Network
from qface_toolkit.models.onnx.lists import listed, slices, whole_numbers
from qface_toolkit.models.onnx.operators import OPERATORS
from qface_toolkit.models.onnx.reading import OnnxNode
from qface_toolkit.models.onnx.tensors import FLOAT_TYPES, Array, TensorReader
from qface_toolkit.models.onnx.views import BATCH, Activation, Value, activation, constant, natural

_MOST_COMPUTED = 1 << 26
_INTEGER_TYPES = (6, 7, 9)
_BOOL = 9
_Inputs = Sequence[Value | None]


class Constants:
    """Evaluates the nodes that need no image, and counts what that makes."""

    def __init__(self, reader: TensorReader, *, opset: int, most_weights: int) -> None:
        self._reader, self._opset, self._most_weights = reader, opset, most_weights
        self._computed = 0

    def knows(self, node: OnnxNode, inputs: _Inputs) -> bool:
        """Tell whether a node's output can be computed without an image."""
        if node.op in ("Constant", "Shape"):
            return True
        given = [value for value in inputs if value is not None]
        return bool(given) and all(isinstance(value, np.ndarray) for value in given)

    def evaluate(self, node: OnnxNode, inputs: _Inputs) -> Array | tuple[Array, ...]:
        """Return the output of a node that needs no image; several of one that splits.

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
        if node.op == "Split":
            return _split(node, inputs)
        if node.op == "Size":
            return np.array(_first(arrays).size, np.int64)
        if node.op == "ConstantOfShape":
            fill = self._reader.read(node.tensor("value")) if node.has("value") else np.zeros(1, np.float32)
            return self._counted(filled(whole_numbers(arrays[0], "shape"), fill.reshape(1)))
        if node.op not in COMPUTED:
            return self._as_image(node, arrays)
        return self._counted(COMPUTED[node.op](node, [array for array in arrays if array is not None]))

    def _as_image(self, node: OnnxNode, arrays: Sequence[Array | None]) -> Array:
        """Compute a node as if its first constant were computed from an image."""
        x = arrays[0]
        if node.op not in OPERATORS or x is None or x.dtype != np.float32:
            raise UnsupportedModel(
                f"the operator {node.op} on constants is not known here",
                fix="simplify the file first (onnxsim), which computes constants ahead",
            )
        network = Network(Image("", (1, 1), batch=1), opset=self._opset, most_weights=self._most_weights)
        made = OPERATORS[node.op](network, node, [natural(network.image.node, x.shape, None), *arrays[1:]])
        result = network.settled(activation(made[0] if isinstance(made, tuple) else made))
        self._counted((math.prod(result.sizes), lambda: x))
        with torch.no_grad():
            numbers = network.finish(result)(torch.from_numpy(np.array(x))[None])
        return np.asarray(numbers.numpy().reshape([size // BATCH or size for size in result.dims]))

    def _counted(self, computation: Computation) -> Array:
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


def _first(arrays: Sequence[Array | None]) -> Array:
    if not arrays or arrays[0] is None:
        raise CheckpointError("it lacks its input")
    return arrays[0]


def _shape(node: OnnxNode, of: Value | None) -> Array:
    sizes = list(constant(of, "input").shape) if not isinstance(of, Activation) else list(of.dims)
    first, last = node.integer("start", 0), node.integer("end", len(sizes))
    return np.array(sizes[first:last], np.int64)


def _cast(node: OnnxNode, x: Array, _rest: Sequence[Array | None]) -> Array:
    kind = node.integer("to", 0)
    if kind not in FLOAT_TYPES and kind not in _INTEGER_TYPES:
        raise UnsupportedModel(f"it casts a constant to ONNX element type {kind}")
    if kind == _BOOL:
        return np.asarray(x != 0, np.int64)
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


def _split(node: OnnxNode, inputs: _Inputs) -> tuple[Array, ...]:
    x, sizes = constant(inputs[0], "input"), listed(node, "split", inputs, 1)
    count, axis = len(node.outputs), node.integer("axis", 0)
    if sizes is None:
        return tuple(np.array_split(x, count, axis))
    if len(sizes) != count or sum(sizes) != x.shape[axis]:
        raise CheckpointError(f"it splits {x.shape[axis]} rows into {sizes[:16]} for {count} outputs")
    return tuple(np.split(x, np.cumsum(sizes)[:-1], axis))


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
