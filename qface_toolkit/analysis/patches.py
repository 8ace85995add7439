"""What a layer reads, as the rows of a least squares problem: one row for a number of its output, a column a weight."""

from collections.abc import Sequence
from dataclasses import dataclass
from math import prod
from typing import cast

import torch
import torch.nn.functional as F  # noqa: N812 - the name everybody knows it by
from torch import Tensor, fx, nn

from qface_toolkit.canonical.edit import pair
from qface_toolkit.canonical.graph import module

Layer = nn.Conv2d | nn.Linear

ROWS, MOST_NUMBERS = 32_000, 50_000_000
"""Rows of a layer's problem over all images, and the numbers that they have together, at most."""


@dataclass(frozen=True)
class Places:
    """Pixels of a layer's output that are looked at, in every image: rows and columns, int64 [P] each."""

    rows: Tensor
    columns: Tensor

    @classmethod
    def some(cls, output: Sequence[int], count: int, draw: torch.Generator) -> "Places":
        """Return so many different pixels of a tensor [N, C, ...]; all of them, in order, of one that has no more."""
        height, width = (*output[2:], 1, 1)[:2]
        pixels = height * width
        found = torch.randperm(pixels, generator=draw)[:count] if pixels > count else torch.arange(pixels)
        return cls(found // width, found % width)

    @classmethod
    def enough(cls, layer: Layer, output: Sequence[int], images: int, draw: torch.Generator) -> "Places":
        """Return as many pixels of an image as a layer's least squares problem wants and has room for."""
        rows = min(ROWS, MOST_NUMBERS // layer.weight.numel() * len(layer.weight))
        return cls.some(output, max(1, rows // images), draw)

    def of(self, output: Tensor) -> Tensor:
        """Return an output's numbers at the places, [N * P, C]."""
        if output.dim() == 2:
            return output
        return output[:, :, self.rows, self.columns].transpose(1, 2).flatten(0, 1)


def patches(layer: Layer, read: Tensor, places: Places) -> Tensor:
    """Return what a layer multiplies with its weights, [G, N * P, columns] for its G groups.

    The columns are those of the weight, flattened; behind them stands a one for the bias.
    """
    if isinstance(layer, nn.Linear):
        return _with_ones(read.unsqueeze(0))
    (height, width), (down, right) = pair(layer.kernel_size), pair(layer.stride)
    (deep, wide), (above, left) = pair(layer.dilation), pair(layer.padding)
    padded = F.pad(read, (left, left, above, above))
    taken = [
        padded[:, :, places.rows * down + row * deep, places.columns * right + column * wide]
        for row in range(height)
        for column in range(width)
    ]
    found = torch.stack(taken, 2)  # [N, C, area, P]
    images, channels, area, pixels = found.shape
    grouped = found.reshape(images, layer.groups, channels // layer.groups * area, pixels)
    return _with_ones(grouped.permute(1, 0, 3, 2).flatten(1, 2))


def _with_ones(rows: Tensor) -> Tensor:
    return torch.cat([rows, rows.new_ones(*rows.shape[:-1], 1)], -1)


def layer_of(node: fx.Node) -> Layer:
    """Return the module of a layer."""
    return cast(Layer, module(node))


def matrix(layer: Layer) -> Tensor:
    """Return a layer's weights and biases as `patches` has their columns, float64 [G, outputs of a group, columns]."""
    groups = 1 if isinstance(layer, nn.Linear) else layer.groups
    assert layer.bias is not None, "canonical layers have a bias"
    weight = layer.weight.detach().double().reshape(groups, -1, prod(layer.weight.shape[1:]))
    return torch.cat([weight, layer.bias.detach().double().reshape(groups, -1, 1)], -1)


def set_matrix(layer: Layer, values: Tensor) -> None:
    """Give a layer the weights and biases of such a matrix."""
    assert layer.bias is not None, "canonical layers have a bias"
    with torch.no_grad():
        layer.weight.copy_(values[..., :-1].reshape(layer.weight.shape))
        layer.bias.copy_(values[..., -1].flatten())
