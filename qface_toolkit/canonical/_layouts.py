"""Bring what works on tokens [N, L, C] back to channels [N, C, H, W], where the integer kernels of convolutions are.

A linear layer on the last of several axes becomes a 1x1 convolution between two permutations; permutations and reshapes
then sink through whatever works on single numbers, until they meet their opposites and both disappear.
"""

import math
from collections.abc import Sequence
from typing import cast

import torch
from torch import fx, nn

from qface_toolkit.canonical._affine import kind_of
from qface_toolkit.canonical._constants import constant_of
from qface_toolkit.canonical._islands import layer_norms, units
from qface_toolkit.canonical._moves import (
    drop_idle_moves,
    insert,
    moves_for_inner_permutations,
    moves_for_reshapes,
    spelling,
    write,
)
from qface_toolkit.canonical._slices import picks_for_indices, slices_for_indexing, slices_for_splits
from qface_toolkit.canonical.edit import calls, free_name, is_tensor, module_of, own_module, shape_of, source
from qface_toolkit.canonical.islands import Island, Move

_EACH_NUMBER = (
    nn.ReLU,
    nn.ReLU6,
    nn.Sigmoid,
    nn.Hardsigmoid,
    nn.SiLU,
    nn.Hardswish,
    nn.GELU,
    nn.Tanh,
    nn.ELU,
    nn.SELU,
    nn.Softplus,
    nn.Mish,
    nn.Hardtanh,
    nn.LeakyReLU,
)
_EACH_BY_NAME = ("gelu", "tanh", "erf", "exp", "sqrt", "abs", "pow", "elu", "softplus", "mish", "log", "neg")
_EACH_ISLAND = ("gelu", "tanh", "erf", "exp", "sqrt", "abs", "power", "elu", "softplus", "log", "clip")
_ON_AXES = ("layer_norm", "unit")


def layouts(graph_module: fx.GraphModule) -> None:
    """Bring tokens back to channels, in networks that have any."""
    if not any(_on_tokens(node) for node in graph_module.graph.nodes):
        return
    for write_moves in (slices_for_splits, slices_for_indexing, picks_for_indices, moves_for_inner_permutations):
        write_moves(graph_module)
    moves_for_reshapes(graph_module)
    layer_norms(graph_module)
    units(graph_module)
    for node, linear in list(calls(graph_module, nn.Linear)):
        if len(shape_of(node)) > 2:
            _convolve(node, linear)
    drop_idle_moves(graph_module)
    while _sink(graph_module):
        drop_idle_moves(graph_module)


def _sink(graph_module: fx.GraphModule) -> int:
    """Let moves follow whoever works on single numbers; return how many nodes they followed."""
    return sum([_sunk(node) for node in list(graph_module.graph.nodes)])


def _on_tokens(node: fx.Node) -> bool:
    """Tell whether a node is what networks with tokens have."""
    if not is_tensor(node):
        return False
    matrix = module_of(node, nn.Linear) is not None or spelling(node) in ("matmul", "linear", "bmm")
    norm = module_of(node, nn.LayerNorm) is not None or spelling(node) == "layer_norm"
    return norm or (matrix and len(shape_of(node)) > 2)


def _convolve(node: fx.Node, linear: nn.Linear) -> None:
    """Write a linear layer on the last of several axes as a 1x1 convolution on channels."""
    shape = shape_of(source(node))
    rank, pixels = len(shape), shape[1:-1]
    plane = pixels if rank == 4 else (math.prod(pixels), 1)
    first = insert(
        node, f"{node.name}_channels", Move.of("permute", order=(0, rank - 1, *range(1, rank - 1))), source(node)
    )
    image = insert(node, f"{node.name}_image", Move.of("reshape", shape=(shape[-1], *plane)), first)
    conv = nn.Conv2d(linear.in_features, linear.out_features, 1, bias=linear.bias is not None)
    conv.weight.data.copy_(linear.weight.detach()[:, :, None, None])
    if conv.bias is not None:
        conv.bias.data.copy_(linear.bias.detach())
    layer = insert(node, str(node.target), conv, image)
    back = insert(node, f"{node.name}_tokens", Move.of("reshape", shape=(linear.out_features, *pixels)), layer)
    write(node, Move.of("permute", order=(0, *range(2, rank), 1)), back)


