"""The FX graph that an ONNX file becomes, as it grows: tensors with their sizes for one image, layers, constants.

Transposes are not carried out but kept as an order of axes, so that those that cancel, and those before a flatten and
a matrix, cost nothing.
"""

import keyword
import math
import operator
import re
from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import torch
from torch import fx, nn

from qface_toolkit.errors import CheckpointError, UnsupportedModel
from qface_toolkit.models.onnx.tensors import Array

BATCH = 1_000_000_007
"""The batch size in shape arithmetic: a prime that is no layer's size, so that it is known where it comes out."""

_MOST_LAYERS = 5_000
_MOST_NUMBERS = 1 << 24
_MOST_NUMBERS_IN_ALL = 1 << 28


@dataclass(frozen=True, eq=False)
class Activation:
    """What a node returns for one image: `shape` without the batch axis, as ONNX sees it.

    Axis i of `shape` is axis `order[i]` of what the FX node returns; for vectors, number i is its number `columns[i]`.
    """

    node: fx.Node
    shape: tuple[int, ...]
    order: tuple[int, ...]
    columns: Array | None = None

    @property
    def in_order(self) -> bool:
        """Whether the numbers lie in memory as ONNX's own would: axes of size one may stand anywhere."""
        moved = [axis for axis, size in zip(self.order, self.shape, strict=True) if size != 1]
        return moved == sorted(moved) and self.columns is None

    def axis(self, axis: int) -> int:
        """Return the FX node's axis (0 is the batch) of an ONNX axis, which may be negative."""
        rank = len(self.shape) + 1
        if not -rank <= axis < rank:
            raise CheckpointError(f"it names the axis {axis} of a tensor that has {rank}")
        return 0 if axis % rank == 0 else self.order[axis % rank - 1] + 1


@dataclass(frozen=True, eq=False)
class Norm:
    """The length of each embedding, at least `least`: only for dividing the embedding by it."""

    of: Activation
    least: float = 0.0


Value = Activation | Norm | Array


