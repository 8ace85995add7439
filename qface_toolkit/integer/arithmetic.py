"""How each engine rescales and adds, in its own order and precision: one class an engine.

Codes and sums are whole numbers in float32. Sources: the ONNX operator definitions and onnxruntime's QLinearAdd and
QLinearMul; oneDNN's and FBGEMM's requantization as torch calls them; QNNPACK's fixed-point addition. Each is checked
against its engine to the last bit by the tests.
"""

import math
from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import Protocol

import torch

from qface_toolkit.quantize.scheme import ACTIVATION_MAX, SLOPE_SCALE, SLOPE_ZERO_POINT, WIDE_GROUPS, Grid

Tensor = torch.Tensor
_LANES = {"AVX512": 16, "AVX2": 8}
"""32-bit numbers in a vector of the processor, by torch's name for what it can do; torch has no kernel for others."""
_SIGN = 128
"""What signed codes are stored less of."""


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


class Arithmetic(Protocol):
    """What differs between engines."""

    def quantized(self, values: Tensor, grid: Steps) -> Tensor:
        """Return the codes of float values."""
        ...

    def rescaled(self, sums: Sums, grid: Steps) -> Tensor:
        """Return the codes of a layer's output."""
        ...

    def added(self, parts: list[tuple[Tensor, Steps]], grid: Steps) -> Tensor:
        """Return the codes of the sum of two tensors."""
        ...

    def multiplied(self, parts: list[tuple[Tensor, Steps]], grid: Steps) -> Tensor:
        """Return the codes of the product of two tensors."""
        ...

    def averaged(self, sums: Tensor, count: int, grid: Steps) -> Tensor:
        """Return the codes of global averages, given the sums of `count` pixels' centred codes."""
        ...

    def pooled(self, windows: Windows, centred: Tensor, grid: Steps) -> Tensor:
        """Return the codes of averages over windows of centred codes."""
        ...

    def sloped(self, codes: Tensor, slopes: Tensor, source: Steps, grid: Steps) -> Tensor:
        """Return the codes of a PReLU that the engine has a kernel for; slopes [1, C, 1, 1]."""
        ...


class OnnxRuntime:
    """Integer bias; one float multiplier a channel; addition by two ratios and a constant."""

    def quantized(self, values: Tensor, grid: Steps) -> Tensor:
        """Divide by the scale and round."""
        return grid.rounded(values / grid.scale)

    def rescaled(self, sums: Sums, grid: Steps) -> Tensor:
        """Multiply the integer sums by input scale x weight scale / output scale."""
        return grid.rounded(sums.integer() * (sums.scales / grid.scale))

    def added(self, parts: list[tuple[Tensor, Steps]], grid: Steps) -> Tensor:
        """Add codes times ratios to a constant that holds all zero points, by fused multiply-adds."""
        return grid.clipped(_weighted_sum(parts, grid, grid.zero_point))

    def multiplied(self, parts: list[tuple[Tensor, Steps]], grid: Steps) -> Tensor:
        """Multiply the product of the steps by one ratio, add the zero point, round."""
        return grid.clipped(_product(parts, grid, grid.zero_point))

    def averaged(self, sums: Tensor, count: int, grid: Steps) -> Tensor:
        """Multiply the sum by scale / (scale x count), as float32 divides; round, then move by the zero point."""
        return grid.rounded(sums * (grid.scale / (grid.scale * count)))

    def pooled(self, windows: Windows, centred: Tensor, grid: Steps) -> Tensor:
        """Average real numbers and quantize them, the zero point added before rounding."""
        return grid.clipped((windows.averages(centred * grid.scale) / grid.scale + grid.zero_point).round())

    def sloped(self, codes: Tensor, slopes: Tensor, source: Steps, grid: Steps) -> Tensor:
        """Raise: there is no such kernel, and no program made for this engine asks for it."""
        raise NotImplementedError


