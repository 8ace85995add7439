"""How far below zero a PReLU's input must be held: an error there reaches the output times its channel's slope.

Slopes are small as a rule, so the far end of what a convolution makes below zero is hardly felt behind the PReLU, and a
grid that ends before it is finer for everything else. The end is that of the least squared error of the output, of
rounding and of clipping together, where clipping counts more.
"""

from collections.abc import Mapping
from dataclasses import dataclass, replace

import numpy as np
import numpy.typing as npt
import torch
from torch import fx

from qface_toolkit.canonical.graph import inputs, module, operation
from qface_toolkit.quantize.model import QuantizedModel
from qface_toolkit.quantize.scheme import Range, hull, rounding_noise

FELT_IMAGES = 64
"""Images that say what lies below zero; every one has thousands of numbers a channel."""
CAUTION = 4.0
"""What clipping counts beside rounding: it falls on few images, and others may reach further than these."""
AT_ONCE = 8
"""Images of a pass: counting takes several times the memory of a tensor."""
BINS = 512
FARTHEST = 64.0
"""How many times as far as the output an input is held, at most: beyond, a grid has nothing left for other channels."""
ENDS = 81
"""Ends that are tried, from the lowest number to the lowest of the output."""


@dataclass(frozen=True)
class Felt:
    """The range that a PReLU's input is held in, and the squared error of clipping, on average, that the output feels.

    `owner` owns the range.
    """

    owner: str
    range: Range
    clipped: float


def felt_inputs(model: QuantizedModel, images: npt.NDArray[np.float32]) -> dict[str, Felt]:
    """Return the range of the input of each PReLU that alone reads it, by its name, where that can be smaller."""
    prelus = [node for node in model.network.graph.nodes if operation(node) == "prelu" and _may_end(model, node)]
    if not prelus:
        return {}
    recorder = _Below(model, prelus)
    with torch.no_grad():
        for start in range(0, len(images), AT_ONCE):
            recorder.run(torch.from_numpy(images[start : start + AT_ONCE]))
    return {node.name: recorder.felt(node) for node in prelus}


def _may_end(model: QuantizedModel, prelu: fx.Node) -> bool:
    """Tell whether a PReLU alone reads its input, which has a range of its own that reaches below the output's."""
    (before,), plan = inputs(prelu), model.plan
    if len(before.users) > 1 or before.name not in plan.tensors:
        return False
    owner = plan.tensors[before.name].owner
    alone = sum(one.owner == owner for one in plan.tensors.values()) == 1
    return alone and model.ranges[owner].low < model.ranges[plan.tensors[prelu.name].owner].low


class _Below(fx.Interpreter):
    """Runs the float network and counts what lies below zero in front of PReLUs, by the squares of their slopes."""

    def __init__(self, model: QuantizedModel, prelus: list[fx.Node]) -> None:
        super().__init__(model.network)
        self.model = model
        self.readers: Mapping[str, fx.Node] = {inputs(node)[0].name: node for node in prelus}
        self.counts = {node.name: torch.zeros(BINS, dtype=torch.float64) for node in prelus}
        self.numbers = dict.fromkeys(self.counts, 0)
        self.far = dict.fromkeys(self.counts, 0.0)

    def run_node(self, n: fx.Node) -> object:
        """Run a node and count what it makes."""
        value = super().run_node(n)
        if n.name in self.readers and isinstance(value, torch.Tensor):
            self._count(self.readers[n.name], value)
        return value

    def _count(self, prelu: fx.Node, value: torch.Tensor) -> None:
        low, slopes = self._lowest(prelu), module(prelu).weight.detach()
        weights = slopes.square().double().reshape(1, -1, *[1] * (value.dim() - 2)).expand(value.shape)
        below = value < 0
        places = (value[below] * (BINS / low)).long().clamp_(max=BINS - 1)
        self.counts[prelu.name] += torch.bincount(places, weights[below], minlength=BINS)
        beyond = value < low
        self.far[prelu.name] += float((weights[beyond] * (value[beyond] - low).double().square()).sum())
        self.numbers[prelu.name] += value.numel()

    def _before(self, prelu: fx.Node) -> Range:
        return self.model.ranges[self._owner(inputs(prelu)[0])]

    def _lowest(self, prelu: fx.Node) -> float:
        """Return the lowest end that is thought of."""
        own = self.model.ranges[self._owner(prelu)]
        return max(self._before(prelu).low, -FARTHEST * max(-own.low, own.high))

    def _owner(self, node: fx.Node) -> str:
        return self.model.plan.tensors[node.name].owner

    def felt(self, prelu: fx.Node) -> Felt:
        """Return the best range of a PReLU's input."""
        before, own, lowest = self._before(prelu), self.model.ranges[self._owner(prelu)], self._lowest(prelu)
        counts, whole = self.counts[prelu.name].numpy() / self.numbers[prelu.name], hull([before, own])
        centres, far = (np.arange(BINS) + 0.5) / BINS * lowest, self.far[prelu.name] / self.numbers[prelu.name]
        best: tuple[float, float, float] | None = None
        for low in np.linspace(lowest, own.low, ENDS):
            clipped = far + float((counts * np.maximum(low - centres, 0) ** 2).sum())
            error = rounding_noise(Range(float(low), whole.high)) + CAUTION * clipped
            best = min(best or (error, float(low), clipped), (error, float(low), clipped))
        assert best is not None, "one end at least was tried"
        return Felt(self._owner(inputs(prelu)[0]), replace(before, low=best[1]), best[2])
