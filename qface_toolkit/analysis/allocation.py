"""Which width each layer's weights get: one choice a layer, the least loss within so many bytes, or the reverse.

Losses of layers add up as long as they are small, so this is a multiple-choice knapsack. Dynamic programming over
units of the limited quantity solves it: exactly where a unit is one byte, else with sizes rounded up, so that the
answer always fits. The bound of the problem's Lagrangian dual (Sinha and Zoltners, "The multiple-choice knapsack
problem", Operations Research 27, 1979) says how far from the optimum it can be at most.
"""

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import cast

import numpy as np
import numpy.typing as npt

UNITS = 1 << 15
"""Steps of the limited quantity, between the least that there is and the limit; the work and the precision."""
ROUNDING = 1e-9
"""Share of a limit on a sum of floats by which the sum may be larger: what adding them in another order changes."""

Floats = npt.NDArray[np.float64]


@dataclass(frozen=True)
class Choice:
    """One width of a layer's weights: the bytes it takes and what it loses, 1 - cosine to float."""

    bits: int
    size_bytes: int
    loss: float


Layers = Sequence[Sequence[Choice]]
"""The choices of each layer; every layer has one at least."""


@dataclass(frozen=True)
class Allocation:
    """One choice for each layer, their sums, and how little what was minimised could be at best.

    `bound` is a loss if bytes were limited, and bytes if the loss was.
    """

    choices: tuple[Choice, ...]
    bound: float

    @property
    def size_bytes(self) -> int:
        """Return the bytes of all choices."""
        return sum(choice.size_bytes for choice in self.choices)

    @property
    def loss(self) -> float:
        """Return the sum of the choices' losses."""
        return math.fsum(choice.loss for choice in self.choices)


class OutOfReach(Exception):  # noqa: N818 - it names what happened, and is turned into the user's words by whoever asked
    """The limit is below what any choice of widths reaches; `closest` reaches the least, at the least cost."""

    def __init__(self, closest: Allocation) -> None:
        super().__init__(f"the smallest is {closest.size_bytes} bytes and the least loss {closest.loss}")
        self.closest = closest


def least_loss(layers: Layers, size_bytes: int) -> Allocation:
    """Return the choices that lose least within so many bytes; of several such, those of fewer bytes.

    Raises:
        OutOfReach: if the smallest choices of all layers take more.
    """
    return _solved(layers, _loss, _size, size_bytes)


def fewest_bytes(layers: Layers, loss: float) -> Allocation:
    """Return the choices of fewest bytes that lose no more than this.

    Raises:
        OutOfReach: if the choices that lose least lose more.
    """
    return _solved(layers, _size, _loss, loss)


_Measure = Callable[[Choice], float]


def _size(choice: Choice) -> float:
    return choice.size_bytes


def _loss(choice: Choice) -> float:
    return choice.loss


@dataclass(frozen=True)
class _Layer:
    """The choices of a layer that no other beats in both quantities: less limited first, so dearer first."""

    choices: tuple[Choice, ...]
    cost: Floats
    limited: Floats


def _solved(layers: Layers, cost: _Measure, limited: _Measure, limit: float) -> Allocation:
    """Return the choices of least cost whose limited quantities sum up to the limit at most."""
    useful = [_useful(choices, cost, limited) for choices in layers]
    least = math.fsum(layer.limited[0] for layer in useful)
    if least > limit + abs(limit) * ROUNDING:
        closest = tuple(layer.choices[0] for layer in useful)
        raise OutOfReach(Allocation(closest, math.fsum(map(cost, closest))))
    spare = max(limit - least, 0.0)
    whole = all(float(value).is_integer() for layer in useful for value in layer.limited)
    unit = max(spare / UNITS, 1.0) if whole else spare / UNITS or 1.0
    places = _filled(useful, _best_places(useful, int(spare / unit * (1 + ROUNDING)), unit), spare)
    chosen = tuple(layer.choices[place] for layer, place in zip(useful, places, strict=True))
    return Allocation(chosen, min(_dual_bound(useful, spare), math.fsum(map(cost, chosen))))


