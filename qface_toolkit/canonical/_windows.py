"""Windows and axes that integer kernels do not know: odd pools and borders, resizing, what is reduced over axes.

What equal windows can compute stays a pool; the rest are islands, or moves where pixels only change their places.
"""

import copy
import math
from collections.abc import Mapping
from typing import Any, cast

import torch
import torch.nn.functional as F  # noqa: N812 - the name everybody knows it by
from torch import fx, nn

from qface_toolkit.canonical import _moves, _slices
from qface_toolkit.canonical._islands import arguments
from qface_toolkit.canonical._moves import insert, spelling, write
from qface_toolkit.canonical.edit import calls, is_tensor, own_module, pair, shape_of, source
from qface_toolkit.canonical.islands import Island, Move

_REDUCTIONS = {"mean": "mean", "sum": "sum", "amax": "largest", "norm": "length", "linalg_vector_norm": "length"}


def reductions(graph_module: fx.GraphModule) -> None:
    """Write what is reduced over axes, and softmax, as islands."""
    for node in list(graph_module.graph.nodes):
        name = spelling(node)
        if not is_tensor(node) or not node.args or not is_tensor(node.args[0]):
            continue
        rank = len(shape_of(source(node)))
        if name == "softmax":
            axis = arguments(node, "dim").get("dim", -1)
            write(node, Island.of("softmax", axis=int(axis) % rank), source(node))
        elif name in _REDUCTIONS:
            names = ("p", "dim", "keepdim") if _REDUCTIONS[name] == "length" else ("dim", "keepdim")
            given = arguments(node, *names)
            axes = _axes(given.get("dim", given.get("axis")), rank)
            if axes and given.get("p", given.get("ord", 2)) in (2, "fro", None):
                options = {"axes": axes, "keepdims": bool(given.get("keepdim", False))}
                write(node, Island.of(_REDUCTIONS[name], **options), source(node))


def _axes(given: Any, rank: int) -> tuple[int, ...]:  # noqa: ANN401 - a number, or several, or nothing
    """Return the axes as positive numbers, none where the batch is among them."""
    numbers = [given] if isinstance(given, int) else list(given or ())
    axes = tuple(sorted(int(axis) % rank for axis in numbers))
    return () if 0 in axes else axes


def resizes(graph_module: fx.GraphModule) -> None:
    """Write resizing to the nearest pixel as a move, and by lines as an island."""
    for node, up in list(calls(graph_module, nn.Upsample)):
        _write_resize(node, up.mode, up.align_corners)
    for node in list(graph_module.graph.nodes):
        if spelling(node) == "interpolate" and is_tensor(node):
            given = arguments(node, "size", "scale_factor", "mode", "align_corners")
            _write_resize(node, given.get("mode", "nearest"), given.get("align_corners"))


def _write_resize(node: fx.Node, mode: str, corners: bool | None) -> None:
    before, size = shape_of(source(node))[2:], shape_of(node)[2:]
    if mode == "nearest":
        write(node, Move.of("nearest", before=before, size=size), source(node))
    elif mode in ("bilinear", "bicubic"):
        write(
            node, Island.of("resized", before=before, size=size, mode=mode, align_corners=bool(corners)), source(node)
        )


def other_borders(graph_module: fx.GraphModule) -> None:
    """Write padding with other things than zeros as an island."""
    kinds: Mapping[type[nn.Module], str] = {nn.ReflectionPad2d: "reflect", nn.ReplicationPad2d: "replicate"}
    for kind, mode in kinds.items():
        for node, pad in list(calls(graph_module, kind)):
            sides = tuple(cast(Any, pad).padding)
            own_module(node, Island.of("padded", sides=sides, mode=mode, value=0.0))
    for node in list(graph_module.graph.nodes):
        if node.target is not F.pad or not is_tensor(node):
            continue
        given: dict[str, Any] = {"mode": "constant", "value": 0.0} | arguments(node, "pad", "mode", "value")
        finite = math.isfinite(float(given["value"] or 0.0))
        if given["mode"] in ("constant", "reflect", "replicate") and finite:
            sides = tuple(given["pad"])
            if given["mode"] == "constant":
                sides += (0,) * (2 * len(shape_of(node)) - 2 - len(sides))
            options = {"sides": sides, "mode": given["mode"], "value": float(given["value"] or 0.0)}
            write(node, Island.of("padded", **options), source(node))


def borders_of_convolutions(graph_module: fx.GraphModule) -> None:
    """Write the border of a convolution that reflects or repeats pixels as one in front of it."""
    for node, conv in list(calls(graph_module, nn.Conv2d)):
        if conv.padding_mode in ("reflect", "replicate") and not isinstance(conv.padding, str):
            rows, columns = pair(conv.padding)
            sides = (columns, columns, rows, rows)
            border = Island.of("padded", sides=sides, mode=conv.padding_mode, value=0.0)
            node.args = (insert(node, f"{node.name}_border", border, source(node)),)
            bare = own_module(node, copy.copy(conv))
            bare.padding, bare.padding_mode = (0, 0), "zeros"


def counted_pools(graph_module: fx.GraphModule) -> None:
    """Write average pools whose windows differ in size as one of equal windows, times what each window lacks."""
    for node, pool in list(calls(graph_module, nn.AvgPool2d)):
        if not pool.ceil_mode and pool.count_include_pad and not pool.divisor_override:
            continue
        kernel, stride, padding = (pair(cast(Any, option)) for option in (pool.kernel_size, pool.stride, pool.padding))
        sizes, made = shape_of(source(node))[2:], shape_of(node)[2:]
        spans = zip(sizes, made, kernel, stride, padding, strict=True)
        reach = [max(0, (number - 1) * s + k - size - 2 * p) for size, number, k, s, p in spans]
        ones = torch.ones(1, 1, *sizes)
        whole = nn.AvgPool2d(kernel, stride, padding)
        with torch.no_grad():
            equal = F.avg_pool2d(
                F.pad(ones, (padding[1], padding[1] + reach[1], padding[0], padding[0] + reach[0])), kernel, stride
            )
            wanted = pool(ones)
        tensor = source(node)
        if any(reach):
            whole.padding = (0, 0)
            sides = (padding[1], padding[1] + reach[1], padding[0], padding[0] + reach[0], 0, 0)
            tensor = insert(node, f"{node.name}_border", Move.of("border", sides=sides), tensor)
        tensor = insert(node, f"{node.name}_equal", whole, tensor)
        write(node, Island.of("times", wanted / equal), tensor)


def adaptive_pools(graph_module: fx.GraphModule) -> None:
    """Write adaptive pools as plain ones, where all their windows are of one size."""
    kinds: Mapping[type[nn.Module], type[nn.Module]] = {
        nn.AdaptiveAvgPool2d: nn.AvgPool2d,
        nn.AdaptiveMaxPool2d: nn.MaxPool2d,
    }
    for kind, plain in kinds.items():
        for node, pool in list(calls(graph_module, kind)):
            sizes, made = shape_of(source(node))[2:], shape_of(node)[2:]
            whole = kind is nn.AdaptiveAvgPool2d and made == (1, 1)
            if not whole and all(size % number == 0 for size, number in zip(sizes, made, strict=True)):
                own_module(node, plain(tuple(size // number for size, number in zip(sizes, made, strict=True))))
            elif whole:
                cast(Any, pool).output_size = 1


PASSES = (
    adaptive_pools,
    _slices.slices_for_pools_of_one,
    _slices.picks_for_endless_borders,
    counted_pools,
    reductions,
    resizes,
    _moves.moves_for_borders,
    other_borders,
    borders_of_convolutions,
)
