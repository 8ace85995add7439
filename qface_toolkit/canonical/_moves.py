"""Every spelling of moving numbers as a `Move`: permutations, reshapes, slices and joins that no other pass takes.

Face networks flatten in one way and gate in one way, and those spellings are settled elsewhere; what is left is a
shuffle of channels, or the tokens of an attention block.
"""

import math
import operator
from collections.abc import Mapping, Sequence
from typing import Any, cast

import torch
import torch.nn.functional as F  # noqa: N812 - the name everybody knows it by
from torch import fx, nn

from qface_toolkit.canonical.edit import (
    bypass,
    calls,
    free_name,
    is_flatten,
    is_tensor,
    module_of,
    own_module,
    shape_of,
    source,
)
from qface_toolkit.canonical.islands import Move

PERMUTATIONS = ("permute", "transpose", "swapaxes", "swapdims", "movedim", "t", "mT", "moveaxis")
RESHAPES = ("reshape", "reshape_as", "flatten", "unflatten", "squeeze", "unsqueeze")


def spelling(node: fx.Node) -> str:
    """Return the name of the function or method that a node calls, however it is called; "" if it calls none."""
    if node.op == "call_method":
        return str(node.target)
    if node.op != "call_function":
        return ""
    if node.target is getattr and len(node.args) == 2:
        return str(node.args[1])
    return str(getattr(node.target, "__name__", ""))


def write(node: fx.Node, module: nn.Module, *tensors: fx.Node) -> None:
    """Let a node call a module on these tensors, in place of whatever it does."""
    owner = cast(fx.GraphModule, node.graph.owning_module)
    name = free_name(owner, node.name)
    owner.add_submodule(name, module)
    node.op, node.target, node.args, node.kwargs = "call_module", name, tensors, {}


def insert(before: fx.Node, name: str, module: nn.Module, *tensors: fx.Node) -> fx.Node:
    """Call a module on these tensors in front of a node, noting the shape of what it makes, and return the call."""
    owner = cast(fx.GraphModule, before.graph.owning_module)
    name = free_name(owner, name)
    owner.add_submodule(name, module)
    with before.graph.inserting_before(before):
        node = before.graph.call_module(name, tensors)
    note_shape(node, module, *tensors)
    return node


def note_shape(node: fx.Node, module: nn.Module, *tensors: fx.Node) -> None:
    """Note the shape of what a module makes of tensors of known shapes."""
    with torch.no_grad():
        bare = {name: torch.empty_like(held, device="meta") for name, held in module.state_dict(keep_vars=True).items()}
        made = torch.func.functional_call(
            module, bare, tuple(torch.empty(shape_of(tensor), device="meta") for tensor in tensors)
        )
    node.meta["tensor_meta"] = fx.passes.shape_prop._extract_tensor_metadata(made)


def permutation(node: fx.Node) -> tuple[int, ...] | None:
    """Return the order of axes that a node puts a tensor in, or None if it does anything else."""
    name = spelling(node)
    if name not in PERMUTATIONS or not is_tensor(node) or not is_tensor(node.args[0]):
        return None
    probe = torch.empty(tuple(range(2, 2 + len(shape_of(source(node))))), device="meta")
    function = getattr(probe, name)
    moved = function if isinstance(function, torch.Tensor) else function(*node.args[1:], **node.kwargs)
    return tuple(size - 2 for size in moved.shape)


def moves_for_inner_permutations(graph_module: fx.GraphModule) -> None:
    """Write permutations that leave the batch where it is, but for those that a flatten may absorb."""
    for node in list(graph_module.graph.nodes):
        if not (node.users and all(map(is_flatten, node.users))):
            _write_permutation(node)


def moves_for_permutations(graph_module: fx.GraphModule) -> None:
    """Write permutations that leave the batch where it is."""
    for node in list(graph_module.graph.nodes):
        _write_permutation(node)


def _write_permutation(node: fx.Node) -> None:
    order = permutation(node)
    if order is not None and order[0] == 0:
        write(node, Move.of("permute", order=order), source(node))


def moves_for_reshapes(graph_module: fx.GraphModule) -> None:
    """Write reshapes that keep the batch and make no vectors."""
    for node in list(graph_module.graph.nodes):
        if not is_tensor(node) or not node.args or not is_tensor(node.args[0]):
            continue
        if is_flatten(node) and len(shape_of(node)) == 2:
            continue
        if spelling(node) in RESHAPES or (node.target is operator.getitem and _adds_axes(node)):
            before, after = shape_of(source(node)), shape_of(node)
            if len(after) >= 2 and before[0] == after[0] and math.prod(before) == math.prod(after):
                write(node, Move.of("reshape", shape=after[1:]), source(node))
    for node, unflatten in calls(graph_module, nn.Unflatten):
        if is_tensor(node) and unflatten.dim != 0:
            write(node, Move.of("reshape", shape=shape_of(node)[1:]), source(node))


def _adds_axes(node: fx.Node) -> bool:
    parts = node.args[1] if isinstance(node.args[1], tuple) else (node.args[1],)
    return all(part is None or part is ... or part == slice(None) for part in parts)


def moves_for_shuffles(graph_module: fx.GraphModule) -> None:
    """Write shuffles of pixels and of channels as a permutation between two reshapes."""
    for node in list(graph_module.graph.nodes):
        shapes = _shuffle(graph_module, node) if is_tensor(node) else None
        if shapes is None:
            continue
        apart, order = shapes
        opened = insert(node, f"{node.name}_apart", Move.of("reshape", shape=apart), source(node))
        turned = insert(node, f"{node.name}_turned", Move.of("permute", order=order), opened)
        write(node, Move.of("reshape", shape=shape_of(node)[1:]), turned)


