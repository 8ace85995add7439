"""The codes and scales of a layer's weights for one target: the one place where a kernel's limits meet them."""

from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Any, cast

import numpy as np
import numpy.typing as npt
import torch
from torch import fx, nn

from qface_toolkit.canonical.edit import depthwise
from qface_toolkit.canonical.graph import module, operation
from qface_toolkit.quantize.compact import TABLE, places, table_scales
from qface_toolkit.quantize.scheme import (
    ACTIVATION_MAX,
    EIGHT_BITS,
    SAFE_WEIGHT_MAX,
    SMALLEST_SCALE,
    LayerScheme,
    Scheme,
    scales_that_hold_bias,
    weight_codes,
    weight_scales,
)
from qface_toolkit.quantize.target import Deployment, Target

_INT16_MAX = 32767
FLOAT_STEP = np.float32(1.0)
"""What stands for the scale of an input that is float: no weight of a network is so small beside its bias."""
INPUT_BLOCK = 4
"""ONNX Runtime's fast convolutions read input channels in blocks of this many; others copy every patch first."""


@dataclass(frozen=True)
class Width:
    """How many bits a layer's weights have, and whether its scale is one of the table's (see Scheme.compact)."""

    bits: int = EIGHT_BITS
    compact: bool = False

    @classmethod
    def of(cls, scheme: Scheme, layer: str) -> "Width":
        """Return a layer's width in a scheme, by the name of its node."""
        return cls(scheme.weight_bits(layer), scheme.compact)

    @property
    def largest_code(self) -> int:
        """Return the largest code; its negative is the smallest, so that negating a channel is exact."""
        return int(2 ** (self.bits - 1) - 1)

    def scales(self, weight: torch.Tensor, largest: torch.Tensor) -> torch.Tensor:
        """Return the scale of each output channel [O] (axis 0) of a weight, whose codes are at most `largest` [O]."""
        if self.compact:
            return table_scales(weight, largest, self.largest_code)
        return torch.from_numpy(weight_scales(weight.detach().numpy(), largest.numpy()))

    def raised(self, scales: torch.Tensor, floor: torch.Tensor) -> torch.Tensor:
        """Return scales that are nowhere below a floor."""
        return torch.maximum(scales, TABLE[places(floor)] if self.compact else floor)


@dataclass(frozen=True)
class WeightGrid:
    """The scales of a layer's output channels and the largest code of its weights."""

    scales: npt.NDArray[np.float32]
    largest_code: int

    def codes(self, weight: torch.Tensor) -> npt.NDArray[np.int8]:
        """Return a weight's codes."""
        return weight_codes(weight.detach().numpy(), self.scales, self.largest_code)


def weight_grid(
    node: fx.Node, input_scale: np.float32, target: Target, deployment: Deployment, scheme: Scheme
) -> WeightGrid:
    """Return the grid of a layer's weights, for the node that calls it."""
    return layer_grid(module(node), input_scale, target, deployment, Width.of(scheme, node.name))


def layer_grid(
    layer: nn.Conv2d | nn.Linear, input_scale: np.float32, target: Target, deployment: Deployment, width: Width
) -> WeightGrid:
    """Return the grid of a layer's weights: scales are raised where a kernel's sums or an int32 bias ask for it."""
    scales = width.scales(layer.weight, torch.from_numpy(largest_codes(layer, target, deployment, width)))
    return WeightGrid(width.raised(scales, smallest_scales(layer, input_scale)).numpy(), width.largest_code)


def kept_grid(layer: nn.Conv2d | nn.Linear, target: Target, deployment: Deployment, width: Width) -> WeightGrid:
    """Return the grid of the weights of a layer that computes in float; no bias of codes has to fit."""
    return layer_grid(layer, FLOAT_STEP, target, deployment, width)


def smallest_scales(layer: nn.Conv2d | nn.Linear, input_scale: np.float32) -> torch.Tensor:
    """Return the scale of each output channel below which its bias would not fit an int32."""
    floor = np.full(len(layer.weight), SMALLEST_SCALE, np.float32)
    return torch.from_numpy(scales_that_hold_bias(floor, layer_bias(layer), input_scale))


