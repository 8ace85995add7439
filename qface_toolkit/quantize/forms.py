"""Choose the ONNX form of each PReLU: the time of a second convolution against the noise of a coarser grid.

The times come from a table that was measured on a processor with VNNI and is part of the package, so that the same
model gives the same file everywhere; measuring anew is for whoever asks for it. The noise comes from the ranges, and
what it does to the embedding from analysis.statistics.
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
from qface_toolkit.quantize.plan import Form, has_own_convolution
from qface_toolkit.quantize.scheme import ACTIVATION_MAX, Range, hull

TABLE = Path(__file__).with_name("form_times.json")

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
    """Measured microseconds of a convolution with its PReLU, in either form."""

    rows: Mapping[ConvShape, tuple[float, float]]

    def of(self, shape: ConvShape) -> tuple[float, float]:
        """Return the times of the twin form and of the scaled one, of the most similar shape measured."""
        return self.rows[min(self.rows, key=shape.distance)]

    def as_plain(self) -> list[list[float]]:
        """Return the rows as JSON holds them: the shape, then the twin's and the scaled form's microseconds."""
        return [[*astuple(shape), *times] for shape, times in self.rows.items()]


def read_form_times(file: Path = TABLE) -> FormTimes:
    """Read a table of times: the package's own, or what a job that measured them wrote.

    Raises:
        ArtifactError: if it is not one.
    """
    try:
        rows = json.loads(file.read_text())["rows"]
        times = {ConvShape(*map(_whole, row[:7])): (float(row[7]), float(row[8])) for row in rows}
        if not times or min(min(pair) for pair in times.values()) <= 0:
            raise ValueError("times must be above zero")
    except (OSError, ValueError, KeyError, TypeError, IndexError) as error:
        raise ArtifactError(
            f"this is no table of times: {error}", where=str(file), fix="measure one: --set target.lowering=measure"
        ) from error
    return FormTimes(times)


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


def choose_forms(model: QuantizedModel, sensitivity: Mapping[str, float], times: FormTimes) -> dict[str, Form]:
    """Return the form of each PReLU that has a choice.

    Scaled, where that saves a greater share of their time than it adds to the loss of the whole network, as predicted.
    `sensitivity` holds, for each tensor that ONNX quantizes, the embedding's squared turn for noise of unit variance.
    """
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


def _added_noise(model: QuantizedModel, node: fx.Node) -> float:
    """Return the noise power that a grid adds which spans a PReLU's input too."""
    own = model.ranges[model.plan.tensors[node.name].owner]
    before = model.ranges[model.plan.tensors[inputs(node)[0].name].owner]
    return _noise(hull([own, before])) - _noise(own)


def _noise(interval: Range) -> float:
    """Return the power of the rounding noise of 8 bits over an interval."""
    return float(((interval.high - interval.low) / ACTIVATION_MAX) ** 2 / 12)
