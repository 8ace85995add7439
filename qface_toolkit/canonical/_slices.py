"""What takes parts of a tensor as slices and picks: splits, indexing, pools over single pixels, repeated borders."""

import math
import operator
from typing import Any, cast

import torch
import torch.nn.functional as F  # noqa: N812 - the name everybody knows it by
from torch import fx, nn

from qface_toolkit.canonical._constants import constant_of
from qface_toolkit.canonical._moves import insert, permutation, spelling, write
from qface_toolkit.canonical.edit import calls, is_tensor, pair, shape_of, source
from qface_toolkit.canonical.islands import Move

_SPLITS = ("chunk", "split", "tensor_split", "unbind", "split_with_sizes")


def slices_for_splits(graph_module: fx.GraphModule) -> None:
    """Write chunk, split and unbind as one slice for each part that is read."""
    for node in list(graph_module.graph.nodes):
        if spelling(node) not in _SPLITS or not node.args or not is_tensor(node.args[0]):
            continue
        parts = [user for user in node.users if user.target is operator.getitem and isinstance(user.args[1], int)]
        if len(parts) < len(node.users):
            continue
        spans, axis, drops = _spans(node)
        for part in parts:
            start, stop = spans[cast(int, part.args[1])]
            _write_slice(part, source(node), axis, start, stop, drops=drops)
        graph_module.graph.erase_node(node)


def _spans(node: fx.Node) -> tuple[list[tuple[int, int]], int, bool]:
    """Return where each part of a split begins and ends, along which axis, and whether the axis is dropped."""
    shape, name = shape_of(source(node)), spelling(node)
    options = dict(node.kwargs)
    known = ("dim",) if name == "unbind" else ("sizes", "dim")
    values = dict(zip(known, node.args[1:], strict=False))
    values |= {"dim" if key == "dim" else "sizes": value for key, value in options.items()}
    axis = int(cast(int, values.get("dim", 0))) % len(shape)
    probe = torch.empty(shape, device="meta")
    if name == "unbind":
        return [(place, place + 1) for place in range(shape[axis])], axis, True
    parts = getattr(probe, "split" if name == "split_with_sizes" else name)(values["sizes"], axis)
    spans, start = [], 0
    for part in parts:
        spans.append((start, start + part.shape[axis]))
        start += part.shape[axis]
    return spans, axis, False


def _write_slice(node: fx.Node, tensor: fx.Node, axis: int, start: int, stop: int, *, drops: bool) -> None:
    """Let a node take a span of a tensor along an axis, and drop the axis, also where a permutation moved the batch."""
    order = permutation(tensor)
    if axis == 0 and order is not None and drops:
        tensor, moved = source(tensor), list(order[1:])
        cut = insert(node, f"{node.name}_part", Move.of("slice", axis=order[0], start=start, stop=stop, step=1), tensor)
        shape = shape_of(cut)
        squeezed = insert(
            node,
            f"{node.name}_squeezed",
            Move.of("reshape", shape=[size for number, size in enumerate(shape) if number not in (0, order[0])]),
            cut,
        )
        kept = [number for number in range(len(shape)) if number != order[0]]
        write(node, Move.of("permute", order=[kept.index(number) for number in moved]), squeezed)
        return
    if axis == 0:
        return
    cutting = Move.of("slice", axis=axis, start=start, stop=stop, step=1)
    if not drops:
        write(node, cutting, tensor)
        return
    cut = insert(node, f"{node.name}_part", cutting, tensor)
    write(node, Move.of("reshape", shape=shape_of(node)[1:]), cut)


def slices_for_indexing(graph_module: fx.GraphModule) -> None:
    """Write indexing by slices and whole numbers as slices, and as a reshape where axes are dropped."""
    for node in list(graph_module.graph.nodes):
        if node.target is not operator.getitem or not is_tensor(node) or not is_tensor(node.args[0]):
            continue
        parts = _parts(node)
        if parts is not None:
            _write_slices(node, parts)


