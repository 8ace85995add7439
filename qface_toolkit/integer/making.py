"""Make the integer program of a model in a target: the one place that knows what an operation becomes in integers.

How activation functions run decides the rest (Target.activations): ONNX Runtime has integer kernels for layers alone,
so they become operations on codes; torch's engines have kernels of their own; OpenVINO makes them part of the layer
before, where nothing is rounded in between.
"""

import math
from collections.abc import Callable, Mapping
from typing import Any, cast

import numpy as np
import numpy.typing as npt
from torch import fx, nn

from qface_toolkit.canonical.edit import ensure_shapes, shape_of
from qface_toolkit.canonical.graph import inputs, module, operation
from qface_toolkit.integer.program import (
    Add,
    Affine,
    AveragePool,
    Clip,
    Concat,
    Constants,
    Conv,
    Flatten,
    Float,
    GlobalAveragePool,
    Image,
    Linear,
    Max,
    MaxPool,
    Mul,
    Normalize,
    OnePixel,
    Operation,
    Pad,
    Pixels,
    PoolWindow,
    Program,
    Requantize,
    Same,
    Scale,
    Slopes,
    Table,
    Twin,
    Vectors,
    Window,
)
from qface_toolkit.quantize.image_input import absorb_preprocessing, image_grid, takes_pixels
from qface_toolkit.quantize.model import QuantizedModel
from qface_toolkit.quantize.scheme import Grid, weight_codes, weight_scales
from qface_toolkit.quantize.target import Target
from qface_toolkit.quantize.weights import (
    WeightGrid,
    Width,
    hard_sigmoid_layer,
    is_affine,
    layer_bias,
    layer_grid,
    missing_channels,
    weight_grid,
)

LARGEST_PADDED = 28 * 28
"""Pixels of the largest map that OpenVINO's form pads itself: its convolutions take up to a quarter more time to pad
what has a zero point; a pass over a small map costs less."""


def program_of(model: QuantizedModel, target: Target) -> Program:
    """Return the integer program of a model whose ranges are set; the model is left alone.

    Raises:
        UnsupportedModel: if it is to take pixels and cannot.
    """
    ensure_shapes(model.network, model.spec.input_size)
    pixels = takes_pixels(model, target)
    maker = _Maker(absorb_preprocessing(model) if pixels else model, target, pixels)
    for node in maker.model.network.graph.nodes:
        maker.add(node)
    last = next(node for node in model.network.graph.nodes if operation(node) == "output")
    return Program(
        tuple(maker.operations),
        tuple(name for name in model.plan.tensors if model.plan.quantized(name, target)),
        {node.name: shape_of(node) for node in model.network.graph.nodes if operation(node) != "output"},
        inputs(last)[0].name,
        model.spec,
        target,
        model.deployment,
    )


def float_program(network: fx.GraphModule) -> list[Float]:
    """Return the operations of a canonical network as they are, all of them in float; the input is no operation."""
    return [_float_operation(node, None) for node in network.graph.nodes if operation(node) not in ("input", "output")]


class _Maker:
    """Collects the operations of one model in one target."""

    def __init__(self, model: QuantizedModel, target: Target, pixels: bool) -> None:
        self.model, self.target, self.pixels = model, target, pixels
        self.table = _TABLES[target.activations]
        self.operations: list[Operation] = []

    def add(self, node: fx.Node) -> None:
        """Add what a node of the canonical network becomes."""
        name = str(operation(node))
        if name == "output":
            return
        if self.model.plan.in_float(node.name, self.target):
            self.operations.append(_float(self, node))
        else:
            self.operations.extend(self.table[name](self, node))

    def grid(self, tensor: str) -> Grid | None:
        """Return the grid of a tensor of the network, or None if the target leaves it float."""
        held = self.model.plan.quantized(tensor, self.target)
        return self.model.grid_of(tensor, self.target) if held else None

    def output_grid(self, node: fx.Node) -> Grid | None:
        """Return the grid that a node's kernel writes onto: that of the ReLU behind it, if they are one kernel."""
        if node.name in self.model.plan.tensors:
            return self.grid(node.name)
        return None if self.target.activations == "fused" else self.grid(next(iter(node.users)).name)

    def source_grid(self, node: fx.Node) -> Grid:
        """Return the grid of the codes that a node reads first."""
        return self.model.grid_of(inputs(node)[0].name, self.target)

    def weight_grid(self, node: fx.Node) -> WeightGrid:
        """Return the grid of a layer's weights."""
        model, step = self.model, self.source_grid(node).scale
        return weight_grid(node, step, self.target, model.deployment, model.scheme)

    def constants(self, node: fx.Node) -> Constants:
        """Return what a layer computes with."""
        layer, grid = module(node), self.weight_grid(node)
        return Constants(grid.codes(layer.weight), grid.scales, layer_bias(layer), self.source_grid(node).scale)

    def has_nothing_to_clip(self, relu6: fx.Node) -> bool:
        """Tell whether the range that a ReLU6 shares with its input ends at 0 and 6."""
        return self.model.plan.tensors[relu6.name].owner in self.model.plan.clamps


