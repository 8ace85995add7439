"""What the numbers of a network would take, counted where there is no file to weigh.

Two figures, never mixed up: what papers give, parameters times bits, and what the numbers need at the very least once
each is written at its width, with the grids that say what the codes mean and everything else in float.
"""

import math
from collections.abc import Iterable, Sequence
from typing import Any

from qface_toolkit.quantize.target import Target
from qface_toolkit.result.made import Coded, Made

FLOAT_BYTES = 4


def nominal_bytes(layers: Iterable[tuple[int, float]]) -> int:
    """Return the size that papers give, from (parameters, bits) of each layer: the sum of parameters x bits / 8.

    Biases and slopes count at their layer's bits; scales, zero points and the graph do not count. No file is so small.
    """
    return math.ceil(sum(parameters * bits for parameters, bits in layers) / 8)


def stored_bytes(coded: Sequence[Coded], floats: int) -> int:
    """Return the bytes of codes without gaps, a scale and a zero point for each of their grids, and other numbers.

    Scales and other numbers are float32, a zero point is as wide as a code.
    """
    codes = sum(math.ceil((one.numbers + one.grids * one.zero_points) * one.bits / 8) for one in coded)
    return codes + FLOAT_BYTES * (sum(one.grids for one in coded) + floats)


def counted_sizes(made: Made, target: Target | None, *, simulated: bool = False) -> dict[str, Any]:
    """Return what papers give for a model on a target, or for its float network without one, and the mean bits.

    Where a file is `simulated`, its codes are counted, too, for its own bytes are those of floats.
    """
    layers = made.parameters(target)
    parameters = sum(count for count, _ in layers)
    mean = sum(count * bits for count, bits in layers) / parameters if parameters else None
    payload = {"payload_bytes": stored_bytes(*made.coded(target))} if simulated and target else {}
    return {"nominal_bytes": nominal_bytes(layers), "weight_bits_mean": mean} | payload