class Network:
    """An FX graph under construction."""

    def __init__(self, input_size: tuple[int, int], *, batch: int | None, most_weights: int) -> None:
        self.root, self.graph = nn.Module(), fx.Graph()
        self.batch = batch
        self._weights, self._most_weights = 0, most_weights
        self.image = self._made(self.graph.placeholder("input"), (3, *input_size))
        self._names = Counter[str]()
        self._reshaped: dict[fx.Node, Activation] = {}
        self._cuts: dict[fx.Node, tuple[Activation, tuple[tuple[int, int], ...]]] = {}
        self._layers, self._numbers = 0, 0

    def layer(self, name: str, module: nn.Module, x: Activation, shape: Sequence[int] | None = None) -> Activation:
        """Call a module; the result has the FX node's own axes in `x`'s order, `shape` if it is not `x`'s."""
        path = self._free_name(name, module)
        self.root.add_module(path, module)
        node = self.graph.call_module(path, (x.node,))
        return self._checked(replace(x, node=node, shape=tuple(x.shape if shape is None else shape)))

    def call(self, function: Callable[..., Any], arguments: tuple[Any, ...], like: Activation) -> Activation:
        """Call a function whose result has the shape and order of `like`."""
        return self._checked(replace(like, node=self.graph.call_function(function, arguments)))

    def constant(self, name: str, values: Array) -> fx.Node:
        """Return the node that reads these numbers."""
        path = self._free_name(f"{name}_constant", nn.Module())
        self.root.register_buffer(path, self.weights(values))
        return self.graph.get_attr(path)

    def weights(self, values: Array) -> torch.Tensor:
        """Return a copy of a constant as a float32 tensor that no other layer has."""
        self._weights += values.size
        if self._weights > self._most_weights:
            raise CheckpointError(
                "the same weights are used again and again: the network is larger than its file",
                fix="check that the file is what it should be",
            )
        copied = torch.from_numpy(np.array(values, np.float32, order="C"))
        if not bool(torch.isfinite(copied).all()):
            raise CheckpointError("it has weights that are NaN or infinite", fix="export the network again")
        return copied

    def module(self, x: Activation) -> nn.Module | None:
        """Return the module whose output `x` is, if it is one's."""
        return self.root.get_submodule(str(x.node.target)) if x.node.op == "call_module" else None

    def settled(self, x: Activation) -> Activation:
        """Return `x` with its axes in ONNX's order, carried out if need be."""
        if x.columns is not None:
            raise UnsupportedModel(
                "it reads a flattened image whose axes were transposed, and is no matrix",
                fix="export with the channels first (NCHW)",
            )
        if x.order == tuple(range(len(x.shape))):
            return x
        plain = replace(x, order=tuple(range(len(x.shape))))
        return self.call(torch.permute, (x.node, (0, *(axis + 1 for axis in x.order))), plain)

    def reshaped(self, x: Activation, shape: tuple[int, ...]) -> Activation:
        """Return each image's numbers in another shape of as many; shapes in between leave no trace."""
        if math.prod(shape) != math.prod(x.shape):
            raise CheckpointError(f"it gives {list(x.shape)}, a shape for each image, the shape {list(shape)}")
        if not x.in_order and len(shape) > 1:
            x = self.settled(x)
        x = self._reshaped.get(x.node, x) if x.in_order else x
        if shape == x.shape and x.in_order and x.order == tuple(range(len(shape))):
            return x
        if x.columns is not None:
            return x
        result = self._reshape_node(x, shape)
        if x.in_order:
            self._reshaped[result.node] = x
        return result

    def _reshape_node(self, x: Activation, shape: tuple[int, ...]) -> Activation:
        plain = Activation(x.node, shape, tuple(range(len(shape))))
        if len(shape) == 1:
            columns = None if x.in_order else _columns(x)
            return replace(self.call(torch.flatten, (x.node, 1), plain), columns=columns)
        return self.call(torch.reshape, (x.node, (-1, *shape)), plain)

    def cut(self, x: Activation, ranges: Sequence[tuple[int, int]]) -> Activation:
        """Return the part of each image within (first, behind the last) along each axis of the FX node."""
        whole, before = self._cuts.get(x.node, (x, ()))
        if before:
            ranges = [(b + first, b + last) for (b, _), (first, last) in zip(before, ranges, strict=True)]
        sizes = [0] * len(whole.shape)
        for axis, size in zip(whole.order, whole.shape, strict=True):
            sizes[axis] = size
        index = (slice(None), *map(_slice, ranges, sizes))
        result = replace(x, shape=tuple(ranges[axis][1] - ranges[axis][0] for axis in x.order))
        made = self.call(operator.getitem, (whole.node, index), result)
        self._cuts[made.node] = (whole, tuple(ranges))
        return made

    def finish(self, output: Activation) -> fx.GraphModule:
        """Return the network that ends with this output."""
        self.graph.output(output.node)
        network = fx.GraphModule(self.root, self.graph)
        network.graph.eliminate_dead_code()
        network.delete_all_unused_submodules()
        network.recompile()
        return network.eval()

    def _made(self, node: fx.Node, shape: tuple[int, ...]) -> Activation:
        return Activation(node, shape, tuple(range(len(shape))))

    def _checked(self, x: Activation) -> Activation:
        """Refuse what would take more memory or time to run than any face network."""
        count = math.prod(x.shape)
        self._layers += 1
        self._numbers += count
        if min(x.shape, default=1) < 1:
            raise CheckpointError(f"nothing is left of the image: it makes the shape {list(x.shape)}")
        if count > _MOST_NUMBERS or self._numbers > _MOST_NUMBERS_IN_ALL or self._layers > _MOST_LAYERS:
            raise CheckpointError(
                f"the network grows beyond any face network: {count} numbers here, {self._numbers} in "
                f"{self._layers} layers so far, for one image",
                fix="check that the file is what it should be",
            )
        return x

    def _free_name(self, name: str, module: nn.Module) -> str:
        """Return an attribute's name, close to the ONNX node's, that is neither taken nor Python's."""
        plain = re.sub(r"\W+", "_", name, flags=re.ASCII).strip("_")[:60].rstrip("_")
        if not plain or plain[0].isdigit() or keyword.iskeyword(plain) or hasattr(fx.GraphModule, plain):
            plain = f"{type(module).__name__.lower()}_{plain}".rstrip("_")
        free = plain
        while hasattr(self.root, free):
            self._names[plain] += 1
            free = f"{plain}_{self._names[plain]}"
        return free


def broadcast(values: Array, x: Activation) -> float | Array:
    """Return a constant as it meets `x` element by element: one number, or an array over the FX node's axes.

    Raises:
        CheckpointError: if it does not fit, or would make `x` larger.
    """
    rank = len(x.shape) + 1
    shape = (1,) * (rank - values.ndim) + values.shape
    fits = len(shape) == rank and all(size in (1, whole) for size, whole in zip(shape, (1, *x.shape), strict=True))
    if not fits:
        raise CheckpointError(f"a constant of shape {list(values.shape)} does not fit [N, {str(list(x.shape))[1:]}")
    if values.size == 1:
        return float(values.reshape(()))
    turned = values.reshape(shape[1:]).transpose(np.argsort(x.order))
    if x.columns is not None:
        turned = turned[np.argsort(x.columns)]
    return turned


def activation(value: Value | None) -> Activation:
    """Return a value that must be computed from the image."""
    if isinstance(value, Activation):
        return value
    what = "the length of the embedding" if isinstance(value, Norm) else "a constant, or nothing,"
    raise UnsupportedModel(f"it reads {what} where the image should be", fix="export the inference graph alone")


def constant(value: Value | None, what: str) -> Array:
    """Return a value that must be known without an image."""
    if isinstance(value, np.ndarray):
        return value
    raise UnsupportedModel(f"its {what} is computed from the image, or missing", fix="export it as a constant")


def _columns(x: Activation) -> Array:
    """Return for each number of the flattened ONNX tensor where the flattened FX tensor has it."""
    sizes = [0] * len(x.shape)
    for axis, size in zip(x.order, x.shape, strict=True):
        sizes[axis] = size
    return np.arange(math.prod(sizes)).reshape(sizes).transpose(x.order).reshape(-1)


def _slice(span: tuple[int, int], size: int) -> slice:
    first, last = span
    return slice(first or None, None if last >= size else last)
