"""ONNX operators that multiply matrices: by a constant as linear layers, by each other as they are."""

import math
from collections.abc import Mapping, Sequence
from dataclasses import replace

import numpy as np
import torch
from torch import nn

from qface_toolkit.errors import CheckpointError, UnsupportedModel
from qface_toolkit.models.onnx.graph import Network
from qface_toolkit.models.onnx.inputs import Handler, Inputs, at, batch_error, read
from qface_toolkit.models.onnx.reading import OnnxNode
from qface_toolkit.models.onnx.tensors import Array
from qface_toolkit.models.onnx.views import Activation, Value, broadcast, constant, natural


def with_bias(network: Network, node: OnnxNode, x: Activation, added: float | Array) -> Activation | None:
    """Return a linear layer without bias as one that adds a constant, None if `x` or the constant is none such."""
    linear = network.module(x)
    if not isinstance(linear, nn.Linear) or linear.bias is not None or x.columns is not None:
        return None
    if isinstance(added, np.ndarray) and added.size != added.shape[-1]:
        return None
    before = replace(x, node=x.node.args[0])
    return _linear(network, f"{node.name}_linear", before, linear.weight, added)


def _linear(
    network: Network, name: str, x: Activation, weight: Array | torch.Tensor, bias: float | Array | None
) -> Activation:  # noqa: E501 - one line of arguments
    """Call a linear layer on the FX node's last axis; its weight is [leaving, entering], its bias one or many."""
    leaving, entering = weight.shape
    with torch.device("meta"):
        linear = nn.Linear(entering, leaving, bias is not None)
    linear.weight = nn.Parameter(weight if isinstance(weight, torch.Tensor) else network.weights(weight))
    if bias is not None:
        spread = np.broadcast_to(np.asarray(bias, np.float32).reshape(-1), (leaving,))
        linear.bias = nn.Parameter(network.weights(spread))
    last = len(x.sizes) - 1
    shape = tuple(leaving if axis == last else size for axis, size in zip(x.order, x.shape, strict=True))
    return network.layer(name, linear, replace(x, columns=None), shape)


def _vector(x: Activation, entering: int) -> Activation:
    if x.shape != (entering,):
        raise CheckpointError(f"its matrix takes {entering} numbers and {x.shown()} comes in")
    return x


def _columns(weight: Array, x: Activation) -> Array:
    """Return a weight [leaving, entering] whose columns stand as the numbers of the flattened image do."""
    return weight if x.columns is None else weight[:, np.argsort(x.columns)]


def _gemm(network: Network, node: OnnxNode, inputs: Inputs) -> Value:
    x, weight, bias = read(inputs), constant(at(inputs, 1), "matrix"), at(inputs, 2)
    if weight.ndim != 2 or weight.size == 0 or node.integer("transA", 0):
        raise UnsupportedModel(f"its matrix has the shape {list(weight.shape)}, or it transposes the images")
    weight = weight if node.integer("transB", 0) else weight.T
    if x.plain and len(x.dims) > 2 and x.dims[-1:] != weight.shape[1:] == (math.prod(x.shape),):
        x = network.reshaped(x, (len(weight.T),))  # MXNet's own flattens, and its exporter wrote it as it stood
    alpha, beta = np.float32(node.real("alpha", 1.0)), np.float32(node.real("beta", 1.0))
    weight = weight if alpha == 1 else weight * alpha
    if bias is None:
        return by_constant(network, node.name, x, weight, None)
    added = broadcast(constant(bias, "bias"), natural(x.node, (len(weight),)))
    return by_constant(network, node.name, x, weight, np.asarray(added, np.float32) * beta)


def by_constant(network: Network, name: str, x: Activation, weight: Array, bias: Array | None) -> Activation:
    """Multiply the last axis that ONNX sees by a matrix [leaving, entering]."""
    if len(x.dims) == 2 and x.plain:
        return _linear(network, name, x, _columns(weight, _vector(x, weight.shape[1])), bias)
    if x.place == len(x.dims) - 1:
        raise batch_error()
    if x.dims[-1:] != weight.shape[1:]:
        raise CheckpointError(f"its matrix takes {weight.shape[1]} numbers and {x.shown()} comes in")
    if x.order[-1] != len(x.sizes) - 1:
        x = network.settled(x)
    return _linear(network, name, x, weight, bias)


def _matmul(network: Network, node: OnnxNode, inputs: Inputs) -> Value:
    one, other = at(inputs, 0), at(inputs, 1)
    if isinstance(one, Activation) and isinstance(other, Activation):
        return _product(network, one, other)
    if isinstance(one, Activation):
        weight = constant(other, "second matrix")
        if weight.ndim > 2 and math.prod(weight.shape[:-2]) == 1 and weight.ndim <= len(one.dims):
            weight = weight.reshape(weight.shape[-2:])
        if weight.ndim == 2 and weight.size:
            return by_constant(network, node.name, one, weight.T, None)
        return _by_stack(network, node, one, weight)
    x, matrix = read(inputs, 1), constant(one, "first matrix")
    if matrix.ndim > 2 and math.prod(matrix.shape[:-2]) == 1 and matrix.ndim <= len(x.dims):
        matrix = matrix.reshape(matrix.shape[-2:])
    if matrix.ndim != 2 or len(x.dims) < 3:
        raise UnsupportedModel(f"it multiplies a constant of shape {list(matrix.shape)} by {x.shown()}")
    return _turned(by_constant(network, node.name, _turned(x), matrix, None))