def _parts(node: fx.Node) -> list[slice | int] | None:
    """Return one part for each axis that is indexed; None if there is another kind among them, or a new axis."""
    index = node.args[1]
    parts: list[Any] = list(index) if isinstance(index, tuple) else [index]
    if ... in parts:
        place, missing = parts.index(...), len(shape_of(source(node))) - (len(parts) - 1)
        parts[place : place + 1] = [slice(None)] * missing
    numbers = [
        end for part in parts for end in ((part.start, part.stop, part.step) if isinstance(part, slice) else (part,))
    ]
    plain = all(end is None or isinstance(end, int) for end in numbers)
    return parts if plain and not any(part is None or isinstance(part, bool) for part in parts) else None


def _write_slices(node: fx.Node, parts: list[slice | int]) -> None:
    tensor = source(node)
    if parts and isinstance(parts[0], int) and all(part == slice(None) for part in parts[1:]):
        start = parts[0] % shape_of(tensor)[0]
        _write_slice(node, tensor, 0, start, start + 1, drops=True)
        return
    if parts and parts[0] != slice(None):
        return
    for axis, part in enumerate(parts):
        size = shape_of(tensor)[axis]
        span = part if isinstance(part, slice) else slice(part % size, part % size + 1)
        start, stop, step = span.indices(size)
        if (start, stop, step) != (0, size, 1):
            cutting = Move.of("slice", axis=axis, start=start, stop=stop, step=step)
            tensor = insert(node, f"{node.name}_part", cutting, tensor)
    if shape_of(tensor) == shape_of(node):
        node.replace_all_uses_with(tensor)
        return
    write(node, Move.of("reshape", shape=shape_of(node)[1:]), tensor)


def picks_for_indices(graph_module: fx.GraphModule) -> None:
    """Write the choice of channels or rows by constant indices, a run of neighbours as a slice."""
    for node in list(graph_module.graph.nodes):
        if spelling(node) != "index_select" or not is_tensor(node) or len(node.args) != 3:
            continue
        held = constant_of(node.args[2])
        axis = int(cast(int, node.args[1])) % len(shape_of(source(node)))
        if held is None or axis == 0:
            continue
        indices = [int(index) % shape_of(source(node))[axis] for index in held.flatten()]
        first = indices[0]
        run = indices == list(range(first, first + len(indices)))
        span: dict[str, Any] = {"start": first, "stop": first + len(indices), "step": 1}
        write(
            node,
            Move.of("slice", axis=axis, **span) if run else Move.of("pick", axis=axis, indices=indices),
            source(node),
        )


def slices_for_pools_of_one(graph_module: fx.GraphModule) -> None:
    """Write pools over single pixels as slices that leave pixels out: QNNPACK has no such pool."""
    for kind in (nn.MaxPool2d, nn.AvgPool2d):
        for node, pool in list(calls(graph_module, kind)):
            if pair(cast(Any, pool.kernel_size)) != (1, 1) or pair(cast(Any, pool.padding)) != (0, 0):
                continue
            tensor = source(node)
            for axis, step in zip((2, 3), pair(cast(Any, pool.stride)), strict=True):
                if step != 1:
                    cutting = Move.of("slice", axis=axis, start=0, stop=shape_of(tensor)[axis], step=step)
                    tensor = insert(node, f"{node.name}_part", cutting, tensor)
            node.replace_all_uses_with(tensor)


def picks_for_endless_borders(graph_module: fx.GraphModule) -> None:
    """Repeat the pixels at the border where a maximum would read minus infinity: they are in its windows anyway."""
    for node, pool in list(calls(graph_module, nn.MaxPool2d)):
        border = source(node)
        given = dict(zip(("pad", "mode", "value"), border.args[1:], strict=False)) | border.kwargs
        if border.target is not F.pad or given.get("value") != -math.inf or pair(pool.padding) != (0, 0):
            continue
        left, right, top, bottom = (*cast(tuple[int, ...], given["pad"]), 0, 0)[:4]
        tensor = source(border)
        for axis, before, after in ((2, top, bottom), (3, left, right)):
            size = shape_of(tensor)[axis]
            if before < pair(pool.kernel_size)[axis - 2] > after and before + after > 0:
                indices = [min(max(place, 0), size - 1) for place in range(-before, size + after)]
                picked = Move.of("pick", axis=axis, indices=indices)
                tensor = insert(node, f"{border.name}_edge", picked, tensor)
        if shape_of(tensor) == shape_of(border):
            node.args = (tensor,)
