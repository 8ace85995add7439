"""What operations become in a target that makes activations part of the layer before: nothing is rounded in between."""

import math
from collections.abc import Mapping
from dataclasses import replace
from typing import cast

import numpy as np
import numpy.typing as npt
from torch import fx, nn

from qface_toolkit.canonical.edit import shape_of
from qface_toolkit.canonical.graph import inputs, module
from qface_toolkit.integer import program as ops
from qface_toolkit.integer._maker import (
    Lowering,
    Maker,
    average_pool,
    conv_of,
    float_step,
    max_pool,
    move,
    plain,
    sources,
)
from qface_toolkit.quantize.scheme import Grid
from qface_toolkit.quantize.weights import (
    is_affine,
    layer_bias,
)

LARGEST_PADDED = 28 * 28
"""Pixels of the largest map that OpenVINO's form pads itself: its convolutions take up to a quarter more time to pad
what has a zero point; a pass over a small map costs less."""


def _fused_conv(maker: Maker, node: fx.Node) -> list[ops.Operation]:
    layer, grid = module(node), maker.output_grid(node)
    if is_affine(layer):
        factors = cast("npt.NDArray[np.float32]", layer.weight.detach().numpy()).reshape(-1)
        return [ops.Affine(node.name, sources(node), grid, factors, layer_bias(layer))]
    before, (source,) = maker.source_grid(node), inputs(node)
    if not _pads_codes(layer, before, math.prod(shape_of(source)[2:])):
        return conv_of(maker, node, grid)
    padded, held, window = f"{node.name}.padded", maker.constants(node), ops.Window.of(layer)
    sums = held.codes.reshape(len(held.scales), -1).sum(1, dtype=np.float64)
    bias = (held.bias - before.zero_point * sums * (held.input_scale * held.scales)).astype(np.float32)
    bare = ops.Window(window.stride, (0, 0), window.dilation, window.groups)
    return [
        ops.Pad(padded, (source.name,), before, window.padding),
        ops.Conv(node.name, (padded,), grid, held, bare, bias_from_zero=bias),
    ]


def _pads_codes(layer: nn.Conv2d, grid: Grid, pixels: int) -> bool:
    """Tell whether OpenVINO's form of a layer pads codes itself, and reads them as if their zero point were 0."""
    return layer.groups == 1 and layer.padding != (0, 0) and grid.zero_point > 0 and pixels <= LARGEST_PADDED


def _fused(maker: Maker, node: fx.Node) -> list[ops.Operation]:
    return [float_step(maker, node)]


def _fused_relu(maker: Maker, node: fx.Node) -> list[ops.Operation]:
    """Saturation is the ReLU of the layer before, unless a shared range makes room for negative values."""
    grid = maker.grid(node.name)
    saturates = grid is not None and grid.zero_point == 0
    return [ops.Requantize(node.name, sources(node), grid)] if saturates else _fused(maker, node)


def _fused_relu6(maker: Maker, node: fx.Node) -> list[ops.Operation]:
    if maker.has_nothing_to_clip(node):
        return [ops.Requantize(node.name, sources(node), maker.grid(node.name))]
    return _fused(maker, node)


def _moved(make: Lowering) -> Lowering:
    """Return what only moves values: they are not quantized again, so they are held as they came."""
    return lambda maker, node: [replace(one, grid=None) for one in make(maker, node)]


def _fused_average_pool(maker: Maker, node: fx.Node) -> list[ops.Operation]:
    """Pad codes before the pool: the runtime would average code 0, not value 0."""
    window, (source,) = ops.PoolWindow.of(module(node)), inputs(node)
    if window.padding in ((0, 0), None):
        return average_pool(maker, node)
    padded = f"{node.name}.padded"
    bare = ops.PoolWindow(window.kernel, window.stride, None, window.ceil_mode, window.count_border)
    return [
        ops.Pad(padded, (source.name,), maker.source_grid(node), window.padding),
        ops.AveragePool(node.name, (padded,), maker.grid(node.name), bare),
    ]


FUSED: Mapping[str, Lowering] = {
    "conv": _fused_conv,
    "prelu": _fused,
    "relu": _fused_relu,
    "relu6": _fused_relu6,
    "hard_sigmoid": _fused,
    "average_pool": _fused_average_pool,
    "max_pool": _moved(max_pool),
    "flatten": _moved(plain(ops.Flatten)),
    "concat": _moved(plain(ops.Concat)),
    "move": _moved(move),
}
"""What differs from a target whose activations work on codes."""
