"""Attention that torch computes in one function or module, as the matrices, products and softmax that it is."""

import math
from typing import Any, cast

import torch
from torch import fx, nn

from qface_toolkit.canonical._moves import insert, spelling, write
from qface_toolkit.canonical.edit import calls, is_tensor, shape_of
from qface_toolkit.canonical.islands import Island, Move


def products_for_attention(graph_module: fx.GraphModule) -> None:
    """Write scaled dot-product attention without a mask as two products of matrices around a softmax."""
    for node in list(graph_module.graph.nodes):
        if spelling(node) != "scaled_dot_product_attention" or not is_tensor(node):
            continue
        given = dict(zip(("query", "key", "value", "attn_mask", "dropout_p", "is_causal"), node.args, strict=False))
        given |= node.kwargs
        if given.get("attn_mask") is None and not given.get("is_causal") and not given.get("enable_gqa"):
            parts = cast(list[fx.Node], [given[name] for name in ("query", "key", "value")])
            _write_attention(node, *parts, scale=cast(float | None, given.get("scale")))


def _write_attention(node: fx.Node, query: fx.Node, key: fx.Node, value: fx.Node, *, scale: float | None) -> None:
    """Let a node compute softmax(scale * query key^T) value, over the last axis but one of each."""
    rank, width = len(shape_of(query)), shape_of(query)[-1]
    factor = torch.tensor(1 / math.sqrt(width) if scale is None else scale)
    scaled = insert(node, f"{node.name}_query", Island.of("times", factor), query)
    turned = Move.of("permute", order=(*range(rank - 2), rank - 1, rank - 2))
    weights = insert(node, f"{node.name}_weights", Island.of("matmul"), scaled, insert(node, "key", turned, key))
    shares = insert(node, f"{node.name}_shares", Island.of("softmax", axis=rank - 1), weights)
    write(node, Island.of("matmul"), shares, value)


def layers_for_attention(graph_module: fx.GraphModule) -> None:
    """Write a module of attention of tokens to one another, or to others, as its linear layers and what is between."""
    for node, attention in list(calls(graph_module, nn.MultiheadAttention)):
        names = ("query", "key", "value")
        parts = [node.kwargs.get(name) for name in names] if not node.args else list(node.args[:3])
        plain = len(parts) == 3 and all(map(is_tensor, parts)) and attention.batch_first
        masked = [node.kwargs.get(name) for name in ("key_padding_mask", "attn_mask")] + list(node.args[3:4])
        firsts = [user for user in node.users if user.args[1:] == (0,)]
        if plain and not any(masked) and attention.in_proj_weight is not None and attention.bias_k is None:
            made = _written(node, attention, cast(list[fx.Node], parts))
            for user in firsts:
                user.replace_all_uses_with(made)


def _written(node: fx.Node, attention: Any, tokens: list[fx.Node]) -> fx.Node:  # noqa: ANN401 - torch's module
    """Return what a module of attention makes of tokens [N, L, C]: query, key and value, often one tensor."""
    _, length, channels = shape_of(tokens[0])
    shape = (attention.num_heads, channels // attention.num_heads)
    one = len(set(tokens)) == 1
    parts = _of_one(node, attention, tokens[0], shape) if one else _of_several(node, attention, tokens, shape)
    mixed = insert(node, f"{node.name}_mixed", Move.of("permute", order=(0, 1, 2, 3)), parts[2])
    _write_attention(mixed, *parts, scale=None)
    joined = insert(node, f"{node.name}_joined", Move.of("permute", order=(0, 2, 1, 3)), mixed)
    flat = insert(node, f"{node.name}_flat", Move.of("reshape", shape=(length, channels)), joined)
    leaving = nn.Linear(channels, channels, bias=attention.out_proj.bias is not None)
    leaving.load_state_dict(attention.out_proj.state_dict())
    return insert(node, f"{node.name}_leaving", leaving, flat)


def _of_one(node: fx.Node, attention: Any, tokens: fx.Node, shape: tuple[int, int]) -> list[fx.Node]:  # noqa: ANN401
    whole = insert(node, f"{node.name}_projection", _projection(attention, slice(None)), tokens)
    length = shape_of(tokens)[1]
    split = insert(node, f"{node.name}_split", Move.of("reshape", shape=(length, 3, *shape)), whole)
    return [_part(node, split, place, (length, *shape)) for place in range(3)]


def _of_several(
    node: fx.Node,
    attention: Any,  # noqa: ANN401 - torch's module
    tokens: list[fx.Node],
    shape: tuple[int, int],
) -> list[fx.Node]:
    parts = []
    for place, part in enumerate(tokens):
        rows = slice(place * attention.embed_dim, (place + 1) * attention.embed_dim)
        made = insert(node, f"{node.name}_projection", _projection(attention, rows), part)
        parts.append(_heads(node, made, (shape_of(part)[1], *shape)))
    return parts


def _projection(attention: Any, rows: slice) -> nn.Linear:  # noqa: ANN401 - torch's module
    weight, bias = attention.in_proj_weight.detach()[rows], attention.in_proj_bias
    projection = nn.Linear(weight.shape[1], weight.shape[0], bias=bias is not None)
    projection.weight.data.copy_(weight)
    if bias is not None:
        projection.bias.data.copy_(bias.detach()[rows])
    return projection


def _part(node: fx.Node, split: fx.Node, place: int, shape: tuple[int, ...]) -> fx.Node:
    """Return query, key or value, one matrix [L, width] for each head."""
    cut = Move.of("slice", axis=2, start=place, stop=place + 1, step=1)
    part = insert(node, f"{node.name}_part", cut, split)
    return _heads(node, part, shape)


def _heads(node: fx.Node, part: fx.Node, shape: tuple[int, ...]) -> fx.Node:
    flat = insert(node, f"{node.name}_matrix", Move.of("reshape", shape=shape), part)
    return insert(node, f"{node.name}_heads", Move.of("permute", order=(0, 2, 1, 3)), flat)


PASSES = (products_for_attention, layers_for_attention)
