"""How long ONNX Runtime will take for a file, layer by layer, by the table of operator times (see times.table).

What is counted is what the runtime makes of the file: activations, sums and conversions that it fuses into a kernel
cost nothing of their own.
"""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass

from torch import fx

from qface_toolkit.backends.onnx_qdq._float_times import float_operators
from qface_toolkit.backends.onnx_qdq._groups import regrouped
from qface_toolkit.backends.onnx_qdq._integer_times import Operators
from qface_toolkit.canonical.edit import ensure_shapes
from qface_toolkit.integer.making import program_of
from qface_toolkit.models import ModelSpec
from qface_toolkit.quantize.forms import OperatorTimes, fastest_forms
from qface_toolkit.quantize.groups import choose_groups
from qface_toolkit.quantize.model import QuantizedModel, new_model
from qface_toolkit.quantize.plan import everywhere
from qface_toolkit.quantize.scheme import Range
from qface_toolkit.quantize.target import Target
from qface_toolkit.times import TimeTable

LEAST_US = 0.3
"""Microseconds that an operator takes at least, whatever the profile made it longer by."""


@dataclass(frozen=True)
class Predicted:
    """What is expected of a file: microseconds of each layer of the network, and of all of it."""

    layers: Mapping[str, float]

    @property
    def ms(self) -> float:
        """Return the milliseconds of the whole file."""
        return sum(self.layers.values()) / 1000


def predict_model(model: QuantizedModel, target: Target, times: TimeTable) -> Predicted:
    """Return what the file of a model whose ranges are set will take."""
    program, _ = regrouped(program_of(model, target), model.groups)
    return _booked(Operators(program, times).operators(), times)


def predict_network(network: fx.GraphModule, spec: ModelSpec, target: Target, times: TimeTable) -> Predicted:
    """Return what the file of a network will take before anything of it is known but its shapes."""
    return predict_model(written(network, spec, times), target, times)


def written(network: fx.GraphModule, spec: ModelSpec, times: TimeTable) -> QuantizedModel:
    """Return a model with any ranges, in the forms that are fastest whatever they cost the embedding."""
    ensure_shapes(network, spec.input_size, spec.channels)
    model = new_model(network, spec)
    model = model.with_groups(choose_groups(network, times, model.deployment))
    model = model.with_forms(everywhere(fastest_forms(model, OperatorTimes(times))))
    ranges = {owner: Range(-3.0, 3.0) for owner in model.plan.owners()}
    return model.with_ranges(ranges)


def predict_float(network: fx.GraphModule, spec: ModelSpec, times: TimeTable) -> Predicted:
    """Return what float.fast.onnx of a canonical network will take."""
    ensure_shapes(network, spec.input_size, spec.channels)
    return _booked(float_operators(network, times), times)


def _booked(operators: Iterable[tuple[str, float]], times: TimeTable) -> Predicted:
    layers: dict[str, float] = {}
    for layer, time in operators:
        layers[layer] = layers.get(layer, 0.0) + max(times.share * time + times.each, LEAST_US)
    return Predicted(layers)
