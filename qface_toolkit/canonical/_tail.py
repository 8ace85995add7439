"""The ends of face networks: vectors flattened in another order of axes, and embeddings scaled to unit length."""

from typing import cast

import torch
import torch.nn.functional as F  # noqa: N812 - the name everybody knows it by
from torch import fx, nn

from qface_toolkit.canonical._affine import Affine
from qface_toolkit.canonical.edit import is_flatten, module_of, only_user, own_module, shape_of, source
from qface_toolkit.canonical.islands import Move

_ELEMENTWISE = (nn.ReLU, nn.ReLU6, nn.Sigmoid, nn.Hardsigmoid)


def normalise_one_way(graph_module: fx.GraphModule) -> None:
    """Give each F.normalize all its options by name, and of vectors the axis counted from the front."""
    for node in list(graph_module.graph.nodes):
        if node.target is F.normalize:
            options = {"p": 2.0, "dim": 1, "eps": 1e-12} | dict(zip(("p", "dim", "eps"), node.args[1:], strict=False))
            options |= {key: value for key, value in node.kwargs.items() if key != "out"}
            options["dim"] = 1 if options["dim"] == -1 and len(shape_of(node)) == 2 else options["dim"]
            node.args, node.kwargs = node.args[:1], options


def columns_for_permutations(graph_module: fx.GraphModule) -> None:
    """Flatten [N, C, H, W] as it is where it was permuted first, and permute the linear layer's columns instead."""
    for node in list(graph_module.graph.nodes):
        if not is_flatten(node):
            continue
        order, tensor = _order(source(node))
        if tensor is source(node) or order[0] != 0:
            continue
        columns = torch.arange(shape_of(node)[1]).reshape(shape_of(tensor)[1:])
        columns = columns.permute([axis - 1 for axis in order[1:]]).flatten()
        unmoved = bool((columns == torch.arange(len(columns))).all())
        if unmoved or _reorder_readers(only_user(node), columns):
            node.args = (tensor, 1)


def _order(node: fx.Node) -> tuple[list[int], fx.Node]:
    """Return the order of axes in which nodes up to this one put a tensor [N, C, H, W], and that tensor."""
    if node.target in ("transpose", torch.transpose):
        order, tensor = _order(source(node))
        first, second = cast(tuple[int, int], node.args[1:])
        order[first], order[second] = order[second], order[first]
        return order, tensor
    move = module_of(node, Move)
    if move is not None and move.kind == "permute":
        order, tensor = _order(source(node))
        return [order[axis] for axis in cast(tuple[int, ...], move.options["order"])], tensor
    if node.target in ("permute", torch.permute):
        axes = node.args[1:] if isinstance(node.args[1], int) else node.args[1]
        order, tensor = _order(source(node))
        return [order[axis] for axis in cast(tuple[int, ...], axes)], tensor
    return list(range(len(shape_of(node)))), node


def _reorder_readers(reader: fx.Node | None, columns: torch.Tensor) -> bool:
    """Let the layers that read a vector read its numbers in their order before a permutation; tell whether they can."""
    between = list[tuple[fx.Node, Affine]]()
    while reader is not None:
        linear, affine = module_of(reader, nn.Linear), module_of(reader, Affine)
        if linear is not None:
            for node, scaling in between:
                own_module(node, Affine(_unpermuted(scaling.scale, columns), _unpermuted(scaling.shift, columns)))
            linear.weight.data = _unpermuted(linear.weight.detach(), columns)
            return True
        if affine is not None:
            between.append((reader, affine))
        elif not any(module_of(reader, kind) is not None for kind in _ELEMENTWISE):
            return False
        reader = only_user(reader)
    return False


def _unpermuted(values: torch.Tensor, columns: torch.Tensor) -> torch.Tensor:
    """Return values, whose last axis goes with permuted numbers, in the order of the numbers before."""
    moved = torch.empty_like(values)
    moved[..., columns] = values
    return moved


PASSES = (normalise_one_way, columns_for_permutations)
