"""Interpret a program in real numbers: what a runtime computes that works in float and rounds when a kernel is done.

OpenVINO holds a layer together with what follows it. In which order it multiplies and adds inside a kernel differs from
one to the next, so a value that lies in the middle between two codes may round either way: what is computed here is
what the program says, close to the runtime and not the same to the last bit.
"""

from collections.abc import Callable, Mapping
from typing import Any, cast

import torch
import torch.nn.functional as F  # noqa: N812 - the name everybody knows it by

from qface_toolkit.canonical.graph import FUNCTIONS
from qface_toolkit.integer import program as ops

Tensor = torch.Tensor


TABLES: Mapping[str, Callable[[Tensor], Tensor]] = {"sigmoid": torch.sigmoid, "hard_sigmoid": F.hardsigmoid}
"""Functions that run on codes, one by one."""


def convolved(window: ops.Window, values: Tensor, weight: Tensor) -> Tensor:
    """Return a convolution without bias."""
    return F.conv2d(values, weight, None, window.stride, window.padding, window.dilation, window.groups)


def max_pool(window: ops.PoolWindow, values: Tensor) -> Tensor:
    """Return the largest value of each window."""
    return F.max_pool2d(values, window.kernel, window.stride, window.padding or 0, ceil_mode=window.ceil_mode)


def average_pool(window: ops.PoolWindow, values: Tensor, divisor: int | None = None) -> Tensor:
    """Return the average of each window, or its sum divided by something else."""
    padding, ceil, counted = window.padding or 0, window.ceil_mode, window.count_border
    return F.avg_pool2d(values, window.kernel, window.stride, padding, ceil, counted, divisor)


def compute(one: ops.Float, values: list[Tensor]) -> Tensor:
    """Return what an operation of the float network makes of float values."""
    if one.module is not None:
        return cast(Tensor, one.module(*values))
    options: dict[str, Any] = dict(one.options)
    if one.name in ("concat", "flatten"):
        return torch.cat(values, 1) if one.name == "concat" else torch.flatten(values[0], 1)
    return cast(Tensor, FUNCTIONS[one.name](*values, **options))


def real(one: ops.Operation, values: list[Tensor], images: Tensor) -> Tensor:
    """Return the float values that an operation makes of float values."""
    return images if isinstance(one, ops.Image) else _REAL[type(one)](one, values)


def _weight(one: ops.Conv | ops.Linear) -> Tensor:
    held = one.constants
    scales = torch.from_numpy(held.scales).reshape((-1,) + (1,) * (held.codes.ndim - 1))
    return torch.from_numpy(held.codes).float() * scales


def _conv(one: ops.Conv, values: list[Tensor]) -> Tensor:
    return convolved(one.window, values[0], _weight(one)) + torch.from_numpy(one.constants.bias).reshape(1, -1, 1, 1)


def _linear(one: ops.Linear, values: list[Tensor]) -> Tensor:
    return F.linear(values[0], _weight(one), torch.from_numpy(one.constants.bias))


def _affine(one: ops.Affine, values: list[Tensor]) -> Tensor:
    factors, shifts = (torch.from_numpy(part).reshape(1, -1, 1, 1) for part in (one.factors, one.shifts))
    return values[0] * factors + shifts


def _pad(one: ops.Pad, values: list[Tensor]) -> Tensor:
    rows, columns = one.padding
    return F.pad(values[0], (columns, columns, rows, rows))


_REAL: Mapping[type[ops.Operation], Callable[[Any, list[Tensor]], Tensor]] = {
    ops.Conv: _conv,
    ops.Linear: _linear,
    ops.Affine: _affine,
    ops.Pad: _pad,
    ops.Table: lambda one, values: TABLES[one.function](values[0]),
    ops.Add: lambda _, values: values[0] + values[1],
    ops.Mul: lambda _, values: values[0] * values[1],
    ops.MaxPool: lambda one, values: max_pool(one.window, values[0]),
    ops.AveragePool: lambda one, values: average_pool(one.window, values[0]),
    ops.GlobalAveragePool: lambda _, values: values[0].mean(dim=(2, 3), keepdim=True),
    ops.Flatten: lambda _, values: torch.flatten(values[0], 1),
    ops.Concat: lambda _, values: torch.cat(values, 1),
    ops.Move: lambda one, values: one.module(*values),
    ops.Requantize: lambda _, values: values[0],
    ops.Float: compute,
    ops.Normalize: lambda one, values: F.normalize(values[0], eps=one.eps),
}