def _sources(node: fx.Node) -> tuple[str, ...]:
    return tuple(source.name for source in inputs(node))


def _float(maker: _Maker, node: fx.Node) -> Float:
    return _float_operation(node, maker.grid(node.name))


def _float_operation(node: fx.Node, grid: Grid | None) -> Float:
    called = module(node) if node.op == "call_module" else None
    options = {"eps": float(cast(float, node.kwargs["eps"]))} if "eps" in node.kwargs else {}
    return Float(node.name, _sources(node), grid, str(operation(node)), called, options)


def _input(maker: _Maker, node: fx.Node) -> list[Operation]:
    if not maker.pixels:
        return [Image(node.name, (), maker.grid(node.name))]
    # Pixels are codes even where a layer that is kept in float alone reads them.
    return [Pixels(node.name, (), maker.model.grid_of(node.name, maker.target), image_grid(maker.model.spec))]


def _conv(maker: _Maker, node: fx.Node) -> list[Operation]:
    if _runs_twice(maker, node):
        return []  # the PReLU behind it computes it, in both of its branches
    grid, layer = maker.output_grid(node), module(node)
    extra = missing_channels(layer)
    return [Conv(node.name, _sources(node), grid, maker.constants(node), Window.of(layer), extra)]


def _runs_twice(maker: _Maker, conv: fx.Node) -> bool:
    reader = next(iter(conv.users))
    return operation(reader) == "prelu" and maker.model.plan.forms[reader.name] == "twin"


def _linear(maker: _Maker, node: fx.Node) -> list[Operation]:
    return [Linear(node.name, _sources(node), maker.output_grid(node), maker.constants(node))]


def _slopes(node: fx.Node) -> npt.NDArray[np.float32]:
    slopes: npt.NDArray[np.float32] = module(node).weight.detach().numpy()
    return slopes


def _prelu(maker: _Maker, node: fx.Node) -> list[Operation]:
    """Write a PReLU as the larger of z and a z, in the form that the plan gives it; see quantize.plan.Form.

    Rounding and saturation are monotonic, so the maximum of codes is the code of the maximum: nothing is rounded twice.
    """
    grid, (before,) = maker.grid(node.name), inputs(node)
    if maker.model.plan.forms[node.name] == "twin":
        window, extra = Window.of(module(before)), missing_channels(module(before))
        return [Twin(node.name, _sources(before), grid, maker.constants(before), window, extra, _slopes(node))]
    scales, product = weight_scales(_slopes(node).reshape(-1, 1)), f"{node.name}.scaled"
    codes = weight_codes(_slopes(node).reshape(-1, 1), scales).reshape(-1)
    return [Scale(product, (before.name,), grid, codes, scales), Max(node.name, (before.name, product), grid)]


def _prelu_kernel(maker: _Maker, node: fx.Node) -> list[Operation]:
    return [Slopes(node.name, _sources(node), maker.grid(node.name), _slopes(node))]


def _relu(maker: _Maker, node: fx.Node) -> list[Operation]:
    """Saturation is the ReLU of the layer before, unless a shared range makes room for negative values."""
    grid = cast(Grid, maker.grid(node.name))
    return [Clip(node.name, _sources(node), grid, grid.zero_point, grid.largest_code)]


def _relu6_kernel(maker: _Maker, node: fx.Node) -> list[Clip]:
    grid = cast(Grid, maker.grid(node.name))
    return [Clip(node.name, _sources(node), grid, grid.zero_point, grid.six)]


def _relu6(maker: _Maker, node: fx.Node) -> list[Operation]:
    if maker.has_nothing_to_clip(node):
        return [Same(node.name, _sources(node), maker.grid(node.name))]
    (clip,), rounded = _relu6_kernel(maker, node), f"{node.name}.rounded"
    # ONNX Runtime takes an operation on codes as one only between a pair that quantizes and dequantizes.
    return [Requantize(rounded, clip.sources, clip.grid), Clip(clip.output, (rounded,), clip.grid, clip.low, clip.high)]


def _table(maker: _Maker, node: fx.Node) -> list[Operation]:
    return [Table(node.name, _sources(node), maker.grid(node.name), str(operation(node)))]


def _hard_sigmoid(maker: _Maker, node: fx.Node) -> list[Operation]:
    """Write x / 6 + 1/2 as a 1x1 depthwise convolution; the end of the grid is the clamp. Vectors become one pixel."""
    grid, shape, step = maker.grid(node.name), shape_of(node), maker.source_grid(node).scale
    layer = hard_sigmoid_layer(shape[1])
    weights = layer_grid(layer, step, maker.target, maker.model.deployment, Width())
    constants = Constants(weights.codes(layer.weight), weights.scales, layer_bias(layer), step)
    if len(shape) == 4:
        return [Conv(node.name, _sources(node), grid, constants, Window.of(layer))]
    pixel, made = f"{node.name}.pixel", f"{node.name}.made"
    return [
        OnePixel(pixel, _sources(node), maker.source_grid(node)),
        Conv(made, (pixel,), grid, constants, Window.of(layer)),
        Vectors(node.name, (made,), grid),
    ]


