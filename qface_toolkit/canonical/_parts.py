"""Spell what torch has a function or module of its own for in the operations that the other passes know.

Each entry is written as one would write it in a forward, on tensors that stand for the graph's nodes.
"""

import functools
import math
from collections.abc import Callable, Mapping
from typing import Any, cast

import torch
import torch.nn.functional as F  # noqa: N812 - the name everybody knows it by
from torch import fx

from qface_toolkit.canonical._constants import constant_of
from qface_toolkit.canonical.edit import free_name, shape_of

Made = Any
"""What stands for a tensor: an `fx.Proxy`, which takes every operation that a tensor takes."""


def _sizes(x: Made) -> tuple[int, ...]:
    return shape_of(x.node)


def _glu(x: Made, dim: int = -1) -> Made:
    parts = torch.chunk(x, 2, dim)
    return parts[0] * torch.sigmoid(parts[1])


def _selu(x: Made, inplace: bool = False) -> Made:
    return F.elu(x, 1.6732632423543772) * 1.0507009873554805


def _celu(x: Made, alpha: float = 1.0, inplace: bool = False) -> Made:
    return F.elu(x * (1 / alpha)) * alpha


def _softsign(x: Made) -> Made:
    return x / (torch.abs(x) + 1)


def _log_sigmoid(x: Made) -> Made:
    return -F.softplus(-x)


def _tanhshrink(x: Made) -> Made:
    return x - torch.tanh(x)


def _softmin(x: Made, dim: int = -1) -> Made:
    return torch.softmax(-x, dim)


def _variance(x: Made, dim: Any = None, unbiased: bool = True, keepdim: bool = False, **options: Any) -> Made:  # noqa: ANN401
    """Take the variance along axes, of a sample unless another `correction` is given."""
    axes = [dim] if isinstance(dim, int) else list(dim or range(1, len(_sizes(x))))
    count = math.prod(_sizes(x)[axis] for axis in axes)
    centred = x - torch.mean(x, axes, True)
    square = torch.mean(centred * centred, axes, keepdim)
    return square * (count / (count - int(options.get("correction", int(unbiased)))))


def _deviation(x: Made, *args: Any, **options: Any) -> Made:  # noqa: ANN401 - as torch takes them
    return torch.sqrt(_variance(x, *args, **options))


def _rms_norm(x: Made, normalized_shape: Any, weight: Made = None, eps: float | None = None) -> Made:  # noqa: ANN401
    axes = list(range(-len(normalized_shape), 0))
    least = torch.finfo(torch.float32).eps if eps is None else eps
    normed = x * torch.rsqrt(torch.mean(x * x, axes, True) + least)
    return normed if weight is None else normed * weight


