"""Choose the ONNX form of each PReLU: the time of a second convolution against the noise of a coarser grid.

The times come from tables that are part of the package, one for each kind of processor, so that the same model gives
the same files everywhere. That for x86 was measured on a processor with VNNI; that for ARM is a model: the cycles that
the executed instructions keep a core busy (see benchmarks/README.md). Measuring anew is for whoever asks for it. The
noise comes from the ranges, and what it does to the embedding from analysis.statistics.
"""

import json
import math
from collections.abc import Mapping, Sequence
from dataclasses import astuple, dataclass
from pathlib import Path
from typing import Any

from torch import fx

from qface_toolkit.canonical.edit import shape_of
from qface_toolkit.canonical.graph import inputs, module, operation
from qface_toolkit.errors import ArtifactError
from qface_toolkit.quantize.model import QuantizedModel
from qface_toolkit.quantize.plan import MACHINES, Form, FormsOf, everywhere, has_own_convolution, make_plan
from qface_toolkit.quantize.scheme import ACTIVATION_MAX, Range, hull
from qface_toolkit.quantize.target import ONNX
from qface_toolkit.verifier import Machine

TABLES = tuple(Path(__file__).with_name(name) for name in ("form_times.json", "form_cycles.json"))
"""The package's own times: microseconds of the files for x86, cycles of those for ARM."""

FORM_IMAGES = 16
"""Images that say how much the embedding feels of each tensor; the sum over a tensor's channels needs no more."""


@dataclass(frozen=True)
class ConvShape:
    """The geometry of a convolution that a PReLU follows; sizes of the output in pixels."""

    inputs: int
    outputs: int
    kernel: int
    stride: int
    groups: int
    height: int
    width: int

    @property
    def products(self) -> int:
        """Return the multiplications behind one number of the output."""
        return self.inputs // self.groups * self.kernel**2

    def distance(self, other: "ConvShape") -> tuple[bool, float]:
        """Return how unlike two shapes are: another kind of kernel first, then the sizes, in octaves."""
        pairs = (
            (self.products, other.products),
            (self.outputs, other.outputs),
            (self.height * self.width, other.height * other.width),
        )
        return (self.groups > 1) != (other.groups > 1), sum(abs(math.log2(a / b)) for a, b in pairs)


@dataclass(frozen=True)
class FormTimes:
    """The time of a convolution with its PReLU in either form: microseconds, or cycles of a model."""

    rows: Mapping[ConvShape, tuple[float, float]]

    def of(self, shape: ConvShape) -> tuple[float, float]:
        """Return the times of the twin form and of the scaled one, of the most similar shape measured."""
        return self.rows[min(self.rows, key=shape.distance)]

    def as_plain(self) -> list[list[float]]:
        """Return the rows as JSON holds them: the shape, then the twin's and the scaled form's time."""
        return [[*astuple(shape), *times] for shape, times in self.rows.items()]


FormTables = Mapping[Machine, FormTimes]
"""The times that decide about the files for each kind of processor."""


def read_form_tables(measured: Path | None = None) -> FormTables:
    """Return the package's own tables, or those with one replaced by what a job measured.

    Raises:
        ArtifactError: if a file holds none.
    """
    return dict(map(_read, TABLES if measured is None else (*TABLES, measured)))


def as_record(machine: Machine, times: FormTimes) -> dict[str, Any]:
    """Return a table for files on a kind of processor as plain values, for `read_form_tables`."""
    return {"machine": machine, "rows": times.as_plain()}


def _read(file: Path) -> tuple[Machine, FormTimes]:
    try:
        plain = json.loads(file.read_text())
        machine = plain.get("machine", "x86")  # the only kind that older records are of
        if machine not in MACHINES:
            raise ValueError(f"there is no kind of processor called {machine!r}")
        times = {ConvShape(*map(_whole, row[:7])): (float(row[7]), float(row[8])) for row in plain["rows"]}
        if not times or min(min(pair) for pair in times.values()) <= 0:
            raise ValueError("times must be above zero")
    except (OSError, ValueError, KeyError, TypeError, IndexError, AttributeError) as error:
        raise ArtifactError(
            f"this is no table of times: {error}", where=str(file), fix="measure one: --set target.lowering=measure"
        ) from error
    return machine, FormTimes(times)


def _whole(value: Any) -> int:  # noqa: ANN401 - whatever JSON holds
    if not isinstance(value, int) or not 0 < value < 2**20:
        raise ValueError(f"{value!r} is no size")
    return value


def shape_before(prelu: fx.Node) -> ConvShape:
    """Return the geometry of the convolution before a PReLU, on a network whose shapes are noted."""
    conv, (height, width) = module(inputs(prelu)[0]), shape_of(prelu)[2:]
    return ConvShape(
        conv.in_channels, conv.out_channels, max(conv.kernel_size), max(conv.stride), conv.groups, height, width
    )


def choices(model: QuantizedModel) -> Sequence[fx.Node]:
    """Return the PReLUs that can be written in either form."""
    nodes = model.network.graph.nodes
    return [node for node in nodes if operation(node) == "prelu" and has_own_convolution(node)]


def choose_forms(model: QuantizedModel, sensitivity: Mapping[str, float], tables: FormTables) -> FormsOf:
    """Return the form of each PReLU that has a choice, for each kind of processor by its own times.

    Scaled, where that saves a greater share of their time than it adds to the loss of the whole network, as predicted.
    `sensitivity` holds, for each tensor that ONNX quantizes, the embedding's squared turn for noise of unit variance.
    Where sums or products depend on it, x86's form is the one for all: one set of ranges makes them exact (see sums).
    """
    chosen = {machine: _chosen(model, sensitivity, times) for machine, times in tables.items()}
    settled = _settled(model)
    first = {name: form for name, form in chosen["x86"].items() if name in settled}
    return {machine: forms | first for machine, forms in chosen.items()}


def _chosen(model: QuantizedModel, sensitivity: Mapping[str, float], times: FormTimes) -> dict[str, Form]:
    free = choices(model)
    twin_times = {node.name: times.of(shape_before(node)) for node in free}
    whole_time = sum(twin for twin, _ in twin_times.values())
    owned = {name: model.ranges[model.plan.tensors[name].owner] for name in sensitivity}
    whole_loss = sum(turn * _noise(owned[name]) for name, turn in sensitivity.items())
    forms: dict[str, Form] = {}
    for node in free:
        twin, scaled = twin_times[node.name]
        added = sensitivity[node.name] * _added_noise(model, node)
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
    return _noise(hull([own, before])) - _noise(own)


def _noise(interval: Range) -> float:
    """Return the power of the rounding noise of 8 bits over an interval."""
    return float(((interval.high - interval.low) / ACTIVATION_MAX) ** 2 / 12)
