"""One function written in other ways: channels scaled by any factor, slopes steep, dead channels with any weights."""

import copy
import math

import torch

from qface_toolkit.analysis.channels import channel_classes, scaled
from qface_toolkit.canonical.canonicalise import canonicalise
from qface_toolkit.canonical.edit import by_input
from qface_toolkit.canonical.graph import inputs, module, operation

REWRITES = 10
WIDEST = math.log(1e4)


def rewritten(network, input_size, number):
    """Return the canonical form of a network, written in one of REWRITES other ways; 0 is as it is."""
    if number == 0:
        return canonicalise(network, input_size)
    draw = torch.Generator().manual_seed(number)
    # Drawn by turns: factors alone, factors and steep slopes, and dead channels among them.
    other = canonicalise(network, input_size)
    if number % 3 == 0:
        other = _loud(_with_dead_channels(other, draw), 1e4)
    classes = channel_classes(other, input_size)
    free = torch.isneginf(classes.lowest) & torch.isposinf(classes.highest)
    factors = (torch.rand(len(free), generator=draw) * 2 - 1) * WIDEST
    other = scaled(other, classes, torch.where(free, factors, 0.0))
    return canonicalise(_steep(other, draw), input_size) if number % 3 == 1 else other


def _steep(network, draw):
    """Move slopes out of [-1, 1]: prelu_a(z) is prelu_1/a(a z) for a < 0, and its opposite for a > 0."""
    network = copy.deepcopy(network)
    for node in list(network.graph.nodes):
        readers = list(node.users)
        if operation(node) != "prelu" or any(operation(reader) != "conv" for reader in readers):
            continue
        slopes, layer = module(node).weight.data, module(inputs(node)[0])
        turned = (torch.rand(len(slopes), generator=draw) < 0.3) & (slopes.abs() > 1e-3)
        factor = torch.where(turned, -slopes.abs(), torch.ones_like(slopes))
        layer.weight.data *= factor.reshape(-1, 1, 1, 1)
        layer.bias.data *= factor
        module(node).weight.data = torch.where(turned, 1 / slopes, slopes)
        signs = torch.where(turned & (slopes > 0), -1.0, 1.0)
        for reader in readers:
            module(reader).weight.data *= by_input(module(reader), signs)
    return network


def _with_dead_channels(network, draw):
    """Let some channels between two convolutions be zero, and their readers' weights be anything."""
    network = copy.deepcopy(network)
    for node in network.graph.nodes:
        readers = list(node.users)
        behind = operation(node) in ("prelu", "relu") and all(operation(reader) == "conv" for reader in readers)
        if not behind or operation(inputs(node)[0]) != "conv":
            continue
        layer = module(inputs(node)[0])
        dead = (torch.rand(len(layer.weight), generator=draw) < 0.1).nonzero().flatten()
        layer.weight.data[dead], layer.bias.data[dead] = 0.0, 0.0
    return network


def killed(network, input_size, number):
    """Return the network that `rewritten` writes in another way: with the same channels dead."""
    canonical = canonicalise(network, input_size)
    if number % 3 or number == 0:
        return canonical
    return _with_dead_channels(canonical, torch.Generator().manual_seed(number))


def _loud(network, by):
    """Read dead channels with weights that are `by` times the largest, which changes nothing."""
    for node in network.graph.nodes:
        if operation(node) != "conv" or operation(inputs(node)[0]) not in ("prelu", "relu"):
            continue
        before = inputs(inputs(node)[0])[0]
        if operation(before) != "conv" or module(node).groups > 1:
            continue
        dead = (module(before).weight.data.flatten(1).abs().amax(1) == 0) & (module(before).bias.data == 0)
        module(node).weight.data[:, dead] = by * module(node).weight.data.abs().max()
    return network
