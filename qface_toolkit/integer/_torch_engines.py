"""The arithmetic of torch's engines: oneDNN's and FBGEMM's requantization as torch calls them, and QNNPACK's."""

import torch

from qface_toolkit.integer._steps import Steps, Sums, Tensor, Windows, fixed_point_sum, fused
from qface_toolkit.quantize.scheme import SLOPE_SCALE, SLOPE_ZERO_POINT, WIDE_GROUPS

_LANES = {"AVX512": 16, "AVX2": 8}
"""32-bit numbers in a vector of the processor, by torch's name for what it can do; torch has no kernel for others."""


class _Torch:
    """What torch's engines share: its own quantize, add, multiply and PReLU kernels."""

    def quantized(self, values: Tensor, grid: Steps) -> Tensor:
        """Multiply by the scale's inverse and round."""
        return grid.rounded(values * (1 / grid.scale))

    def added(self, parts: list[tuple[Tensor, Steps]], grid: Steps) -> Tensor:
        """Dequantize by one fused multiply-add each, add, quantize."""
        real = [fused(codes, part.scale, part.scale * -part.zero_point) for codes, part in parts]
        return self.quantized(real[0] + real[1], grid)

    def multiplied(self, parts: list[tuple[Tensor, Steps]], grid: Steps) -> Tensor:
        """Multiply the product of the steps by both scales x (1 / output scale) and round."""
        (a, grid_a), (b, grid_b) = parts
        steps = (a - grid_a.zero_point) * (b - grid_b.zero_point)
        return grid.rounded(steps * (grid_a.scale * grid_b.scale * (1 / grid.scale)))

    def averaged(self, sums: Tensor, count: int, grid: Steps) -> Tensor:
        """Multiply the sum by 1 / count and move by the zero point, at once where there are vectors; then round."""
        share, zero_point = torch.tensor(1 / count), torch.tensor(grid.zero_point)
        return grid.clipped((fused(sums, share, zero_point) if _lanes() else sums * share + zero_point).round())

    def pooled(self, windows: Windows, centred: Tensor, grid: Steps) -> Tensor:
        """Multiply sums of codes by 1 / count in float32, round, then move by the zero point.

        Channels that fill none of the processor's vectors are moved first and rounded then, which differs at ties.
        """
        steps = windows.sums(centred) * torch.tensor(1 / windows.count)
        whole = steps.shape[1] // lanes * lanes if (lanes := _lanes()) else 0
        rest = grid.clipped((steps[:, whole:] + grid.zero_point).round())
        return torch.cat([grid.rounded(steps[:, :whole]), rest], 1)

    def sloped(self, codes: Tensor, slopes: Tensor, source: Steps, grid: Steps) -> Tensor:
        """Multiply positive codes by the slope grid's 1.0, negative ones by the slope's code: `quantized::prelu`."""
        centred = codes - source.zero_point
        one = float(round(1 / SLOPE_SCALE))
        steps = (slopes / SLOPE_SCALE).round().clamp(-SLOPE_ZERO_POINT, one)
        product = centred.clamp_min(0) * one + centred.clamp_max(0) * steps
        return grid.rounded(product * (source.scale * torch.tensor(SLOPE_SCALE) * (1 / grid.scale)))


class OneDnn(_Torch):
    """Float bias; scales one after the other; the zero point is added before rounding.

    Most kernels for matrix tiles (Intel's AMX) multiply the two scales first. oneDNN picks by the shapes, the batch
    among them, whether such a kernel runs, so that nothing here can follow it: one code in a million is another there.
    """

    def rescaled(self, sums: Sums, grid: Steps) -> Tensor:
        """Return round((products x input scale x weight scale + bias) / output scale + zero point).

        torch hands oneDNN the inverse of the input's scale in float32, and oneDNN inverts it back.
        """
        input_scale = 1 / (1 / sums.input_scale.double()).float()
        real = (sums.products.float() * input_scale) * sums.weight_scales + sums.bias
        return grid.clipped((real * (1 / grid.scale) + grid.zero_point).round())


class Fbgemm(_Torch):
    """Float bias, divided by the sums' scale and added to them."""

    def rescaled(self, sums: Sums, grid: Steps) -> Tensor:
        """Return round((products + bias / scales) x multiplier) + zero point."""
        return grid.rounded((sums.products.float() + sums.bias / sums.scales) * (sums.scales / grid.scale))


class TorchX86(_Torch):
    """oneDNN, but FBGEMM for convolutions of more than WIDE_GROUPS groups, as torch's x86 engine dispatches."""

    def rescaled(self, sums: Sums, grid: Steps) -> Tensor:
        """Rescale as the engine does that torch picks."""
        return (Fbgemm() if sums.groups > WIDE_GROUPS else OneDnn()).rescaled(sums, grid)


class Qnnpack(_Torch):
    """Integer bias; one float multiplier a channel, by the inverse of the output's scale; addition in fixed point."""

    def rescaled(self, sums: Sums, grid: Steps) -> Tensor:
        """Multiply the integer sums by input scale x weight scale x (1 / output scale)."""
        return grid.rounded(sums.integer() * (sums.scales * (1 / grid.scale)))

    def added(self, parts: list[tuple[Tensor, Steps]], grid: Steps) -> Tensor:
        """Add codes in fixed point."""
        return grid.clipped(fixed_point_sum(parts, grid))

    def pooled(self, windows: Windows, centred: Tensor, grid: Steps) -> Tensor:
        """Average windows as whole maps are averaged."""
        return self.averaged(windows.sums(centred), windows.count, grid)

    def averaged(self, sums: Tensor, count: int, grid: Steps) -> Tensor:
        """Multiply the sum by scale / (scale x count), as float32 divides; round, then move by the zero point."""
        return grid.rounded(sums * (grid.scale / (grid.scale * count)))


def _lanes() -> int:
    """Return how many 32-bit numbers torch's kernels here take at once; 0 if they take one after the other."""
    return _LANES.get(torch.backends.cpu.get_cpu_capability(), 0)
