"""The constants of a compact scheme, one byte each: scales from a fixed table, and PReLU slopes on torch's grid.

Below eight bits the scales are those that round best.

With 127 steps to either side the largest weight may as well make the scale. With 7 or 3 it wastes them: to clip it and
round all others more finely errs less. Which scale errs least depends on the weights alone, and weights that lie on
their codes already get the scale that they lie on: everybody who asks is told the same, before and after learning.
"""

import copy

import torch
from torch import fx, nn

from qface_toolkit.quantize.scheme import SCALE_STEPS, SCALE_TABLE, SLOPE_SCALE, WEIGHT_MAX


def on_slope_grid(network: fx.GraphModule) -> fx.GraphModule:
    """Return a canonical network whose slopes, which lie in [-1, 1], are on the grid; the one given is left alone."""
    if all(torch.equal(rounded_slopes(prelu), prelu.weight) for prelu in _prelus(network)):
        return network
    rounded = copy.deepcopy(network)
    for prelu in _prelus(rounded):
        prelu.weight.data = rounded_slopes(prelu)
    return rounded


def rounded_slopes(prelu: nn.PReLU) -> torch.Tensor:
    """Return the slopes [C] as float32(k) * float32(1/127) for whole k."""
    codes = torch.round(prelu.weight.detach() / SLOPE_SCALE)
    return codes.clamp(-WEIGHT_MAX, WEIGHT_MAX) * SLOPE_SCALE


def _prelus(network: fx.GraphModule) -> list[nn.PReLU]:
    return [module for module in network.modules() if isinstance(module, nn.PReLU)]


TABLE = torch.from_numpy(SCALE_TABLE)
_WIDER, _FINER = SCALE_STEPS // 2, 2 * SCALE_STEPS
"""Places of the table that are tried beside the first that clips nothing. Wider ones hold weights already rounded."""


def table_scales(weight: torch.Tensor, largest_codes: torch.Tensor, bits_limit: int) -> torch.Tensor:
    """Return one scale of the table for each output channel (axis 0) of a weight.

    `largest_codes` [C] or [] are the largest codes that channels may have, `bits_limit` that of the width: below
    WEIGHT_MAX the scale with the least squared error is taken, else the first that clips nothing.
    """
    rows = weight.detach().flatten(1)
    unclipped = places(rows.abs().amax(1) / largest_codes)
    if bits_limit == WEIGHT_MAX:
        return TABLE[unclipped]
    best = torch.full((len(rows),), float("inf"), dtype=torch.float64)
    chosen = unclipped.clone()
    for shift in range(_WIDER, -_FINER - 1, -1):
        place = (unclipped + shift).clamp(0, len(TABLE) - 1)
        error = _squared_error(rows, TABLE[place], bits_limit)
        better = error < best
        best, chosen = torch.where(better, error, best), torch.where(better, place, chosen)
    return TABLE[chosen]


def places(scales: torch.Tensor) -> torch.Tensor:
    """Return the place of the smallest scale of the table that is no smaller than each of these; the last if none."""
    return torch.searchsorted(TABLE, scales.contiguous()).clamp(max=len(TABLE) - 1)


def _squared_error(rows: torch.Tensor, scales: torch.Tensor, largest_code: int) -> torch.Tensor:
    column = scales[:, None]
    codes = (rows * (1 / column)).round_().clamp_(-largest_code, largest_code)
    return codes.mul_(column).sub_(rows).pow_(2).sum(1, dtype=torch.float64)
