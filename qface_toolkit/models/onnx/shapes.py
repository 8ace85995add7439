"""ONNX operators that move numbers without changing them: reshapes, transposes, cuts, joins and borders."""

import math
from collections.abc import Mapping, Sequence
from dataclasses import replace

import torch

from qface_toolkit.errors import CheckpointError, UnsupportedModel
from qface_toolkit.models.onnx.constants import listed, slices, whole_numbers
from qface_toolkit.models.onnx.graph import BATCH, Activation, Network, Norm, Value, activation, constant
from qface_toolkit.models.onnx.layers import Handler, Inputs, at, pad
from qface_toolkit.models.onnx.reading import OnnxNode
from qface_toolkit.models.onnx.tensors import FLOAT_TYPES

_BATCH_MOVES = "it moves, cuts or joins the batch axis, so the network would not take any number of images"
_BATCH_FIX = "export it with a dynamic batch size, keeping the batch the first axis"


def _batch_error() -> UnsupportedModel:
    return UnsupportedModel(_BATCH_MOVES, fix=_BATCH_FIX)


def _same(_network: Network, _node: OnnxNode, inputs: Inputs) -> Value:
    value = at(inputs, 0)
    return value if isinstance(value, Norm) else activation(value)


def _cast(network: Network, node: OnnxNode, inputs: Inputs) -> Value:
    if node.integer("to", 0) not in FLOAT_TYPES:
        raise UnsupportedModel("it casts the image to whole numbers", fix="export the float network")
    return _same(network, node, inputs)


def _flatten(network: Network, node: OnnxNode, inputs: Inputs) -> Value:
    x = activation(at(inputs, 0))
    if node.integer("axis", 1) not in (1, -len(x.shape)):
        raise _batch_error()
    return network.reshaped(x, (math.prod(x.shape),))