def _sunk(node: fx.Node) -> bool:
    """Let the moves that a node reads follow it instead, where it works on single numbers; tell whether they do."""
    if not is_tensor(node) or node.op == "placeholder":
        return False
    read = [argument for argument in node.args if is_tensor(argument)]
    varying = [argument for argument in read if constant_of(argument) is None]
    moves = [module_of(argument, Move) for argument in varying]
    if not moves or any(move is None or move.kind not in ("permute", "reshape") for move in moves):
        return False
    first = cast(Move, moves[0])
    below = module_of(node, Move)
    if below is not None and (below.kind, first.kind) == ("reshape", "permute"):
        return _sink_below_reshape(node, below, cast(tuple[int, ...], first.options["order"]))
    alike = all((move.kind, move.options) == (first.kind, first.options) for move in cast(list[Move], moves))
    if shape_of(node) != shape_of(varying[0]) and not _is_pointwise(node):
        return False
    if first.kind == "reshape" and len(varying) > 1:
        alike = all(move.kind == "reshape" for move in cast(list[Move], moves)) and _reshape_alike(node, varying)
    if not alike:
        return False
    return _sink_permutation(node, varying, first) if first.kind == "permute" else _sink_reshape(node, varying, first)


def _reshape_alike(node: fx.Node, varying: list[fx.Node]) -> bool:
    """Let all that a node reads be reshaped from one shape, that of an image if there is one; tell whether they are."""
    shapes = [shape_of(source(argument)) for argument in varying]
    if len({shape_of(argument) for argument in varying}) > 1 or not _elementwise(node):
        return False
    wanted = next((shape for shape in shapes if len(shape) == 4 and shape[3] > 1), shapes[0])
    for argument, shape in zip(varying, shapes, strict=True):
        if shape != wanted:
            image = insert(argument, f"{argument.name}_image", Move.of("reshape", shape=wanted[1:]), source(argument))
            again = insert(node, f"{argument.name}_again", Move.of("reshape", shape=shape_of(argument)[1:]), image)
            node.replace_input_with(argument, again)
    varying[:] = [argument for argument in node.args if is_tensor(argument) and constant_of(argument) is None]
    return True


def _elementwise(node: fx.Node) -> bool:
    module = graph_module_of(node).get_submodule(str(node.target)) if node.op == "call_module" else None
    if isinstance(module, Island):
        return module.kind in _EACH_ISLAND
    return type(module) in _EACH_NUMBER or kind_of(node) is not None or spelling(node) in _EACH_BY_NAME


def graph_module_of(node: fx.Node) -> fx.GraphModule:
    """Return the network that a node belongs to."""
    return cast(fx.GraphModule, node.graph.owning_module)


def _sink_permutation(node: fx.Node, varying: Sequence[fx.Node], move: Move) -> bool:
    order = cast(tuple[int, ...], move.options["order"])
    island = module_of(node, Island)
    if island is not None and island.kind in _ON_AXES:
        own_module(node, _turned(island, order))
    elif _elementwise(node):
        _turn_constants(node, order)
    else:
        return False
    _follow(node, varying, move)
    return True


def _sink_below_reshape(node: fx.Node, reshape: Move, order: Sequence[int]) -> bool:
    """Reshape pixels before the channels are put last, where they were last for the reshape."""
    channels, shape = shape_of(source(node))[-1], cast(tuple[int, ...], reshape.options["shape"])
    if list(order) != [0, *range(2, len(order)), 1] or shape[-1] != channels or len(shape) < 2:
        return False
    before = source(node)
    first = insert(node, f"{node.name}_pixels", Move.of("reshape", shape=(channels, *shape[:-1])), source(before))
    write(node, Move.of("permute", order=(0, *range(2, len(shape) + 1), 1)), first)
    if not before.users:
        node.graph.erase_node(before)
    return True


def _turned(island: Island, order: Sequence[int]) -> Island:
    """Return an island for what a permutation was applied to, in place of one for what it makes."""
    options = dict(island.options)
    options["axes"] = tuple(sorted(order[axis] for axis in cast(tuple[int, ...], options["axes"])))
    constants = [constant.permute(_inverse(order)) for constant in island.constants]
    return Island.of(island.kind, *constants, **options)


def _inverse(order: Sequence[int]) -> list[int]:
    return [list(order).index(axis) for axis in range(len(order))]


