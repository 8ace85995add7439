"""The ONNX operators that resize pictures by a constant: as torch's own where it does the same, else axis by axis."""

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace

import numpy as np
import torch
import torch.nn.functional as F  # noqa: N812 - the name everybody knows it by

from qface_toolkit.errors import CheckpointError, UnsupportedModel
from qface_toolkit.models.onnx.graph import Network
from qface_toolkit.models.onnx.inputs import Handler, Inputs, at, batch_error, images_first, read
from qface_toolkit.models.onnx.lists import whole_numbers
from qface_toolkit.models.onnx.matrices import by_constant, permuted
from qface_toolkit.models.onnx.reading import OnnxNode
from qface_toolkit.models.onnx.tensors import Array
from qface_toolkit.models.onnx.views import Activation, Value, constant

_LARGEST_SIDE = 4096
_MODES = {"nearest": "nearest", "linear": "bilinear", "bilinear": "bilinear", "cubic": "bicubic"}


@dataclass(frozen=True)
class _Axis:
    """How many rows an axis has before and behind, and by what it is scaled."""

    before: int
    behind: int
    scale: float

    def coordinates(self, way: str) -> Array:
        """Return where each new row lies among the old ones, as ONNX defines it."""
        rows = np.arange(self.behind, dtype=np.float64)
        if way == "align_corners":
            return rows * ((self.before - 1) / max(1, self.behind - 1))
        if way == "asymmetric":
            return rows / self.scale
        half = (rows + 0.5) / self.scale - 0.5
        if way == "half_pixel":
            return half
        if way == "pytorch_half_pixel":
            return half if self.behind > 1 else rows * 0
        if way == "half_pixel_symmetric":
            return half + self.before / 2 * (1 - self.behind / (self.before * self.scale))
        raise UnsupportedModel(f"it resizes in the way {way!r}", fix="export it with half_pixel")


def _floor_of_halves(at: Array) -> Array:
    return np.asarray(np.ceil(at - 0.5))


def _ceil_of_halves(at: Array) -> Array:
    return np.asarray(np.floor(at + 0.5))


_ROUNDED: Mapping[str, Callable[[Array], Array]] = {
    "round_prefer_floor": _floor_of_halves,
    "round_prefer_ceil": _ceil_of_halves,
    "floor": np.floor,
    "ceil": np.ceil,
}


def _resize(network: Network, node: OnnxNode, inputs: Inputs) -> Value:
    x = images_first(network, read(inputs))
    mode, way = node.text("mode", "nearest"), node.text("coordinate_transformation_mode", "half_pixel")
    if node.op == "Upsample" or network.opset < 11:
        way = "asymmetric"
    axes = _axes(network, node, x, inputs)
    if mode not in _MODES or node.integer("antialias", 0):
        raise UnsupportedModel(f"it resizes in the mode {mode!r}, or against aliasing", fix="export it as linear")
    if all(axis.before == axis.behind and axis.scale == 1 for axis in axes):
        return x
    if mode == "nearest":
        return _nearest(network, node, x, axes, way)
    return _smooth(network, node, x, axes, (mode, way))


def _axes(network: Network, node: OnnxNode, x: Activation, inputs: Inputs) -> list[_Axis]:
    """Return how each axis behind that of images is scaled."""
    scales, sizes = _scales(network, node, inputs), at(inputs, 3)
    named = [x.spot(axis) for axis in node.integers("axes", range(len(x.dims)))]
    if node.text("keep_aspect_ratio_policy", "stretch") != "stretch":
        raise UnsupportedModel("it keeps the aspect ratio as runtimes please", fix="export it with sizes alone")
    if sizes is not None:
        wanted = dict(zip(named, whole_numbers(sizes, "sizes"), strict=True))
        found = [(size, wanted.get(spot, size)) for spot, size in enumerate(x.shape, start=1)]
        axes = [_Axis(before, behind, behind / before) for before, behind in found]
    else:
        factors = dict(zip(named, scales, strict=True))
        if factors.get(0, 1) != 1:
            raise batch_error()
        found_scales = [(size, factors.get(spot, 1.0)) for spot, size in enumerate(x.shape, start=1)]
        axes = [_Axis(size, math.floor(size * scale), scale) for size, scale in found_scales]
    if any(not 0 < axis.behind <= _LARGEST_SIDE for axis in axes):
        raise CheckpointError(f"it makes a picture of {[axis.behind for axis in axes]}")
    return axes


