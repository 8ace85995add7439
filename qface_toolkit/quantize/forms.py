"""Choose the ONNX form of each PReLU: the time of a second convolution against the noise of a coarser grid.

The times come from a table that was measured on a processor with VNNI and is part of the package, so that the same
model gives the same file everywhere; measuring anew is for whoever asks for it. The noise comes from the ranges.
"""

import json
import math
from collections.abc import Mapping, Sequence
from dataclasses import astuple, dataclass
from pathlib import Path
from typing import Any

from torch import fx

from qface_toolkit.errors import ArtifactError
from qface_toolkit.quantize._edit import shape_of
from qface_toolkit.quantize.graph import inputs, module, operation
from qface_toolkit.quantize.model import QuantizedModel
from qface_toolkit.quantize.plan import Form, has_own_convolution
from qface_toolkit.quantize.scheme import Range, hull

TABLE = Path(__file__).with_name("form_times.json")

NOISE_PER_GAIN = 4e-3
"""Noise power, as a share of the signal's variance within its channels, that a layer may gain for taking half the time.

Chosen on drawings with the public PReLU MobileFaceNet. Thirty of its 33 layers stand below 2.1e-3, and scaling them all
costs a mean cosine of 0.0008; the other three, from 7.6e-3, would cost 0.0082 more.
"""


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
        pairs = ((self.products, other.products), (self.outputs, other.outputs),
                 (self.height * self.width, other.height * other.width))  # fmt: skip
        return (self.groups > 1) != (other.groups > 1), sum(abs(math.log2(a / b)) for a, b in pairs)


@dataclass(frozen=True)
class FormTimes:
    """Measured microseconds of a convolution with its PReLU, in either form."""

    rows: Mapping[ConvShape, tuple[float, float]]

    def ratio(self, shape: ConvShape) -> float:
        """Return how many times longer the twin form takes than the scaled one, by the most similar shape measured."""
        twin, scaled = self.rows[min(self.rows, key=shape.distance)]
        return twin / scaled

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


def choose_forms(model: QuantizedModel, variances: Mapping[str, float], times: FormTimes) -> dict[str, Form]:
    """Return the form of each PReLU; `variances` holds its output's mean variance within a channel."""
    return {
        node.name: "scaled" if _is_worth_it(model, node, variances[node.name], times) else "twin"
        for node in choices(model)
    }


def _is_worth_it(model: QuantizedModel, node: fx.Node, variance: float, times: FormTimes) -> bool:
    own = model.ranges[model.plan.tensors[node.name].owner]
    before = model.ranges[model.plan.tensors[inputs(node)[0].name].owner]
    added = _noise(hull([own, before])) - _noise(own)
    return added <= NOISE_PER_GAIN * (times.ratio(shape_before(node)) - 1) * variance


def _noise(interval: Range) -> float:
    """Return the power of the rounding noise of 8 bits over an interval."""
    return float(((interval.high - interval.low) / 255) ** 2 / 12)
