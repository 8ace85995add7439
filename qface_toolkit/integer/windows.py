"""What operations of a program compute, whatever the numbers are: windows of tensors, and the float network's own."""

from collections.abc import Callable, Mapping
from typing import Any, cast

import torch
import torch.nn.functional as F  # noqa: N812 - the name everybody knows it by

from qface_toolkit.canonical.graph import FUNCTIONS
from qface_toolkit.integer.program import Float, PoolWindow, Window

Tensor = torch.Tensor

TABLES: Mapping[str, Callable[[Tensor], Tensor]] = {"sigmoid": torch.sigmoid, "hard_sigmoid": F.hardsigmoid}
"""Functions that run on codes, one by one."""


def convolved(window: Window, values: Tensor, weight: Tensor) -> Tensor:
    """Return a convolution without bias."""
    return F.conv2d(values, weight, None, window.stride, window.padding, window.dilation, window.groups)


def max_pool(window: PoolWindow, values: Tensor) -> Tensor:
    """Return the largest value of each window."""
    return F.max_pool2d(values, window.kernel, window.stride, window.padding or 0, ceil_mode=window.ceil_mode)


def average_pool(window: PoolWindow, values: Tensor) -> Tensor:
    """Return the average of each window."""
    return F.avg_pool2d(
        values, window.kernel, window.stride, window.padding or 0, window.ceil_mode, window.count_border
    )


def compute(one: Float, values: list[Tensor]) -> Tensor:
    """Return what an operation of the float network makes of float values."""
    if one.module is not None:
        return cast(Tensor, one.module(*values))
    options: dict[str, Any] = dict(one.options)
    if one.name in ("concat", "flatten"):
        return torch.cat(values, 1) if one.name == "concat" else torch.flatten(values[0], 1)
    return cast(Tensor, FUNCTIONS[one.name](*values, **options))
