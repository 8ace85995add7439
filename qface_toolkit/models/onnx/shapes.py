"""ONNX operators that give the same numbers another shape: reshapes, transposes, axes of size one."""

import math
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import replace

import torch.nn.functional as F  # noqa: N812 - the name everybody knows it by

from qface_toolkit.errors import CheckpointError, UnsupportedModel
from qface_toolkit.models.onnx.graph import Network
from qface_toolkit.models.onnx.inputs import (
    BATCH_FIX,
    BATCH_MOVES,
    Handler,
    Inputs,
    at,
    image,
    read,
)
from qface_toolkit.models.onnx.lists import listed, whole_numbers
from qface_toolkit.models.onnx.matrices import permuted
from qface_toolkit.models.onnx.reading import OnnxNode
from qface_toolkit.models.onnx.tensors import FLOAT_TYPES
from qface_toolkit.models.onnx.views import BATCH, Activation, Value


def _same(_network: Network, _node: OnnxNode, inputs: Inputs) -> Value:
    return read(inputs)


def _cast(network: Network, node: OnnxNode, inputs: Inputs) -> Value:
    if node.integer("to", 0) not in FLOAT_TYPES:
        raise UnsupportedModel("it casts the image to whole numbers", fix="export the float network")
    return _same(network, node, inputs)


def _flatten(network: Network, node: OnnxNode, inputs: Inputs) -> Value:
    x = read(inputs)
    axis = node.integer("axis", 1)
    axis = axis + len(x.dims) if axis < 0 else axis
    if not 0 <= axis <= len(x.dims):
        raise CheckpointError(f"it flattens from axis {axis} of {x.shown()}")
    return in_shape(network, x, [math.prod(x.dims[:axis]), math.prod(x.dims[axis:])])


def _reshape(network: Network, node: OnnxNode, inputs: Inputs) -> Value:
    x, wanted = read(inputs), whole_numbers(at(inputs, 1), "shape")
    if not node.integer("allowzero", 0):
        wanted = [x.dims[at] if size == 0 and at < len(x.dims) else size for at, size in enumerate(wanted)]
    return in_shape(network, x, wanted)


def in_shape(network: Network, x: Activation, wanted: Sequence[int]) -> Activation:
    """Return a tensor in the shape that ONNX asks for, one size of which may be -1.

    A shape in which the number of images does not stand is for one image; it is read for any number.

    Raises:
        UnsupportedModel: if it holds another count of numbers, or tears an image apart.
    """
    for sizes in _readings(network, x, list(wanted)):
        if (found := _placed(x, sizes)) is not None:
            shape, place, many, leads = found
            return network.reshaped(x, shape, place, many, leads=leads)
    shown = ["N" if size == BATCH else size for size in wanted[:8]]
    raise UnsupportedModel(f"it gives {x.shown()} the shape {shown}: {BATCH_MOVES}", fix=BATCH_FIX)


