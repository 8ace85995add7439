"""Settle constants that every image gets a copy of, and joins with them: tokens of a class, registers, borders."""

from typing import Any, cast

import torch
from torch import fx

from qface_toolkit.canonical._constants import constant_of
from qface_toolkit.canonical._expansions import EXPANSIONS
from qface_toolkit.canonical._moves import insert, spelling
from qface_toolkit.canonical.edit import bypass, free_name, is_tensor, shape_of
from qface_toolkit.canonical.islands import Move

_JOINS = ("cat", "concat", "concatenate")


def constants_for_every_image(graph_module: fx.GraphModule) -> None:
    """Let whoever reads a constant that is repeated for each image read the constant, and join it as one."""
    _drop_repetitions(graph_module)
    _join_constants(graph_module)


def _drop_repetitions(graph_module: fx.GraphModule) -> None:
    for node in list(graph_module.graph.nodes):
        if spelling(node) not in (*EXPANSIONS, "repeat", "tile") or not is_tensor(node):
            continue
        held = constant_of(node.args[0])
        if held is not None and held.dim() == len(shape_of(node)) and tuple(held.shape) == (1, *shape_of(node)[1:]):
            bypass(node)


def _join_constants(graph_module: fx.GraphModule) -> None:
    """Write a join with constants, as tokens of a class are, as a border of zeros to which the constants are added."""
    for node in list(graph_module.graph.nodes):
        if spelling(node) not in _JOINS or not is_tensor(node):
            continue
        parts = list(cast(Any, node.args[0]))
        held = [constant_of(part) for part in parts]
        images = [place for place, constant in enumerate(held) if constant is None]
        axis = _axis(node)
        beside = len(images) < len(parts) and images and images == list(range(images[0], images[-1] + 1))
        if beside and axis and all(is_tensor(parts[place]) for place in images):
            _write_border(graph_module, node, parts[images[0] : images[-1] + 1], held, axis)


def _axis(node: fx.Node) -> int:
    given: Any = node.kwargs.get("dim", node.kwargs.get("axis", node.args[1] if len(node.args) > 1 else 0))
    return int(given) % len(shape_of(node))


def _write_border(
    graph_module: fx.GraphModule, node: fx.Node, images: list[fx.Node], held: list[torch.Tensor | None], axis: int
) -> None:
    whole, rank = shape_of(node), len(shape_of(node))
    first = next(place for place, constant in enumerate(held) if constant is None)
    before = sum(constant.shape[axis] for constant in held[:first] if constant is not None)
    inside = sum(shape_of(image)[axis] for image in images)
    sides = [0] * (2 * (rank - 1))
    sides[2 * (rank - 1 - axis)], sides[2 * (rank - 1 - axis) + 1] = before, whole[axis] - before - inside
    joined = images[0]
    if len(images) > 1:
        joined = insert(node, f"{node.name}_images", Move.of("join", axis=axis), *images)
    bordered = insert(node, f"{node.name}_border", Move.of("border", sides=sides), joined)
    zeros = torch.zeros(1, *(size if place + 1 != axis else inside for place, size in enumerate(whole[1:])))
    parts = [constant for constant in held[:first] if constant is not None]
    parts += [zeros, *(constant for constant in held[first:] if constant is not None)]
    name = free_name(graph_module, f"{node.name}_constants")
    graph_module.register_buffer(name, torch.cat([part.float() for part in parts], axis))
    with node.graph.inserting_before(node):
        constants = node.graph.get_attr(name)
    node.target, node.op, node.args, node.kwargs = torch.add, "call_function", (bordered, constants), {}


PASSES = (constants_for_every_image,)
