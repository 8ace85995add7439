"""Where the bytes are and where the milliseconds go, as figures: a block of each ONNX file in report.json."""

from typing import Annotated

from pydantic import Field

from qface_toolkit.report.figures import Block, Count, Rate
from qface_toolkit.runtimes.cost import Cost
from qface_toolkit.runtimes.fusion import Arithmetic, Fusion

Milliseconds = Annotated[float, Field(ge=0)]


class LayerCostFigures(Block):
    """What one layer of a file costs; `operators` are those that the runtime made of it."""

    name: str
    size_bytes: Count
    time_ms: Milliseconds | None = None
    operators: dict[str, Count] = {}


class KindFigures(Block):
    """All operators of one kind and arithmetic; `share` is that of the whole time."""

    kind: str
    arithmetic: Arithmetic
    count: Count
    time_ms: Milliseconds | None = None
    share: Rate | None = None


class CostFigures(Block):
    """The layers of a file in order of execution, and its operators by kind, the most expensive first.

    The times are those of one image on one thread, operator by operator: the runtime's own profile, which costs time
    itself. `other_bytes` are names, the graph, and what the file says of itself.
    """

    layers: tuple[LayerCostFigures, ...]
    kinds: tuple[KindFigures, ...]
    other_bytes: Count

    @property
    def size_bytes(self) -> int:
        """The bytes of the file."""
        return self.other_bytes + sum(layer.size_bytes for layer in self.layers)

    @property
    def time_ms(self) -> float | None:
        """The time of all layers together, None if it was not measured."""
        times = [layer.time_ms for layer in self.layers if layer.time_ms is not None]
        return sum(times) if times else None


def cost_figures(cost: Cost, fusion: Fusion) -> CostFigures:
    """Return what was measured of a file."""
    layers = tuple(
        LayerCostFigures(
            name=layer.name,
            size_bytes=layer.size_bytes,
            time_ms=_ms(layer.time_us),
            operators=dict(sorted(layer.operators.items())),
        )
        for layer in cost.layers
    )
    kinds = tuple(
        KindFigures(
            kind=kind.kind,
            arithmetic=kind.arithmetic,
            count=kind.count,
            time_ms=_ms(kind.time_us),
            share=kind.share,
        )
        for kind in fusion.kinds()
    )
    return CostFigures(layers=layers, kinds=kinds, other_bytes=cost.other_bytes)


def _ms(time_us: float | None) -> float | None:
    return None if time_us is None else time_us / 1000
