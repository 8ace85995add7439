"""How a float number becomes an integer: the few formulas that simulation, torch and ONNX share to the last bit.

torch rounds x * (1 / scale), not x / scale. The two differ where a weight lies in the middle between two codes, so
codes are made torch's way for every target.
"""

from collections.abc import Iterable, Mapping
from dataclasses import asdict, dataclass, replace
from fnmatch import fnmatchcase
from typing import Any, Literal

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

LARGEST_END = 2.0**100
"""No range reaches further: its width must be a float32, too."""

EIGHT_BITS = 8
WEIGHT_BITS, ACTIVATION_BITS = range(2, EIGHT_BITS + 1), range(4, EIGHT_BITS + 1)
"""The widths that weights and activations may have."""

SCALE_STEPS = 8
SCALE_TABLE: npt.NDArray[np.float32] = np.exp2(np.arange(-28 * SCALE_STEPS, 36 * SCALE_STEPS) / SCALE_STEPS).astype(
    np.float32
)
"""The scales that weights of a compact scheme have, in steps of 9 %. A network uses few of them, so that a byte or less
says which. The upper half is for BatchNorm that divided by next to nothing: its weights must not be clipped."""


@dataclass(frozen=True)
class TensorScheme:
    """How one kind of tensor is quantized."""

    bits: int
    symmetric: bool
    per: Literal["channel", "tensor"]


@dataclass(frozen=True)
class LayerScheme:
    """Widths of their own for the nodes of a canonical network whose names match a shell wildcard; None: the usual."""

    match: str
    weights: int | None = None
    activations: int | None = None


@dataclass(frozen=True)
class Scheme:
    """How a network is quantized: its weights and its activations, and which layers differ; the first match counts."""

    weights: TensorScheme = TensorScheme(bits=EIGHT_BITS, symmetric=True, per="channel")
    activations: TensorScheme = TensorScheme(bits=EIGHT_BITS, symmetric=False, per="tensor")
    layers: tuple[LayerScheme, ...] = ()

    def weight_bits(self, layer: str) -> int:
        """Return the width of a layer's weights."""
        found = (one.weights for one in self.layers if one.weights is not None and fnmatchcase(layer, one.match))
        return next(found, self.weights.bits)

    def activation_bits(self, tensor: str) -> int:
        """Return the width of a tensor's codes; that of an image is EIGHT_BITS, whatever a scheme says."""
        found = (one.activations for one in self.layers if one.activations and fnmatchcase(tensor, one.match))
        return next(found, self.activations.bits)

    @property
    def narrow(self) -> bool:
        """Tell whether any activations have fewer than eight bits, which only a simulation can compute."""
        return min([self.activations.bits, *(one.activations or EIGHT_BITS for one in self.layers)]) < EIGHT_BITS

    @classmethod
    def from_plain(cls, plain: Mapping[str, Any]) -> "Scheme":
        """Return the scheme that plain values describe.

        Raises:
            ValueError: if a width or a kind of grid is not supported.
            TypeError: if they describe something else.
        """
        layers = tuple(LayerScheme(**one) for one in plain.get("layers", ()))
        scheme = cls(TensorScheme(**plain["weights"]), TensorScheme(**plain["activations"]), layers)
        for kind, known in (("weights", WEIGHT_BITS), ("activations", ACTIVATION_BITS)):
            own, usual = getattr(scheme, kind), getattr(cls(), kind)
            named = [getattr(one, kind) for one in layers if getattr(one, kind) is not None]
            strange = [bits for bits in (own.bits, *named) if type(bits) is not int or bits not in known]
            if strange:
                raise ValueError(f"widths from {known[0]} to {known[-1]} are supported, not {strange}")
            if replace(own, bits=usual.bits) != usual:
                raise ValueError(f"there are no grids for {kind} but those of {usual}")
        if not all(isinstance(one.match, str) for one in layers):
            raise TypeError("an entry that matches no name")
        return scheme

    def as_plain(self) -> dict[str, Any]:
        """Return plain values that `from_plain` takes; what is usual is left out."""
        layers = [{key: value for key, value in asdict(one).items() if value is not None} for one in self.layers]
        plain = {"weights": asdict(self.weights), "activations": asdict(self.activations)}
        return plain | ({"layers": layers} if layers else {})

    @property
    def compact(self) -> bool:
        """Tell whether constants are made small: as soon as any weights have fewer than eight bits.

        All layers then have scales of SCALE_TABLE, and slopes on a grid, so that each takes one byte.
        """
        return min([self.weights.bits, *(one.weights or EIGHT_BITS for one in self.layers)]) < EIGHT_BITS


@dataclass(frozen=True)
class Range:
    """The interval of real values that a tensor's codes span; it always holds zero."""

    low: float
    high: float

    def __post_init__(self) -> None:
        if not -LARGEST_END <= self.low <= 0.0 <= self.high <= LARGEST_END:
            raise ValueError(f"a range must be finite and hold zero, not [{self.low}, {self.high}]")


def hull(intervals: Iterable[Range]) -> Range:
    """Return the smallest interval that holds all the others."""
    found = list(intervals)
    return Range(min(interval.low for interval in found), max(interval.high for interval in found))


def rounding_noise(interval: Range) -> float:
    """Return the power of the rounding noise of 8 bits over an interval."""
    return float(((interval.high - interval.low) / ACTIVATION_MAX) ** 2 / 12)


@dataclass(frozen=True)
class Levels:
    """How many steps a tensor's codes span over its range, and where they saturate: further on, if there is room."""

    steps: int = ACTIVATION_MAX
    largest_code: int = ACTIVATION_MAX


@dataclass(frozen=True)
class Grid:
    """Where a tensor's codes lie: a code c stands for scale x (c - zero point), and saturates at both ends."""

    scale: np.float32
    zero_point: int
    largest_code: int = ACTIVATION_MAX

    @classmethod
    def over(cls, interval: "Range", levels: "Levels") -> "Grid":
        """Return the grid whose levels span an interval."""
        return cls(*activation_qparams(interval, levels.steps), levels.largest_code)

    @property
    def six(self) -> int:
        """Return the code of 6, or the largest if 6 lies beyond it: where a ReLU6 ends."""
        return min(self.zero_point + int(np.rint(np.float32(6) / self.scale)), self.largest_code)


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
    scales: npt.NDArray[np.float32] = np.maximum(largest / np.asarray(largest_code, np.float32), SMALLEST_SCALE).astype(
        np.float32
    )
    return scales


def weight_codes(
    weight: npt.NDArray[np.float32], scales: npt.NDArray[np.float32], largest_code: int = WEIGHT_MAX
) -> npt.NDArray[np.int8]:
    """Return the codes, held in int8, of a weight whose channels (axis 0) have these scales."""
    inverse = (np.float32(1) / scales).reshape((-1,) + (1,) * (weight.ndim - 1))
    return np.clip(np.rint(weight * inverse), -largest_code, largest_code).astype(np.int8)


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
