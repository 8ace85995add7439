"""Where the bytes are and where the milliseconds go: a block of each ONNX file in report.json, and its section."""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
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
LOST_SHOWN = 6
UNSURE, UNSURE_MS = 0.1, 0.003
"""By how much more than in float, as a share and in milliseconds, a profile cannot tell that a layer takes."""
Milliseconds = Annotated[float, Field(ge=0)]


class LayerCostFigures(Block):
    """What one layer of a file costs; `operators` are those that the runtime made of it.

    `predicted_ms` is what the table of operator times gives, `float_ms` the time of the same layer in float.fast.onnx.
    """

    name: str
    size_bytes: Count
    time_ms: Milliseconds | None = None
    predicted_ms: Milliseconds | None = None
    float_ms: Milliseconds | None = None
    operators: dict[str, Count] = {}

    @property
    def beside_float(self) -> tuple[float, float] | None:
        """The time of the layer and its time in float, if both are known."""
        return None if self.time_ms is None or self.float_ms is None else (self.time_ms, self.float_ms)


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
    def losers(self) -> tuple["LayerCostFigures", ...]:
        """The layers that take longer than in float by more than a profile is unsure of, the worst first."""
        pairs = [(layer, *both) for layer in self.layers if (both := layer.beside_float) is not None]
        lost = [(layer, mine - other) for layer, mine, other in pairs if mine - other > UNSURE * other + UNSURE_MS]
        return tuple(layer for layer, _ in sorted(lost, key=lambda pair: -pair[1]))

    @property
    def time_ms(self) -> float | None:
        """The time of all layers together, None if it was not measured."""
        times = [layer.time_ms for layer in self.layers if layer.time_ms is not None]
        return sum(times) if times else None


@dataclass(frozen=True)
class Beside:
    """What a file's layers are put beside: microseconds that were predicted, and those in float.fast.onnx."""

    predicted_us: Mapping[str, float] = field(default_factory=dict)
    float_us: Mapping[str, float] = field(default_factory=dict)


def in_layers(times_us: Mapping[str, float], layers: Sequence[str]) -> dict[str, float]:
    """Return times of parts, in order of execution, booked on the layers that they go into: the next one that is there.

    An integer kernel holds a convolution and the PReLU behind it, which in float are two.
    """
    found: dict[str, float] = {}
    waiting, known = 0.0, set(layers)
    for part, time in times_us.items():
        waiting += time
        if part in known:
            found[part], waiting = found.get(part, 0.0) + waiting, 0.0
    return found


def cost_figures(cost: Cost, fusion: Fusion, beside: Beside | None = None) -> CostFigures:
    """Return what was measured of a file."""
    names = [layer.name for layer in cost.layers]
    predicted, floats = (
        in_layers(one, names) for one in ((beside or Beside()).predicted_us, (beside or Beside()).float_us)
    )
    layers = tuple(
        LayerCostFigures(
            name=layer.name,
            size_bytes=layer.size_bytes,
            time_ms=milliseconds_of(layer.time_us),
            predicted_ms=milliseconds_of(predicted.get(layer.name)),
            float_ms=milliseconds_of(floats.get(layer.name)),
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
    predicted_ms: float | None,
    compared: LayerFigures | None,
    files: Mapping[str, CostFigures],
) -> Section:
    """Return the layers of the file `name`, and of all timed `files` the operators by kind.

    `median_ms` is the median time of whole calls, `predicted_ms` what was predicted, `compared` what the
    tensors of a simulation lose.
    """
    what = f"{clean(name)}: bytes and time of each layer"
    kilobytes = [layer.size_bytes / 1e3 for layer in cost.layers]
    times_ms = None if cost.time_ms is None else [layer.time_ms or 0.0 for layer in cost.layers]
    draw = partial(plots.cost_picture, [layer.name for layer in cost.layers], kilobytes, times_ms)
    plot = Plot("plot-cost", what, "The table of layers has the figures.", draw)
    kinds = [kinds_table(f"What runs for {clean(file)}", one.kinds) for file, one in files.items()]
    parts = [Section("kinds", "By kind of operator", blocks=kinds)] if kinds else []
    where = "Bytes are the file's own constants, booked on the layer that reads them."
    said = (_cost_said(cost, median_ms), *_beside_said(cost, median_ms, predicted_ms), where)
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


def _beside_said(cost: CostFigures, median_ms: float | None, predicted_ms: float | None) -> Iterator[str]:
    """Yield what the prediction was worth, and which layers lost to float."""
    if predicted_ms is not None:
        told = f"The table of operator times predicts {milliseconds(predicted_ms)} ms"
        yield f"{told}." if median_ms is None else f"{told}, {off(predicted_ms, median_ms)}."
    if any(layer.beside_float for layer in cost.layers):
        yield lost_said(cost)


def off(predicted_ms: float, measured_ms: float) -> str:
    """Return by how much a prediction misses what was measured."""
    share = predicted_ms / measured_ms - 1
    return f"{abs(share):.0%} {'more' if share > 0 else 'less'} than the {milliseconds(measured_ms)} ms measured"


def lost_said(cost: CostFigures) -> str:
    """Return which layers take longer than in float.fast.onnx."""
    lost = cost.losers
    if not lost:
        return "No layer takes longer than in float.fast.onnx."
    named = ", ".join(
        f"{clean(layer.name, 40)} ({both[0]:.3f} ms, in float {both[1]:.3f})"
        for layer in lost[:LOST_SHOWN]
        if (both := layer.beside_float) is not None
    )
    more = f" and {len(lost) - LOST_SHOWN} more" if len(lost) > LOST_SHOWN else ""
    count = "One layer takes" if len(lost) == 1 else f"{len(lost)} layers take"
    return f"{count} longer than in float.fast.onnx: {named}{more}."


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
        beside = [NOTHING if one is None else f"{one:.3f}" for one in (layer.predicted_ms, layer.float_ms)]
        rows.append([clean(layer.name, 60), clean(kinds, 80), size, time, *beside, *agreed])
    rows.append(["names, graph and facts", "", f"{cost.other_bytes / 1e3:.1f}", *[NOTHING] * 5])
    total = NOTHING if cost.time_ms is None else f"{cost.time_ms:.3f}"
    rows.append(["in all", "", f"{cost.size_bytes / 1e3:.1f}", total, *[NOTHING] * 4])
    headings = ("layer", "operators in the runtime", "kB", "ms", "predicted", "in float", "cosine to float", "drop")
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
