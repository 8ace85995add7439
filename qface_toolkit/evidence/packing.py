"""What a simulated network would weigh if somebody wrote its codes down: there is no file to measure, so it is counted.

Two figures, never mixed up: what papers give, and what the numbers need at the very least once each is written at its
width, with the grids that say what the codes mean and everything else in float.
"""

import math
from collections.abc import Iterable
from dataclasses import dataclass

from qface_toolkit.evidence.size import nominal_bytes

FLOAT_BYTES = 4


@dataclass(frozen=True)
class Coded:
    """A tensor of codes: how many, how wide, how many grids they lie on, and whether a grid has a zero point."""

    numbers: int
    bits: int
    grids: int
    zero_points: bool

    @property
    def packed_bytes(self) -> int:
        """Codes without gaps, a float32 scale for each grid and a zero point as wide as a code."""
        codes = self.numbers + (self.grids if self.zero_points else 0)
        return math.ceil(codes * self.bits / 8) + self.grids * FLOAT_BYTES


@dataclass(frozen=True)
class PackedSize:
    """`nominal_bytes`: parameters x bits / 8, as papers give it. `payload_bytes`: all that would have to be stored."""

    nominal_bytes: int
    payload_bytes: int


def packed_size(layers: Iterable[tuple[int, float]], coded: Iterable[Coded], floats: int) -> PackedSize:
    """Return both from (parameters, bits) of each layer, the tensors of codes, and how many other numbers there are."""
    return PackedSize(nominal_bytes(layers), sum(one.packed_bytes for one in coded) + floats * FLOAT_BYTES)
