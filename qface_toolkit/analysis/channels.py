"""Which channels of which tensors can be scaled together without changing what a network computes.

A layer that makes a channel larger and all who read it smaller by the same factor compute what they did (cross-layer
equalization, arXiv 1906.04721, section 4.1). What lies in between must let a positive factor pass: ReLU does, and so
does PReLU, whose two slopes meet at zero. A sum ties the channels of its terms to each other, so a whole residual
stream is scaled at once, and a concatenation strings the channels of its parts together.
"""

import copy
from collections.abc import Mapping
from dataclasses import dataclass
from typing import cast

import torch
from torch import fx, nn

from qface_toolkit.analysis._union import Union
from qface_toolkit.canonical.edit import by_input, ensure_shapes, shape_of
from qface_toolkit.canonical.graph import inputs, module, operation
from qface_toolkit.canonical.islands import Island
from qface_toolkit.quantize.plan import LAYERS

_PASS = ("prelu", "relu", "relu6", "max_pool", "average_pool", "global_average_pool")
_FIXED = ("input", "sigmoid", "hard_sigmoid", "mul", "island", "move", "normalize", "output")
"""What reads or makes tensors whose scale means something."""


@dataclass(frozen=True)
class ChannelClasses:
    """The classes of channels that share a factor: for each tensor the class of each channel, int64 [C].

    `lowest` and `highest` bound the logarithm of each class's factor, float32 [classes].
    """

    of: Mapping[str, torch.Tensor]
    lowest: torch.Tensor
    highest: torch.Tensor

    def bounded(self, log_factors: torch.Tensor) -> torch.Tensor:
        """Return log factors [classes] within the bounds; gradients pass where they do not bind."""
        return torch.maximum(torch.minimum(log_factors, self.highest), self.lowest)


def channel_classes(network: fx.GraphModule, input_size: tuple[int, int], channels: int = 3) -> ChannelClasses:
    """Return the classes of a canonical network's channels.

    A class behind a ReLU6 may only grow: its clamp stays at 6 for the tensor, and so comes down for the channel. That
    is the function of the network only while the channel stays below, which whoever chooses the factor must see to.
    """
    ensure_shapes(network, input_size, channels)
    union = Union()
    first: dict[str, list[int]] = {}
    for node in network.graph.nodes:
        if operation(node) != "output":
            first[node.name] = _channels(node, first, union)
    classes, count = union.numbered(first)
    of = {name: torch.tensor(found) for name, found in classes.items()}
    lowest, highest = torch.full((count,), -torch.inf), torch.full((count,), torch.inf)
    for node in network.graph.nodes:
        if operation(node) == "relu6":
            lowest[of[node.name]] = 0.0
        for name in _fixed(node):
            lowest[of[name]] = highest[of[name]] = 0.0
    return ChannelClasses(of, lowest, highest)


def _channels(node: fx.Node, first: Mapping[str, list[int]], union: Union) -> list[int]:
    """Return a number for each channel of a tensor: its source's, where it has the same factor."""
    sources = [first[source.name] for source in inputs(node)]
    kind = operation(node)
    if kind == "add":
        for one, other in zip(*sources, strict=True):
            union.join(one, other)
        return sources[0]
    if kind == "island" and module(node).shifts_channels:
        return sources[0]
    if kind == "move":
        return _moved(node, sources, union) or union.more(shape_of(node)[1])
    if kind == "concat":
        return [channel for source in sources for channel in source]
    if kind == "flatten":
        pixels = shape_of(node)[1] // len(sources[0])
        return [channel for channel in sources[0] for _ in range(pixels)]
    return sources[0] if kind in _PASS else union.more(shape_of(node)[1])


def _moved(node: fx.Node, sources: list[list[int]], union: Union) -> list[int]:
    """Return the numbers of a move's channels; none if it makes other channels of them."""
    move, before, after = module(node), shape_of(inputs(node)[0]), shape_of(node)
    options, channels = move.options, sources[0]
    if move.kind in ("slice", "pick") and options["axis"] == 1:
        span = options["indices"] if move.kind == "pick" else range(options["start"], options["stop"], options["step"])
        return [channels[place] for place in span]
    if move.kind == "permute" and options["order"][1] != 1:
        return []
    if before[1] != after[1] or (move.kind == "join" and options["axis"] == 1):
        return []
    for other in sources[1:]:
        for one, two in zip(channels, other, strict=True):
            union.join(one, two)
    return channels


def _fixed(node: fx.Node) -> list[str]:
    """Return the tensors around a node whose factors must be one."""
    kind, names = operation(node), [source.name for source in inputs(node)]
    passes = kind == "island" and (module(node).scales_channels or module(node).shifts_channels)
    if kind not in _FIXED or passes or (kind == "move" and _keeps_channels(node)):
        return []
    return names + ([] if kind == "output" else [node.name])


def _keeps_channels(node: fx.Node) -> bool:
    sources = [list(range(shape_of(source)[1])) for source in inputs(node)]
    return bool(_moved(node, sources, Union(max(map(len, sources)))))


def _scale_island(island: Island, read: torch.Tensor, written: torch.Tensor) -> None:
    """Let an island read and write scaled channels, if it has constants for that."""
    if island.scales_channels:
        entering, *leaving = island.constants
        entering /= read.reshape(1, -1, *(1,) * (entering.dim() - 2))
    else:
        leaving = island.constants if island.shifts_channels else []
    for constant in leaving:
        constant *= written.reshape(1, -1, *(1,) * (constant.dim() - 2))


def scaled(network: fx.GraphModule, classes: ChannelClasses, log_factors: torch.Tensor) -> fx.GraphModule:
    """Return a copy of a network whose layers write every channel times its class's factor, and read it back."""
    network, factors = copy.deepcopy(network), log_factors.exp()
    with torch.no_grad():
        for node in network.graph.nodes:
            if operation(node) in LAYERS:
                layer = cast(nn.Conv2d | nn.Linear, module(node))
                written, read = factors[classes.of[node.name]], factors[classes.of[inputs(node)[0].name]]
                layer.weight *= by_input(layer, 1 / read) * written.reshape((-1,) + (1,) * (layer.weight.dim() - 1))
                assert layer.bias is not None, "canonical layers have a bias"
                layer.bias *= written
            elif operation(node) == "island":
                read, written = (factors[classes.of[name]] for name in (inputs(node)[0].name, node.name))
                _scale_island(module(node), read, written)
    return network
