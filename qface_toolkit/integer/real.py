"""Interpret a program in real numbers: what a runtime computes that works in float and rounds when a kernel is done.

OpenVINO holds a layer together with what follows it. In which order it multiplies and adds inside a kernel differs from
one to the next, so a value that lies in the middle between two codes may round either way: what is computed here is
what the program says, close to the runtime and not the same to the last bit.
"""

from collections.abc import Callable, Mapping
from typing import Any

import torch
import torch.nn.functional as F  # noqa: N812 - the name everybody knows it by

from qface_toolkit.integer.program import (
    Add,
    Affine,
    AveragePool,
    Concat,
    Conv,
    Flatten,
    Float,
    GlobalAveragePool,
    Image,
    Linear,
    MaxPool,
    Mul,
    Normalize,
    Operation,
    Pad,
    Requantize,
    Table,
)
from qface_toolkit.integer.windows import TABLES, average_pool, compute, convolved, max_pool

Tensor = torch.Tensor


def real(one: Operation, values: list[Tensor], images: Tensor) -> Tensor:
    """Return the float values that an operation makes of float values."""
    return images if isinstance(one, Image) else _REAL[type(one)](one, values)


def _weight(one: Conv | Linear) -> Tensor:
    held = one.constants
    scales = torch.from_numpy(held.scales).reshape((-1,) + (1,) * (held.codes.ndim - 1))
    return torch.from_numpy(held.codes).float() * scales


def _conv(one: Conv, values: list[Tensor]) -> Tensor:
    return convolved(one.window, values[0], _weight(one)) + torch.from_numpy(one.constants.bias).reshape(1, -1, 1, 1)


def _linear(one: Linear, values: list[Tensor]) -> Tensor:
    return F.linear(values[0], _weight(one), torch.from_numpy(one.constants.bias))


def _affine(one: Affine, values: list[Tensor]) -> Tensor:
    factors, shifts = (torch.from_numpy(part).reshape(1, -1, 1, 1) for part in (one.factors, one.shifts))
    return values[0] * factors + shifts


def _pad(one: Pad, values: list[Tensor]) -> Tensor:
    rows, columns = one.padding
    return F.pad(values[0], (columns, columns, rows, rows))


_REAL: Mapping[type[Operation], Callable[[Any, list[Tensor]], Tensor]] = {
    Conv: _conv,
    Linear: _linear,
    Affine: _affine,
    Pad: _pad,
    Table: lambda one, values: TABLES[one.function](values[0]),
    Add: lambda _, values: values[0] + values[1],
    Mul: lambda _, values: values[0] * values[1],
    MaxPool: lambda one, values: max_pool(one.window, values[0]),
    AveragePool: lambda one, values: average_pool(one.window, values[0]),
    GlobalAveragePool: lambda _, values: values[0].mean(dim=(2, 3), keepdim=True),
    Flatten: lambda _, values: torch.flatten(values[0], 1),
    Concat: lambda _, values: torch.cat(values, 1),
    Requantize: lambda _, values: values[0],
    Float: compute,
    Normalize: lambda one, values: F.normalize(values[0], eps=one.eps),
}
