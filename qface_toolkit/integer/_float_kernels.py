"""What a runtime computes that takes codes apart, works in float and rounds once, when a kernel is done: OpenVINO.

Its kernels hold a layer together with what follows it, so nothing is rounded in between. Sums of codes are integers all
the same. Found by comparing with OpenVINO, and checked against it to the last bit by the tests.
"""

from collections.abc import Callable, Mapping
from typing import cast

import torch
import torch.nn.functional as F  # noqa: N812 - the name everybody knows it by
from torch import fx, nn

from qface_toolkit.canonical.graph import module
from qface_toolkit.integer._arithmetic import Grid, Sums, fused
from qface_toolkit.quantize.scheme import ACTIVATION_MAX

Tensor = torch.Tensor
Kernel = Callable[[fx.Node, list[Tensor]], Tensor]

_MOST, _ONE = torch.tensor(float(ACTIVATION_MAX)), torch.tensor(1.0)
"""As tensors: torch divides a plain number by a tensor in two steps, each of which rounds."""


def quantized(values: Tensor, grid: Grid) -> Tensor:
    """Return the codes of float values as a layer's kernel makes them: by one fused multiply-add.

    Without a shift it is given the scale, rounded, and divides by it.
    """
    low, high = _ends(grid)
    factor = _MOST / (high - low)
    factor = _ONE / (_ONE / factor) if grid.zero_point == 0 else factor
    return grid.clipped(fused(values, factor, -low * _MOST / (high - low)).round())


def averaged(pool: nn.AvgPool2d | nn.AdaptiveAvgPool2d, codes: Tensor, grid: Grid) -> Tensor:
    """Return the codes of averages on the same grid; the runtime rounds the average of the codes themselves."""
    if isinstance(pool, nn.AvgPool2d):
        rows, columns = pool.padding if isinstance(pool.padding, tuple) else (pool.padding,) * 2
        padded = F.pad(codes, (columns, columns, rows, rows), value=grid.zero_point)
        averages = F.avg_pool2d(padded, pool.kernel_size, pool.stride)
    else:
        averages = pool(codes)
    low, high = (end / grid.scale + grid.zero_point for end in _ends(grid))
    return grid.clipped(fused(averages, _MOST / (high - low), -low * _MOST / (high - low)).round())


def combined(values: Tensor, grid: Grid) -> Tensor:
    """Return the codes of float values as an elementwise kernel makes them."""
    return _between(values, *_ends(grid), grid)


def added_to_codes(values: Tensor, codes: Tensor, source: Grid, grid: Grid) -> Tensor:
    """Return the codes of float values plus codes on a grid of their own, whose steps the runtime counts in."""
    in_steps = (values - source.zero_point * source.scale) * (_ONE / source.scale)
    low, high = (end / source.scale for end in _ends(grid))
    return _between(in_steps + codes, low, high, grid)


def scaled(layer: nn.Conv2d, codes: Tensor, source: Grid, grid: Grid) -> Tensor:
    """Return the codes of each channel times a factor plus a bias.

    The runtime takes the bias out of the interval's ends, and the factors too if all of them are positive.
    """
    weight, bias = (cast(Tensor, part).detach().reshape(1, -1, 1, 1) for part in (layer.weight, layer.bias))
    steps, factors = codes - source.zero_point, source.scale * weight
    low, high = (end - bias for end in _ends(grid))
    if bool((factors > 0).all()):
        return _between(steps, low / factors, high / factors, grid)
    return _between(steps * factors, low, high, grid)


def _between(values: Tensor, low: Tensor, high: Tensor, grid: Grid) -> Tensor:
    """Return the codes of values on 255 steps between two ends, by a product and a sum that are each rounded."""
    factor = _MOST / (high - low)
    return grid.clipped((values * factor + -low * factor).round())


def _ends(grid: Grid) -> tuple[Tensor, Tensor]:
    """Return the values of the first and the last code. float32 rounds them, and the runtime goes on with those."""
    return -grid.zero_point * grid.scale, (ACTIVATION_MAX - grid.zero_point) * grid.scale


def unbiased_codes(sums: Sums, grid: Grid) -> Tensor:
    """Return the codes of a convolution without bias or activation, whose scales the runtime moves into the ends.

    It takes one shift for all channels, that of the first, because they differ by rounding only.
    """
    low, high = (end / sums.scales for end in _ends(grid))
    shift = (-low * _MOST / (high - low)).flatten()[0]
    return grid.clipped((sums.products.float() * (_MOST / (high - low)) + shift).round())


def layer_output(sums: Sums) -> Tensor:
    """Return a layer's float output: the sums times one scale a channel, plus the float bias."""
    return sums.products.float() * sums.scales + sums.bias


def _prelu(node: fx.Node, sources: list[Tensor]) -> Tensor:
    return F.prelu(sources[0], module(node).weight.detach())


FLOAT_KERNELS: Mapping[str, Kernel] = {
    "prelu": _prelu,
    "relu": lambda node, sources: sources[0].clamp_min(0),
    "relu6": lambda node, sources: sources[0].clamp(0, 6),
    "sigmoid": lambda node, sources: torch.sigmoid(sources[0]),
    "hard_sigmoid": lambda node, sources: F.hardsigmoid(sources[0]),
    "add": lambda node, sources: sources[0] + sources[1],
    "normalize": lambda node, sources: F.normalize(sources[0], eps=float(cast(float, node.kwargs["eps"]))),
    "mul": lambda node, sources: sources[0] * sources[1],
}
"""Operations on float values."""
