"""In which order the channels of a network can go, and what it is predicted to cost the embedding.

A channel's loss is what the layers that read it make of its absence once their other weights have taken over what they
can: the optimal brain surgeon's step (Hassibi and Stork 1993, equation 5) on whole channels, as structured pruning of
language models has it (ZipLM, arXiv 2302.04089, section 3.1). The error in a layer's output is weighted by what the
embedding feels of it (see statistics), so losses of different layers are in one unit, that of a cosine.
"""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor, fx

from qface_toolkit.analysis.patches import Layer, Places, layer_of, matrix, patches
from qface_toolkit.analysis.removable import Removable, Space
from qface_toolkit.analysis.statistics import measure_statistics
from qface_toolkit.canonical.edit import ensure_shapes, shape_of
from qface_toolkit.canonical.graph import inputs, module, operation
from qface_toolkit.quantize.plan import LAYERS

RIDGE = 1e-4
"""What is added to the diagonal, as a share of its mean: channels that say the same are not told apart by noise."""
AT_ONCE = 64
"""The share of a space's channels that go at once, and the next are chosen anew: one of so many."""


@dataclass(frozen=True)
class Order:
    """The classes of a space in the order in which they go, and the predicted loss in cosine without the first n."""

    space: Space
    classes: tuple[int, ...]
    losses: tuple[float, ...]


def readers(network: fx.GraphModule) -> list[fx.Node]:
    """Return the layers that mix what they read: those that can take over what a channel said."""
    layers = (node for node in network.graph.nodes if operation(node) in LAYERS)
    return [node for node in layers if operation(node) == "linear" or module(node).groups == 1]


def find_orders(
    network: fx.GraphModule,
    removable: Removable,
    images: npt.NDArray[np.float32],
    *,
    seed: int,
    batch_size: int,
    progress: Callable[[int, int], None],
) -> list[Order]:
    """Return the order of each space that can lose channels, by images [N, C, height, width]."""
    ensure_shapes(network, (images.shape[2], images.shape[3]), images.shape[1])
    spaces, mixing = removable.spaces(), readers(network)
    steps = 2 * len(images) + len(spaces)
    felt = measure_statistics(
        network,
        [node.name for node in mixing],
        images,
        seed=seed,
        batch_size=batch_size,
        progress=lambda done, total: progress(done, steps),
    ).sensitivity
    watcher = _Watcher(network, mixing, len(images), seed)
    with torch.no_grad():
        for start in range(0, len(images), batch_size):
            watcher.run(torch.from_numpy(images[start : start + batch_size]))
            progress(len(images) + min(start + batch_size, len(images)), steps)
    found = []
    for place, space in enumerate(spaces):
        reading = [
            _Reader(layer_of(node), watcher.moments(node.name), felt[node.name], removable.of[inputs(node)[0].name])
            for node in mixing
            if inputs(node)[0].name in space.tensors or _holds(removable.of[inputs(node)[0].name], space)
        ]
        found.append(_ordered(space, reading))
        progress(2 * len(images) + place + 1, steps)
    return found


def _holds(classes: Tensor, space: Space) -> bool:
    return bool(torch.isin(classes, torch.tensor(space.classes)).any())


class _Watcher(fx.Interpreter):
    """Runs the network and adds up the products of what each mixing layer reads."""

    def __init__(self, network: fx.GraphModule, mixing: Sequence[fx.Node], images: int, seed: int) -> None:
        super().__init__(network)
        draw = torch.Generator().manual_seed(seed)
        self.places = {node.name: Places.enough(layer_of(node), shape_of(node), images, draw) for node in mixing}
        self.sums: dict[str, Tensor] = {}
        self.rows: dict[str, int] = {}

    def run_node(self, n: fx.Node) -> Any:  # noqa: ANN401 - as torch declares it
        """Run a node; add what it reads."""
        if n.name in self.places:
            rows = patches(layer_of(n), self.env[inputs(n)[0]], self.places[n.name])[0].double()
            self.sums[n.name] = self.sums.get(n.name, 0.0) + rows.T @ rows
            self.rows[n.name] = self.rows.get(n.name, 0) + len(rows)
        return super().run_node(n)

    def moments(self, name: str) -> Tensor:
        """Return the mean products of a layer's columns, [columns, columns]."""
        return self.sums[name] / self.rows[name]


