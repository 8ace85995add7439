"""Where the bytes are and where the milliseconds go: a block of each ONNX file in report.json, and its section."""

from collections.abc import Mapping, Sequence
from functools import partial
from typing import Annotated

from pydantic import Field

from qface_toolkit.report import plots
from qface_toolkit.report.figures import (
    LONGEST_KIND,
    NOTHING,
    Block,
    Count,
    Rate,
    clean,
    fine_cosine,
    milliseconds,
    percent,
)
from qface_toolkit.report.page import Cell, Plot, Section, Table
from qface_toolkit.report.parity import LayerFigures
from qface_toolkit.runtimes.cost import Cost
from qface_toolkit.runtimes.fusion import Arithmetic, Fusion

RUNS_ON: Mapping[Arithmetic, str] = {"integer": "integers", "float": "float", "move": "(moves data)"}
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
            time_ms=milliseconds_of(layer.time_us),
            operators=dict(sorted(layer.operators.items())),
        )
        for layer in cost.layers
    )
    return CostFigures(layers=layers, kinds=kind_figures(fusion), other_bytes=cost.other_bytes)


def kind_figures(fusion: Fusion) -> tuple[KindFigures, ...]:
    """Return what a runtime runs for a file, by kind of operator."""
    return tuple(
        KindFigures(
            kind=kind.kind,
            arithmetic=kind.arithmetic,
            count=kind.count,
            time_ms=milliseconds_of(kind.time_us),
            share=kind.share,
        )
        for kind in fusion.kinds()
    )


def milliseconds_of(time_us: float | None) -> float | None:
    """Return a time in milliseconds, None where none was measured."""
    return None if time_us is None else time_us / 1000


def cost_section(
    name: str,
    cost: CostFigures,
    median_ms: float | None,
    compared: LayerFigures | None,
    files: Mapping[str, CostFigures],
) -> Section:
    """Return the layers of the file `name`, and of all timed `files` the operators by kind.

    `median_ms` is the median time of whole calls, `compared` what the tensors of a simulation lose.
    """
    what = f"{clean(name)}: bytes and time of each layer"
    kilobytes = [layer.size_bytes / 1e3 for layer in cost.layers]
    times_ms = None if cost.time_ms is None else [layer.time_ms or 0.0 for layer in cost.layers]
    draw = partial(plots.cost_picture, [layer.name for layer in cost.layers], kilobytes, times_ms)
    plot = Plot("plot-cost", what, "The table of layers has the figures.", draw)
    kinds = [kinds_table(f"What runs for {clean(file)}", one.kinds) for file, one in files.items()]
    parts = [Section("kinds", "By kind of operator", blocks=kinds)] if kinds else []
    said = (_cost_said(cost, median_ms), "Bytes are the file's own constants, booked on the layer that reads them.")
    blocks = (plot, _layers_table(clean(name), cost, compared))
    title = "Where the bytes are and where the milliseconds go"
    return Section("layers", title, said, blocks, parts, page_only=True)


def _cost_said(cost: CostFigures, median_ms: float | None) -> str:
    largest = max(cost.layers, key=lambda layer: layer.size_bytes)
    most = f"Most bytes are in {clean(largest.name)} ({percent(largest.size_bytes / cost.size_bytes)})"
    if cost.time_ms is None or median_ms is None:
        return f"{most}. The file was not timed."
    slowest = max(cost.layers, key=lambda layer: layer.time_ms or 0.0)
    share = percent((slowest.time_ms or 0.0) / cost.time_ms) if cost.time_ms else NOTHING
    profiled = f"{milliseconds(cost.time_ms)} ms in the runtime's own profile of one image on one thread"
    median = f"{milliseconds(median_ms)} ms is the median of whole calls"
    return f"{most}, most time goes into {clean(slowest.name)} ({share} of {profiled}; {median})."


def _layers_table(name: str, cost: CostFigures, compared: LayerFigures | None) -> Table:
    tensors = {one.tensor: one for one in compared.tensors} if compared else {}
    bytes_most = max((layer.size_bytes for layer in cost.layers), default=0) or 1
    time_most = max((layer.time_ms or 0.0 for layer in cost.layers), default=0) or 1
    rows: list[list[str | Cell]] = []
    for layer in cost.layers:
        kinds = " + ".join(kind if n == 1 else f"{n} {kind}" for kind, n in layer.operators.items()) or "(folded)"
        time = NOTHING if layer.time_ms is None else Cell(f"{layer.time_ms:.3f}", layer.time_ms / time_most)
        size = Cell(f"{layer.size_bytes / 1e3:.1f}", layer.size_bytes / bytes_most)
        close = tensors.get(layer.name)
        agreed = (fine_cosine(close.cosine), f"{close.drop:.5f}") if close else (NOTHING, NOTHING)
        rows.append([clean(layer.name, 60), clean(kinds, 80), size, time, *agreed])
    rows.append(["names, graph and facts", "", f"{cost.other_bytes / 1e3:.1f}", NOTHING, NOTHING, NOTHING])
    total = NOTHING if cost.time_ms is None else f"{cost.time_ms:.3f}"
    rows.append(["in all", "", f"{cost.size_bytes / 1e3:.1f}", total, NOTHING, NOTHING])
    headings = ("layer", "operators in the runtime", "kB", "ms", "cosine to float", "drop")
    return Table(f"Every layer of {name}, in order of execution", headings, rows, texts=2)


def kinds_table(caption: str, kinds: Sequence[KindFigures]) -> Table:
    """Return operators by kind: what they run on, how many they are, and their time."""
    rows = [
        [
            clean(kind.kind, LONGEST_KIND),
            RUNS_ON[kind.arithmetic],
            str(kind.count),
            NOTHING if kind.time_ms is None else f"{kind.time_ms:.3f}",
            NOTHING if kind.share is None else Cell(percent(kind.share), kind.share),
        ]
        for kind in kinds
    ]
    return Table(caption, ("operator", "runs on", "count", "ms", "share"), rows, texts=2)
