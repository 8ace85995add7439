"""Which layers to keep in float first: those that free the embedding of most rounding noise for the least time.

The noises of roundings are nearly independent, so their losses add up, and what a set of layers gains is the sum of
what the quantizers lose alone that it makes unnecessary. Some work only together: between two layers nothing is
rounded once both are kept. So candidates are the layers, and for each tensor those that must be kept to leave it float.
"""

import math
from collections.abc import Iterator, Mapping

from torch import fx

from qface_toolkit.analysis.sensitivity import Sensitivity
from qface_toolkit.analysis.walk import NUMBER_COST
from qface_toolkit.canonical.edit import ensure_shapes, shape_of
from qface_toolkit.canonical.graph import inputs, module, operation
from qface_toolkit.quantize.model import QuantizedModel
from qface_toolkit.quantize.plan import LAYERS, nodes_in_float, stays_float

Losses = Mapping[tuple[str, str], float]
"""(kind, name) of a quantizer -> what it loses alone."""


def ranked_layers(model: QuantizedModel, found: Sensitivity, share: float = 1.0) -> Iterator[tuple[str, ...]]:
    """Yield layers to keep, in groups, the largest gain for its time first, until there are no more that gain.

    All of them together take no greater `share` of the multiplications.
    """
    shares = multiplied_shares(model)
    nodes = {node.name: node for node in model.network.graph.nodes}
    losses: Losses = {(one.kind, one.name): one.loss_alone for one in found.quantizers}
    groups, kept = _groups(nodes, losses), dict[str, None]()
    while groups:
        # All layers together may sum up to a little more than one.
        left_over = share + 1e-9 - sum(shares[name] for name in kept)
        groups = [group for group in groups if sum(shares[name] for name in group if name not in kept) <= left_over]
        left = _loss(model.network, nodes, losses, kept)
        best: tuple[str, ...] = ()
        gain = 0.0
        for group in groups:
            cost = sum(_cost(nodes[name]) for name in group if name not in kept)
            gained = (left - _loss(model.network, nodes, losses, {**kept, **dict.fromkeys(group)})) / cost
            best, gain = (group, gained) if gained > gain else (best, gain)
        if not best:
            return
        yield tuple(name for name in best if name not in kept)
        kept |= dict.fromkeys(best)
        groups = [group for group in groups if not set(group) <= kept.keys()]


def multiplied_shares(model: QuantizedModel) -> dict[str, float]:
    """Return the share of the network's multiplications that each layer takes."""
    ensure_shapes(model.network, model.spec.input_size, model.spec.channels)
    layers = [node for node in model.network.graph.nodes if operation(node) in LAYERS]
    counts = {node.name: math.prod(shape_of(node)[1:]) * module(node).weight[0].numel() for node in layers}
    return {name: count / sum(counts.values()) for name, count in counts.items()}


def _groups(nodes: Mapping[str, fx.Node], losses: Losses) -> list[tuple[str, ...]]:
    """Return the candidates: each layer, and for each rounded tensor a layer that makes it with all that read it."""
    layers = [(name,) for name, node in nodes.items() if operation(node) in LAYERS]
    tensors = [nodes[name] for kind, name in losses if kind == "activation"]
    together = [
        (*first, *(user.name for user in node.users if operation(user) in LAYERS and user.name not in first))
        for node in tensors
        for first in _makers(node)
    ]
    return [group for group in dict.fromkeys([*layers, *together]) if group]


def _makers(node: fx.Node) -> list[tuple[str, ...]]:
    """Return the nearest layers that a tensor comes from, one of which must be kept; the image comes from none."""
    nearest = [node]
    while nearest and not any(operation(one) in LAYERS for one in nearest):
        nearest = [source for one in nearest for source in inputs(one)]
    return [(one.name,) for one in nearest if operation(one) in LAYERS] or [()]


def _loss(network: fx.GraphModule, nodes: Mapping[str, fx.Node], losses: Losses, kept: Mapping[str, None]) -> float:
    """Return what the quantizers lose that are left if these layers are kept."""
    floats = nodes_in_float(network, kept)
    return sum(
        loss
        for (kind, name), loss in losses.items()
        if not (stays_float(nodes[name], floats) if kind == "activation" else name in floats)
    )


def _cost(node: fx.Node) -> int:
    """Return about how much longer a layer takes in float, in multiply-adds: a share of its own, and conversions."""
    return math.prod(shape_of(node)[1:]) * int(module(node).weight[0].numel() + NUMBER_COST)