def _local_response_norm(x: Made, size: int, alpha: float = 1e-4, beta: float = 0.75, k: float = 1.0) -> Made:
    """Divide by what the neighbouring channels hold, summed by a product with a band of ones."""
    channels = _sizes(x)[1]
    offsets = torch.arange(channels)[None] - torch.arange(channels)[:, None]
    band = ((offsets >= -((size - 1) // 2)) & (offsets <= size // 2)).float().T
    square = torch.matmul((x * x).permute(0, 2, 3, 1), _held(x, band * (alpha / size))).permute(0, 3, 1, 2)
    return x * torch.pow(square + k, -beta)


def _held(x: Made, values: torch.Tensor) -> Made:
    """Return what stands for a constant in the graph of a tensor."""
    owner = cast(fx.GraphModule, x.node.graph.owning_module)
    name = free_name(owner, "held")
    owner.register_buffer(name, values)
    return fx.Proxy(x.node.graph.get_attr(name), x.tracer)


def _power_pool(x: Made, norm_type: float, kernel_size: Any, stride: Any = None, ceil_mode: bool = False) -> Made:  # noqa: ANN401
    window = kernel_size if isinstance(kernel_size, tuple) else (kernel_size, kernel_size)
    pooled = F.avg_pool2d(torch.pow(x, norm_type), window, stride or window, 0, ceil_mode)
    return torch.pow(F.relu(pooled), 1 / norm_type) * math.prod(window) ** (1 / norm_type)


def _along_line(function: Callable[..., Made], x: Made, size: Any, *options: Any, **named: Any) -> Made:  # noqa: ANN401
    """Let a function of pictures work on lines: as pictures of one column."""
    numbers = [(option[0] if isinstance(option, tuple) else option) for option in (size, *options)]
    taken = [(number, place) for number, place in zip(numbers, (1, 1, 0, 1), strict=False)]
    pairs = [None if number is None else (number, beside) for number, beside in taken]
    return function(x.unsqueeze(-1), *pairs, **named).squeeze(-1)


def _max_pool_of_lines(x: Made, kernel_size: int, stride: int | None = None, padding: int = 0, *_: Made) -> Made:
    return _along_line(F.max_pool2d, x, kernel_size, stride or kernel_size, padding)


def _average_pool_of_lines(x: Made, kernel_size: int, stride: int | None = None, padding: int = 0, *rest: bool) -> Made:
    options = dict(zip(("ceil_mode", "count_include_pad"), rest, strict=False))
    return _along_line(F.avg_pool2d, x, kernel_size, stride or kernel_size, padding, **options)


def _largest_of_windows(x: Made, output_size: Any, return_indices: bool = False) -> Made:  # noqa: ANN401
    """Take the maximum over equal windows."""
    wanted = output_size if isinstance(output_size, tuple | list) else (output_size, output_size)
    sizes = [(size, size if number is None else number) for size, number in zip(_sizes(x)[2:], wanted, strict=True)]
    if any(size % number for size, number in sizes):
        return None
    return F.max_pool2d(x, tuple(size // number for size, number in sizes))


def _average_of_windows(x: Made, output_size: Any) -> Made:  # noqa: ANN401
    """Average over windows of uneven size by a product with a matrix along each side; None where they are even."""
    wanted = output_size if isinstance(output_size, tuple | list) else (output_size, output_size)
    sizes = [(size, size if number is None else number) for size, number in zip(_sizes(x)[2:], wanted, strict=True)]
    if all(size % number == 0 for size, number in sizes):
        return None
    rows, columns = (_windows(*pair) for pair in sizes)
    across = torch.matmul(x, _held(x, columns)).permute(0, 1, 3, 2)
    return torch.matmul(across, _held(x, rows)).permute(0, 1, 3, 2)


def _windows(size: int, number: int) -> torch.Tensor:
    """Return the matrix [size, number] that averages over the windows that torch divides a side into."""
    return F.adaptive_avg_pool1d(torch.eye(size)[None], number)[0]


def _einsum(equation: str, *tensors: Made) -> Made:
    """Write a product of two tensors, summed over an axis or more, as one of matrices; None for any other."""
    left, _, right = equation.replace(" ", "").partition("->")
    names = left.split(",")
    if len(names) != 2 or len(tensors) != 2 or not right or any(len(set(one)) < len(one) for one in (*names, right)):
        return None
    first, second = names
    shared = [axis for axis in first if axis in second and axis in right]
    summed = [axis for axis in first if axis in second and axis not in right]
    rows = [axis for axis in first if axis not in second]
    columns = [axis for axis in second if axis not in first]
    if not summed or {*shared, *rows, *columns} != set(right) or shared[:1] != [right[0]]:
        return None
    length = dict(zip(first + second, _sizes(tensors[0]) + _sizes(tensors[1]), strict=True))
    flat = [math.prod(length[axis] for axis in axes) for axes in (rows, summed, columns)]
    lead = [length[axis] for axis in shared[1:]]
    sides = []
    for tensor, letters, order, sizes in (
        (tensors[0], first, [*shared, *rows, *summed], flat[:2]),
        (tensors[1], second, [*shared, *summed, *columns], flat[1:]),
    ):
        sides.append(tensor.permute([letters.index(axis) for axis in order]).reshape(-1, *lead, *sizes))
    made = torch.matmul(*sides).reshape(-1, *lead, *(length[axis] for axis in (*rows, *columns)))
    order = [*shared, *rows, *columns]
    return made.permute([order.index(axis) for axis in right])


def _power(x: Made, exponent: Made) -> Made:
    """Raise to a constant that is one number."""
    held = constant_of(exponent.node) if isinstance(exponent, fx.Proxy) else None
    return torch.pow(x, float(held)) if held is not None and held.numel() == 1 else None


def _copies(x: Made, *numbers: Any) -> Made:  # noqa: ANN401 - numbers or one sequence of them
    """Repeat along axes behind the batch."""
    sizes = list(numbers[0] if len(numbers) == 1 and isinstance(numbers[0], tuple | list) else numbers)
    if len(sizes) != len(_sizes(x)) or sizes[0] != 1 or not all(isinstance(size, int) for size in sizes):
        return None
    for axis, number in enumerate(sizes):
        x = torch.cat([x] * number, axis) if number > 1 else x
    return x


def _rolled(x: Made, shifts: int | tuple[int, ...], dims: int | tuple[int, ...]) -> Made:
    """Move the last numbers of an axis in front of the others."""
    sizes = _sizes(x)
    pairs = [(shifts, dims)] if isinstance(shifts, int) else zip(shifts, cast(Any, dims), strict=True)
    for shift, dim in cast(Any, pairs):
        axis = dim % len(sizes)
        first, before = -shift % sizes[axis], (slice(None),) * axis
        if first:
            x = torch.cat([x[(*before, slice(first, None))], x[(*before, slice(0, first))]], axis)
    return x


def _flipped(x: Made, *dims: Any) -> Made:  # noqa: ANN401 - numbers, or one sequence of them
    """Turn the order along axes round."""
    sizes = _sizes(x)
    for dim in dims[0] if isinstance(dims[0], tuple | list) else dims:
        order = torch.arange(sizes[dim % len(sizes)] - 1, -1, -1)
        x = torch.index_select(x, dim % len(sizes), _held(x, order))
    return x


FUNCTIONS: Mapping[str, Callable[..., Made]] = {
    "glu": _glu,
    "selu": _selu,
    "celu": _celu,
    "softsign": _softsign,
    "logsigmoid": _log_sigmoid,
    "tanhshrink": _tanhshrink,
    "softmin": _softmin,
    "var": _variance,
    "std": _deviation,
    "rms_norm": _rms_norm,
    "local_response_norm": _local_response_norm,
    "lp_pool2d": _power_pool,
    "max_pool1d": _max_pool_of_lines,
    "avg_pool1d": _average_pool_of_lines,
    "adaptive_avg_pool1d": functools.partial(_along_line, F.adaptive_avg_pool2d),
    "adaptive_max_pool1d": functools.partial(_along_line, F.adaptive_max_pool2d),
    "adaptive_max_pool2d": _largest_of_windows,
    "adaptive_avg_pool2d": _average_of_windows,
    "einsum": _einsum,
    "pow": _power,
    "roll": _rolled,
    "flip": _flipped,
    "repeat": _copies,
}
"""Name of a function or method -> the same in other words; None says that this call of it stays."""
