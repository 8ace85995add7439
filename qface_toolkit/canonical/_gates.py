"""What multiplies a tensor by a number between 0 and 1 that depends on it: SiLU, hard-swish, squeeze-and-excitation.

Each becomes a sigmoid or hard sigmoid and a product of two tensors; a gate computed by linear layers on vectors
becomes the same gate computed by 1x1 convolutions.
"""

import operator
from typing import cast

import torch
from torch import fx, nn

from qface_toolkit.canonical._affine import Affine
from qface_toolkit.canonical.edit import (
    bypass,
    calls,
    free_name,
    is_flatten,
    is_mul,
    is_tensor,
    module_of,
    only_user,
    own_module,
    shape_of,
    source,
)

_RESHAPES = ("view", "reshape", "unsqueeze", torch.reshape, torch.unsqueeze)
_ON_VECTORS = (nn.Linear, Affine, nn.ReLU, nn.ReLU6, nn.PReLU, nn.Sigmoid, nn.Hardsigmoid)
_SIXTH = 1 / 6


def products_for_swishes(graph_module: fx.GraphModule) -> None:
    """Write SiLU and hard-swish as x * sigmoid(x) and x * hard_sigmoid(x)."""
    gates: tuple[tuple[type[nn.Module], type[nn.Module]], ...] = (
        (nn.SiLU, nn.Sigmoid),
        (nn.Hardswish, nn.Hardsigmoid),
    )
    for swish, gate in gates:
        for node, _ in calls(graph_module, swish):
            own_module(node, gate())
            with graph_module.graph.inserting_after(node):
                product = graph_module.graph.call_function(operator.mul, (source(node), node))
            for user in [user for user in node.users if user is not product]:
                user.replace_input_with(node, product)
            product.meta["tensor_meta"] = node.meta["tensor_meta"]


def hard_sigmoid_for_unit_clamp(graph_module: fx.GraphModule) -> None:
    """Write min(max(x, 0), 1) as hard_sigmoid(6 x - 3)."""
    for node, clamp in calls(graph_module, nn.Hardtanh):
        if (clamp.min_val, clamp.max_val) == (0.0, 1.0):
            _write_hard_sigmoid(node, scale=6.0)


def hard_sigmoid_for_relu6(graph_module: fx.GraphModule) -> None:
    """Write relu6(x + 3) / 6 as hard_sigmoid(x), also where the division comes last: x * relu6(x + 3) / 6."""
    for node, _ in calls(graph_module, nn.ReLU6):
        before = module_of(source(node), Affine)
        sixth = _sixth_behind(node)
        if before is None or sixth is None or not _is(before, 1.0, 3.0):
            continue
        bypass(sixth)
        _write_hard_sigmoid(node, scale=1.0)


def _sixth_behind(node: fx.Node) -> fx.Node | None:
    """Return the division by 6 that alone reads a node, or alone reads the product that alone reads it."""
    reader = only_user(node)
    if is_mul(reader):
        reader = only_user(cast(fx.Node, reader))
    affine = module_of(reader, Affine)
    return cast(fx.Node, reader) if affine is not None and _is(affine, _SIXTH, 0.0) else None


def _is(affine: Affine, scale: float, shift: float) -> bool:
    return bool(((affine.scale - scale).abs() < 1e-7).all() and ((affine.shift - shift).abs() < 1e-7).all())


def _write_hard_sigmoid(node: fx.Node, scale: float) -> None:
    """Let a node compute hard_sigmoid(scale * x - 3)."""
    owner, graph = cast(fx.GraphModule, node.graph.owning_module), node.graph
    channels = shape_of(node)[1]
    name = free_name(owner, f"{node.target}_input")
    owner.add_submodule(name, Affine(torch.full((channels,), scale), torch.full((channels,), -3.0)))
    own_module(node, nn.Hardsigmoid())
    with graph.inserting_before(node):
        node.args = (graph.call_module(name, node.args),)


def convolutions_for_gates(graph_module: fx.GraphModule) -> None:
    """Compute a gate on [N, C, 1, 1] throughout where it is flattened for linear layers and reshaped behind them."""
    for node in list(graph_module.graph.nodes):
        vector = _vector_behind_pixel(node)
        region = None if vector is None else _region(vector, node)
        if vector is None or region is None:
            continue
        for inner in region:
            _on_pixels(inner)
        pixel = source(vector) if is_flatten(vector) else vector
        node.replace_all_uses_with(pixel)
        graph_module.graph.erase_node(node)


def _vector_behind_pixel(node: fx.Node) -> fx.Node | None:
    """Return the [N, C] that a node reshapes to [N, C, 1, 1], through any number of steps."""
    if not is_tensor(node) or shape_of(node)[2:] != (1, 1):
        return None
    size, vector = shape_of(node)[:2], node
    while _adds_axes(vector) and is_tensor(vector.args[0]) and len(shape_of(vector)) > 2:
        vector = source(vector)
    return vector if shape_of(vector) == size else None


def _adds_axes(node: fx.Node) -> bool:
    if node.target is not operator.getitem:
        return node.target in _RESHAPES
    parts = node.args[1] if isinstance(node.args[1], tuple) else (node.args[1],)
    return all(part is None or part is ... or part == slice(None) for part in parts)


def _region(last: fx.Node, reader: fx.Node) -> list[fx.Node] | None:
    """Return the nodes from flattened single pixels to `last`, if all can work on pixels and none is read elsewhere."""
    region, waiting = dict[fx.Node, None](), [last]
    while waiting:
        node = waiting.pop()
        if is_flatten(node) and shape_of(source(node))[2:] == (1, 1):
            continue
        if not (is_mul(node) or any(module_of(node, kind) is not None for kind in _ON_VECTORS)):
            return None
        region[node] = None
        waiting += [entering for entering in node.all_input_nodes if entering not in region]
    inside = all(user in region for node in region if node is not last for user in node.users)
    readers = {user for user in last.users if not _leads_to(user, reader)}
    return list(region) if inside and (is_flatten(last) or not readers) else None


def _leads_to(node: fx.Node, reader: fx.Node) -> bool:
    while node is not reader and _adds_axes(node) and len(node.users) == 1:
        node = next(iter(node.users))
    return node is reader


def _on_pixels(node: fx.Node) -> None:
    for entering in node.all_input_nodes:
        if is_flatten(entering):
            node.replace_input_with(entering, source(entering))
    linear = module_of(node, nn.Linear)
    if linear is not None:
        conv = nn.Conv2d(linear.in_features, linear.out_features, 1, bias=linear.bias is not None)
        conv.weight.data.copy_(linear.weight.detach()[:, :, None, None])
        if conv.bias is not None:
            conv.bias.data.copy_(linear.bias.detach())
        own_module(node, conv)


PASSES = (
    hard_sigmoid_for_unit_clamp,
    hard_sigmoid_for_relu6,
    products_for_swishes,
    convolutions_for_gates,
)
