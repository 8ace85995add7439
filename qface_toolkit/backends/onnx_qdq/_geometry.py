"""How torch's kernels, strides and borders are called in ONNX: the same in every graph that we write."""

from typing import Any

from torch import nn


def convolution_attributes(conv: nn.Conv2d) -> dict[str, Any]:
    """Return the attributes of an ONNX Conv; what has its default value, or follows from the weight, is left out."""
    given: dict[str, tuple[Any, Any]] = {
        "strides": (list(conv.stride), [1, 1]),
        "pads": ([*conv.padding, *conv.padding], [0, 0, 0, 0]),
        "dilations": (list(conv.dilation), [1, 1]),
        "group": (conv.groups, 1),
    }
    return {name: value for name, (value, default) in given.items() if value != default}


def pool_attributes(pool: nn.MaxPool2d | nn.AvgPool2d) -> dict[str, Any]:
    """Return the attributes of an ONNX MaxPool or AveragePool."""
    kernel, stride, padding = (_pair(value) for value in (pool.kernel_size, pool.stride, pool.padding))
    attributes: dict[str, Any] = {
        "kernel_shape": kernel,
        "strides": stride,
        "pads": padding + padding,
        "ceil_mode": int(pool.ceil_mode),
    }
    counted = {"count_include_pad": int(pool.count_include_pad)} if isinstance(pool, nn.AvgPool2d) else {}
    return attributes | counted


def _pair(value: int | tuple[int, ...]) -> list[int]:
    return [value, value] if isinstance(value, int) else list(value)
