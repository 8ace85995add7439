"""ONNX operators that carry weights, windows or activations, as the torch modules that compute the same."""

import math
import operator
from collections.abc import Callable, Mapping, Sequence

import numpy as np
import torch
import torch.nn.functional as F  # noqa: N812 - the name everybody knows it by
from torch import nn

from qface_toolkit.errors import CheckpointError, UnsupportedModel
from qface_toolkit.models.onnx.graph import Activation, Network, Norm, Value, activation, broadcast, constant
from qface_toolkit.models.onnx.reading import OnnxNode
from qface_toolkit.models.onnx.tensors import Array

Inputs = Sequence[Value | None]
Handler = Callable[[Network, OnnxNode, Inputs], Value]

_LARGEST_WINDOW = 1024
_INFINITE = 3.4e38
"""Exporters write the largest float32 where they mean that a clip has no bound."""


def at(inputs: Inputs, place: int) -> Value | None:
    """Return an input, None where an optional one is left out."""
    return inputs[place] if place < len(inputs) else None


def image(network: Network, value: Value | None) -> Activation:
    """Return a value that is an image [N, C, H, W], axes in order."""
    x = network.settled(activation(value))
    if len(x.shape) != 3:
        raise UnsupportedModel(f"it reads a tensor of {len(x.shape) + 1} axes, not images [N, C, H, W]")
    return x


