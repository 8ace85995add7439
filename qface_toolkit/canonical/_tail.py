"""The ends of face networks: vectors flattened in another order of axes, and embeddings scaled to unit length."""

import math
from typing import cast

import torch
import torch.nn.functional as F  # noqa: N812 - the name everybody knows it by
from torch import fx, nn

from qface_toolkit.canonical._affine import Affine, kind_of
from qface_toolkit.canonical.edit import is_flatten, is_tensor, module_of, only_user, own_module, shape_of, source
from qface_toolkit.canonical.islands import Move

_NORMS = (torch.norm, torch.linalg.norm, torch.linalg.vector_norm, "norm")
_KEEP_EACH = ("view", "reshape", "unsqueeze", "expand_as", "expand", torch.unsqueeze, torch.reshape)
_ELEMENTWISE = (nn.ReLU, nn.ReLU6, nn.Sigmoid, nn.Hardsigmoid)


def normalise_one_way(graph_module: fx.GraphModule) -> None:
    """Write `x / x.norm(dim=1, keepdim=True)`, in any spelling, as F.normalize with the eps that it has."""
    for node in list(graph_module.graph.nodes):
        options: dict[str, object] | None = None
        if node.target is F.normalize:
            options = {"p": 2.0, "dim": 1, "eps": 1e-12} | dict(zip(("p", "dim", "eps"), node.args[1:], strict=False))
            options |= {key: value for key, value in node.kwargs.items() if key != "out"}
        elif kind_of(node) == "div" and len(node.args) == 2 and not node.kwargs:
            eps = _eps_of_norm(node.args[1], source(node))
            options = None if eps is None else {"p": 2.0, "dim": 1, "eps": eps}
        if options is not None:
            options["dim"] = 1 if options["dim"] == -1 and len(shape_of(node)) == 2 else options["dim"]
            node.op, node.target, node.args, node.kwargs = "call_function", F.normalize, node.args[:1], options


def _eps_of_norm(divisor: object, tensor: fx.Node) -> float | None:
    """Return the least value of a divisor that is the length of each row of a tensor; None if it is anything else."""
    eps = 0.0
    while is_tensor(divisor) and divisor.args and (divisor.target in _KEEP_EACH or divisor.op == "call_module"):
        if divisor.op == "call_module":
            floor = module_of(divisor, nn.Hardtanh)  # what a clamp is by now
            if floor is None or floor.max_val < math.inf or floor.min_val < 0:
                return None
            eps = max(eps, float(floor.min_val))
        divisor = divisor.args[0]
    return eps if isinstance(divisor, fx.Node) and _is_length(divisor, tensor) else None


def _is_length(node: fx.Node, tensor: fx.Node) -> bool:
    """Tell whether a node is the Euclidean length of each row of a tensor [N, D]."""
    if node.target not in _NORMS or source(node) is not tensor or len(shape_of(tensor)) != 2:
        return False
    options = dict(zip(("p", "dim"), node.args[1:], strict=False)) | node.kwargs
    order, axes = options.get("p", options.get("ord")), options.get("dim")
    return order in (None, 2, "fro") and axes in (1, -1, (1,), (-1,), [1], [-1])


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