def _readings(network: Network, x: Activation, wanted: list[int]) -> Iterator[list[int]]:
    """Yield the shapes, all sizes known, that a shape can mean; `BATCH` stands for the number of images."""
    if wanted.count(-1) > 1:
        return
    totals = [math.prod(x.dims), math.prod(x.sizes)]
    if wanted[:1] == [1]:
        totals.reverse()
    fixed = network.batch is not None and wanted[:1] == [network.batch] != [1]
    for sizes in [[BATCH, *wanted[1:]], wanted] if fixed else [wanted]:
        known = abs(math.prod(sizes))
        for total in totals if -1 in sizes and known else []:
            if total % known == 0:
                yield [total // known if size == -1 else size for size in sizes]
        if -1 not in sizes:
            yield sizes


def _placed(x: Activation, sizes: Sequence[int]) -> tuple[tuple[int, ...], int | None, int, bool] | None:
    """Return (shape, place, many, leads) of a shape that keeps each image's numbers together, None if it does not."""
    if any(size < 1 for size in sizes):
        return None
    if math.prod(sizes) == math.prod(x.sizes) and not any(size % BATCH == 0 for size in sizes):
        front = x.place == 0 and sizes[:1] == [1]  # made for one image, whose axis still stands in front
        return (tuple(sizes[1:]), 0, 1, False) if front else (tuple(sizes), None, 1, False)
    places = [place for place, size in enumerate(sizes) if size % BATCH == 0]
    if math.prod(sizes) != BATCH * math.prod(x.sizes) or x.place is None or len(places) != 1:
        return None
    place, many = places[0], sizes[places[0]] // BATCH
    before = math.prod(x.shape[: x.place]) * (x.many if x.leads else 1)
    leads = math.prod(sizes[:place]) != before
    if leads and math.prod(sizes[:place]) * many != before:
        return None
    return (*sizes[:place], *sizes[place + 1 :]), place, many, leads


def _squeeze(network: Network, node: OnnxNode, inputs: Inputs) -> Value:
    x, axes = read(inputs), listed(node, "axes", inputs, 1)
    if axes is None:
        axes = [spot for spot, size in enumerate(x.dims) if size == 1]
    dropped = {x.spot(axis) for axis in axes}
    sizes = [1 if size == BATCH else size for size in x.dims]  # a file that drops the axis of images has one image
    if len(dropped) != len(axes) or any(sizes[axis] != 1 for axis in dropped):
        raise CheckpointError(f"it drops the axes {axes[:8]} of {x.shown()}")
    kept = [spot for spot in range(len(sizes)) if spot not in dropped]
    place = None if x.place is None or x.place in dropped else kept.index(x.place)
    shape = tuple(x.dims[spot] for spot in kept if spot != x.place)
    return network.reshaped(x, shape, place, x.many, leads=x.leads)


def _unsqueeze(network: Network, node: OnnxNode, inputs: Inputs) -> Value:
    x, axes = read(inputs), listed(node, "axes", inputs, 1) or []
    rank = len(x.dims) + len(axes)
    added = {axis % rank for axis in axes if -rank <= axis < rank}
    if len(added) != len(axes) or rank > 8:
        raise CheckpointError(f"it adds the axes {axes[:8]} to {x.shown()}")
    sizes = iter(x.dims)
    dims = [1 if spot in added else next(sizes) for spot in range(rank)]
    place = next((spot for spot, size in enumerate(dims) if size % BATCH == 0), None)
    shape = tuple(size for spot, size in enumerate(dims) if spot != place)
    if x.place is None and 0 in added:
        return network.reshaped(x, shape[1:], 0)
    return network.reshaped(x, shape, place, x.many, leads=x.leads)


def _transpose(_network: Network, node: OnnxNode, inputs: Inputs) -> Value:
    x = read(inputs)
    rank = len(x.dims)
    order = node.integers("perm", tuple(reversed(range(rank))))
    if sorted(order) != list(range(rank)):
        raise CheckpointError(f"its perm {list(order)[:8]} is no order of {rank} axes")
    return x if len(x.sizes) == 1 and x.plain and list(order) == [0, 1] else permuted(x, order)


def _depth_to_space(network: Network, node: OnnxNode, inputs: Inputs) -> Value:
    x, block = image(network, at(inputs, 0)), node.integer("blocksize", 0)
    channels, height, width = x.shape
    if not 0 < block <= 64 or channels % (block * block):
        raise CheckpointError(f"it makes blocks of {block} from {channels} channels")
    left = channels // (block * block)
    if node.text("mode", "DCR") == "CRD":
        bigger = (left, height * block, width * block)
        return network.call(F.pixel_shuffle, (x.node, block), replace(x, shape=bigger))
    split = network.reshaped(x, (block, block, left, height, width))
    return network.reshaped(permuted(split, (0, 3, 4, 1, 5, 2)), (left, height * block, width * block))


def _space_to_depth(network: Network, node: OnnxNode, inputs: Inputs) -> Value:
    x, block = image(network, at(inputs, 0)), node.integer("blocksize", 0)
    channels, height, width = x.shape
    if not 0 < block <= 1024 or height % block or width % block:
        raise CheckpointError(f"it makes blocks of {block} of {x.shown()}")
    split = network.reshaped(x, (channels, height // block, block, width // block, block))
    moved = permuted(split, (0, 3, 5, 1, 2, 4))
    return network.reshaped(moved, (channels * block * block, height // block, width // block))


SHAPES: Mapping[str, Handler] = {
    **dict.fromkeys(("Identity", "Dropout"), _same),
    "Cast": _cast,
    "Flatten": _flatten,
    "Reshape": _reshape,
    "Squeeze": _squeeze,
    "Unsqueeze": _unsqueeze,
    "Transpose": _transpose,
    "DepthToSpace": _depth_to_space,
    "SpaceToDepth": _space_to_depth,
}
"""Operator -> what adds it to the network."""
