"""Choose the ONNX form of each PReLU: the time of a second convolution against the noise of a coarser grid.

The times come from tables that are part of the package, one for each kind of processor, so that the same model gives
the same files everywhere. That for x86 is the table of operator times (see times.table); that for ARM is a model: the
cycles that the executed instructions keep a core busy (see benchmarks/README.md). Measuring anew is for whoever asks
for it. The noise comes from the ranges, and what it does to the embedding from analysis.statistics.
"""

import json
from collections.abc import Mapping, Sequence
from dataclasses import astuple, dataclass
from pathlib import Path
from typing import Any, Protocol

from torch import fx

from qface_toolkit.canonical.graph import inputs, operation
from qface_toolkit.errors import ArtifactError
from qface_toolkit.quantize.groups import GroupForm, form_time, padded, parts, shape_of_conv
from qface_toolkit.quantize.model import QuantizedModel
from qface_toolkit.quantize.plan import MACHINES, Form, FormsOf, everywhere, has_own_convolution, make_plan
from qface_toolkit.quantize.scheme import hull, rounding_noise
from qface_toolkit.quantize.target import ONNX
from qface_toolkit.times import ConvShape, Row, TimeTable, read_rows, read_table
from qface_toolkit.verifier import Machine

CYCLES = Path(__file__).with_name("form_cycles.json")
"""The package's own cycles of both forms on ARM."""

FEW_CHANNELS = 32
"""Up to so many channels ONNX Runtime runs a full 1x1 convolution in half the time of a depthwise one."""


class FormTimes(Protocol):
    """The time of a convolution with its PReLU in either form: microseconds, or cycles of a model."""

    def of(self, shape: ConvShape, groups: GroupForm) -> tuple[float, float]:
        """Return the times of the twin form and of the scaled one, of a convolution of groups in its own form."""

    def as_plain(self) -> list[list[Any]]:
        """Return what it was made of as JSON holds it."""


@dataclass(frozen=True)
class FormCycles:
    """Cycles of both forms by shape; others are those of the most similar shape."""

    rows: Mapping[ConvShape, tuple[float, float]]

    def of(self, shape: ConvShape, groups: GroupForm) -> tuple[float, float]:
        """Return the cycles of the twin form and of the scaled one, of the most similar shapes counted."""
        pairs = [self._nearest(part) for part in parts(shape, groups)]
        return sum(twin for twin, _ in pairs), sum(scaled for _, scaled in pairs)

    def _nearest(self, shape: ConvShape) -> tuple[float, float]:
        kin = [other for other in self.rows if (other.groups > 1) == (shape.groups > 1)]
        return self.rows[min(kin or self.rows, key=shape.distance)]

    def as_plain(self) -> list[list[Any]]:
        """Return the rows as JSON holds them: the shape, then both forms' cycles."""
        return [[*astuple(shape), *cycles] for shape, cycles in self.rows.items()]


@dataclass(frozen=True)
class OperatorTimes:
    """Microseconds of both forms, from those of the operators that they are."""

    table: TimeTable

    def of(self, shape: ConvShape, groups: GroupForm) -> tuple[float, float]:
        """Return the microseconds of the twin form and of the scaled one."""
        convolution = form_time(padded(shape), groups, self.table, "integer")
        largest = self.table.other("Max", shape.numbers)
        product = self.table.convolution(scale_shape(shape.outputs, shape.height, shape.width), "integer")
        return 2 * convolution + largest, convolution + product + largest

    def as_plain(self) -> list[list[Any]]:
        """Return the rows as JSON holds them."""
        return self.table.as_plain()


def scale_shape(channels: int, height: int, width: int) -> ConvShape:
    """Return the convolution that multiplies each channel of a tensor: a full one of few channels."""
    return ConvShape(channels, channels, 1, 1, 1, channels if channels > FEW_CHANNELS else 1, height, width)


FormTables = Mapping[Machine, FormTimes]
"""The times that decide about the files for each kind of processor."""


def read_form_tables(measured: Path | None = None) -> FormTables:
    """Return the package's own tables, or those with one replaced by what a job measured.

    Raises:
        ArtifactError: if a file holds none.
    """
    own: dict[Machine, FormTimes] = {"x86": OperatorTimes(read_table()), "arm": _read_cycles()}
    if measured is None:
        return own
    machine, rows = _read_measured(measured)
    return own | {machine: OperatorTimes(read_table().with_rows(rows))}


def operator_table(tables: FormTables) -> TimeTable:
    """Return the table of operator times among some: what a job measured, on whatever it ran, or the package's."""
    return next(times.table for times in (tables["arm"], tables["x86"]) if isinstance(times, OperatorTimes))


