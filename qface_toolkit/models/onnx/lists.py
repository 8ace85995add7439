"""Lists of whole numbers that nodes are given: sizes, axes, where to cut; as attributes or as inputs."""

from collections.abc import Sequence

import numpy as np

from qface_toolkit.errors import CheckpointError
from qface_toolkit.models.onnx.reading import OnnxNode
from qface_toolkit.models.onnx.views import Value, constant

_LONGEST_LIST = 1024
_Inputs = Sequence[Value | None]


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
