"""Windows that slide over a picture: their geometry, the padding around it, and the pools that look through them."""

import math
import operator
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace

import numpy as np
import torch
import torch.nn.functional as F  # noqa: N812 - the name everybody knows it by
from torch import nn

from qface_toolkit.errors import CheckpointError, UnsupportedModel
from qface_toolkit.models.onnx.graph import Network
from qface_toolkit.models.onnx.inputs import Handler, Inputs, at, image, images_first, read
from qface_toolkit.models.onnx.reading import OnnxNode
from qface_toolkit.models.onnx.tensors import Array
from qface_toolkit.models.onnx.views import Activation, Value, activation

_LARGEST_WINDOW = 1024


class Window:
    """A kernel's size, stride, dilation and padding (top, left, bottom, right) over an image of known size."""

    def __init__(self, node: OnnxNode, x: Activation, kernel: Sequence[int]) -> None:
        self.kernel = pair(kernel)
        self.stride = pair(node.integers("strides", (1, 1)))
        self.dilation = pair(node.integers("dilations", (1, 1)))
        self.ceil = bool(node.integer("ceil_mode", 0))
        if not all(0 < number <= _LARGEST_WINDOW for each in self._numbers() for number in each):
            raise CheckpointError(f"its window, {self._shown()}, is none over a picture")
        self.pads = _pads(node, x.shape[1:], self)
        if len(self.pads) != 4 or not all(0 <= pixels <= _LARGEST_WINDOW for pixels in self.pads):
            raise CheckpointError(f"its padding, {list(self.pads)[:8]}, is none around a picture")

    def _numbers(self) -> tuple[tuple[int, int], ...]:
        return self.kernel, self.stride, self.dilation

    def _shown(self) -> str:
        kernel, stride, dilation = map(list, self._numbers())
        return f"kernel {kernel}, strides {stride}, dilations {dilation}"

    @property
    def symmetric(self) -> bool:
        """Whether opposite sides are padded alike."""
        return self.pads[:2] == self.pads[2:]

    def sizes(self, x: Activation) -> tuple[int, int]:
        """Return the result's height and width.

        Raises:
            CheckpointError: if the window does not fit into the padded image.
        """
        height, width = (self._size(x.shape[1 + axis], axis) for axis in (0, 1))
        return height, width

    def reach(self, axis: int) -> int:
        """Return how many pixels lie between the window's first and behind its last."""
        return self.dilation[axis] * (self.kernel[axis] - 1) + 1

    def _size(self, size: int, axis: int) -> int:
        room = size + self.pads[axis] + self.pads[axis + 2] - self.reach(axis)
        if room < 0:
            raise CheckpointError(f"its window, {self._shown()}, does not fit into an image of {size} pixels")
        steps = -(-room // self.stride[axis]) if self.ceil else room // self.stride[axis]
        beyond = self.ceil and steps * self.stride[axis] >= size + self.pads[axis]
        return steps + (0 if beyond else 1)

    def whole_pads(self, x: Activation) -> tuple[int, ...]:
        """Return the padding with which the windows fit without rounding up."""
        last = []
        for axis, count in enumerate(self.sizes(x)):
            needed = (count - 1) * self.stride[axis] + self.reach(axis) - x.shape[1 + axis] - self.pads[axis]
            last.append(max(self.pads[axis + 2], needed))
        return (*self.pads[:2], *last)


def pair(numbers: Sequence[int]) -> tuple[int, int]:
    """Return a window's two numbers."""
    if len(numbers) != 2:
        raise CheckpointError(f"its window has {len(numbers)} axes, and a picture has two")
    return numbers[0], numbers[1]


def _pads(node: OnnxNode, size: Sequence[int], window: Window) -> tuple[int, ...]:
    mode = node.text("auto_pad", "NOTSET")
    if mode == "NOTSET":
        return node.integers("pads", (0, 0, 0, 0))
    if mode == "VALID":
        return (0, 0, 0, 0)
    if mode not in ("SAME_UPPER", "SAME_LOWER"):
        raise CheckpointError("its auto_pad is unknown")
    first, last = [], []
    for axis, (pixels, stride) in enumerate(zip(size, window.stride, strict=True)):
        total = max(0, (-(-pixels // stride) - 1) * stride + window.reach(axis) - pixels)
        first.append(total // 2 if mode == "SAME_UPPER" else total - total // 2)
        last.append(total - first[-1])
    return (*first, *last)


def pad(network: Network, x: Activation, pads: Sequence[int], *arguments: object) -> Activation:
    """Pad an image by (top, left, bottom, right) pixels, of zero if no mode and value are given."""
    top, left, bottom, right = pads
    channels, height, width = x.shape
    padded = replace(x, shape=(channels, height + top + bottom, width + left + right))
    return network.call(F.pad, (x.node, (left, right, top, bottom), *arguments), padded)


def _max_pool(network: Network, node: OnnxNode, inputs: Inputs) -> Value:
    x = image(network, at(inputs, 0))
    window = Window(node, x, node.integers("kernel_shape"))
    shape, padding, ceil = (x.shape[0], *window.sizes(x)), pair(window.pads[:2]), window.ceil
    if not window.symmetric or any(2 * p > k for p, k in zip(padding, window.kernel, strict=True)):
        x, padding, ceil = pad(network, x, window.whole_pads(x), "constant", -math.inf), (0, 0), False
    pool = nn.MaxPool2d(window.kernel, window.stride, padding, window.dilation, ceil_mode=ceil)
    return network.layer(node.name, pool, x, shape)


def _average_pool(network: Network, node: OnnxNode, inputs: Inputs) -> Value:
    x = image(network, at(inputs, 0))
    window = Window(node, x, node.integers("kernel_shape"))
    if window.dilation != (1, 1):
        raise UnsupportedModel("it averages over dilated windows")
    includes = bool(node.integer("count_include_pad", 0))
    shape = (x.shape[0], *window.sizes(x))
    wide = any(2 * p > k for p, k in zip(window.pads, window.kernel * 2, strict=True))
    if window.symmetric and not wide:
        pool = nn.AvgPool2d(window.kernel, window.stride, pair(window.pads[:2]), window.ceil, includes)
        return network.layer(node.name, pool, x, shape)
    counts = _counts(window, x, includes=includes)
    padded = pad(network, x, window.whole_pads(x))
    means = network.layer(node.name, nn.AvgPool2d(window.kernel, window.stride), padded, shape)
    if (counts == counts.max()).all() and counts.max() == math.prod(window.kernel):
        return means
    factors = network.constant(node.name, math.prod(window.kernel) / counts)
    return network.call(operator.mul, (means.node, factors), means)


def _counts(window: Window, x: Activation, *, includes: bool) -> Array:
    """Return how many pixels each window's average is of, [1, height, width]."""
    along = []
    for axis, count in enumerate(window.sizes(x)):
        size, first, last = x.shape[1 + axis], window.pads[axis], window.pads[axis + 2]
        begin = np.arange(count) * window.stride[axis] - first
        low, high = (-first, size + last) if includes else (0, size)
        along.append(np.minimum(begin + window.kernel[axis], high) - np.maximum(begin, low))
    return np.asarray(along[0][:, None] * along[1], np.float32)[None]


def _global_average(network: Network, node: OnnxNode, inputs: Inputs) -> Value:
    x = images_first(network, read(inputs))
    if len(x.shape) == 3:
        return network.layer(node.name, nn.AdaptiveAvgPool2d(1), x, (x.shape[0], 1, 1))
    rest = tuple(range(2, len(x.dims)))
    return network.call(torch.mean, (x.node, rest, True), replace(x, shape=(x.shape[0], *(1 for _ in rest))))


def _global_max(network: Network, node: OnnxNode, inputs: Inputs) -> Value:
    x = image(network, at(inputs, 0))
    return network.layer(node.name, nn.MaxPool2d(pair(x.shape[1:])), x, (x.shape[0], 1, 1))


def over_lines(handle: Callable[[Network, OnnxNode, Inputs], Value]) -> Handler:
    """Return a handler of pictures that takes [N, C, length] too, as pictures of one row."""

    def either(network: Network, node: OnnxNode, inputs: Inputs) -> Value:
        x = read(inputs)
        if len(x.dims) != 3:
            return handle(network, node, inputs)
        x = images_first(network, x)
        row = network.reshaped(x, (x.shape[0], 1, x.shape[1]))
        made = activation(handle(network, node.widened(), [row, *map(_widened, inputs[1:])]))
        return network.reshaped(made, (made.shape[0], made.shape[2]))

    return either


def _widened(value: Value | None) -> Value | None:
    """Return a line's kernels as those of a picture of one row; a bias as it is."""
    return value[:, :, None] if isinstance(value, np.ndarray) and value.ndim == 3 else value


WINDOWS: Mapping[str, Handler] = {
    "MaxPool": over_lines(_max_pool),
    "AveragePool": over_lines(_average_pool),
    "GlobalAveragePool": _global_average,
    "GlobalMaxPool": _global_max,
}
"""Operator -> what adds it to the network."""
