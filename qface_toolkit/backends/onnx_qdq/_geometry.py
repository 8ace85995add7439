"""How windows, strides and borders are called in ONNX: the same in every graph that we print."""

from typing import Any

from qface_toolkit.integer.program import PoolWindow, Window


def convolution_attributes(window: Window) -> dict[str, Any]:
    """Return the attributes of an ONNX Conv; what has its default value, or follows from the weight, is left out."""
    given: dict[str, tuple[Any, Any]] = {
        "strides": (list(window.stride), [1, 1]),
        "pads": ([*window.padding, *window.padding], [0, 0, 0, 0]),
        "dilations": (list(window.dilation), [1, 1]),
        "group": (window.groups, 1),
    }
    return {name: value for name, (value, default) in given.items() if value != default}


def pool_attributes(window: PoolWindow, *, average: bool = False) -> dict[str, Any]:
    """Return the attributes of an ONNX MaxPool or AveragePool."""
    attributes: dict[str, Any] = {
        "kernel_shape": list(window.kernel),
        "strides": list(window.stride),
        "pads": None if window.padding is None else [*window.padding, *window.padding],
        "ceil_mode": int(window.ceil_mode),
        "count_include_pad": int(window.count_border) if average else None,
    }
    return {name: value for name, value in attributes.items() if value is not None}