class _Window:
    """A kernel's size, stride, dilation and padding (top, left, bottom, right) over an image of known size."""

    def __init__(self, node: OnnxNode, x: Activation, kernel: Sequence[int]) -> None:
        self.kernel = _pair(kernel)
        self.stride = _pair(node.integers("strides", (1, 1)))
        self.dilation = _pair(node.integers("dilations", (1, 1)))
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
        return self.pads[:2] == self.pads[2:]

    def sizes(self, x: Activation) -> tuple[int, int]:
        """Return the result's height and width.

        Raises:
            CheckpointError: if the window does not fit into the padded image.
        """
        height, width = (self._size(x.shape[1 + axis], axis) for axis in (0, 1))
        return height, width

    def _size(self, size: int, axis: int) -> int:
        reach = self.dilation[axis] * (self.kernel[axis] - 1) + 1
        room = size + self.pads[axis] + self.pads[axis + 2] - reach
        if room < 0:
            raise CheckpointError(f"its window, {self._shown()}, does not fit into an image of {size} pixels")
        steps = -(-room // self.stride[axis]) if self.ceil else room // self.stride[axis]
        beyond = self.ceil and steps * self.stride[axis] >= size + self.pads[axis]
        return steps + (0 if beyond else 1)


def _pair(numbers: Sequence[int]) -> tuple[int, int]:
    if len(numbers) != 2:
        raise CheckpointError(f"its window has {len(numbers)} axes, and a picture has two")
    return numbers[0], numbers[1]


def _pads(node: OnnxNode, size: Sequence[int], window: _Window) -> tuple[int, ...]:
    mode = node.text("auto_pad", "NOTSET")
    if mode == "NOTSET":
        return node.integers("pads", (0, 0, 0, 0))
    if mode == "VALID":
        return (0, 0, 0, 0)
    if mode not in ("SAME_UPPER", "SAME_LOWER"):
        raise CheckpointError("its auto_pad is unknown")
    first, last = [], []
    for pixels, kernel, stride, dilation in zip(size, window.kernel, window.stride, window.dilation, strict=True):
        total = max(0, (-(-pixels // stride) - 1) * stride + dilation * (kernel - 1) + 1 - pixels)
        first.append(total // 2 if mode == "SAME_UPPER" else total - total // 2)
        last.append(total - first[-1])
    return (*first, *last)


def pad(network: Network, x: Activation, pads: Sequence[int], *arguments: object) -> Activation:
    """Pad an image by (top, left, bottom, right) pixels, of zero if no mode and value are given."""
    top, left, bottom, right = pads
    channels, height, width = x.shape
    padded = Activation(x.node, (channels, height + top + bottom, width + left + right), x.order)
    return network.call(F.pad, (x.node, (left, right, top, bottom), *arguments), padded)


def _conv(network: Network, node: OnnxNode, inputs: Inputs) -> Value:
    x, weight = image(network, at(inputs, 0)), constant(at(inputs, 1), "weight")
    groups = node.integer("group", 1)
    if weight.ndim != 4 or weight.size == 0 or groups < 1 or len(weight) % groups:
        raise CheckpointError(f"its weight of shape {list(weight.shape)} does not fit {groups} groups")
    if x.shape[0] != weight.shape[1] * groups:
        raise CheckpointError(f"its weight is for {weight.shape[1] * groups} channels, and {x.shape[0]} come in")
    if node.integers("kernel_shape", weight.shape[2:]) != weight.shape[2:]:
        raise CheckpointError("its kernel_shape is not that of its weight")
    window = _Window(node, x, weight.shape[2:])
    shape, padding = (len(weight), *window.sizes(x)), _pair(window.pads[:2])
    if not window.symmetric:
        x, padding = pad(network, x, window.pads), (0, 0)
    bias = at(inputs, 2)
    with torch.device("meta"):
        conv = nn.Conv2d(
            x.shape[0], len(weight), window.kernel, window.stride, padding, window.dilation, groups, bias is not None
        )
    conv.weight = nn.Parameter(network.weights(weight))
    if bias is not None:
        conv.bias = nn.Parameter(network.weights(_vector(constant(bias, "bias"), len(weight), "bias")))
    return network.layer(node.name, conv, x, shape)


def _vector(values: Array, size: int, what: str) -> Array:
    if values.shape != (size,):
        raise CheckpointError(f"its {what} has the shape {list(values.shape)} instead of [{size}]")
    return values


def _batch_norm(network: Network, node: OnnxNode, inputs: Inputs) -> Value:
    x = activation(at(inputs, 0))
    x = x if len(x.shape) == 1 else image(network, x)
    names = ("scale", "bias", "mean", "variance")
    parts = [_vector(constant(at(inputs, 1 + n), name), x.shape[0], name) for n, name in enumerate(names)]
    epsilon = node.real("epsilon", 1e-5)
    if node.integer("training_mode", 0) or epsilon < 0 or bool((parts[3] + epsilon <= 0).any()):
        raise CheckpointError(
            "it normalises by the batch (training mode), or its variances are not above zero",
            fix="export in eval mode: model.eval()",
        )
    if x.columns is not None:
        parts = [part[np.argsort(x.columns)] for part in parts]
    kind = nn.BatchNorm1d if len(x.shape) == 1 else nn.BatchNorm2d
    norm = kind(1, eps=epsilon)
    norm.num_features = x.shape[0]
    scale, bias, mean, variance = map(network.weights, parts)
    norm.weight, norm.bias = nn.Parameter(scale), nn.Parameter(bias)
    norm.running_mean, norm.running_var = mean, variance
    return network.layer(node.name, norm, x)


def _prelu(network: Network, node: OnnxNode, inputs: Inputs) -> Value:
    x, slopes = activation(at(inputs, 0)), constant(at(inputs, 1), "slope")
    if len(x.shape) == 3 and slopes.ndim == 1 and len(slopes) == x.shape[0] != x.shape[2]:
        slopes = slopes.reshape(-1, 1, 1)  # older exporters write one slope a channel so, against the letter of ONNX
    values = broadcast(slopes, x)
    if isinstance(values, np.ndarray) and math.prod(values.shape[1:]) != 1:
        raise UnsupportedModel(f"its slopes, of shape {list(slopes.shape)}, are not one a channel or one for all")
    prelu = nn.PReLU(1)
    flat = np.atleast_1d(values).reshape(-1)
    prelu.num_parameters = flat.size
    prelu.weight = nn.Parameter(network.weights(flat))
    return network.layer(node.name, prelu, x)


def _clip(network: Network, node: OnnxNode, inputs: Inputs) -> Value:
    bounds = []
    for place, (key, default) in enumerate((("min", -math.inf), ("max", math.inf)), start=1):
        given = at(inputs, place)
        bound = node.real(key, default) if node.has(key) else default
        bound = bound if given is None else float(constant(given, key).reshape(()))
        bounds.append(math.copysign(math.inf, bound) if abs(bound) >= _INFINITE else bound)
    low, high = bounds
    x = at(inputs, 0)
    if isinstance(x, Norm) and high == math.inf:
        return Norm(x.of, max(x.least, low))
    if not low < high:
        raise CheckpointError(f"it clips to nothing: {low} to {high}")
    module: nn.Module = nn.Hardtanh(low, high)
    if low == 0 and high in (6, math.inf):
        module = nn.ReLU6() if high == 6 else nn.ReLU()
    return network.layer(node.name, module, activation(x)) if (low, high) != (-math.inf, math.inf) else activation(x)


def _hard_sigmoid(network: Network, node: OnnxNode, inputs: Inputs) -> Value:
    x = activation(at(inputs, 0))
    alpha, beta = node.real("alpha", 0.2), node.real("beta", 0.5)
    if math.isclose(alpha, 1 / 6, rel_tol=1e-6) and beta == 0.5:
        return network.layer(node.name, nn.Hardsigmoid(), x)
    line = network.call(operator.add, (network.call(operator.mul, (x.node, alpha), x).node, beta), x)
    return network.layer(node.name, nn.Hardtanh(0.0, 1.0), line)


def _max_pool(network: Network, node: OnnxNode, inputs: Inputs) -> Value:
    x = image(network, at(inputs, 0))
    window = _Window(node, x, node.integers("kernel_shape"))
    shape, padding = (x.shape[0], *window.sizes(x)), _pair(window.pads[:2])
    if not window.symmetric or any(2 * p > k for p, k in zip(padding, window.kernel, strict=True)):
        if window.ceil:
            raise UnsupportedModel("it rounds up and pads its sides differently")
        x, padding = pad(network, x, window.pads, "constant", -math.inf), (0, 0)
    pool = nn.MaxPool2d(window.kernel, window.stride, padding, window.dilation, ceil_mode=window.ceil)
    return network.layer(node.name, pool, x, shape)


def _average_pool(network: Network, node: OnnxNode, inputs: Inputs) -> Value:
    x = image(network, at(inputs, 0))
    window = _Window(node, x, node.integers("kernel_shape"))
    includes = bool(node.integer("count_include_pad", 0))
    wide = any(2 * p > k for p, k in zip(window.pads, window.kernel * 2, strict=True))
    if not window.symmetric or wide or window.dilation != (1, 1):
        raise UnsupportedModel("it averages over dilated windows, or pads its sides differently or widely")
    pool = nn.AvgPool2d(window.kernel, window.stride, _pair(window.pads[:2]), window.ceil, includes)
    return network.layer(node.name, pool, x, (x.shape[0], *window.sizes(x)))


def _global_pool(network: Network, node: OnnxNode, inputs: Inputs) -> Value:
    x = image(network, at(inputs, 0))
    return network.layer(node.name, nn.AdaptiveAvgPool2d(1), x, (x.shape[0], 1, 1))


def _elementwise(make: Callable[[OnnxNode], nn.Module]) -> Handler:
    def handle(network: Network, node: OnnxNode, inputs: Inputs) -> Value:
        return network.layer(node.name, make(node), activation(at(inputs, 0)))

    return handle


LAYERS: Mapping[str, Handler] = {
    "Conv": _conv,
    "BatchNormalization": _batch_norm,
    "PRelu": _prelu,
    "Relu": _elementwise(lambda _: nn.ReLU()),
    "LeakyRelu": _elementwise(lambda node: nn.LeakyReLU(node.real("alpha", 0.01))),
    "Clip": _clip,
    "Sigmoid": _elementwise(lambda _: nn.Sigmoid()),
    "HardSwish": _elementwise(lambda _: nn.Hardswish()),
    "HardSigmoid": _hard_sigmoid,
    "MaxPool": _max_pool,
    "AveragePool": _average_pool,
    "GlobalAveragePool": _global_pool,
}
"""Operator -> what adds it to the network."""