def as_record(machine: Machine, rows: Mapping[Row, float]) -> dict[str, Any]:
    """Return rows that were measured on a kind of processor as plain values, for `read_form_tables`."""
    return {"machine": machine, "rows": TimeTable(rows, {}, {}).as_plain()}


def _read_measured(file: Path) -> tuple[Machine, Mapping[Row, float]]:
    try:
        plain = json.loads(file.read_text())
        if plain["machine"] not in MACHINES:
            raise ValueError(f"there is no kind of processor called {plain['machine']!r}")
        return plain["machine"], read_rows(plain["rows"])
    except (OSError, ValueError, KeyError, TypeError, IndexError, AttributeError) as error:
        raise ArtifactError(
            f"this is no table of times: {error}", where=str(file), fix="measure one: --set target.lowering=measure"
        ) from error


def _read_cycles() -> FormCycles:
    rows = json.loads(CYCLES.read_text())["rows"]
    return FormCycles({ConvShape(*row[:3], *row[2:-2]): (row[-2], row[-1]) for row in rows})


def choices(model: QuantizedModel) -> Sequence[fx.Node]:
    """Return the PReLUs that can be written in either form."""
    nodes = model.network.graph.nodes
    return [node for node in nodes if operation(node) == "prelu" and has_own_convolution(node)]


def fastest_forms(model: QuantizedModel, times: FormTimes) -> dict[str, Form]:
    """Return the faster form of each PReLU, whatever it costs the embedding."""
    pairs = {node.name: _times(model, node, times) for node in choices(model)}
    return {name: "scaled" if scaled < twin else "twin" for name, (twin, scaled) in pairs.items()}


def _times(model: QuantizedModel, prelu: fx.Node, times: FormTimes) -> tuple[float, float]:
    return times.of(shape_before(prelu), model.groups.get(inputs(prelu)[0].name, GroupForm()))


def shape_before(prelu: fx.Node) -> ConvShape:
    """Return the geometry of the convolution before a PReLU, on a network whose shapes are noted."""
    return shape_of_conv(inputs(prelu)[0])


def choose_forms(
    model: QuantizedModel,
    sensitivity: Mapping[str, float],
    tables: FormTables,
    clipped: Mapping[str, float] | None = None,
) -> FormsOf:
    """Return the form of each PReLU that has a choice, for each kind of processor by its own times.

    Scaled, where that saves a greater share of their time than it adds to the loss of the whole network, as predicted.
    `sensitivity` holds, for each tensor that ONNX quantizes, the embedding's squared turn for noise of unit variance,
    `clipped` the noise power that a PReLU's output feels because its input is clipped, which the twin form never is.
    Where sums or products depend on it, x86's form is the one for all: one set of ranges makes them exact (see sums).
    """
    chosen = {machine: _chosen(model, sensitivity, times, clipped or {}) for machine, times in tables.items()}
    settled = _settled(model)
    first = {name: form for name, form in chosen["x86"].items() if name in settled}
    return {machine: forms | first for machine, forms in chosen.items()}


def _chosen(
    model: QuantizedModel, sensitivity: Mapping[str, float], times: FormTimes, clipped: Mapping[str, float]
) -> dict[str, Form]:
    free = choices(model)
    both = {node.name: _times(model, node, times) for node in free}
    whole_time = sum(twin for twin, _ in both.values())
    owned = {name: model.ranges[model.plan.tensors[name].owner] for name in sensitivity}
    whole_loss = sum(turn * rounding_noise(owned[name]) for name, turn in sensitivity.items())
    forms: dict[str, Form] = {}
    for node in free:
        twin, scaled = both[node.name]
        added = sensitivity[node.name] * (_added_noise(model, node) + clipped.get(node.name, 0.0))
        forms[node.name] = "scaled" if added * whole_time < (twin - scaled) * whole_loss else "twin"
    return forms


def _settled(model: QuantizedModel) -> set[str]:
    """Return the PReLUs whose form may decide on which grid a tensor lies that a sum or product reads or makes."""
    free = [node.name for node in choices(model)]
    joined = make_plan(model.network, everywhere(dict.fromkeys(free, "scaled")))
    tensors: list[str] = []
    for node in model.network.graph.nodes:
        if operation(node) in ("add", "mul"):
            made = node.name if node.name in joined.tensors else next(iter(node.users)).name
            tensors += [made, *(part.name for part in inputs(node))]
    owners = {owner for tensor in tensors for owner in joined.spanned(tensor, ONNX)}
    return {name for name in free if joined.tensors[name].owner in owners}


def _added_noise(model: QuantizedModel, node: fx.Node) -> float:
    """Return the noise power that a grid adds which spans a PReLU's input too."""
    own = model.ranges[model.plan.tensors[node.name].owner]
    before = model.ranges[model.plan.tensors[inputs(node)[0].name].owner]
    return rounding_noise(hull([own, before])) - rounding_noise(own)
