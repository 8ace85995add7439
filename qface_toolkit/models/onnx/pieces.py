"""ONNX operators that take tensors apart and put them together: cuts, choices, joins, borders, repeats."""

import operator
from collections.abc import Mapping, Sequence
from dataclasses import replace

import numpy as np
import torch
import torch.nn.functional as F  # noqa: N812 - the name everybody knows it by

from qface_toolkit.errors import CheckpointError, UnsupportedModel
from qface_toolkit.models.onnx.elementwise import joined
from qface_toolkit.models.onnx.graph import Network
from qface_toolkit.models.onnx.inputs import Handler, Inputs, at, batch_error, number, read
from qface_toolkit.models.onnx.lists import listed, slices, whole_numbers
from qface_toolkit.models.onnx.reading import OnnxNode
from qface_toolkit.models.onnx.tensors import Array
from qface_toolkit.models.onnx.views import BATCH, Activation, Value, activation, constant

_MOST_PIECES = 4096
_FURTHEST_PAD = 1024
_Span = tuple[int, int, int]


def _slice(network: Network, node: OnnxNode, inputs: Inputs) -> Value:
    x = read(inputs)
    for axis, first, last, step in slices(node, inputs, len(x.dims)):
        x = _taken(network, node, x, axis, range(x.dims[axis])[first:last:step], last)
    return x


def _taken(network: Network, node: OnnxNode, x: Activation, axis: int, span: range, last: int) -> Activation:
    """Return some rows of an axis: those of a range."""
    if span == range(x.dims[axis]) or (x.axis(axis) == 0 and span[:1] == range(1) and span.step == 1 and last >= BATCH):
        return x
    if x.axis(axis) == 0:
        if network.batch == 1 and x.dims[axis] == BATCH and span[:1] == range(1):
            return x
        raise batch_error()
    if not span:
        raise CheckpointError(f"nothing is left of {x.shown()}")
    if span.step < 0:
        return _chosen(network, node, x, axis, np.array(span))
    x = network.settled(x) if x.columns is not None else x
    spans = network.spans(x)
    spans[x.axis(axis) - 1] = (span.start, span.stop, span.step)
    return network.cut(x, spans)


def _chosen(network: Network, node: OnnxNode, x: Activation, axis: int, places: Array) -> Activation:
    """Return rows of an axis in another order, or some of them."""
    part = x.part(axis)
    if part is None:
        raise batch_error()
    x = network.settled(x) if x.columns is not None else x
    shape = (*x.shape[:part], len(places), *x.shape[part + 1 :])
    found = network.places(node.name, places)
    return network.call(torch.index_select, (x.node, x.axis(axis), found), replace(x, shape=shape))


def _gather(network: Network, node: OnnxNode, inputs: Inputs) -> Value:
    x, places = read(inputs), constant(at(inputs, 1), "list of places")
    axis = x.spot(node.integer("axis", 0))
    if x.axis(axis) == 0:
        return _one_image(network, x, places)
    size = x.dims[axis]
    if places.dtype != np.int64 or places.size < 1 or places.min() < -size or places.max() >= size:
        raise CheckpointError(f"it takes places that {x.shown()} does not have")
    flat = places.reshape(-1) % size
    step = int(flat[1] - flat[0]) if len(flat) > 1 else 1
    span = range(int(flat[0]), int(flat[-1]) + 1, step) if step > 0 else range(0)
    taken = _chosen(network, node, x, axis, flat)
    if list(span) == flat.tolist():
        taken = _taken(network, node, x, axis, span, 0)
    if places.ndim == 1:
        return taken
    part = taken.part(axis)
    shape = (*taken.shape[:part], *places.shape, *taken.shape[part + 1 :]) if part is not None else taken.shape
    before = 0 if x.place is None or axis > x.place else places.ndim - 1
    return network.reshaped(taken, shape, None if x.place is None else x.place + before, x.many, leads=x.leads)