def _turn_constants(node: fx.Node, order: Sequence[int]) -> None:
    for argument in [argument for argument in node.args if constant_of(argument) is not None]:
        held = cast(torch.Tensor, constant_of(argument))
        if held.dim() and held.numel() > 1:
            spread = held.reshape((1,) * (len(order) - held.dim()) + tuple(held.shape))
            _replace_constant(node, cast(fx.Node, argument), spread.permute(_inverse(order)).contiguous())


def _replace_constant(node: fx.Node, argument: fx.Node, value: torch.Tensor) -> None:
    owner = graph_module_of(node)
    name = free_name(owner, f"constant_{node.name}")
    owner.register_buffer(name, value)
    with node.graph.inserting_before(node):
        node.replace_input_with(argument, node.graph.get_attr(name))
    fresh = next(entering for entering in node.all_input_nodes if entering.target == name)
    fresh.meta["tensor_meta"] = fx.passes.shape_prop._extract_tensor_metadata(value)


def _sink_reshape(node: fx.Node, varying: Sequence[fx.Node], move: Move) -> bool:
    """Sink a reshape through what works on single numbers, or over channels alone that the reshape leaves alone."""
    before, after = shape_of(source(varying[0])), shape_of(varying[0])
    constants = [held for argument in node.args if (held := constant_of(argument)) is not None and held.numel() > 1]
    island = module_of(node, Island)
    over_channels = before[:2] == after[:2]
    if _is_pointwise(node):
        return over_channels and len(before) == 4 and _sink_below_pointwise(node, varying[0])
    if island is not None and island.kind in _ON_AXES:
        if not over_channels or island.options["axes"] != (1,):
            return False
        shapes = [constant.reshape(-1, *(1,) * (len(before) - 2)).unsqueeze(0) for constant in island.constants]
        own_module(node, Island.of(island.kind, *shapes, **island.options))
    elif not _elementwise(node) or not all(_fits(held, before, after) for held in constants):
        return False
    else:
        for argument in [one for one in node.args if constant_of(one) is not None]:
            held = cast(torch.Tensor, constant_of(argument))
            if held.numel() > 1:
                whole = held.numel() == math.prod(after[1:])
                spread = before[1:] if whole else (-1, *(1,) * (len(before) - 2))
                _replace_constant(node, cast(fx.Node, argument), held.reshape(1, *spread))
    _follow(node, varying, move)
    return True


def _is_pointwise(node: fx.Node) -> bool:
    conv = module_of(node, nn.Conv2d)
    alone = conv is not None and conv.padding == (0, 0) and conv.kernel_size == conv.stride == (1, 1)
    return conv is not None and alone and conv.groups == 1


def _sink_below_pointwise(node: fx.Node, reshaped: fx.Node) -> bool:
    """Convolve pixels where they are, and reshape what comes out."""
    after = shape_of(node)
    conv = graph_module_of(node).get_submodule(str(node.target))
    made = insert(node, f"{node.name}_image", conv, source(reshaped))
    write(node, Move.of("reshape", shape=after[1:]), made)
    if not reshaped.users:
        node.graph.erase_node(reshaped)
    return True


def _fits(held: torch.Tensor, before: Sequence[int], after: Sequence[int]) -> bool:
    """Tell whether a constant has one number for each of a reshaped tensor, or for each channel that stays one."""
    shape = (1,) * (len(after) - held.dim()) + tuple(held.shape)
    if shape == (1, *after[1:]):
        return True
    return before[:2] == after[:2] and shape == (1, after[1]) + (1,) * (len(after) - 2)


def _follow(node: fx.Node, varying: Sequence[fx.Node], move: Move) -> None:
    """Let a node read what moves read, and a new move read the node for everybody else."""
    owner, graph = graph_module_of(node), node.graph
    shape = node.meta["tensor_meta"]
    for argument in varying:
        node.replace_input_with(argument, source(argument))
        origin = source(argument)
    name = free_name(owner, f"{node.name}_moved")
    owner.add_submodule(name, Move.of(move.kind, **move.options))
    with graph.inserting_after(node):
        moved = graph.call_module(name, (node,))
    node.replace_all_uses_with(moved, delete_user_cb=lambda user: user is not moved)
    moved.meta["tensor_meta"], node.meta["tensor_meta"] = shape, origin.meta["tensor_meta"]
    for argument in varying:
        if not argument.users:
            graph.erase_node(argument)


PASSES = (layouts,)
