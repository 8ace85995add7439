"""What a calibration set says about every channel of a network: its values, and how much the embedding feels of it.

The second is the diagonal of the Fisher information of the embedding's direction: a small error e in a tensor turns
the embedding by J e, and the loss in cosine is half the squared length of that. Its expectation over independent errors
needs only the sum of squares of J's columns, which random projections of the embedding estimate in a few backward
passes. The same passes say it of the weights.
"""

import math
from collections.abc import Callable, Collection, Mapping
from dataclasses import dataclass
from typing import Any, cast

import numpy as np
import numpy.typing as npt
import torch
import torch.nn.functional as F  # noqa: N812 - the name everybody knows it by
from torch import fx, nn

from qface_toolkit.canonical.edit import ensure_shapes, shape_of
from qface_toolkit.canonical.graph import module, operation
from qface_toolkit.quantize.plan import LAYERS

PROJECTIONS = 1
"""Random projections a batch; the estimate's noise falls with their number times that of the images."""
STATISTICS_PASSES = 1 + 2 * PROJECTIONS
"""Passes through the network that an image costs; a backward pass counts as two."""
PIXELS = 16
"""Values of a channel that are kept of an image."""
MOST_NUMBERS = 220_000_000
"""Numbers of all tensors that a pass makes at once; with its way back it takes twelve bytes for each."""
_STEEP = ("sqrt", "power")
"""Islands whose slope is infinite where a number is zero, as behind a ReLU or of pixels that are all alike."""
_TAIL = torch.linspace(0, 0.02, 17)
LEVELS = torch.cat([_TAIL, torch.linspace(0.02, 0.98, 33)[1:-1], 1 - _TAIL.flip(0)])
"""The quantiles that stand for a channel's values: dense where clipping begins."""


@dataclass(frozen=True)
class Statistics:
    """What was seen of a network.

    `values` holds the quantiles (LEVELS) of each tensor's channels [C, levels], the first and last its true ends.
    `sensitivity` holds, for each channel [C] of a tensor, the squared turn of the embedding for an error of unit
    variance in every pixel; `weights` the same for each input channel of each output channel [O, I] of a layer.
    """

    values: Mapping[str, torch.Tensor]
    sensitivity: Mapping[str, torch.Tensor]
    weights: Mapping[str, torch.Tensor]


def quantile_shares() -> torch.Tensor:
    """Return the share of the values that each quantile of LEVELS stands for."""
    steps = LEVELS.diff() / 2
    return F.pad(steps, (0, 1)) + F.pad(steps, (1, 0))


def measure_statistics(
    network: fx.GraphModule,
    tensors: Collection[str],
    images: npt.NDArray[np.float32],
    *,
    seed: int,
    batch_size: int,
    progress: Callable[[int, int], None],
) -> Statistics:
    """Measure some of a canonical network's tensors and all its weights on images [N, C, height, width]."""
    batch_size = min(batch_size, _images_at_once(network, images))
    watcher = _Watcher(network, frozenset(tensors), seed)
    for start in range(0, len(images), batch_size):
        watcher.see(torch.from_numpy(images[start : start + batch_size]))
        progress(min(start + batch_size, len(images)), len(images))
    return watcher.statistics(len(images))


