"""Tensors as an ONNX graph sees them: views of what FX nodes return, in which images are always the first axis.

Transposes are not carried out but kept as an order of axes, so that those that cancel, and those before a flatten and
a matrix, cost nothing. The images' axis may stand anywhere in ONNX's eyes, hold a second axis of each image ([N * 4]
windows), or be dropped where the file was made for one image: the FX graph takes any number in each case.
"""

import math
from dataclasses import dataclass, replace

import numpy as np
from torch import fx

from qface_toolkit.errors import CheckpointError, UnsupportedModel
from qface_toolkit.models.onnx.tensors import Array

BATCH = 1_000_000_007
"""The batch size in shape arithmetic: a prime that is no layer's size, so that it is known where it comes out."""


@dataclass(frozen=True, eq=False)
class Activation:
    """What a node returns: `shape` is ONNX's for one image, without the axis of images.

    Axis i of `shape` is axis `order[i]` of one image of what the FX node returns; for vectors, number i is its number
    `columns[i]`. ONNX's axis of images stands before axis `place` of `shape`, or nowhere (None). It counts `many` rows
    an image, those of the FX axis `merged`; it counts images fastest if that axis `leads`, else slowest.
    """

    node: fx.Node
    shape: tuple[int, ...]
    order: tuple[int, ...]
    columns: Array | None = None
    place: int | None = 0
    merged: int | None = None
    many: int = 1
    leads: bool = False

    @property
    def dims(self) -> tuple[int, ...]:
        """The whole shape that ONNX sees, the number of images being `BATCH`."""
        if self.place is None:
            return self.shape
        return (*self.shape[: self.place], BATCH * self.many, *self.shape[self.place :])

    @property
    def sizes(self) -> tuple[int, ...]:
        """The FX node's shape for one image."""
        sizes = [0] * (len(self.shape) + (self.merged is not None))
        for axis, size in zip(self.order, self.shape, strict=True):
            sizes[axis] = size
        if self.merged is not None:
            sizes[self.merged] = self.many
        return tuple(sizes)

    @property
    def moves(self) -> tuple[int, ...]:
        """The FX node's axes for one image, in the order in which ONNX has them in memory."""
        if self.merged is None or self.place is None:
            return self.order
        return (*self.order[: self.place], self.merged, *self.order[self.place :])

    @property
    def layout(self) -> tuple[object, ...]:
        """What two tensors must share to meet number by number as their FX nodes are."""
        return self.order, self.place, self.merged, self.leads

    @property
    def in_order(self) -> bool:
        """Whether the numbers lie in memory as ONNX's own would: axes of size one may stand anywhere."""
        sizes = self.sizes
        moved = [axis for axis in self.moves if sizes[axis] != 1]
        return moved == sorted(moved) and self.columns is None

    @property
    def plain(self) -> bool:
        """Whether images are ONNX's first axis, as they are the FX node's."""
        return self.place == 0 and self.merged is None

    def spot(self, axis: int) -> int:
        """Return an ONNX axis, which may be negative, counted from the front."""
        rank = len(self.dims)
        if not -rank <= axis < rank:
            raise CheckpointError(f"it names the axis {axis} of a tensor that has {rank}")
        return axis % rank

    def part(self, axis: int) -> int | None:
        """Return which axis of `shape` an ONNX axis is, None for that of images."""
        spot = self.spot(axis)
        if self.place is None or spot < self.place:
            return spot
        return None if spot == self.place else spot - 1

    def axis(self, axis: int) -> int:
        """Return the FX node's axis (0 is that of images) of an ONNX axis, which may be negative."""
        part = self.part(axis)
        return 0 if part is None else self.order[part] + 1

    def shown(self) -> str:
        """Return the shape as messages write it: [N, 3, 112, 112]."""
        many = f"N*{self.many}" if self.many > 1 else "N"
        parts = [many if size % BATCH == 0 else str(size) for size in self.dims[:8]]
        return f"[{', '.join(parts)}]"


Value = Activation | Array


def natural(
    node: fx.Node, shape: tuple[int, ...], place: int | None = 0, many: int = 1, *, leads: bool = False
) -> Activation:
    """Return the view of an FX node whose axes are those that ONNX sees, in order, without that of images."""
    if many == 1 or place is None:
        return Activation(node, shape, tuple(range(len(shape))), place=place)
    order = tuple(axis if axis < place else axis + 1 for axis in range(len(shape)))
    return Activation(node, shape, order, place=place, merged=place, many=many, leads=leads)


def broadcast(values: Array, x: Activation) -> float | Array:
    """Return a constant as it meets `x` element by element: one number, or an array over the FX node's axes.

    It may be longer than `x` where that has size one.

    Raises:
        CheckpointError: if it does not fit, or would make more images of one.
    """
    dims = x.dims
    shape = (1,) * (len(dims) - values.ndim) + values.shape
    fits = len(shape) == len(dims) and all(
        size in (1, whole) or (whole == 1 and size > 0) for size, whole in zip(shape, dims, strict=True)
    )
    if not fits:
        raise CheckpointError(f"a constant of shape {list(values.shape)} does not fit {x.shown()}")
    if values.size == 1:
        return float(values.reshape(()))
    parts = shape if x.place is None else (*shape[: x.place], *shape[x.place + 1 :])
    turned = values.reshape(parts if x.merged is None else (*parts, 1))
    order = x.order if x.merged is None else (*x.order, x.merged)
    turned = turned.transpose(np.argsort(order))
    if x.columns is not None:
        turned = turned[np.argsort(x.columns)]
    return turned


def widened(x: Activation, values: float | Array) -> Activation:
    """Return `x` with the shape that it has once a constant, as `broadcast` returns it, has met it."""
    if isinstance(values, float):
        return x
    return replace(x, shape=tuple(max(size, values.shape[axis]) for size, axis in zip(x.shape, x.order, strict=True)))


def activation(value: Value | None) -> Activation:
    """Return a value that must be computed from the image."""
    if isinstance(value, Activation):
        return value
    raise UnsupportedModel(
        "it reads a constant, or nothing, where the image should be", fix="export the inference graph alone"
    )


def constant(value: Value | None, what: str) -> Array:
    """Return a value that must be known without an image."""
    if isinstance(value, np.ndarray):
        return value
    raise UnsupportedModel(f"its {what} is computed from the image, or missing", fix="export it as a constant")


def columns_of(x: Activation) -> Array:
    """Return for each number of the flattened ONNX tensor where the flattened FX tensor has it."""
    return np.arange(math.prod(x.sizes)).reshape(x.sizes).transpose(x.moves).reshape(-1)