class _Reader:
    """A layer that reads channels of a space, and what becomes of its weights as they go."""

    def __init__(self, layer: Layer, moments: Tensor, felt: Tensor, classes: Tensor) -> None:
        self.weights, self.felt = matrix(layer)[0], felt.double()
        ridge = RIDGE * moments.diagonal().mean().clamp_min(1e-30)
        self.inverse = torch.linalg.inv(moments + ridge * torch.eye(len(moments), dtype=moments.dtype))
        area = (len(moments) - 1) // len(classes)
        self.columns: dict[int, list[int]] = {}
        for place, one in enumerate(classes.tolist()):
            self.columns.setdefault(one, []).extend(range(place * area, (place + 1) * area))

    def losses(self, classes: Sequence[int]) -> Tensor:
        """Return what it costs to lose each class, [classes]; a class that is not read costs nothing."""
        found = torch.zeros(len(classes), dtype=torch.float64)
        sizes: dict[int, list[int]] = {}
        for place, one in enumerate(classes):
            sizes.setdefault(len(self.columns.get(one, ())), []).append(place)
        for size, places in sizes.items():
            if size:
                columns = torch.tensor([self.columns[classes[place]] for place in places])
                found[places] = self._of_columns(columns)
        return found

    def _of_columns(self, columns: Tensor) -> Tensor:
        """Return the losses of sets of columns, int64 [K, columns]."""
        blocks = self.inverse[columns.unsqueeze(2), columns.unsqueeze(1)]
        weights = self.weights[:, columns].transpose(0, 1)  # [K, O, columns]
        felt = torch.einsum("koc,o,kod->kcd", weights, self.felt, weights)
        lost: Tensor = torch.linalg.solve(blocks, felt).diagonal(dim1=1, dim2=2).sum(1)
        return 0.5 * lost

    def lose(self, classes: Sequence[int]) -> None:
        """Let the other weights take over what these classes said."""
        columns = [column for one in classes for column in self.columns.get(one, ())]
        if not columns:
            return
        taken = torch.linalg.solve(self.inverse[columns][:, columns], self.inverse[columns])
        self.weights = self.weights - self.weights[:, columns] @ taken
        self.inverse = self.inverse - self.inverse[:, columns] @ taken
        self.weights[:, columns] = 0.0


def _ordered(space: Space, reading: Sequence[_Reader]) -> Order:
    """Return the classes of a space from the one that is missed least on; the last one stays."""
    left, gone, losses = list(space.classes), list[int](), [0.0]
    some = max(1, len(left) // AT_ONCE)
    while len(left) > 1:
        found = torch.stack([one.losses(left) for one in reading]).sum(0) if reading else torch.zeros(len(left))
        chosen = [left[place] for place in found.argsort(stable=True)[: min(some, len(left) - 1)].tolist()]
        alone = dict(zip(left, found.tolist(), strict=True))
        for one in chosen:
            losses.append(losses[-1] + alone[one])
        for reader in reading:
            reader.lose(chosen)
        gone, left = gone + chosen, [one for one in left if one not in set(chosen)]
    return Order(space, tuple(gone), tuple(losses))


def order_by(space: Space, importance: Mapping[int, float]) -> Order:
    """Return a space's classes by any importance, which stands for their losses: what others rank by."""
    ranked = sorted(space.classes, key=lambda one: (importance[one], one))[:-1]
    return Order(space, tuple(ranked), tuple(np.cumsum([0.0, *(importance[one] for one in ranked)]).tolist()))