def hard_sigmoid_layer(channels: int) -> nn.Conv2d:
    """Return the layer that computes x / 6 + 1/2: on a grid over [0, 1] saturation makes it the hard sigmoid."""
    return depthwise(torch.full((channels,), 1 / 6), torch.full((channels,), 0.5))


def layer_bias(layer: nn.Conv2d | nn.Linear) -> npt.NDArray[np.float32]:
    """Return a layer's float bias, one value an output channel."""
    if layer.bias is None:
        return np.zeros(len(layer.weight), np.float32)
    return cast("npt.NDArray[np.float32]", layer.bias.detach().numpy())


def largest_codes(
    layer: nn.Conv2d | nn.Linear, target: Target, deployment: Deployment, width: Width
) -> npt.NDArray[np.float32]:
    """Return the largest code that each output channel's weights may have.

    Processors without VNNI add pairs of neighbouring 8-bit products in 16 bits (vpmaddubsw), which saturates. Only
    channels whose own weights can make that happen, at activations of ACTIVATION_MAX, give up a bit.
    """
    largest = np.full(len(layer.weight), min(target.weight_max(layer), width.largest_code), np.float32)
    adds_pairs = not deployment.vnni and target.needs_vnni and not is_depthwise(layer)
    if adds_pairs and width.largest_code > SAFE_WEIGHT_MAX:
        codes = weight_codes(weight := layer.weight.detach().numpy(), weight_scales(weight))
        stored = np.pad(codes, ((0, 0), (0, missing_channels(layer))) + ((0, 0),) * (codes.ndim - 2))
        largest[_can_saturate(stored)] = SAFE_WEIGHT_MAX
    return largest


def missing_channels(layer: nn.Conv2d | nn.Linear) -> int:
    """Return how many input channels of zeros a layer's stored weights have beyond its own: see INPUT_BLOCK."""
    if not isinstance(layer, nn.Conv2d) or layer.groups > 1 or max(layer.kernel_size) == 1:
        return 0
    return int(-layer.in_channels % INPUT_BLOCK)


def is_depthwise(layer: nn.Module) -> bool:
    """Tell whether a convolution gives each channel its own kernel; ONNX Runtime sums those in 32 bits everywhere."""
    return isinstance(layer, nn.Conv2d) and 1 < layer.groups == layer.in_channels == layer.out_channels


def scheme_for(plain: Mapping[str, Any], network: fx.GraphModule) -> Scheme:
    """Return the scheme that a recipe's plain values describe for a canonical network: see WeightScheme.

    Raises:
        ValueError: if a width or a kind of grid is not supported.
    """
    weights = dict(plain["weights"])
    bits = weights.pop("depthwise", None)
    scheme = Scheme.from_plain({**plain, "weights": weights})
    if bits is None:
        return scheme
    convolutions = (node for node in network.graph.nodes if operation(node) == "conv")
    own = tuple(LayerScheme(node.name, weights=bits) for node in convolutions if is_depthwise(module(node)))
    return replace(scheme, layers=(*scheme.layers, *own))


def is_affine(layer: nn.Module) -> bool:
    """Tell whether a convolution only multiplies each channel by a number and adds another."""
    if not is_depthwise(layer):
        return False
    conv = cast(nn.Conv2d, layer)
    return conv.kernel_size == (1, 1) and conv.stride == (1, 1) and conv.padding == (0, 0)


def _can_saturate(codes: npt.NDArray[np.int8]) -> npt.NDArray[np.bool_]:
    """Tell for each output channel whether a pair of products can leave int16, in the order that kernels add them.

    That order has the input channels last, as ONNX Runtime's channels-last convolutions do.
    """
    rows = np.moveaxis(codes.astype(np.int32), 1, -1).reshape(len(codes), -1)
    rows = np.pad(rows, ((0, 0), (0, rows.shape[1] % 2)))
    pairs = rows.reshape(len(rows), -1, 2)
    sums = np.maximum(np.maximum(pairs, 0).sum(2), np.maximum(-pairs, 0).sum(2)) * ACTIVATION_MAX
    saturates: npt.NDArray[np.bool_] = (sums > _INT16_MAX).any(axis=1)
    return saturates