class OnnxRuntimeSigned(OnnxRuntime):
    """The same on codes that are stored less 128 in signed bytes; only what is added before rounding differs."""

    def added(self, parts: list[tuple[Tensor, Steps]], grid: Steps) -> Tensor:
        """Add signed codes."""
        signed = [(codes - _SIGN, replace(part, zero_point=part.zero_point - _SIGN)) for codes, part in parts]
        return grid.clipped(_weighted_sum(signed, grid, grid.zero_point - _SIGN) + _SIGN)

    def multiplied(self, parts: list[tuple[Tensor, Steps]], grid: Steps) -> Tensor:
        """Multiply signed codes."""
        return grid.clipped(_product(parts, grid, grid.zero_point - _SIGN) + _SIGN)

    def pooled(self, windows: Windows, centred: Tensor, grid: Steps) -> Tensor:
        """Average real numbers and quantize them to signed codes."""
        averages = windows.averages(centred * grid.scale)
        return grid.clipped((averages / grid.scale + (grid.zero_point - _SIGN)).round() + _SIGN)


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
    """Float bias; scales one after the other; the zero point is added before rounding."""

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
        """Add codes times 22-bit integer ratios and shift right, rounding half away from zero."""
        ratios = [float(part.scale / grid.scale) for _, part in parts]
        shift = 21 - (math.frexp(max(ratios))[1] - 1)
        multipliers = [round(ratio * 2.0**shift) for ratio in ratios]
        total = sum((codes - part.zero_point).double() * m for (codes, part), m in zip(parts, multipliers, strict=True))
        steps = torch.as_tensor(total) / 2.0**shift
        return grid.clipped((steps.abs() + 0.5).floor() * steps.sign() + grid.zero_point).float()

    def pooled(self, windows: Windows, centred: Tensor, grid: Steps) -> Tensor:
        """Average windows as whole maps are averaged."""
        return self.averaged(windows.sums(centred), windows.count, grid)

    def averaged(self, sums: Tensor, count: int, grid: Steps) -> Tensor:
        """Multiply the sum by scale / (scale x count), as float32 divides; round, then move by the zero point."""
        return grid.rounded(sums * (grid.scale / (grid.scale * count)))


def _lanes() -> int:
    """Return how many 32-bit numbers torch's kernels here take at once; 0 if they take one after the other."""
    return _LANES.get(torch.backends.cpu.get_cpu_capability(), 0)


def fused(a: Tensor, b: Tensor, c: Tensor) -> Tensor:
    """Return a x b + c rounded once, as a fused multiply-add does."""
    return (a.double() * b.double() + c.double()).float()


def _weighted_sum(parts: list[tuple[Tensor, Steps]], grid: Steps, zero_point: float) -> Tensor:
    """Return rounded codes: two tensors' codes times their ratios plus one constant, as ONNX Runtime adds them."""
    (a, grid_a), (b, grid_b) = parts
    ratio_a, ratio_b = grid_a.scale / grid.scale, grid_b.scale / grid.scale
    zeros = fused(ratio_a, torch.tensor(grid_a.zero_point), ratio_b * grid_b.zero_point)
    return fused(a, ratio_a, fused(b, ratio_b, zero_point - zeros)).round()


def _product(parts: list[tuple[Tensor, Steps]], grid: Steps, zero_point: float) -> Tensor:
    """Return rounded codes: the product of two tensors' steps times one ratio, plus the zero point."""
    (a, grid_a), (b, grid_b) = parts
    steps = (a - grid_a.zero_point) * (b - grid_b.zero_point)
    return (steps * (grid_a.scale * grid_b.scale / grid.scale) + zero_point).round()


ARITHMETIC: dict[str, Arithmetic] = {
    "onnxruntime": OnnxRuntime(),
    "onnxruntime-signed": OnnxRuntimeSigned(),
    "onednn": OneDnn(),
    "x86": TorchX86(),
    "fbgemm": Fbgemm(),
    "qnnpack": Qnnpack(),
    "real": OnnxRuntime(),
}
