"""PReLU slopes on the grid that one byte holds: that of torch's engines, -1 to 1 in steps of 1/127."""

import copy

import torch
from torch import fx, nn

from qface_toolkit.quantize.scheme import SLOPE_SCALE, WEIGHT_MAX


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
