"""How a float number becomes an integer: the few formulas that simulation, torch and ONNX share to the last bit.

torch rounds x * (1 / scale), not x / scale. The two differ where a weight lies in the middle between two codes, so
codes are made torch's way for every target.
"""

from collections.abc import Iterable
from dataclasses import dataclass
from typing import Literal

import numpy as np
import numpy.typing as npt

ACTIVATION_MAX = 255
"""Largest code of an activation: eight bits, unsigned."""

WEIGHT_MAX = 127
"""Largest code of a weight. -128 stays unused, so that negating a channel is exact and ARM kernels are content."""

SAFE_WEIGHT_MAX = 63
"""Largest code of a weight where a kernel adds pairs of products in 16 bits: 2 x 255 x 63 does not overflow."""

WIDE_GROUPS = 100
"""torch's x86 engine hands convolutions of more groups than this to FBGEMM, whose depthwise kernel adds so."""

SLOPE_SCALE = 1.0 / 127.0
SLOPE_ZERO_POINT = 128
"""The grid of PReLU slopes in torch's engines. It holds 1.0 exactly, which `quantized::prelu` multiplies positive
activations by, and spans -1.007..1.0, the slopes that a canonical network has."""

SMALLEST_SCALE = np.float32(2.0**-60)
"""Scales below this are raised to it: the product of two is still a normal float32."""


@dataclass(frozen=True)
class TensorScheme:
    """How one kind of tensor is quantized."""

    bits: int
    symmetric: bool
    per: Literal["channel", "tensor"]


@dataclass(frozen=True)
class Scheme:
    """How a network is quantized: its weights and its activations."""

    weights: TensorScheme = TensorScheme(bits=8, symmetric=True, per="channel")
    activations: TensorScheme = TensorScheme(bits=8, symmetric=False, per="tensor")


@dataclass(frozen=True)
class Range:
    """The interval of real values that a tensor's codes span; it always holds zero."""

    low: float
    high: float

    def __post_init__(self) -> None:
        if not (np.isfinite(self.low) and np.isfinite(self.high) and self.low <= 0.0 <= self.high):
            raise ValueError(f"a range must be finite and hold zero, not [{self.low}, {self.high}]")


def hull(intervals: Iterable[Range]) -> Range:
    """Return the smallest interval that holds all the others."""
    found = list(intervals)
    return Range(min(interval.low for interval in found), max(interval.high for interval in found))


def activation_qparams(interval: Range, levels: int = ACTIVATION_MAX) -> tuple[np.float32, int]:
    """Return (scale, zero point) such that `levels` steps span the interval and zero has a code of its own."""
    low, high = np.float32(interval.low), np.float32(interval.high)
    scale = max((high - low) / np.float32(levels), SMALLEST_SCALE)
    return np.float32(scale), int(np.clip(np.rint(-low / scale), 0, levels))


def weight_scales(
    weight: npt.NDArray[np.float32], largest_code: float | npt.NDArray[np.float32] = WEIGHT_MAX
) -> npt.NDArray[np.float32]:
    """Return one symmetric scale for each output channel (axis 0), whose largest weight gets the largest code."""
    largest = np.abs(weight.reshape(len(weight), -1)).max(axis=1)
    scales: npt.NDArray[np.float32] = np.maximum(
        largest / np.asarray(largest_code, np.float32), SMALLEST_SCALE
    ).astype(np.float32)
    return scales


def weight_codes(weight: npt.NDArray[np.float32], scales: npt.NDArray[np.float32]) -> npt.NDArray[np.int8]:
    """Return the int8 codes of a weight whose channels (axis 0) have these scales."""
    inverse = (np.float32(1) / scales).reshape((-1,) + (1,) * (weight.ndim - 1))
    return np.clip(np.rint(weight * inverse), -WEIGHT_MAX, WEIGHT_MAX).astype(np.int8)


def bias_codes(bias: npt.NDArray[np.float32], scales: npt.NDArray[np.float32]) -> npt.NDArray[np.int32]:
    """Return the int32 codes of a bias; `scales` must be input scale x weight scale, or runtimes leave integers."""
    return np.rint(bias * (np.float32(1) / scales)).astype(np.int32)


def scales_that_hold_bias(
    scales: npt.NDArray[np.float32], bias: npt.NDArray[np.float32], input_scale: np.float32
) -> npt.NDArray[np.float32]:
    """Raise weight scales until every bias fits an int32 with a bit to spare.

    A channel that BatchNorm folding left with tiny weights would otherwise overflow. Its weights lose precision
    that the bias, millions of times larger, hides.
    """
    floor = np.abs(bias) / (np.float64(input_scale) * 2.0**30)
    return np.maximum(scales, floor.astype(np.float32))
