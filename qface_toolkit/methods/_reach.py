"""How far beyond what was seen a range goes: a tensor with few numbers an image has shown little of its ends.

A tensor of many pixels has been seen thousands of times in every image. One that holds a single number a channel, as
in front of the last layer, has been seen once, and other people's faces reach far beyond: there rounding is cheap, and
clipping is what the worst images lose by. A range is widened as far as that is predicted to cost the embedding least,
where half of what will come is taken to reach further than what was seen, by the less the more pixels there were.
"""

import math

import torch

from qface_toolkit.analysis.statistics import Statistics, quantile_shares
from qface_toolkit.canonical.edit import shape_of
from qface_toolkit.quantize.model import QuantizedModel
from qface_toolkit.quantize.scheme import Range
from qface_toolkit.quantize.target import Target

WIDER = (1.0, 1.05, 1.1, 1.15, 1.2, 1.25, 1.3, 1.4, 1.5, 1.6, 1.7, 1.85, 2.0)
"""What an end is multiplied with, at most by what the least seen of all tensors may be short of."""


def reaching(model: QuantizedModel, seen: Statistics, target: Target) -> dict[str, Range]:
    """Return the ranges of a model, some of them wider; those that are known or not in `seen` stay.

    The network's shapes are noted.
    """
    plan = model.plan
    shapes = {node.name: shape_of(node) for node in model.network.graph.nodes}
    members: dict[str, list[str]] = {}
    for name in seen.values:
        members.setdefault(plan.tensors[name].owner, []).append(name)
    ranges = dict(model.ranges)
    for owner in members.keys() - {plan.owners()[0], *plan.fixed}:
        limits = plan.clamps.get(owner, (-math.inf, math.inf))
        cost = _Cost(model.levels_of(owner, target).steps, ranges[owner], limits)
        for name in members[owner]:
            cost.add(seen.values[name], seen.sensitivity[name], math.prod(shapes[name][2:]))
        ranges[owner] = cost.best()
    return ranges


_ALIKE = 1e-3
"""Share of a range by which the same value may differ from one measurement to another."""


class _Cost:
    """What a range is predicted to cost, by rounding and by clipping what may come beside what an observer holds."""

    def __init__(self, steps: int, seen: Range, limits: tuple[float, float]) -> None:
        self.steps, self.seen, self.limits = steps, seen, limits
        self.values: list[torch.Tensor] = []
        self.weights: list[torch.Tensor] = []
        self.rounded = 0.0

    def add(self, values: torch.Tensor, sensitivity: torch.Tensor, pixels: int) -> None:
        """Add a tensor: the quantiles of its channels [C, levels], their sensitivity [C], and its pixels.

        What an observer clips on purpose, by more than float sums differ, stays clipped and says nothing here.
        """
        (low, high), (lowest, highest) = (self.seen.low, self.seen.high), self.limits
        held = (values - values.clamp(low, high)).abs() <= _ALIKE * (high - low)
        self.values.append((values * (1 + pixels**-0.5)).clamp(lowest, highest))
        self.weights.append(sensitivity[:, None] * quantile_shares() / 2 * held)
        self.rounded += float(sensitivity.sum())

    def best(self) -> Range:
        """Return the cheapest range around the one seen: its upper end, its lower one, then both again."""
        (low, high), (lowest, highest) = (self.seen.low, self.seen.high), self.limits
        for _ in range(2):
            high = min((min(self.seen.high * by, highest) for by in WIDER), key=lambda end: self.of(low, end))
            low = min((max(self.seen.low * by, lowest) for by in WIDER), key=lambda end: self.of(end, high))
        return Range(low, high)

    def of(self, low: float, high: float) -> float:
        """Return twice the loss in cosine that the range from `low` to `high` costs."""
        clipped = sum(
            float((weights * ((values - high).clamp_min(0) + (low - values).clamp_min(0)).square()).sum())
            for values, weights in zip(self.values, self.weights, strict=True)
        )
        return self.rounded * ((high - low) / self.steps) ** 2 / 12 + clipped