def _useful(choices: Sequence[Choice], cost: _Measure, limited: _Measure) -> _Layer:
    kept: list[Choice] = []
    for choice in sorted(choices, key=lambda one: (limited(one), cost(one), one.bits)):
        if not kept or cost(choice) < cost(kept[-1]):
            kept.append(choice)
    return _Layer(tuple(kept), np.array([*map(cost, kept)], float), np.array([*map(limited, kept)], float))


def _best_places(layers: Sequence[_Layer], units: int, unit: float) -> list[int]:
    """Return the place of each layer's choice by dynamic programming over so many units beyond the least."""
    steps = [_steps(layer, units, unit) for layer in layers]
    best = np.zeros(units + 1)
    taken = np.zeros((len(layers), units + 1), np.uint8)
    for layer, step, chosen in zip(layers, steps, taken, strict=True):
        before, best = best, best + layer.cost[0]
        for place in range(1, int(np.searchsorted(step, units, "right"))):
            there = before[: units + 1 - step[place]] + layer.cost[place]
            better = there < best[step[place] :]
            best[step[place] :][better] = there[better]
            chosen[step[place] :][better] = place
    left = int(np.argmax(best == best[-1]))
    places: list[int] = []
    for step, chosen in zip(reversed(steps), reversed(taken), strict=True):
        places.append(int(chosen[left]))
        left -= int(step[places[-1]])
    return places[::-1]


def _steps(layer: _Layer, units: int, unit: float) -> npt.NDArray[np.int64]:
    """Return the units of each choice beyond the layer's least, rounded up; what is too many is one too many."""
    beyond = np.minimum(layer.limited - layer.limited[0], (units + 1) * unit)
    return cast("npt.NDArray[np.int64]", np.ceil(beyond / unit * (1 - ROUNDING)).astype(np.int64))


def _filled(layers: Sequence[_Layer], places: list[int], spare: float) -> list[int]:
    """Return better places, one layer at a time, with what rounding up to units left unused."""
    taken = (layer.limited[place] - layer.limited[0] for layer, place in zip(layers, places, strict=True))
    left = spare - math.fsum(taken)
    while True:
        gains = [
            (layer.cost[places[number]] - layer.cost[place], number, place)
            for number, layer in enumerate(layers)
            for place in range(places[number] + 1, len(layer.choices))
            if layer.limited[place] - layer.limited[places[number]] <= left
        ]
        if not gains:
            return places
        _, number, place = max(gains, key=lambda gain: (gain[0], -gain[1], -gain[2]))
        left -= layers[number].limited[place] - layers[number].limited[places[number]]
        places = [*places[:number], place, *places[number + 1 :]]


def _dual_bound(layers: Sequence[_Layer], spare: float) -> float:
    """Return a lower bound of the cost: the maximum of the Lagrangian dual, where the convex hulls' steps run out.

    Steps from one corner of a hull to the next are taken in the order of what they save for what they take.
    """
    steps = [step for layer in layers for step in _hull_steps(layer)]
    left, price = spare, 0.0
    for takes, saves in sorted(steps, key=lambda step: (-step[1] / step[0], step)):
        if takes > left:
            price = saves / takes
            break
        left -= takes
    reduced = [float(np.min(layer.cost + price * (layer.limited - layer.limited[0]))) for layer in layers]
    return math.fsum(reduced) - price * spare


def _hull_steps(layer: _Layer) -> list[tuple[float, float]]:
    """Return (takes, saves) of each step along the lower convex hull of (limited, cost)."""
    corners: list[int] = []
    for place in range(len(layer.choices)):
        while len(corners) > 1 and _slope(layer, corners[-2], corners[-1]) >= _slope(layer, corners[-1], place):
            corners.pop()
        corners.append(place)
    pairs = zip(corners, corners[1:], strict=False)
    return [(float(layer.limited[b] - layer.limited[a]), float(layer.cost[a] - layer.cost[b])) for a, b in pairs]


def _slope(layer: _Layer, first: int, second: int) -> float:
    rise, run = layer.cost[second] - layer.cost[first], layer.limited[second] - layer.limited[first]
    return cast(float, rise / run)