def _one_image(network: Network, x: Activation, places: Array) -> Activation:
    """Return the first image, in a file that is made for one, without its axis."""
    if x.many > 1 or places.size != 1 or places.ndim > 1 or places.item() not in (0, -1) or network.batch != 1:
        raise batch_error()
    return x if places.ndim else network.reshaped(x, x.shape, None)


def _split(network: Network, node: OnnxNode, inputs: Inputs) -> tuple[Value, ...]:
    x = read(inputs)
    axis = x.spot(node.integer("axis", 0))
    size, count = x.dims[axis], len(node.outputs)
    sizes = listed(node, "split", inputs, 1)
    if sizes is None:
        whole = -(-size // count)
        sizes = [whole] * (count - 1) + [size - whole * (count - 1)]
    if sum(sizes) != size or len(sizes) != count or min(sizes) < 1:
        raise CheckpointError(f"it splits {size} rows into {sizes[:16]} for {count} outputs")
    ends = np.cumsum([0, *sizes]).tolist()
    return tuple(_taken(network, node, x, axis, range(a, b), b) for a, b in zip(ends, ends[1:], strict=False))


def _concat(network: Network, node: OnnxNode, inputs: Inputs) -> Value:
    parts = [_as_tensor(network, node, value, inputs) for value in inputs if value is not None]
    first = parts[0]
    same = all(part.layout == first.layout for part in parts)
    if not same or any(part.columns is not None for part in parts):
        parts = [network.settled(network.with_images(part, _place(parts))) for part in parts]
        first = parts[0]
    axis = first.spot(node.integer("axis", 1))
    part = first.part(axis)
    if part is None:
        raise batch_error()
    others = {(one.place, one.many, one.leads, *one.shape[:part], None, *one.shape[part + 1 :]) for one in parts}
    if len(others) != 1:
        shown = ", ".join(one.shown() for one in parts[:6])
        raise CheckpointError(f"it joins {shown}, which differ beside the joined axis")
    shape = (*first.shape[:part], sum(one.shape[part] for one in parts), *first.shape[part + 1 :])
    return network.call(torch.cat, ([one.node for one in parts], first.axis(axis)), replace(first, shape=shape))


def _place(parts: Sequence[Activation]) -> int | None:
    return next((part.place for part in parts if part.place is not None), None)


def _as_tensor(network: Network, node: OnnxNode, value: Value, inputs: Inputs) -> Activation:
    """Return a value that is joined; a constant becomes one of each image's: nothing of the image, and the constant."""
    if isinstance(value, Activation):
        return value
    like = next(activation(other) for other in inputs if isinstance(other, Activation))
    if value.ndim != len(like.dims) or like.place is None or value.shape[like.place] not in (1, BATCH):
        raise UnsupportedModel("it joins a constant of another shape with the image")
    corner = like
    for axis in range(len(like.dims)):
        if axis != like.place:
            corner = _taken(network, node, corner, axis, range(1), 1)
    nothing = network.call(operator.mul, (corner.node, 0.0), corner)
    return activation(joined(network, node, operator.add, nothing, value))


def _pad(network: Network, node: OnnxNode, inputs: Inputs) -> Value:
    x = read(inputs)
    rank, pads, fill = len(x.dims), listed(node, "pads", inputs, 1), at(inputs, 2)
    value = node.real("value", 0.0) if fill is None else number(fill, "value")
    axes = listed(node, "axes", inputs, 3)
    axes = list(range(rank)) if axes is None else axes
    if pads is None or len(pads) != 2 * len(axes) or any(abs(pixels) > _FURTHEST_PAD for pixels in pads):
        raise UnsupportedModel(f"its pads {pads and pads[:16]} do not frame a tensor of {rank} axes")
    frames = [(0, 0)] * (len(x.sizes) + 1)
    for axis, first, last in zip(axes, pads, pads[len(axes) :], strict=False):
        frames[x.axis(axis)] = (first, last)
    if any(frames[0]):
        raise batch_error()
    if not any(pads):
        return x
    x = network.settled(x) if x.columns is not None else x
    return _framed(network, _cropped(network, x, frames[1:]), frames[1:], node.text("mode", "constant"), value)


def _cropped(network: Network, x: Activation, frames: Sequence[tuple[int, int]]) -> Activation:
    """Cut off what negative pads take away."""
    spans = [(max(0, -first), size - max(0, -last), 1) for (first, last), size in zip(frames, x.sizes, strict=True)]
    if any(first >= last for first, last, _ in spans):
        raise CheckpointError(f"its pads leave nothing of {x.shown()}")
    return x if spans == network.spans(x) else network.cut(x, spans)


def _framed(network: Network, x: Activation, frames: Sequence[tuple[int, int]], mode: str, value: float) -> Activation:  # noqa: E501 - one line of arguments
    """Pad along the FX node's own axes, whatever order they are read in."""
    frames = [(max(0, first), max(0, last)) for first, last in frames]
    if not any(map(any, frames)):
        return x
    sizes = [size + first + last for (first, last), size in zip(frames, x.sizes, strict=True)]
    padded = replace(x, shape=tuple(sizes[axis] for axis in x.order))
    inner = next(axis for axis, frame in enumerate(frames) if any(frame))
    inner = min(inner, len(frames) - 2) if len(frames) == 3 and not any(frames[0]) else inner
    pads = tuple(pixels for frame in reversed(frames[inner:]) for pixels in frame)
    if mode == "constant":
        return network.call(F.pad, (x.node, pads, *(() if value == 0 else ("constant", value))), padded)
    names = {"reflect": "reflect", "edge": "replicate", "wrap": "circular"}
    if mode not in names or len(frames) != 3 or any(frames[0]):
        raise UnsupportedModel(f"it pads {x.shown()} in the mode {mode!r}", fix="pad pictures, along height and width")
    return network.call(F.pad, (x.node, pads, names[mode]), padded)


def _expand(network: Network, node: OnnxNode, inputs: Inputs) -> Value:
    x, wanted = read(inputs), whole_numbers(at(inputs, 1), "shape")
    x = network.aligned_to(x, len(wanted))
    wanted = [1] * (len(x.dims) - len(wanted)) + wanted
    spans = zip(x.dims, wanted, strict=True)
    if any(size != wish and 1 not in (size, wish) for size, wish in spans):
        raise CheckpointError(f"it expands {x.shown()} to {wanted[:8]}")
    if x.place is not None and wanted[x.place] not in (1, x.dims[x.place]):
        raise batch_error()
    made = x
    for spot, size in enumerate(x.dims):
        if spot != x.place and wanted[spot] > size:
            made = _repeated(network, made, spot, wanted[spot])
    if made is not x:
        network.expanded[made.node] = x
    return made


def _tile(network: Network, node: OnnxNode, inputs: Inputs) -> Value:
    x, repeats = read(inputs), whole_numbers(at(inputs, 1), "repeats")
    if len(repeats) != len(x.dims) or min(repeats) < 1:
        raise CheckpointError(f"it repeats {x.shown()} {repeats[:8]} times")
    for axis, times in enumerate(repeats):
        if times > 1:
            x = _repeated(network, x, axis, times)
    return x


def _repeated(network: Network, x: Activation, axis: int, times: int) -> Activation:
    if times > _MOST_PIECES:
        raise CheckpointError(f"it repeats {x.shown()} {times} times")
    x, part = (network.settled(x) if x.columns is not None else x), x.part(axis)
    if part is None:
        raise batch_error()
    shape = (*x.shape[:part], x.shape[part] * times, *x.shape[part + 1 :])
    return network.call(torch.cat, ([x.node] * times, x.axis(axis)), replace(x, shape=shape))


PIECES: Mapping[str, Handler] = {
    "Slice": _slice,
    "Gather": _gather,
    "Split": _split,
    "Concat": _concat,
    "Pad": _pad,
    "Expand": _expand,
    "Tile": _tile,
}
"""Operator -> what adds it to the network."""