def _max_pool(maker: _Maker, node: fx.Node) -> list[Operation]:
    return [MaxPool(node.name, _sources(node), maker.grid(node.name), PoolWindow.of(module(node)))]


def _average_pool(maker: _Maker, node: fx.Node) -> list[Operation]:
    return [AveragePool(node.name, _sources(node), maker.grid(node.name), PoolWindow.of(module(node)))]


def _normalize(maker: _Maker, node: fx.Node) -> list[Operation]:
    return [Normalize(node.name, _sources(node), None, float(cast(float, node.kwargs["eps"])))]


def _plain(kind: type[Operation]) -> "Lowering":
    """Return what makes an operation that needs nothing but what it reads."""
    return lambda maker, node: [kind(node.name, _sources(node), maker.output_grid(node))]


def _fused_conv(maker: _Maker, node: fx.Node) -> list[Operation]:
    layer, grid = module(node), maker.output_grid(node)
    if is_affine(layer):
        factors = cast("npt.NDArray[np.float32]", layer.weight.detach().numpy()).reshape(-1)
        return [Affine(node.name, _sources(node), grid, factors, layer_bias(layer))]
    before, (source,) = maker.source_grid(node), inputs(node)
    if not _pads_codes(layer, before, math.prod(shape_of(source)[2:])):
        return _conv_of(maker, node, grid)
    padded, held, window = f"{node.name}.padded", maker.constants(node), Window.of(layer)
    sums = held.codes.reshape(len(held.scales), -1).sum(1, dtype=np.float64)
    bias = (held.bias - before.zero_point * sums * (held.input_scale * held.scales)).astype(np.float32)
    bare = Window(window.stride, (0, 0), window.dilation, window.groups)
    return [
        Pad(padded, (source.name,), before, window.padding),
        Conv(node.name, (padded,), grid, held, bare, bias_from_zero=bias),
    ]


def _conv_of(maker: _Maker, node: fx.Node, grid: Grid | None) -> list[Operation]:
    return [Conv(node.name, _sources(node), grid, maker.constants(node), Window.of(module(node)))]


def _pads_codes(layer: nn.Conv2d, grid: Grid, pixels: int) -> bool:
    """Tell whether OpenVINO's form of a layer pads codes itself, and reads them as if their zero point were 0."""
    return layer.groups == 1 and layer.padding != (0, 0) and grid.zero_point > 0 and pixels <= LARGEST_PADDED


def _fused(maker: _Maker, node: fx.Node) -> list[Operation]:
    return [_float(maker, node)]


def _fused_relu(maker: _Maker, node: fx.Node) -> list[Operation]:
    """Saturation is the ReLU of the layer before, unless a shared range makes room for negative values."""
    grid = maker.grid(node.name)
    saturates = grid is not None and grid.zero_point == 0
    return [Requantize(node.name, _sources(node), grid)] if saturates else _fused(maker, node)


def _fused_relu6(maker: _Maker, node: fx.Node) -> list[Operation]:
    if maker.has_nothing_to_clip(node):
        return [Requantize(node.name, _sources(node), maker.grid(node.name))]
    return _fused(maker, node)


def _fused_average_pool(maker: _Maker, node: fx.Node) -> list[Operation]:
    """Pad codes before the pool: the runtime would average code 0, not value 0."""
    window, (source,) = PoolWindow.of(module(node)), inputs(node)
    if window.padding in ((0, 0), None):
        return _average_pool(maker, node)
    padded = f"{node.name}.padded"
    bare = PoolWindow(window.kernel, window.stride, None, window.ceil_mode, window.count_border)
    return [
        Pad(padded, (source.name,), maker.source_grid(node), window.padding),
        AveragePool(node.name, (padded,), maker.grid(node.name), bare),
    ]


Lowering = Callable[[_Maker, fx.Node], list[Any]]

_CODES: Mapping[str, Lowering] = {
    "input": _input,
    "conv": _conv,
    "linear": _linear,
    "prelu": _prelu,
    "relu": _relu,
    "relu6": _relu6,
    "sigmoid": _table,
    "hard_sigmoid": _hard_sigmoid,
    "max_pool": _max_pool,
    "average_pool": _average_pool,
    "global_average_pool": _plain(GlobalAveragePool),
    "flatten": _plain(Flatten),
    "add": _plain(Add),
    "mul": _plain(Mul),
    "concat": _plain(Concat),
    "normalize": _normalize,
}
_KERNELS = {
    **_CODES,
    "conv": lambda maker, node: _conv_of(maker, node, maker.output_grid(node)),
    "prelu": _prelu_kernel,
}
_KERNELS |= {"relu6": _relu6_kernel, "hard_sigmoid": _table}
_FUSED = {**_CODES, "conv": _fused_conv, "prelu": _fused, "relu": _fused_relu, "relu6": _fused_relu6}
_FUSED |= {"hard_sigmoid": _fused, "average_pool": _fused_average_pool}
_TABLES: Mapping[str, Mapping[str, Lowering]] = {"codes": _CODES, "kernels": _KERNELS, "fused": _FUSED}