def _shuffle(graph_module: fx.GraphModule, node: fx.Node) -> tuple[tuple[int, ...], tuple[int, ...]] | None:
    """Return the shape that a shuffle takes a tensor apart into, and the order in which it puts the axes together."""
    kind, number = _shuffle_kind(graph_module, node)
    if kind is None or not isinstance(number, int):
        return None
    channels, height, width = shape_of(source(node))[1:]
    if kind == "channel_shuffle":
        return (number, channels // number, height, width), (0, 2, 1, 3, 4)
    if kind == "pixel_shuffle":
        return (channels // number**2, number, number, height, width), (0, 1, 4, 2, 5, 3)
    return (channels, height // number, number, width // number, number), (0, 1, 3, 5, 2, 4)


def _shuffle_kind(graph_module: fx.GraphModule, node: fx.Node) -> tuple[str | None, object]:
    if node.op == "call_module":
        module: Any = graph_module.get_submodule(str(node.target))
        kinds: Mapping[type[nn.Module], tuple[str, str]] = {
            nn.ChannelShuffle: ("channel_shuffle", "groups"),
            nn.PixelShuffle: ("pixel_shuffle", "upscale_factor"),
            nn.PixelUnshuffle: ("pixel_unshuffle", "downscale_factor"),
        }
        kind, option = kinds.get(type(module), (None, ""))
        return kind, getattr(module, option, None)
    name = spelling(node)
    if name in ("channel_shuffle", "native_channel_shuffle", "pixel_shuffle", "pixel_unshuffle"):
        return name.removeprefix("native_"), (*node.args[1:], *node.kwargs.values())[0]
    return None, None


def joins_for_concatenations(graph_module: fx.GraphModule) -> None:
    """Write the concatenation along another axis than the channels as a join, and every other one a single way."""
    for node in list(graph_module.graph.nodes):
        if spelling(node) not in ("cat", "concat", "concatenate", "stack") or not is_tensor(node):
            continue
        tensors = list(cast(Any, node.args[0]))
        given: Any = node.kwargs.get("dim", node.kwargs.get("axis", node.args[1] if len(node.args) > 1 else 0))
        axis = int(given) % len(shape_of(node))
        if axis == 0 or not all(map(is_tensor, tensors)):
            continue
        if spelling(node) == "stack":
            shape = [*shape_of(tensors[0])[1:]]
            shape.insert(axis - 1, 1)
            tensors = [insert(node, f"{node.name}_row", Move.of("reshape", shape=shape), tensor) for tensor in tensors]
        elif axis == 1 and len(shape_of(node)) in (2, 4):
            continue
        write(node, Move.of("join", axis=axis), *tensors)


def moves_for_borders(graph_module: fx.GraphModule) -> None:
    """Write padding with zeros that no layer absorbed as a border."""
    for node in list(graph_module.graph.nodes):
        if node.target is not F.pad or not is_tensor(node):
            continue
        options: dict[str, Any] = dict(zip(("pad", "mode", "value"), node.args[1:], strict=False)) | dict(node.kwargs)
        sides = options["pad"]
        zeros = options.get("mode", "constant") == "constant" and options.get("value") in (None, 0, 0.0)
        inner = isinstance(sides, tuple | list) and len(sides) < 2 * len(shape_of(node))
        if zeros and inner and all(isinstance(side, int) for side in cast(Any, sides)):
            more = (0,) * (2 * len(shape_of(node)) - 2 - len(sides))
            write(node, Move.of("border", sides=(*cast(Any, sides), *more)), source(node))


def drop_idle_moves(graph_module: fx.GraphModule) -> None:
    """Join neighbours of a kind, and drop what moves nothing."""
    changed = True
    while changed:
        changed = False
        for node, move in list(calls(graph_module, Move)):
            changed = _joined(node, move) or changed
            changed = _dropped(node) or changed


def _joined(node: fx.Node, move: Move) -> bool:
    before = source(node)
    first = module_of(before, Move)
    if first is None or first.kind != move.kind or move.kind not in ("permute", "reshape"):
        return False
    if move.kind == "permute":
        order = cast(tuple[int, ...], first.options["order"])
        own_module(
            node, Move.of("permute", order=[order[axis] for axis in cast(tuple[int, ...], move.options["order"])])
        )
    node.args = (source(before),)
    if not before.users:
        node.graph.erase_node(before)
    return True


def _dropped(node: fx.Node) -> bool:
    move = cast(Move, module_of(node, Move))
    if move.kind == "permute" and _keeps_order(node, cast(tuple[int, ...], move.options["order"])):
        move = own_module(node, Move.of("reshape", shape=shape_of(node)[1:]))
    idle = move.kind == "reshape" and shape_of(node) == shape_of(source(node))
    if idle and node.users:
        bypass(node)
    return idle


def _keeps_order(node: fx.Node, order: Sequence[int]) -> bool:
    """Tell whether a permutation moves nothing but axes of size one."""
    sizes = shape_of(source(node))
    moved = [axis for axis in order if sizes[axis] != 1]
    return moved == sorted(moved)


def flatten_what_was_there(graph_module: fx.GraphModule) -> None:
    """Let a flatten read what was reshaped before it: the numbers stand in the same order."""
    for node in list(graph_module.graph.nodes):
        while is_flatten(node) and (move := module_of(source(node), Move)) is not None and move.kind == "reshape":
            node.args = (source(source(node)), 1)
        if is_flatten(node) and len(shape_of(source(node))) == 2:
            bypass(node)