def _reshape(network: Network, node: OnnxNode, inputs: Inputs) -> Value:
    x, wanted = activation(at(inputs, 0)), whole_numbers(at(inputs, 1), "shape")
    if not node.integer("allowzero", 0):
        sizes = (BATCH, *x.shape)
        wanted = [sizes[place] if size == 0 and place < len(sizes) else size for place, size in enumerate(wanted)]
    leading, rest = (wanted[0], wanted[1:]) if wanted else (0, [])
    count = math.prod(x.shape)
    if rest.count(-1) == 1 and leading in (BATCH, 1, network.batch):
        known = -math.prod(rest)
        rest = [count // known if size == -1 and known > 0 else size for size in rest]
    if not rest or min(rest) < 1 or math.prod(rest) != count or leading not in (-1, BATCH, 1, network.batch):
        shown = ["N" if size == BATCH else size for size in wanted[:8]]
        raise UnsupportedModel(
            f"it gives [N, {str(list(x.shape))[1:]} the shape {shown}: {_BATCH_MOVES}", fix=_BATCH_FIX
        )
    return network.reshaped(x, tuple(rest))


def _squeeze(network: Network, node: OnnxNode, inputs: Inputs) -> Value:
    x, axes = activation(at(inputs, 0)), listed(node, "axes", inputs, 1)
    rank = len(x.shape) + 1
    if axes is None:
        axes = [place for place, size in enumerate(x.shape, start=1) if size == 1]
    dropped = {axis % rank for axis in axes if -rank <= axis < rank}
    if 0 in dropped:
        raise _batch_error()
    if len(dropped) != len(axes) or any(x.shape[axis - 1] != 1 for axis in dropped):
        raise CheckpointError(f"it drops the axes {axes[:8]} of [N, {str(list(x.shape))[1:]}")
    kept = tuple(size for place, size in enumerate(x.shape, start=1) if place not in dropped)
    return network.reshaped(x, kept or (1,))


def _unsqueeze(network: Network, node: OnnxNode, inputs: Inputs) -> Value:
    value, axes = at(inputs, 0), listed(node, "axes", inputs, 1) or []
    if isinstance(value, Norm):
        return value
    x = activation(value)
    rank = len(x.shape) + 1 + len(axes)
    added = {axis % rank for axis in axes if -rank <= axis < rank}
    if len(added) != len(axes) or rank > 8:
        raise CheckpointError(f"it adds the axes {axes[:8]} to [N, {str(list(x.shape))[1:]}")
    if 0 in added:
        raise _batch_error()
    sizes = iter(x.shape)
    return network.reshaped(x, tuple(1 if place in added else next(sizes) for place in range(1, rank)))


def _transpose(_network: Network, node: OnnxNode, inputs: Inputs) -> Value:
    x = activation(at(inputs, 0))
    rank = len(x.shape) + 1
    order = node.integers("perm", tuple(reversed(range(rank))))
    if sorted(order) != list(range(rank)):
        raise CheckpointError(f"its perm {list(order)[:8]} is no order of {rank} axes")
    if order[0] != 0:
        raise _batch_error()
    if len(x.shape) == 1:
        return x
    moved = [axis - 1 for axis in order[1:]]
    return replace(x, shape=tuple(x.shape[axis] for axis in moved), order=tuple(x.order[axis] for axis in moved))


def _spans(x: Activation) -> list[tuple[int, int]]:
    """Return (0, size) for each axis of the FX node."""
    spans = [(0, 0)] * len(x.shape)
    for axis, size in zip(x.order, x.shape, strict=True):
        spans[axis] = (0, size)
    return spans


def _slice(network: Network, node: OnnxNode, inputs: Inputs) -> Value:
    x = activation(at(inputs, 0))
    spans = _spans(x)
    for axis, first, last, step in slices(node, inputs, len(x.shape) + 1):
        size = BATCH if axis == 0 else x.shape[axis - 1]
        begin, end, _ = slice(first, last, 1).indices(size)
        whole = (begin, end) == (0, size) or (axis == 0 and begin == 0 and last >= BATCH)
        if step != 1:
            raise UnsupportedModel("it takes every other row, or takes them backwards")
        if axis == 0 and not whole:
            raise _batch_error()
        if axis > 0:
            spans[x.axis(axis) - 1] = (begin, end)
    if x.columns is not None:
        network.settled(x)
    return x if spans == _spans(x) else network.cut(x, spans)


def _concat(network: Network, node: OnnxNode, inputs: Inputs) -> Value:
    parts = [activation(value) for value in inputs]
    first = parts[0]
    if any(part.order != first.order or part.columns is not None for part in parts):
        parts = [network.settled(part) for part in parts]
        first = parts[0]
    axis = node.integer("axis", 1)
    dim = first.axis(axis)
    if dim == 0:
        raise _batch_error()
    place = axis % (len(first.shape) + 1) - 1
    others = {(*part.shape[:place], *part.shape[place + 1 :], len(part.shape)) for part in parts}
    if len(others) != 1:
        raise CheckpointError(
            f"it joins {[list(part.shape) for part in parts[:6]]}, which differ beside the joined axis"
        )
    sizes = list(first.shape)
    sizes[place] = sum(part.shape[place] for part in parts)
    return network.call(torch.cat, ([part.node for part in parts], dim), replace(first, shape=tuple(sizes)))


def _pad(network: Network, node: OnnxNode, inputs: Inputs) -> Value:
    x, rank = activation(at(inputs, 0)), len(activation(at(inputs, 0)).shape) + 1
    pads, fill = listed(node, "pads", inputs, 1), at(inputs, 2)
    value = node.real("value", 0.0) if fill is None else float(constant(fill, "value").reshape(()))
    axes = listed(node, "axes", inputs, 3)
    axes = list(range(rank)) if axes is None else axes
    if pads is None or len(pads) != 2 * len(axes) or any(not 0 <= pixels <= 1024 for pixels in pads):
        raise UnsupportedModel(f"its pads {pads and pads[:16]} do not frame a tensor of {rank} axes")
    before, behind = [0] * rank, [0] * rank
    for axis, first, last in zip(axes, pads, pads[len(axes) :], strict=False):
        before[x.axis(axis)], behind[x.axis(axis)] = first, last
    if not any(pads):
        return x
    frames = len(x.shape) == 3 and not any((*before[:2], *behind[:2]))
    if not frames or value != 0 or node.text("mode", "constant") != "constant":
        raise UnsupportedModel(
            "it pads otherwise than with zeros around the picture", fix="pad with zeros, along height and width"
        )
    return _framed(network, x, before[2:], behind[2:])


def _framed(network: Network, x: Activation, before: Sequence[int], behind: Sequence[int]) -> Activation:
    """Pad along the FX node's own height and width, whatever order its axes are read in."""
    sizes = tuple(size for _, size in _spans(x))
    padded = pad(network, Activation(x.node, sizes, (0, 1, 2)), (*before, *behind))
    return replace(x, node=padded.node, shape=tuple(padded.shape[axis] for axis in x.order))


def _expand(_network: Network, _node: OnnxNode, inputs: Inputs) -> Value:
    norm = at(inputs, 0)
    if isinstance(norm, Norm) and whole_numbers(at(inputs, 1), "shape")[1:] in ([1], list(norm.of.shape)):
        return norm
    raise UnsupportedModel("Expand is known only where an embedding is divided by its length")


SHAPES: Mapping[str, Handler] = {
    "Identity": _same,
    "Dropout": _same,
    "Cast": _cast,
    "Flatten": _flatten,
    "Reshape": _reshape,
    "Squeeze": _squeeze,
    "Unsqueeze": _unsqueeze,
    "Transpose": _transpose,
    "Slice": _slice,
    "Concat": _concat,
    "Pad": _pad,
    "Expand": _expand,
}
"""Operator -> what adds it to the network."""
