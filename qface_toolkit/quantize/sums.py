"""Choose ranges so that integer additions and products come out the same in whatever order a kernel computes them.

A runtime adds codes as a x (scale_a / scale) + b x (scale_b / scale) + a constant, in float32 or in fixed point, and
rounds; products are a x b x one ratio. Kernels differ in that order, in what they fuse, in the parts that hold the zero
point, and in which way they round what lies in the middle between two codes: a few such differences early in a deep
network are a different rounding noise at its end. Where all ratios are multiples of 1 / 1023, no sum of codes lies in
the middle, because 1023 is odd; the nearest is 1 / 2046 of a step away from it, further than what any kernel's float32
or 22-bit ratios are wrong by, and all kernels agree.
"""

import math

import numpy as np
from torch import fx

from qface_toolkit.canonical.graph import inputs, operation
from qface_toolkit.quantize.model import QuantizedModel
from qface_toolkit.quantize.scheme import Range
from qface_toolkit.quantize.target import ONNX

DENOMINATOR = 1023
_SAME = 2.0**-20
"""Ratios this close are equal: a scale is the rounded quotient of a rounded difference."""
_MOST_WIDENED = 1.06
"""A range that had to grow by more stays: its other readers would feel it, and the sum hardly feels so small a part."""


def settle_sums(model: QuantizedModel) -> QuantizedModel:
    """Return the model with the ranges that additions and products read widened a little, by a thousandth usually.

    A tensor that several of them read is settled for the last alone. A range that is known stays, and so does the
    image's, in which no pixel lies in the middle between two codes (see input_range).
    """
    settled = {*model.plan.fixed, model.plan.owners()[0]}
    for node in reversed(list(model.network.graph.nodes)):
        if operation(node) not in ("add", "mul"):
            continue
        output = node.name if node.name in model.plan.tensors else next(iter(node.users)).name
        settled.update(model.plan.spanned(output, ONNX))
        for part in inputs(node):
            owners = model.plan.spanned(part.name, ONNX)
            if not settled.intersection(owners):
                model = _settled(model, node, part.name, output)
                if operation(node) == "mul":
                    break
            settled.update(owners)
        settled.update(owner for part in inputs(node) for owner in model.plan.spanned(part.name, ONNX))
    return model


def _settled(model: QuantizedModel, node: fx.Node, part: str, output: str) -> QuantizedModel:
    """Widen the ranges behind a part until its ratio, as float32 divides, is one that all kernels agree on."""
    scales = [_scale(model, one.name) for one in inputs(node)]
    if operation(node) == "mul":
        ratio = float(scales[0] * scales[1] / _scale(model, output))
        wanted = min(_multiple_above(ratio, odd) for odd in range(1, DENOMINATOR + 1, 2))
    else:
        ratio = float(_scale(model, part) / _scale(model, output))
        wanted = _multiple_above(ratio, DENOMINATOR)
    factor = wanted / ratio
    if abs(factor - 1) <= _SAME or factor > _MOST_WIDENED:
        return model
    owners = model.plan.spanned(part, ONNX)
    wider = {owner: Range(model.ranges[owner].low * factor, model.ranges[owner].high * factor) for owner in owners}
    return model.with_ranges({**model.ranges, **wider})


def _multiple_above(ratio: float, denominator: int) -> float:
    """Return the smallest multiple of 1 / denominator that is not below a ratio."""
    return math.ceil(ratio * denominator * (1 - _SAME)) / denominator


def _scale(model: QuantizedModel, tensor: str) -> np.float32:
    return model.grid_of(tensor, ONNX).scale
