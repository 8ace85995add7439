"""Make the integer program of a model in a target: the one place that knows what an operation becomes in integers.

How activation functions run decides the rest (Target.activations): ONNX Runtime has integer kernels for layers alone,
so they become operations on codes; torch's engines have kernels of their own; OpenVINO makes them part of the layer
before, where nothing is rounded in between.
"""

from collections.abc import Mapping, Sequence
from typing import cast

import numpy as np
import numpy.typing as npt
from torch import fx

from qface_toolkit.canonical.edit import ensure_shapes, shape_of
from qface_toolkit.canonical.graph import inputs, module, operation
from qface_toolkit.integer import program as ops
from qface_toolkit.integer._fused import FUSED
from qface_toolkit.integer._maker import (
    Lowering,
    Maker,
    average_pool,
    conv_of,
    float_operation,
    float_step,
    max_pool,
    move,
    plain,
    sources,
)
from qface_toolkit.quantize.image_input import absorb_preprocessing, image_grid, takes_pixels
from qface_toolkit.quantize.model import QuantizedModel
from qface_toolkit.quantize.scheme import Grid, weight_codes, weight_scales
from qface_toolkit.quantize.target import Target
from qface_toolkit.quantize.weights import (
    Width,
    hard_sigmoid_layer,
    layer_bias,
    layer_grid,
    missing_channels,
)


def program_of(model: QuantizedModel, target: Target) -> ops.Program:
    """Return the integer program of a model whose ranges are set; the model is left alone.

    Raises:
        UnsupportedModel: if it is to take pixels and cannot.
    """
    ensure_shapes(model.network, model.spec.input_size, model.spec.channels)
    pixels = takes_pixels(model, target)
    maker = Maker(absorb_preprocessing(model) if pixels else model, target, pixels)
    operations = [one for node in maker.model.network.graph.nodes for one in _steps(maker, node)]
    last = next(node for node in model.network.graph.nodes if operation(node) == "output")
    held = {one.output for one in operations if one.grid is not None}
    return ops.Program(
        tuple(operations),
        tuple(name for name in model.plan.tensors if name in held and model.plan.quantized(name, target)),
        {node.name: shape_of(node) for node in model.network.graph.nodes if operation(node) != "output"},
        inputs(last)[0].name,
        model.spec,
        target,
        model.deployment,
    )


def float_program(network: fx.GraphModule) -> list[ops.Float]:
    """Return the operations of a canonical network as they are, all of them in float; the input is no operation."""
    return [float_operation(node, None) for node in network.graph.nodes if operation(node) not in ("input", "output")]


def _steps(maker: Maker, node: fx.Node) -> Sequence[ops.Operation]:
    """Return what a node of the canonical network becomes."""
    name = str(operation(node))
    if name == "output":
        return []
    if maker.model.plan.in_float(node.name, maker.target):
        return [float_step(maker, node)]
    return _TABLES[maker.target.activations][name](maker, node)


def _input(maker: Maker, node: fx.Node) -> list[ops.Operation]:
    if not maker.pixels:
        return [ops.Image(node.name, (), maker.grid(node.name))]
    # Pixels are codes even where a layer that is kept in float alone reads them.
    return [ops.Pixels(node.name, (), maker.model.grid_of(node.name, maker.target), image_grid(maker.model.spec))]


def _conv(maker: Maker, node: fx.Node) -> list[ops.Operation]:
    if _runs_twice(maker, node):
        return []  # the PReLU behind it computes it, in both of its branches
    grid, layer = maker.output_grid(node), module(node)
    extra = missing_channels(layer)
    return [ops.Conv(node.name, sources(node), grid, maker.constants(node), ops.Window.of(layer), extra)]


def _runs_twice(maker: Maker, conv: fx.Node) -> bool:
    reader = next(iter(conv.users))
    return operation(reader) == "prelu" and maker.model.plan.form(reader.name, maker.target) == "twin"


def _linear(maker: Maker, node: fx.Node) -> list[ops.Operation]:
    return [ops.Linear(node.name, sources(node), maker.output_grid(node), maker.constants(node))]


def _slopes(node: fx.Node) -> npt.NDArray[np.float32]:
    slopes: npt.NDArray[np.float32] = module(node).weight.detach().numpy()
    return slopes


