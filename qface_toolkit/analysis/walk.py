"""A simulation run from any place on: what an effect of one layer or quantizer costs is the rest of the network alone.

Whoever walks holds the tensors that are still to be read, steps over one node after the other, and wherever something
is to be tried runs the rest from there.
"""

from collections.abc import Callable
from typing import Any, cast

import numpy as np
import numpy.typing as npt
import torch
from torch import fx, nn

from qface_toolkit.quantize.memory import channels_last

BATCH = 16
"""Images at once; torch has faster 1x1 convolutions for so many, whatever the number of threads."""

NUMBER_COST = 30
"""Multiply-adds that take as long as making one number of a tensor: what is cheap to compute waits for memory."""


class Walk:
    """The nodes of a graph in order, each a function of the values of others, or of images."""

    def __init__(self, graph: fx.GraphModule) -> None:
        self.graph = graph
        channels_last(self.graph)
        self.nodes: list[fx.Node] = list(self.graph.graph.nodes)
        self.calls = [_call(self.graph, node) for node in self.nodes]
        self.read_last = _read_last(self.nodes)

    def run_from(self, place: int, live: dict[fx.Node, torch.Tensor], images: torch.Tensor) -> torch.Tensor:
        """Return the embeddings, given the tensors that are still to be read before a place."""
        values = dict(live)
        for later in range(place, len(self.nodes)):
            self.step(later, values, images)
        return values[self.nodes[-1]]

    def step(self, place: int, values: dict[fx.Node, torch.Tensor], images: torch.Tensor) -> None:
        """Run one node, and forget what nobody reads any more."""
        node = self.nodes[place]
        values[node] = self.calls[place](values, images)
        for dead in self.read_last[place]:
            del values[dead]

    def cost_from(self, images: torch.Tensor) -> npt.NDArray[np.int64]:
        """Return the multiply-adds (see NUMBER_COST) of running the rest from each place, for these images."""
        live: dict[fx.Node, torch.Tensor] = {}
        costs = []
        for place, node in enumerate(self.nodes):
            self.step(place, live, images)
            costs.append(_cost(self.graph, node, live[node]))
        return np.cumsum(costs[::-1], dtype=np.int64)[::-1]


def row_cosines(embeddings: torch.Tensor, reference: torch.Tensor) -> npt.NDArray[np.float64]:
    """Return the cosine of each pair of rows; rounding can leave an embedding of zeros, which is like no other."""
    cosines: npt.NDArray[np.float64] = torch.cosine_similarity(embeddings.double(), reference.double()).numpy()
    return np.clip(cosines, -1.0, 1.0)


def _call(graph: fx.GraphModule, node: fx.Node) -> Callable[[dict[fx.Node, torch.Tensor], torch.Tensor], torch.Tensor]:
    """Return what computes a node from the values of others, or from images."""
    if node.op == "placeholder":
        return lambda values, images: images
    if node.op == "output":
        return lambda values, images: values[cast(fx.Node, node.args[0])]
    function: Callable[..., Any] = (
        graph.get_submodule(str(node.target)) if node.op == "call_module" else cast(Callable[..., Any], node.target)
    )

    def call(values: dict[fx.Node, torch.Tensor], images: torch.Tensor) -> torch.Tensor:
        arguments = fx.node.map_arg(node.args, values.__getitem__)
        return cast(torch.Tensor, function(*cast("tuple[Any, ...]", arguments), **node.kwargs))

    return call


def _read_last(nodes: list[fx.Node]) -> list[list[fx.Node]]:
    """Return for each place the nodes whose values are read there for the last time."""
    places = {node: place for place, node in enumerate(nodes)}
    last: list[list[fx.Node]] = [[] for _ in nodes]
    for node in nodes[:-1]:
        last[max((places[user] for user in node.users), default=places[node])].append(node)
    return last


def _cost(graph: fx.GraphModule, node: fx.Node, value: torch.Tensor) -> int:
    layer = graph.get_submodule(str(node.target)) if node.op == "call_module" else None
    weight = layer.weight if isinstance(layer, nn.Conv2d | nn.Linear) else None
    return value.numel() * (NUMBER_COST + (0 if weight is None else weight[0].numel()))
