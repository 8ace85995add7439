"""ONNX Runtime's arithmetic, on x86 and on ARM.

Sources: the ONNX operator definitions and the runtime's QLinearAdd and QLinearMul, which are other kernels on ARM;
convolutions, linear layers, pools and tables give the same bits on both.
"""

from dataclasses import dataclass, replace

import torch

from qface_toolkit.integer._steps import Steps, Sums, Tensor, Windows, fixed_point_ratios, fixed_point_sum, fused
from qface_toolkit.quantize.scheme import ACTIVATION_MAX

SIGN = 128
"""What signed codes are stored less of."""
_LEAST_RATIO, _RATIO_LIMIT = 2.0**-14, 2.0**8
_MULTIPLIER_LIMIT = 1 << 22
"""Between which ratios of scales, and below which multipliers, ARM's kernel adds in fixed point."""


@dataclass(frozen=True)
class OnnxRuntime:
    """Integer bias; one float multiplier a channel; addition by two ratios and a constant.

    `sign` is what codes are stored less of: 128 in signed bytes. It matters where it is added before rounding.
    """

    sign: int = 0

    def quantized(self, values: Tensor, grid: Steps) -> Tensor:
        """Divide by the scale and round."""
        return grid.rounded(values / grid.scale)

    def rescaled(self, sums: Sums, grid: Steps) -> Tensor:
        """Multiply the integer sums by input scale x weight scale / output scale."""
        return grid.rounded(sums.integer() * (sums.scales / grid.scale))

    def added(self, parts: list[tuple[Tensor, Steps]], grid: Steps) -> Tensor:
        """Add codes times ratios to a constant that holds all zero points, by fused multiply-adds."""
        stored = [(codes - self.sign, replace(part, zero_point=part.zero_point - self.sign)) for codes, part in parts]
        return grid.clipped(_weighted_sum(stored, grid, grid.zero_point - self.sign) + self.sign)

    def multiplied(self, parts: list[tuple[Tensor, Steps]], grid: Steps) -> Tensor:
        """Multiply the product of the steps by one ratio, add the zero point, round."""
        steps, ratio = _product(parts, grid)
        return grid.clipped((steps * ratio + (grid.zero_point - self.sign)).round() + self.sign)

    def averaged(self, sums: Tensor, count: int, grid: Steps) -> Tensor:
        """Multiply the sum by scale / (scale x count), as float32 divides; round, then move by the zero point."""
        return grid.rounded(sums * (grid.scale / (grid.scale * count)))

    def pooled(self, windows: Windows, centred: Tensor, grid: Steps) -> Tensor:
        """Average real numbers and quantize them, the zero point added before rounding."""
        averages = windows.averages(centred * grid.scale)
        return grid.clipped((averages / grid.scale + (grid.zero_point - self.sign)).round() + self.sign)

    def sloped(self, codes: Tensor, slopes: Tensor, source: Steps, grid: Steps) -> Tensor:
        """Raise: there is no such kernel, and no program made for this engine asks for it."""
        raise NotImplementedError


class OnnxRuntimeArm(OnnxRuntime):
    """The same runtime's kernels for ARM: they add in fixed point, and fuse what they multiply and add."""

    def added(self, parts: list[tuple[Tensor, Steps]], grid: Steps) -> Tensor:
        """Add in fixed point, or real numbers where that has no room for a ratio of scales."""
        if _has_fixed_point(parts, grid):
            return grid.clipped(fixed_point_sum(parts, grid))
        (a, grid_a), (b, grid_b) = parts
        steps = fused(a - grid_a.zero_point, grid_a.scale, grid_b.restored(b)) / grid.scale
        lowest = -grid.zero_point
        bounded = steps.clamp(lowest, ACTIVATION_MAX + lowest)
        return grid.clipped((bounded + (grid.zero_point - self.sign)).round() + self.sign)

    def multiplied(self, parts: list[tuple[Tensor, Steps]], grid: Steps) -> Tensor:
        """Multiply the product of the steps by one ratio and add the zero point at once, round."""
        steps, ratio = _product(parts, grid)
        return grid.clipped(fused(steps, ratio, torch.tensor(grid.zero_point - self.sign)).round() + self.sign)


def _weighted_sum(parts: list[tuple[Tensor, Steps]], grid: Steps, zero_point: float) -> Tensor:
    """Return rounded codes: two tensors' codes times their ratios plus one constant, as ONNX Runtime adds them."""
    (a, grid_a), (b, grid_b) = parts
    ratio_a, ratio_b = grid_a.scale / grid.scale, grid_b.scale / grid.scale
    zeros = fused(ratio_a, torch.tensor(grid_a.zero_point), ratio_b * grid_b.zero_point)
    return fused(a, ratio_a, fused(b, ratio_b, zero_point - zeros)).round()


def _has_fixed_point(parts: list[tuple[Tensor, Steps]], grid: Steps) -> bool:
    """Tell whether ARM's kernel adds in fixed point: a ratio just below a power of two rounds up out of its bits."""
    multipliers, _ = fixed_point_ratios(parts, grid)
    known = all(_LEAST_RATIO <= float(part.scale / grid.scale) < _RATIO_LIMIT for _, part in parts)
    return known and max(multipliers) < _MULTIPLIER_LIMIT


def _product(parts: list[tuple[Tensor, Steps]], grid: Steps) -> tuple[Tensor, Tensor]:
    """Return the product of two tensors' steps, and the ratio that makes it steps of a grid."""
    (a, grid_a), (b, grid_b) = parts
    steps = (a - grid_a.zero_point) * (b - grid_b.zero_point)
    return steps, grid_a.scale * grid_b.scale / grid.scale
