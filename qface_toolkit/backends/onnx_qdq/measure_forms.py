"""Time both forms of PReLU on this machine, shape by shape: what the committed table for x86 was made with."""

import copy
from collections.abc import Callable, Iterable

import numpy as np
import torch
from torch import nn

from qface_toolkit.backends._onnxruntime import new_session, session_options
from qface_toolkit.canonical.canonicalise import canonicalise
from qface_toolkit.models import ModelSpec
from qface_toolkit.quantize.forms import ConvShape, FormTimes, choices
from qface_toolkit.quantize.model import QuantizedModel, new_model
from qface_toolkit.quantize.plan import Form, everywhere
from qface_toolkit.quantize.scheme import Range
from qface_toolkit.runtimes.latency import Latency, measure_latency

_FEW, _MANY = 1, 5
"""Copies of the layer in the two networks whose difference is timed."""
_QUIET = 20
"""Percentile of the samples that counts: others' work on the machine only ever adds time."""

_FORMS: tuple[Form, Form] = ("twin", "scaled")

Lower = Callable[[QuantizedModel], bytes]
"""Writes the ONNX file of a model."""


def measure_forms(
    shapes: Iterable[ConvShape],
    lower: Lower,
    rounds: int = 40,
    progress: Callable[[int, int], None] = lambda done, total: None,
) -> FormTimes:
    """Return how many microseconds a convolution with PReLU of each shape takes in either form, on one thread."""
    wanted, rows = list(dict.fromkeys(shapes)), {}
    for number, shape in enumerate(wanted):
        calls = {(form, copies): _call(shape, form, copies, lower) for form in _FORMS for copies in (_FEW, _MANY)}
        samples = measure_latency({f"{form} {copies}": call for (form, copies), call in calls.items()}, rounds=rounds)
        rows[shape] = (_microseconds(samples, "twin"), _microseconds(samples, "scaled"))
        progress(number + 1, len(wanted))
    return FormTimes(rows)


def _microseconds(samples: dict[str, Latency], form: Form) -> float:
    few, many = (np.percentile(samples[f"{form} {copies}"].samples_ms, _QUIET) for copies in (_FEW, _MANY))
    return max(round(float(many - few) / (_MANY - _FEW) * 1000, 1), 0.1)


class _Copies(nn.Module):
    """Several copies of one layer side by side, each pooled so that its output costs little to keep."""

    def __init__(self, shape: ConvShape, copies: int) -> None:
        super().__init__()
        self.stem = nn.Identity() if shape.inputs == 3 else nn.Conv2d(3, shape.inputs, 1)
        layer = nn.Sequential(
            nn.Conv2d(shape.inputs, shape.outputs, shape.kernel, shape.stride, shape.kernel // 2, groups=shape.groups),
            nn.PReLU(shape.outputs),
        )
        self.layers = nn.ModuleList(copy.deepcopy(layer) for _ in range(copies))
        self.pool = nn.AdaptiveAvgPool2d(1)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        x = self.stem(x)
        return torch.flatten(torch.cat([self.pool(layer(x)) for layer in self.layers], 1), 1)


def copies_of(shape: ConvShape, form: Form, copies: int) -> QuantizedModel:
    """Return a model of several copies of a convolution and its PReLU in one form, with any ranges.

    What it takes more than the same with fewer copies, the layers take.
    """
    torch.manual_seed(0)
    input_size = shape.height * shape.stride, shape.width * shape.stride
    network = canonicalise(_Copies(shape, copies), input_size)
    model = new_model(network, ModelSpec("layer", input_size, copies * shape.outputs))
    return _with_any_ranges(model.with_forms(everywhere({node.name: form for node in choices(model)})))


def _call(shape: ConvShape, form: Form, copies: int, lower: Lower) -> Callable[[], object]:
    model = copies_of(shape, form, copies)
    session = new_session(lower(model), session_options(threads=1))
    image = np.random.default_rng(0).standard_normal((1, 3, *model.spec.input_size)).astype(np.float32)
    return lambda: session.run(None, {"input": image})


def _with_any_ranges(model: QuantizedModel) -> QuantizedModel:
    return model.with_ranges({owner: Range(-3.0, 3.0) for owner in model.plan.owners()})