def _prelu(maker: Maker, node: fx.Node) -> list[ops.Operation]:
    """Write a PReLU as the larger of z and a z, in the form that the plan gives it; see quantize.plan.Form.

    Rounding and saturation are monotonic, so the maximum of codes is the code of the maximum: nothing is rounded twice.
    """
    grid, (before,) = maker.grid(node.name), inputs(node)
    if maker.model.plan.form(node.name, maker.target) == "twin":
        window, extra = ops.Window.of(module(before)), missing_channels(module(before))
        constants, slopes = maker.constants(before), _slopes(node)
        return [ops.Twin(node.name, sources(before), grid, before.name, constants, window, extra, slopes)]
    scales, product = weight_scales(_slopes(node).reshape(-1, 1)), f"{node.name}.scaled"
    codes = weight_codes(_slopes(node).reshape(-1, 1), scales).reshape(-1)
    return [ops.Scale(product, (before.name,), grid, codes, scales), ops.Max(node.name, (before.name, product), grid)]


def _prelu_kernel(maker: Maker, node: fx.Node) -> list[ops.Operation]:
    return [ops.Slopes(node.name, sources(node), maker.grid(node.name), _slopes(node))]


def _relu(maker: Maker, node: fx.Node) -> list[ops.Operation]:
    """Saturation is the ReLU of the layer before, unless a shared range makes room for negative values."""
    grid = cast(Grid, maker.grid(node.name))
    return [ops.Clip(node.name, sources(node), grid, grid.zero_point, grid.largest_code)]


def _relu6_kernel(maker: Maker, node: fx.Node) -> list[ops.Clip]:
    grid = cast(Grid, maker.grid(node.name))
    return [ops.Clip(node.name, sources(node), grid, grid.zero_point, grid.six)]


def _relu6(maker: Maker, node: fx.Node) -> list[ops.Operation]:
    if maker.has_nothing_to_clip(node):
        return [ops.Same(node.name, sources(node), maker.grid(node.name))]
    (clip,), rounded = _relu6_kernel(maker, node), f"{node.name}.rounded"
    # ONNX Runtime takes an operation on codes as one only between a pair that quantizes and dequantizes.
    return [
        ops.Requantize(rounded, clip.sources, clip.grid),
        ops.Clip(clip.output, (rounded,), clip.grid, clip.low, clip.high),
    ]


def _table(maker: Maker, node: fx.Node) -> list[ops.Operation]:
    return [ops.Table(node.name, sources(node), maker.grid(node.name), str(operation(node)))]


def _hard_sigmoid(maker: Maker, node: fx.Node) -> list[ops.Operation]:
    """Write x / 6 + 1/2 as a 1x1 depthwise convolution; the end of the grid is the clamp. Vectors become one pixel."""
    grid, shape, step = maker.grid(node.name), shape_of(node), maker.source_grid(node).scale
    layer = hard_sigmoid_layer(shape[1])
    weights = layer_grid(layer, step, maker.target, maker.model.deployment, Width())
    constants = ops.Constants(weights.codes(layer.weight), weights.scales, layer_bias(layer), step)
    if len(shape) == 4:
        return [ops.Conv(node.name, sources(node), grid, constants, ops.Window.of(layer))]
    pixel, made = f"{node.name}.pixel", f"{node.name}.made"
    return [
        ops.OnePixel(pixel, sources(node), maker.source_grid(node)),
        ops.Conv(made, (pixel,), grid, constants, ops.Window.of(layer)),
        ops.Vectors(node.name, (made,), grid),
    ]


def _normalize(maker: Maker, node: fx.Node) -> list[ops.Operation]:
    return [ops.Normalize(node.name, sources(node), None, float(cast(float, node.kwargs["eps"])))]


_CODES: Mapping[str, Lowering] = {
    "input": _input,
    "conv": _conv,
    "linear": _linear,
    "prelu": _prelu,
    "relu": _relu,
    "relu6": _relu6,
    "sigmoid": _table,
    "hard_sigmoid": _hard_sigmoid,
    "max_pool": max_pool,
    "average_pool": average_pool,
    "global_average_pool": plain(ops.GlobalAveragePool),
    "flatten": plain(ops.Flatten),
    "add": plain(ops.Add),
    "mul": plain(ops.Mul),
    "concat": plain(ops.Concat),
    "move": move,
    "normalize": _normalize,
}
_KERNELS: Mapping[str, Lowering] = {
    "conv": lambda maker, node: conv_of(maker, node, maker.output_grid(node)),
    "prelu": _prelu_kernel,
    "relu6": _relu6_kernel,
    "hard_sigmoid": _table,
}
_TABLES: Mapping[str, Mapping[str, Lowering]] = {
    "codes": _CODES,
    "kernels": {**_CODES, **_KERNELS},
    "fused": {**_CODES, **FUSED},
}
