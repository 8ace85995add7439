"""How many channels each space loses for a budget: first what costs the embedding least for what it saves.

What is saved depends on the widths around: a convolution costs by what it reads times what it makes. So nothing is
added up beforehand: after every loss the next ones are priced anew, by what the network would cost with them.
"""

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

from torch import fx

from qface_toolkit.analysis.elimination import Order
from qface_toolkit.analysis.removable import Narrower, Removable
from qface_toolkit.canonical.graph import inputs

Prices = Callable[[fx.GraphModule], Mapping[str, float]]
"""Returns what each operation of a network costs, by the name of its tensor."""

STRIDES = 4
"""How many steps ahead are looked at: a width between two that kernels like saves nothing by itself."""
FEWEST = 8
"""Channels that every space keeps."""


@dataclass(frozen=True)
class Narrowing:
    """How many of each space's first classes go, what the network then costs, and the loss that is predicted."""

    lost: tuple[int, ...]
    cost: float
    loss: float

    def gone(self, orders: Sequence[Order]) -> list[int]:
        """Return the classes that go."""
        return [one for order, count in zip(orders, self.lost, strict=True) for one in order.classes[:count]]


class _Costs:
    """What a network costs by how many channels each space has lost; an operation is priced once for each width."""

    def __init__(self, network: fx.GraphModule, removable: Removable, orders: Sequence[Order], prices: Prices) -> None:
        self.narrower, self.orders, self.prices = Narrower(network, removable), orders, prices
        self.around = {node.name: self._spaces_around(node) for node in network.graph.nodes}
        self.known: dict[tuple[str, tuple[int, ...]], float] = {}
        self.names: set[str] = set()
        self.total((0,) * len(orders))

    def _spaces_around(self, node: fx.Node) -> tuple[int, ...]:
        names = {node.name, *(source.name for source in inputs(node))}
        return tuple(place for place, order in enumerate(self.orders) if names & {*order.space.tensors})

    def _key(self, name: str, lost: Sequence[int]) -> tuple[str, tuple[int, ...]]:
        return name, tuple(lost[place] for place in self.around.get(name, ()))

    def total(self, lost: tuple[int, ...]) -> float:
        """Return the cost of the network without the first so many classes of each space."""
        keys = [self._key(name, lost) for name in self.names]
        if not keys or any(key not in self.known for key in keys):
            gone = Narrowing(lost, 0.0, 0.0).gone(self.orders)
            for name, price in self.prices(self.narrower.without(gone)).items():
                self.names.add(name)
                self.known[self._key(name, lost)] = price
            keys = [self._key(name, lost) for name in self.names]
        return sum(self.known.get(key, 0.0) for key in keys)


def narrow_to(
    network: fx.GraphModule,
    removable: Removable,
    orders: Sequence[Order],
    prices: Prices,
    share: float,
    step: int,
) -> Narrowing:
    """Return the narrowing of least predicted loss whose network costs at most a share of what it costs whole.

    Spaces keep multiples of `step` channels. If the share is out of reach, the smallest network is returned.
    """
    costs = _Costs(network, removable, orders, prices)
    now = Narrowing((0,) * len(orders), costs.total((0,) * len(orders)), 0.0)
    wanted = share * now.cost
    while now.cost > wanted:
        found = [one for place in range(len(orders)) for one in _next(now, place, orders, costs, step)]
        if not found:
            break
        enough = [one for one in found if one.cost <= wanted]
        if enough:
            return min(enough, key=lambda one: (one.loss, one.cost))
        now = min(found, key=lambda one, now=now: (one.loss - now.loss) / (now.cost - one.cost))  # type: ignore[misc]
    return now


def smallest(network: fx.GraphModule, removable: Removable, orders: Sequence[Order], prices: Prices) -> Narrowing:
    """Return the narrowing that leaves the fewest channels."""
    lost = tuple(max(0, len(order.space.classes) - FEWEST) for order in orders)
    loss = sum(order.losses[count] for order, count in zip(orders, lost, strict=True))
    return Narrowing(lost, _Costs(network, removable, orders, prices).total(lost), loss)


def _next(now: Narrowing, place: int, orders: Sequence[Order], costs: _Costs, step: int) -> list[Narrowing]:
    """Return the narrowings in which one space loses a little more, and which cost less."""
    order, lost = orders[place], now.lost[place]
    whole = len(order.space.classes)
    found = []
    first = whole - step * math.ceil((whole - lost) / step - 1)  # the next width that is a multiple of the step
    for count in range(first, first + STRIDES * step, step):
        if whole - count < FEWEST:
            break
        longer = (*now.lost[:place], count, *now.lost[place + 1 :])
        cost = costs.total(longer)
        if cost < now.cost:
            loss = now.loss + order.losses[count] - order.losses[lost]
            found.append(Narrowing(longer, cost, loss))
    return found
