"""Choose ranges so that integer additions are exact in float32, whatever order a kernel adds in.

A runtime adds codes as a x (scale_a / scale) + b x (scale_b / scale) + a constant, in float32, and rounds. Kernels
differ in that order (fused multiply-adds or not, signed codes or unsigned), so a sum that lies near the middle between
two codes rounds up in one and down in another; a few such differences early in a deep network are a different rounding
noise at its end. With ratios that are multiples of 2^-13 no product or sum needs more than the 24 bits of a float32,
and all kernels agree.
"""

import itertools
import math
from collections.abc import Iterator

import numpy as np

from qface_toolkit.canonical.graph import inputs, operation
from qface_toolkit.quantize.model import QuantizedModel
from qface_toolkit.quantize.scheme import Range, activation_qparams
from qface_toolkit.quantize.target import ONNX

_STEP = 2.0**-13
_RATIOS, _NUDGES = 16, 16
"""Not every ratio can be hit: the quotient of two float32 may have finer neighbours than the scale that is moved."""


def settle_sums(model: QuantizedModel) -> QuantizedModel:
    """Return the model with the ranges that additions read widened a little, by less than one part in 4,000 usually.

    A tensor that several additions read is settled for the last of them alone. A range that is known stays, and so does
    the image's, in which no pixel lies in the middle between two codes (see input_range).
    """
    settled = {*model.plan.fixed, model.plan.owners()[0]}
    for node in reversed(list(model.network.graph.nodes)):
        if operation(node) != "add":
            continue
        output = node.name if node.name in model.plan.tensors else next(iter(node.users)).name
        settled.update(model.plan.spanned(output, ONNX))
        for part in inputs(node):
            owners = model.plan.spanned(part.name, ONNX)
            if not settled.intersection(owners):
                model = _with_short_ratio(model, part.name, output)
                settled.update(owners)
    return model


def _with_short_ratio(model: QuantizedModel, part: str, output: str) -> QuantizedModel:
    """Widen the ranges behind `part` until its scale is a multiple of _STEP of the output's, as float32 divides."""
    for widened in _wider(model, part, output):
        ratio = float(_scale(widened, part) / _scale(widened, output))
        if ratio / _STEP == round(ratio / _STEP):
            return widened
    return model


def _wider(model: QuantizedModel, part: str, output: str) -> Iterator[QuantizedModel]:
    scale, out_scale = float(_scale(model, part)), float(_scale(model, output))
    steps = math.ceil(scale / out_scale / _STEP)
    owners = model.plan.spanned(part, ONNX)
    for more, nudge in itertools.product(range(_RATIOS), range(-_NUDGES, _NUDGES)):
        factor = (steps + more) * _STEP * out_scale / scale * (1 + nudge * 2.0**-24)
        wider = {owner: Range(model.ranges[owner].low * factor, model.ranges[owner].high * factor) for owner in owners}
        yield model.with_ranges({**model.ranges, **wider})


def _scale(model: QuantizedModel, tensor: str) -> np.float32:
    return activation_qparams(model.range_of(tensor, ONNX))[0]
