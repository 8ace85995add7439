"""Positions as attention networks add them to pixels: waves over rows and columns, mixed by a convolution.

They depend on weights and sizes alone. Tracing keeps their arithmetic whole, so that it becomes one constant.
"""

import math

import torch
import torch.nn.functional as F  # noqa: N812 - the name everybody knows it by
from torch import Tensor, fx, nn

_EPSILON = 1e-6
_TEMPERATURE = 10000


class Positions(nn.Module):
    """What is added to each pixel to say where it is: waves over the image, mixed by a convolution of size 1."""

    def __init__(self, width: int, waves: int) -> None:
        super().__init__()
        self.token_projection = nn.Conv2d(waves, width, 1)

    def forward(self, height: int, width: int) -> Tensor:
        """Return [1, height * width, C]."""
        projection = self.token_projection
        encoded: Tensor = encode_positions(projection.weight, projection.bias, height, width)
        return encoded


def encode_positions(weight: Tensor, bias: Tensor | None, height: int, width: int) -> Tensor:
    """Return waves over rows and columns of an image, mixed by `weight` [C, waves, 1, 1]: [1, height * width, C]."""
    waves = weight.shape[1] // 2
    order = torch.div(torch.arange(waves, device=weight.device), 2, rounding_mode="floor")
    periods = _TEMPERATURE ** (2 * order.to(weight.dtype) / waves)
    rows, columns = (_waves(size, periods) for size in (height, width))
    grid = (rows[:, None].expand(-1, width, -1), columns[None].expand(height, -1, -1))
    mixed = F.linear(torch.cat(grid, dim=2), weight.flatten(1), bias)
    return mixed.reshape(1, height * width, weight.shape[0])


fx.wrap("encode_positions")


def _waves(size: int, periods: Tensor) -> Tensor:
    """Return sines and cosines in turn of the place from 1 to `size` of a full circle: [size, waves]."""
    places = torch.arange(1, size + 1, dtype=periods.dtype, device=periods.device)
    angles = (places / (size + _EPSILON) * (2 * math.pi))[:, None] / periods
    return torch.stack((angles[:, 0::2].sin(), angles[:, 1::2].cos()), dim=2).flatten(1)