def _images_at_once(network: fx.GraphModule, images: npt.NDArray[np.float32]) -> int:
    """Return how many images a pass and its way back have room for: both hold every number of the network."""
    ensure_shapes(network, (images.shape[2], images.shape[3]), images.shape[1])
    nodes = (node for node in network.graph.nodes if operation(node) != "output")
    return max(1, MOST_NUMBERS // sum(math.prod(shape_of(node)[1:]) for node in nodes))


def _finite(slopes: torch.Tensor) -> torch.Tensor:
    """Take slopes that are infinite for none: a number that is zero is rounded to zero."""
    return torch.nan_to_num(slopes, nan=0.0, posinf=0.0, neginf=0.0)


class _Watcher(fx.Interpreter):
    """Runs batches through a network, keeps its tensors for a backward pass, and adds up what that says."""

    def __init__(self, network: fx.GraphModule, tensors: frozenset[str], seed: int) -> None:
        super().__init__(network)
        self.tensors = tensors
        self.draw = torch.Generator().manual_seed(seed)
        layers = {node.name: module(node) for node in network.graph.nodes if operation(node) in LAYERS}
        self.layers = cast(dict[str, nn.Conv2d | nn.Linear], layers)
        self.kept: dict[str, torch.Tensor] = {}
        self.samples: dict[str, list[torch.Tensor]] = {}
        self.lows: dict[str, torch.Tensor] = {}
        self.highs: dict[str, torch.Tensor] = {}
        self.squares: dict[str, torch.Tensor] = {}
        self.weight_squares: dict[str, torch.Tensor] = {}

    def run_node(self, n: fx.Node) -> Any:  # noqa: ANN401 - as torch declares it
        """Run a node and keep what it makes."""
        if operation(n) == "island" and module(n).kind in _STEEP:
            for one in [one for one in n.all_input_nodes if self.env[one].requires_grad]:
                self.env[one] = self.env[one].view_as(self.env[one])
                self.env[one].register_hook(_finite)
        made = super().run_node(n)
        if n.name in self.tensors:
            made = made if made.requires_grad else made.clone().requires_grad_(True)
            self.kept[n.name] = made
        return made

    def see(self, images: torch.Tensor) -> None:
        """Add one batch."""
        with _tracked(list(self.layers.values())) as weights:
            directions = F.normalize(self.run(images))
            for name, made in self.kept.items():
                self._sample(name, made.detach())
            for left in reversed(range(PROJECTIONS)):
                projected = (directions * torch.randn(directions.shape, generator=self.draw)).sum()
                found = torch.autograd.grad(projected, [*self.kept.values(), *weights], retain_graph=left > 0)
                self._add(found)
        self.kept.clear()

    def _sample(self, name: str, made: torch.Tensor) -> None:
        by_channel = made.reshape(*made.shape[:2], -1).transpose(0, 1).flatten(1)
        count = PIXELS * len(made)
        places = torch.randint(by_channel.shape[1], (count,), generator=self.draw)
        some = by_channel[:, places] if by_channel.shape[1] > count else by_channel
        self.samples.setdefault(name, []).append(some)
        self.lows[name] = torch.minimum(self.lows.get(name, torch.tensor(torch.inf)), by_channel.amin(1))
        self.highs[name] = torch.maximum(self.highs.get(name, torch.tensor(-torch.inf)), by_channel.amax(1))

    def _add(self, gradients: tuple[torch.Tensor, ...]) -> None:
        """Add the squares: of the tensors' by image and pixel, of the weights' by kernel position.

        The projections of different images are independent, so the square of their sum is the sum of their squares.
        """
        for name, gradient in zip(self.kept, gradients, strict=False):
            square = gradient.pow(2).sum(dim=[axis for axis in range(gradient.dim()) if axis != 1])
            self.squares[name] = self.squares.get(name, 0.0) + square
        for name, gradient in zip(self.layers, gradients[len(self.kept) :], strict=True):
            square = gradient.pow(2).reshape(*gradient.shape[:2], -1).sum(2)
            self.weight_squares[name] = self.weight_squares.get(name, 0.0) + square

    def statistics(self, images: int) -> Statistics:
        """Return what was seen."""
        values = {name: self._quantiles(name) for name in self.samples}
        share = 1 / (PROJECTIONS * images)
        return Statistics(
            values,
            {name: square * share for name, square in self.squares.items()},
            {name: square * share for name, square in self.weight_squares.items()},
        )

    def _quantiles(self, name: str) -> torch.Tensor:
        """Return the quantiles of each channel's samples, and its true ends."""
        samples = torch.cat(self.samples[name], 1)
        quantiles = samples.sort(1).values[:, (LEVELS * (samples.shape[1] - 1)).long()].contiguous()
        quantiles[:, 0], quantiles[:, -1] = self.lows[name], self.highs[name]
        return quantiles


class _tracked:  # noqa: N801 - a context manager reads like a verb
    """Lets gradients reach the weights of layers for a while."""

    def __init__(self, layers: list[nn.Conv2d | nn.Linear]) -> None:
        self.weights = [layer.weight for layer in layers]
        self.before = [weight.requires_grad for weight in self.weights]

    def __enter__(self) -> list[torch.Tensor]:
        for weight in self.weights:
            weight.requires_grad_(True)
        return self.weights

    def __exit__(self, *_: object) -> None:
        for weight, before in zip(self.weights, self.before, strict=True):
            weight.requires_grad_(before)
