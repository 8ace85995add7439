"""Settle what tracing leaves open: operations that change a tensor in place, sizes, and arithmetic among constants."""

import operator
from collections.abc import Mapping
from typing import Any, cast

import torch
import torch.nn.functional as F  # noqa: N812 - the name everybody knows it by
from torch import fx, nn

from qface_toolkit.canonical.edit import bypass, free_name, is_tensor, shape_of, source
from qface_toolkit.errors import UnsupportedModel

_IN_PLACE = (operator.iadd, operator.isub, operator.imul, operator.itruediv)
_IN_PLACE_IS_LAST = (F.relu, F.relu6, F.leaky_relu, F.hardtanh, F.silu, F.hardswish, F.hardsigmoid, F.elu)
"""Functions whose last argument, given by position, says that they change their input."""
_VIEWS = (
    "view",
    "reshape",
    "flatten",
    "squeeze",
    "unsqueeze",
    "permute",
    "transpose",
    "contiguous",
    operator.getitem,
    torch.flatten,
    torch.reshape,
    torch.squeeze,
    torch.unsqueeze,
    torch.permute,
    torch.transpose,
)
_IN_PLACE_MOVES = ("squeeze_", "unsqueeze_", "transpose_", "swapaxes_", "swapdims_", "t_")
_OF_A_CONSTANT = ("to", "type_as")
"""What a constant does to follow the image: to another device or type, of which there are none here."""


def inputs_by_position(graph_module: fx.GraphModule) -> None:
    """Give each function its tensor as the first argument, where it is given by the name that torch has for it."""
    for node in graph_module.graph.nodes:
        if not node.args and "input" in node.kwargs:
            options = dict(node.kwargs)
            node.args, node.kwargs = (options.pop("input"),), options


def in_place_as_written(graph_module: fx.GraphModule) -> None:
    """Let whoever reads a tensor behind an in-place operation read what it made of the tensor, as eager torch does.

    Raises:
        UnsupportedModel: if what is changed is a view of a tensor that is read again.
    """
    order = {node: number for number, node in enumerate(graph_module.graph.nodes)}
    for node in list(graph_module.graph.nodes):
        if not _is_in_place(graph_module, node):
            continue
        changed, place = source(node), order[node]
        _check_view(changed, place, order)
        for user in [user for user in changed.users if order[user] > place]:
            user.replace_input_with(changed, node)
        if node.op == "call_module":
            graph_module.get_submodule(str(node.target)).inplace = False  # type: ignore[assignment]  # a flag, no module
        if node.target in _IN_PLACE_MOVES:
            node.target = str(node.target).removesuffix("_")


def _is_in_place(graph_module: fx.GraphModule, node: fx.Node) -> bool:
    if not is_tensor(node) or not node.args or not is_tensor(node.args[0]):
        return False
    if node.op == "call_module":
        return bool(getattr(graph_module.get_submodule(str(node.target)), "inplace", False))
    if node.target in _IN_PLACE or node.kwargs.get("inplace"):
        return True
    name = node.target if isinstance(node.target, str) else getattr(node.target, "__name__", "")
    by_name = name.endswith("_") and not name.endswith("__")
    return by_name or (node.target in _IN_PLACE_IS_LAST and node.args[-1] is True)


def _check_view(changed: fx.Node, place: int, order: dict[fx.Node, int]) -> None:
    while changed.target in _VIEWS and is_tensor(changed.args[0]):
        changed = source(changed)
        if any(order[user] > place for user in changed.users):
            raise UnsupportedModel(
                "a view of a tensor is changed in place, and the tensor is read again",
                where=changed.name,
                fix="write the operation that is not in place",
            )


def constant_sizes(graph_module: fx.GraphModule) -> None:
    """Write the sizes of all axes but the batch as the numbers that they are, and compute with them."""
    for node in list(graph_module.graph.nodes):
        number = _number(node)
        for user in [] if number is None else list(node.users):
            user.args, user.kwargs = _replaced((user.args, user.kwargs), {node: number})


def _replaced(arguments: Any, values: Mapping[fx.Node, Any]) -> Any:  # noqa: ANN401 - arguments hold anything
    return fx.node.map_arg(arguments, lambda node: values.get(node, node))


def _number(node: fx.Node) -> int | tuple[int, ...] | None:
    """Return the number, or numbers, that a node always computes; None if it depends on the batch or is a tensor."""
    if is_tensor(node) or node.op not in ("call_method", "call_function"):
        return None
    if node.target == "size" and len(node.args) == 2:
        return _of_axes(source(node), node.args[1])
    if node.target is operator.getitem and isinstance(node.args[0], fx.Node):
        sizes = source(node)
        whole = (sizes.target == "size" and len(sizes.args) == 1) or sizes.args[1:] == ("shape",)
        return _of_axes(source(sizes), node.args[1]) if whole else None
    if getattr(node.target, "__module__", "") == "_operator" and not node.all_input_nodes:
        return cast(int, cast(Any, node.target)(*node.args))
    return None


def _of_axes(tensor: fx.Node, axes: object) -> int | tuple[int, ...] | None:
    """Return a tensor's sizes along an axis or a slice of axes, unless the batch is among them."""
    if not is_tensor(tensor) or not isinstance(axes, int | slice):
        return None
    sizes: tuple[int | None, ...] = (None, *shape_of(tensor)[1:])
    chosen = sizes[axes]
    if isinstance(chosen, tuple):
        return None if None in chosen else cast(tuple[int, ...], chosen)
    return chosen


def fold_constants(graph_module: fx.GraphModule) -> None:
    """Compute at once what depends on no input: a buffer reshaped, a parameter's exponential."""
    for node in list(graph_module.graph.nodes):
        if node.op not in ("call_method", "call_function") or not node.all_input_nodes:
            continue
        if node.target in _OF_A_CONSTANT and constant_of(node.args[0]) is not None:
            bypass(node)
        elif all(constant_of(argument) is not None for argument in node.all_input_nodes):
            _compute(graph_module, node)


def _compute(graph_module: fx.GraphModule, node: fx.Node) -> None:
    held = {entering: constant_of(entering) for entering in node.all_input_nodes}
    args, kwargs = _replaced((node.args, node.kwargs), held)
    function: Any = getattr(torch.Tensor, str(node.target)) if node.op == "call_method" else node.target
    with torch.no_grad():
        value = function(*args, **kwargs)
    if isinstance(value, torch.Tensor):
        name = free_name(graph_module, f"constant_{node.name}")
        graph_module.register_buffer(name, value)
        node.op, node.target, node.args, node.kwargs = "get_attr", name, (), {}
        return
    for user in list(node.users):  # sizes, which are no tensors
        user.args, user.kwargs = _replaced((user.args, user.kwargs), {node: value})


def constant_of(argument: object) -> torch.Tensor | None:
    """Return the tensor that a node holds if it depends on no input, else None."""
    if isinstance(argument, fx.Node) and argument.op == "get_attr":
        value = operator.attrgetter(str(argument.target))(cast(nn.Module, argument.graph.owning_module))
        return value.detach() if isinstance(value, torch.Tensor) else None
    return None


PASSES = (inputs_by_position, in_place_as_written, constant_sizes, fold_constants)