def _scales(network: Network, node: OnnxNode, inputs: Inputs) -> list[float]:
    """Return the scales, which older opsets give in other places; none where sizes are given."""
    if node.has("scales"):
        return list(node.reals("scales"))
    given = at(inputs, 1 if node.op == "Upsample" or network.opset < 11 else 2)
    numbers = [float(scale) for scale in constant(given, "scales").reshape(-1)[:8]] if given is not None else []
    if any(not 0 < scale <= _LARGEST_SIDE for scale in numbers):
        raise CheckpointError(f"its scales are {numbers}")
    return numbers


def _nearest(network: Network, node: OnnxNode, x: Activation, axes: Sequence[_Axis], way: str) -> Activation:
    rounding = node.text("nearest_mode", "round_prefer_floor" if network.opset >= 11 else "floor")
    if rounding not in _ROUNDED:
        raise CheckpointError("its nearest_mode is unknown")
    rows = [_rows(axis, way, rounding) for axis in axes]
    torchs = all(
        (found == np.arange(a.behind) * a.before // a.behind).all() for found, a in zip(rows, axes, strict=True)
    )
    if torchs and _is_picture(axes):
        return _interpolated(network, x, axes, mode="nearest")
    for part, (found, axis) in enumerate(zip(rows, axes, strict=True)):
        if not np.array_equal(found, np.arange(axis.before)):
            shape = (*x.shape[:part], axis.behind, *x.shape[part + 1 :])
            places = network.places(node.name, found)
            x = network.call(torch.index_select, (x.node, part + 1, places), replace(x, shape=shape))
    return x


def _rows(axis: _Axis, way: str, rounding: str) -> Array:
    at_rows = np.round(axis.coordinates(way), 6)  # thirds that floats put a hair off
    return np.asarray(np.clip(_ROUNDED[rounding](at_rows), 0, axis.before - 1), np.int64)


def _is_picture(axes: Sequence[_Axis]) -> bool:
    return len(axes) == 3 and axes[0].before == axes[0].behind


def _interpolated(network: Network, x: Activation, axes: Sequence[_Axis], **options: str | bool) -> Activation:
    shape = tuple(axis.behind for axis in axes)
    return network.call(F.interpolate, (x.node,), replace(x, shape=shape), size=shape[1:], **options)


def _smooth(network: Network, node: OnnxNode, x: Activation, axes: Sequence[_Axis], how: tuple[str, str]) -> Activation:  # noqa: E501 - one line of arguments
    mode, way = how
    cubic, coefficient = mode == "cubic", node.real("cubic_coeff_a", -0.75)
    whole = all(math.isclose(axis.scale * axis.before, axis.behind) for axis in axes)
    plain = not node.integer("exclude_outside", 0) and (not cubic or coefficient == -0.75)
    same = (
        way == "align_corners"
        or (way == "half_pixel" and whole)
        or (way == "pytorch_half_pixel" and whole and all(axis.behind > 1 for axis in axes[1:]))
    )
    if same and plain and _is_picture(axes):
        return _interpolated(network, x, axes, mode=_MODES[mode], align_corners=way == "align_corners")
    if node.integer("exclude_outside", 0):
        raise UnsupportedModel("it leaves out what lies outside", fix="export it as linear")
    rank = len(x.dims)
    for part, axis in enumerate(axes):
        if axis.before != axis.behind or axis.scale != 1:
            weight = _weights(axis, way, coefficient if cubic else None)
            last = (*(spot for spot in range(rank) if spot != part + 1), part + 1)
            made = by_constant(network, node.name, permuted(x, last), weight, None)
            x = permuted(made, np.argsort(last).tolist())
    return x


def _weights(axis: _Axis, way: str, coefficient: float | None) -> Array:
    """Return the matrix [behind, before] that interpolates along an axis: linearly, or by cubics."""
    at_rows = axis.coordinates(way)
    first = np.floor(at_rows)
    away = at_rows - first
    offsets = (0, 1) if coefficient is None else (-1, 0, 1, 2)
    weights = np.zeros((axis.behind, axis.before))
    for offset in offsets:
        distance = np.abs(away - offset)
        share = 1 - distance if coefficient is None else _cubic(distance, coefficient)
        rows = np.clip(first + offset, 0, axis.before - 1).astype(np.int64)
        np.add.at(weights, (np.arange(axis.behind), rows), share)
    return weights.astype(np.float32)


def _cubic(distance: Array, a: float) -> Array:
    near = ((a + 2) * distance - (a + 3)) * distance**2 + 1
    far = ((a * distance - 5 * a) * distance + 8 * a) * distance - 4 * a
    return np.where(distance <= 1, near, far)


RESIZING: Mapping[str, Handler] = {"Resize": _resize, "Upsample": _resize}
"""Operator -> what adds it to the network."""