def _turned(x: Activation) -> Activation:
    """Return a tensor with its last two axes exchanged, which costs nothing yet."""
    rank = len(x.dims)
    return permuted(x, (*range(rank - 2), rank - 1, rank - 2))


def permuted(x: Activation, perm: Sequence[int]) -> Activation:
    """Return a tensor whose ONNX axis i is `x`'s axis `perm[i]`; only the view changes."""
    parts = [x.part(axis) for axis in perm]
    kept = [part for part in parts if part is not None]
    place = parts.index(None) if None in parts else None
    shape, order = (tuple(values[part] for part in kept) for values in (x.shape, x.order))
    return replace(x, shape=shape, order=order, place=place)


def _product(network: Network, one: Activation, other: Activation) -> Activation:
    """Multiply two stacks of matrices that are both computed from the image."""
    one, other = _matrices(network, one), _matrices(network, other)
    one, other = map(network.settled, network.aligned(one, other))
    stacked = one.dims[:-2], other.dims[:-2]
    if one.dims[-1] != other.dims[-2] or any(a != b and 1 not in (a, b) for a, b in zip(*stacked, strict=True)):
        raise CheckpointError(f"it multiplies {one.shown()} by {other.shown()}")
    if one.place is not None and one.place >= len(one.dims) - 2:
        raise batch_error()
    wide = (max(pair) for pair in zip(one.shape[:-2], other.shape[:-2], strict=True))
    made = replace(one, shape=(*wide, one.shape[-2], other.shape[-1]))
    return network.call(torch.matmul, (one.node, other.node), made)


def _matrices(network: Network, x: Activation) -> Activation:
    """Return a tensor of two axes as matrices in an image's own, where a file for one image has dropped its axis."""
    if len(x.dims) > 2 or x.place is None:
        return x
    raise batch_error()


def _by_stack(network: Network, node: OnnxNode, x: Activation, weight: Array) -> Activation:
    """Multiply a stack of matrices by a constant one."""
    x = network.settled(network.aligned_to(x, max(weight.ndim, len(x.dims))))
    rank = len(x.dims)
    if weight.ndim < 3 or x.dims[-1] != weight.shape[-2] or (x.place is not None and x.place >= rank - 2):
        raise UnsupportedModel(f"its matrix has the shape {list(weight.shape)}, and {x.shown()} comes in")
    full = weight.reshape((1,) * (rank - weight.ndim) + weight.shape)
    like = replace(x, shape=(*x.shape[:-2], 1, 1))
    stacked = broadcast(full[..., :1, :1], like)
    if isinstance(stacked, np.ndarray) and any(a > b for a, b in zip(stacked.shape, like.sizes, strict=True)):
        raise UnsupportedModel("it multiplies one matrix by several constant ones")
    parts = full if x.place is None else np.squeeze(full, x.place)
    matrix = network.constant(node.name, (parts if x.merged is None else np.expand_dims(parts, x.merged)))
    return network.call(torch.matmul, (x.node, matrix), replace(x, shape=(*x.shape[:-1], weight.shape[-1])))


def _einsum(network: Network, node: OnnxNode, inputs: Inputs) -> Value:
    entering, arrow, leaving = node.text("equation", "").replace(" ", "").partition("->")
    terms = entering.split(",")
    if len(terms) != 2 or not arrow or not all(part.isalpha() and len(set(part)) == len(part) for part in terms):
        raise UnsupportedModel(f"its equation is no product of two tensors of different axes: {entering[:40]!r}")
    return _product_of(network, node, terms, leaving, inputs)


def _product_of(network: Network, node: OnnxNode, terms: Sequence[str], leaving: str, inputs: Inputs) -> Activation:
    """Write an Einsum as a product of matrices: axes in both and the result, left ones, summed ones, right ones."""
    first, second = terms
    stack = [axis for axis in leaving if axis in first and axis in second]
    summed = [axis for axis in first if axis in second and axis not in leaving]
    left = [axis for axis in leaving if axis in first and axis not in second]
    right = [axis for axis in leaving if axis in second and axis not in first]
    whole = {*first, *second} == {*leaving, *summed} and len(summed) == len(right) == 1
    rows = len(left) == 1 or (bool(left) and not stack and isinstance(at(inputs, 1), np.ndarray))
    if not whole or not rows:
        raise UnsupportedModel("its equation is no product of matrices", fix="write it with MatMul and Transpose")
    one = _arranged(at(inputs, 0), first, [*stack, *left, *summed])
    other = _arranged(at(inputs, 1), second, [*stack, *summed, *right])
    made = _matmul(network, node, [one, other])
    assert isinstance(made, Activation)
    order = [*stack, *left, *right]
    return permuted(made, [order.index(axis) for axis in leaving])


def _arranged(value: Value | None, axes: str, order: Sequence[str]) -> Value:
    """Return an operand with its axes, named by letters, in another order."""
    perm = [axes.index(axis) for axis in order]
    if isinstance(value, np.ndarray):
        return value.transpose(perm)
    if not isinstance(value, Activation) or len(value.dims) != len(axes):
        raise CheckpointError("its equation does not fit its inputs")
    return permuted(value, perm)


MATRICES: Mapping[str, Handler] = {
    "Gemm": _gemm,
    "MatMul": _matmul,
    "Einsum": _einsum,
}
"""Operator -> what adds it to the network."""
