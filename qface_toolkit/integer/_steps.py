"""What every engine's arithmetic works on, and the sums that two engines share."""

import math
from collections.abc import Callable
from dataclasses import dataclass

import torch

from qface_toolkit.quantize.scheme import ACTIVATION_MAX, Grid

Tensor = torch.Tensor


@dataclass(frozen=True)
class Steps:
    """A grid as engines compute with it: its scale is a tensor, for torch divides by a plain number in two steps."""

    scale: Tensor
    zero_point: float
    largest_code: int = ACTIVATION_MAX

    @classmethod
    def of(cls, grid: Grid) -> "Steps":
        """Return the same grid."""
        return cls(torch.tensor(grid.scale), float(grid.zero_point), grid.largest_code)

    def clipped(self, codes: Tensor) -> Tensor:
        """Saturate codes."""
        return codes.clamp(0, self.largest_code)

    def rounded(self, steps: Tensor) -> Tensor:
        """Return the codes of a tensor given in steps: rounded first, then moved by the zero point."""
        return steps.round().add_(self.zero_point).clamp_(0, self.largest_code)

    def restored(self, codes: Tensor) -> Tensor:
        """Return the values behind codes."""
        return (codes - self.zero_point) * self.scale


@dataclass(frozen=True)
class Windows:
    """What is made of the windows of a tensor: their averages, their sums, and how many numbers each has."""

    averages: Callable[[Tensor], Tensor]
    sums: Callable[[Tensor], Tensor]
    count: int


@dataclass(frozen=True)
class Sums:
    """A layer's sums before rescaling: products alone (exact, in either width), bias codes, float bias and scales."""

    products: Tensor
    bias_codes: Tensor
    bias: Tensor
    input_scale: Tensor
    weight_scales: Tensor
    groups: int

    @property
    def scales(self) -> Tensor:
        """Return the scale of the sums, a channel each."""
        return self.input_scale * self.weight_scales

    def integer(self) -> Tensor:
        """Return products + bias codes, in the float32 that engines convert it to."""
        if self.products.dtype == torch.float32:
            return self.products + self.bias_codes  # rounds the exact sum once, as the conversion would
        return (self.products.double() + self.bias_codes.double()).float()


def fused(a: Tensor, b: Tensor, c: Tensor) -> Tensor:
    """Return a x b + c rounded once, as a fused multiply-add does."""
    return (a.double() * b.double() + c.double()).float()


def fixed_point_ratios(parts: list[tuple[Tensor, Steps]], grid: Steps) -> tuple[list[int], int]:
    """Return the ratios of scales as integers, the largest of 22 bits, and how far to shift what they multiply."""
    ratios = [float(part.scale / grid.scale) for _, part in parts]
    shift = 21 - (math.frexp(max(ratios))[1] - 1)
    return [round(ratio * 2.0**shift) for ratio in ratios], shift


def fixed_point_sum(parts: list[tuple[Tensor, Steps]], grid: Steps) -> Tensor:
    """Return codes: steps times 22-bit integer ratios, shifted right, rounding half away from zero."""
    multipliers, shift = fixed_point_ratios(parts, grid)
    total = sum((codes - part.zero_point).double() * m for (codes, part), m in zip(parts, multipliers, strict=True))
    steps = torch.as_tensor(total) / 2.0**shift
    return ((steps.abs() + 0.5).floor() * steps.sign() + grid.zero_point).float()
