"""Solve a smaller network's layers anew so that each makes what the whole network made, from what is left to read.

Layer by layer in the order of execution, since what one layer could not repair is what the next one reads: weights and
biases of least squared error to the whole network's own output at the same place, in closed form. A layer whose output
is added to a stream repairs the stream, whatever was lost in it before. Weights are pulled to what they were where the
images say little, by as much as suits images that are held out; a layer that is no better there stays.
"""

from collections.abc import Callable
from typing import Any

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor, fx

from qface_toolkit.analysis.patches import Layer, Places, layer_of, matrix, patches, set_matrix
from qface_toolkit.analysis.walk import Walk
from qface_toolkit.canonical.edit import ensure_shapes, only_user, shape_of
from qface_toolkit.canonical.graph import inputs, operation
from qface_toolkit.quantize.plan import LAYERS

HELD_OUT = 8
"""One image of so many tells how far weights are pulled to what they were."""
PULLS = (1e-4, 1e-2, 1.0)
"""Pulls that are tried, as shares of the mean square of what a layer reads."""
MOST_BYTES = 700_000_000
"""Bytes of the tensors that are alive at once."""


def images_for(network: fx.GraphModule, count: int) -> int:
    """Return how many images of so many can be looked at, on a network whose shapes are noted."""
    alive, most = 0, 1
    walk = Walk(network)
    sizes = {node: int(np.prod(shape_of(node)[1:])) for node in walk.nodes if operation(node) != "output"}
    for node, dead in zip(walk.nodes, walk.read_last, strict=True):
        alive += sizes.get(node, 0)
        most = max(most, alive)
        alive -= sum(sizes.get(one, 0) for one in dead)
    return max(2, min(count, MOST_BYTES // (4 * most)))


class _Wanted(fx.Interpreter):
    """Runs the whole network and keeps what is wanted of each layer at its places."""

    def __init__(self, network: fx.GraphModule, places: dict[str, Places]) -> None:
        super().__init__(network)
        self.places = places
        self.found: dict[str, list[Tensor]] = {name: [] for name in places}

    def run_node(self, n: fx.Node) -> Any:  # noqa: ANN401 - as torch declares it
        """Run a node and keep what is wanted of it."""
        value = super().run_node(n)
        if n.name in self.places:
            self.found[n.name].append(self.places[n.name].of(value))
        return value


def repair(
    small: fx.GraphModule,
    whole: fx.GraphModule,
    stays: dict[str, Tensor],
    images: npt.NDArray[np.float32],
    *,
    seed: int,
    batch_size: int,
    progress: Callable[[int, int], None],
) -> None:
    """Solve the layers of `small` anew, in place.

    `stays` says which channels of each of `whole`'s tensors `small` has, bool [C].
    """
    size = (images.shape[2], images.shape[3])
    ensure_shapes(whole, size, images.shape[1])
    ensure_shapes(small, size, images.shape[1])
    images = images[: images_for(small, len(images))]
    walk, draw, count = Walk(small), torch.Generator().manual_seed(seed), len(images)
    layers = [node for node in walk.nodes if operation(node) in LAYERS]
    goals = {node.name: _goal(node) for node in layers}
    places = {node.name: Places.enough(layer_of(node), shape_of(node), count, draw) for node in layers}
    wanted = _Wanted(whole, {goals[name].name: where for name, where in places.items()})
    with torch.no_grad():
        for start in range(0, len(images), batch_size):
            wanted.run(torch.from_numpy(images[start : start + batch_size]))
        live: dict[fx.Node, Tensor] = {}
        shown = torch.from_numpy(images)
        for place, node in enumerate(walk.nodes):
            if node.name in goals:
                goal = goals[node.name]
                rows = torch.cat(wanted.found.pop(goal.name))[:, stays[goal.name]]
                if goal is not node:
                    other = next(one for one in inputs(goal) if one is not node)
                    rows = rows - places[node.name].of(live[other])
                problem = _Problem(layer_of(node), live[inputs(node)[0]], rows, places[node.name], len(images))
                problem.solve()
            walk.step(place, live, shown)
            progress(place + 1, len(walk.nodes))


def _goal(node: fx.Node) -> fx.Node:
    """Return the tensor that a layer is to make right: its own, or the sum with what stands before it."""
    user = only_user(node)
    if user is None or operation(user) != "add":
        return node
    other = [one for one in inputs(user) if one is not node]
    return user if len(other) == 1 and _stands_before(other[0], node) else node


def _stands_before(one: fx.Node, node: fx.Node) -> bool:
    order = {known: place for place, known in enumerate(node.graph.nodes)}
    return order[one] < order[node]


class _Problem:
    """One layer's least squares problem, of images to learn from and images to judge by."""

    def __init__(self, layer: Layer, read: Tensor, rows: Tensor, places: Places, images: int) -> None:
        self.layer = layer
        shown = patches(layer, read, places).double()
        groups, count, _ = shown.shape
        pixels = count // images
        judged = torch.arange(count) // pixels % HELD_OUT == HELD_OUT - 1 if images >= HELD_OUT else None
        targets = rows.double().reshape(count, groups, -1).permute(1, 2, 0)  # [G, outputs, rows]
        learnt = ~judged if judged is not None else torch.ones(count, dtype=torch.bool)
        self.learnt = _Moments(shown[:, learnt], targets[..., learnt])
        self.judged = self.learnt if judged is None else _Moments(shown[:, judged], targets[..., judged])

    def solve(self) -> None:
        """Give the layer its best weights."""
        now = matrix(self.layer)
        best, chosen = self.judged.error(now), None
        for pull in PULLS:
            found = self.learnt.solved(now, pull)
            error = self.judged.error(found)
            if error < best:
                best, chosen = error, found
        if chosen is not None:
            set_matrix(self.layer, chosen)


class _Moments:
    """The sums of products that a least squares problem is made of."""

    def __init__(self, shown: Tensor, targets: Tensor) -> None:
        self.products = shown.transpose(1, 2) @ shown / shown.shape[1]
        self.wanted = targets @ shown / shown.shape[1]
        self.power = targets.square().mean(2).sum()

    def error(self, weights: Tensor) -> float:
        """Return the squared error of weights [G, outputs, columns] as a share of the targets' squares."""
        made = ((weights @ self.products) * weights).sum() - 2 * (weights * self.wanted).sum()
        return float((made + self.power) / self.power.clamp_min(1e-30))

    def solved(self, near: Tensor, pull: float) -> Tensor:
        """Return the weights of least error that are pulled to others."""
        columns = self.products.shape[-1]
        square = self.products.diagonal(dim1=1, dim2=2).mean(1).clamp_min(1e-30)
        pulled = self.products + pull * square[:, None, None] * torch.eye(columns, dtype=self.products.dtype)
        missing = self.wanted - near @ self.products
        more: Tensor = torch.linalg.solve(pulled, missing.transpose(1, 2)).transpose(1, 2)
        return near + more
