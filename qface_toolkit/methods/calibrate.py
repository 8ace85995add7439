"""Set the range of every tensor from what calibration images make it do; nothing is trained.

The input of a PReLU is held as far below zero as the output feels it, whatever the observer (see _felt), and a tensor
of few pixels further than was seen (see _reach).
"""

from collections.abc import Mapping
from typing import Literal, cast

import torch
from pydantic import BaseModel, ConfigDict, Field

from qface_toolkit.analysis.statistics import STATISTICS_PASSES, Statistics, measure_statistics
from qface_toolkit.canonical.edit import ensure_shapes
from qface_toolkit.methods._base import Context, Method
from qface_toolkit.methods._felt import FELT_IMAGES, felt_inputs
from qface_toolkit.methods._observers import OBSERVERS, Observer
from qface_toolkit.methods._reach import reaching
from qface_toolkit.methods._services import Forms
from qface_toolkit.quantize.forms import choices, choose_forms, read_form_tables
from qface_toolkit.quantize.image_input import image_range
from qface_toolkit.quantize.model import QuantizedModel
from qface_toolkit.quantize.plan import Form, FormsOf, LoweringPlan, everywhere
from qface_toolkit.quantize.scheme import Range
from qface_toolkit.quantize.simulation import prepare
from qface_toolkit.quantize.sums import settle_sums
from qface_toolkit.quantize.target import ONNX

SEEN_IMAGES = 64
"""Images that say how far channels reach, and how much the embedding feels of them."""


class Options(BaseModel):
    """Options of `calibrate`."""

    model_config = ConfigDict(extra="forbid")

    observer: Literal["minmax", "percentile", "mse"] = "mse"
    """minmax: everything seen. percentile: all but a share at either end. mse: the interval with the least squared
    rounding and clipping error."""
    bins: int = Field(2048, ge=256, le=65536)
    """Histogram bins of the percentile and mse observers."""
    percentile: float = Field(99.99, gt=50, le=100)
    """Where the percentile observer cuts: the largest 0.01 % of the values and the smallest, by default."""


class Calibrate(Method):
    """Run calibration images through the float network and fix a range for every owner in the plan."""

    options = Options
    needs = ("images",)
    gives = ("ranges",)
    asks = (Forms,)

    def run(self, model: QuantizedModel, options: Options, context: Context) -> QuantizedModel:
        """Return the model with ranges.

        Raises:
            CalibrationError: if an image makes a tensor infinite or not a number.
        """
        observers = _observe(model, options, context)
        ranges = {owner: _clamped(owner, seen.range(), model.plan) for owner, seen in observers.items()}
        model = model.with_ranges(ranges | {_input_owner(model): image_range(model)})
        seen = _statistics(model, context)
        model = model.with_ranges(reaching(model, seen, context.target))
        felt = {} if model.scheme.narrow else felt_inputs(model, context.inputs[:FELT_IMAGES])
        model = model.with_ranges({**model.ranges, **{one.owner: one.range for one in felt.values()}})
        clipped = {prelu: one.clipped for prelu, one in felt.items()}
        return settle_sums(model.with_forms(_forms(model, context, seen, clipped)))

    def passes(self, options: Options, images: int) -> float:
        """Return the passes of the observer, and those behind the ends of ranges and the choice of forms."""
        observed = OBSERVERS[options.observer].passes * images + min(FELT_IMAGES, images)
        return observed + STATISTICS_PASSES * min(SEEN_IMAGES, images)


def _observe(model: QuantizedModel, options: Options, context: Context) -> dict[str, Observer]:
    """Run the float network; min-max takes one pass, an observer that needs limits first takes another."""
    simulation = prepare(model.with_ranges({}), context.target)
    simulation.round_weights(False)
    kind = OBSERVERS[options.observer]
    observers: dict[str, Observer] = {
        owner: kind(options.bins, options.percentile, model.levels_of(owner, context.target).steps)
        for owner in model.plan.owners()
    }
    passes = kind.passes
    total = passes * len(context.inputs)
    for number in range(passes):
        for owner, seen in observers.items():
            simulation.ranges[owner].observer = seen.passes_over(number)
        for start in range(0, len(context.inputs), context.batch_size):
            with torch.no_grad():
                simulation(torch.from_numpy(context.inputs[start : start + context.batch_size]))
            done = number * len(context.inputs) + start + context.batch_size
            context.progress(min(done, total), total)
    return observers


def _statistics(model: QuantizedModel, context: Context) -> Statistics:
    """Return what there is to know of each tensor that ONNX files quantize, and note the network's shapes."""
    ensure_shapes(model.network, model.spec.input_size, model.spec.channels)
    return measure_statistics(
        model.network,
        [name for name in model.plan.tensors if model.plan.quantized(name, ONNX)],
        context.inputs[:SEEN_IMAGES],
        seed=context.seed,
        batch_size=context.batch_size,
        progress=lambda done, total: None,
    )


def _forms(model: QuantizedModel, context: Context, seen: Statistics, clipped: Mapping[str, float]) -> FormsOf:
    """Return the ONNX form of each PReLU: the one asked for, or by what the embedding would feel of it.

    No file can hold narrow activations, so no time is saved by a form that rounds twice.
    """
    free, asked = choices(model), context.service(Forms) or Forms()
    wanted = "twin" if model.scheme.narrow and asked.prelu == "auto" else asked.prelu
    if wanted != "auto" or not free:
        return everywhere({node.name: cast(Form, wanted) for node in free})
    sensitivity = {name: float(square.sum()) for name, square in seen.sensitivity.items()}
    return choose_forms(model, sensitivity, asked.tables or read_form_tables(), clipped)


def _input_owner(model: QuantizedModel) -> str:
    return model.plan.owners()[0]


def _clamped(owner: str, seen: Range, plan: LoweringPlan) -> Range:
    if owner in plan.fixed:
        return Range(*plan.fixed[owner])
    low, high = plan.clamps.get(owner, (float("-inf"), float("inf")))
    return Range(max(seen.low, low), min(seen.high, high))


ENTRIES = {"calibrate": Calibrate()}
