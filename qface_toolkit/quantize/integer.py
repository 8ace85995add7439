"""The arithmetic of an integer runtime, step by step: what an artifact must give, not merely come close to.

Fake-quantization computes with sums of rounded floats. Such a sum can differ from the integer one in its last bit, that
bit can decide how the next tensor rounds, and over fifty layers a few such bits become a different rounding noise. For
training it does not matter which; to prove that a file computes what its ranges say, it does. Here codes are whole
numbers held in floats wide enough for a layer's largest sum, and every rescaling follows the engine (see _arithmetic).
"""

from collections.abc import Callable, Iterator, Mapping
from dataclasses import replace
from typing import cast

import numpy as np
import numpy.typing as npt
import torch
import torch.nn.functional as F  # noqa: N812 - the name everybody knows it by
from torch import fx, nn

from qface_toolkit.quantize._arithmetic import ARITHMETIC, Grid, Sums, torch_prelu
from qface_toolkit.quantize.graph import inputs, module, operation
from qface_toolkit.quantize.model import QuantizedModel
from qface_toolkit.quantize.plan import Target
from qface_toolkit.quantize.scheme import (
    ACTIVATION_MAX,
    SMALLEST_SCALE,
    activation_qparams,
    weight_codes,
    weight_scales,
)
from qface_toolkit.quantize.weights import hard_sigmoid_layer, layer_bias, layer_scales

Tensor = torch.Tensor
_EXACT_IN_FLOAT32 = 2**24


def embed_as_integers(
    model: QuantizedModel, target: Target, images: npt.NDArray[np.float32], batch_size: int = 8
) -> npt.NDArray[np.float32]:
    """Return what a target computes, float32 [N, embedding], for inputs [N, 3, height, width]."""
    runner = _Runner(model, target)
    with torch.no_grad():
        parts = [
            runner(torch.from_numpy(images[i : i + batch_size])).numpy() for i in range(0, len(images), batch_size)
        ]
    return np.concatenate(parts)


def tensors_as_integers(
    model: QuantizedModel, target: Target, images: npt.NDArray[np.float32], batch_size: int = 4
) -> Iterator[dict[str, npt.NDArray[np.uint8]]]:
    """Yield for each batch of images the codes of every tensor that a target holds as codes, in order of execution."""
    runner = _Runner(model, target)
    for start in range(0, len(images), batch_size):
        with torch.no_grad():
            values = runner.values(torch.from_numpy(images[start : start + batch_size]))
        yield {name: values[name].to(torch.uint8).numpy() for name in model.plan.tensors if runner.quantized(name)}


class _Layer:
    """Codes of a layer's weight, its float bias and the scales of its sums, shaped to broadcast over them."""

    def __init__(self, layer: nn.Conv2d | nn.Linear, input_scale: Tensor, scales: npt.NDArray[np.float32]) -> None:
        weight, bias = layer.weight.detach().numpy(), layer_bias(layer)
        shape = (1, -1) + (1,) * (weight.ndim - 2)
        codes = torch.from_numpy(weight_codes(weight, scales)).double()
        largest_sum = codes.abs().flatten(1).sum(1).max() * ACTIVATION_MAX
        self.weight = codes.float() if largest_sum < _EXACT_IN_FLOAT32 else codes
        self.bias = torch.from_numpy(bias).reshape(shape)
        self.weight_scales = torch.from_numpy(scales).reshape(shape)
        self.input_scale = input_scale
        self.groups = layer.groups if isinstance(layer, nn.Conv2d) else 1


class _Runner:
    """Runs the canonical network on codes; float where the plan leaves a tensor float."""

    def __init__(self, model: QuantizedModel, target: Target) -> None:
        self.model, self.family = model, target.family
        self.engine = ARITHMETIC[target.arithmetic]
        self.grids = {tensor: self._grid(tensor, target) for tensor in model.plan.tensors}
        self.layers = {
            node.name: self._layer(node, target)
            for node in model.network.graph.nodes
            if operation(node) in ("conv", "linear", "hard_sigmoid")
        }

    def _grid(self, tensor: str, target: Target) -> Grid:
        scale, zero_point = activation_qparams(self.model.range_of(tensor, target), target.levels)
        return Grid(torch.tensor(scale), float(zero_point))

    def _layer(self, node: fx.Node, target: Target) -> _Layer:
        layer = hard_sigmoid_layer(1) if operation(node) == "hard_sigmoid" else module(node)
        input_scale = self.grids[inputs(node)[0].name].scale
        scales = layer_scales(layer, np.float32(input_scale), target, self.model.deployment)
        return _Layer(layer, input_scale, scales)

    def __call__(self, images: Tensor) -> Tensor:
        last = next(node for node in self.model.network.graph.nodes if operation(node) == "output")
        embedding = inputs(last)[0].name
        return self.restored(embedding, self.values(images)[embedding])

    def values(self, images: Tensor) -> dict[str, Tensor]:
        """Return what each node makes of images: codes, or floats where the target leaves a tensor float."""
        values: dict[str, Tensor] = {}
        for node in self.model.network.graph.nodes:
            sources = [values[source.name] for source in inputs(node)]
            if operation(node) == "input":
                values[node.name] = self.engine.quantized(images, self.grids[node.name])
            elif operation(node) != "output":
                values[node.name] = _OPERATIONS[str(operation(node))](self, node, sources)
        return values

    def restored(self, tensor: str, codes: Tensor) -> Tensor:
        """Return the values of a tensor that the target holds as codes, or as they are."""
        if not self.quantized(tensor):
            return codes
        return (codes - self.grids[tensor].zero_point) * self.grids[tensor].scale

    def quantized(self, tensor: str) -> bool:
        """Tell whether the target holds a tensor as codes."""
        return self.model.plan.quantized(tensor, self.family)

    def written(self, node: fx.Node) -> str:
        """Return the tensor that a node's kernel writes: that of the ReLU behind it, if they are one kernel."""
        return node.name if node.name in self.model.plan.tensors else next(iter(node.users)).name

    def sums(self, node: fx.Node, codes: Tensor) -> Sums:
        """Return a layer's sums over centred codes."""
        layer = self.layers[node.name]
        centred = (codes - self.grids[inputs(node)[0].name].zero_point).to(layer.weight.dtype)
        if operation(node) == "linear":
            products = F.linear(centred, layer.weight)
        else:
            conv = module(node)
            products = F.conv2d(centred, layer.weight, None, conv.stride, conv.padding, conv.dilation, conv.groups)
        return _sums(layer, products.round())


def _sums(layer: _Layer, products: Tensor) -> Sums:
    bias_codes = torch.round(layer.bias * (1 / (layer.input_scale * layer.weight_scales)))
    return Sums(products, bias_codes, layer.bias, layer.input_scale, layer.weight_scales, layer.groups)


def _layer(runner: _Runner, node: fx.Node, sources: list[Tensor]) -> Tensor:
    tensor = runner.written(node)
    if runner.quantized(tensor):
        return runner.engine.rescaled(runner.sums(node, sources[0]), runner.grids[tensor])
    if operation(next(iter(node.users))) == "prelu":
        return sources[0]  # PReLU computes this layer twice, once for each of its branches
    sums = runner.sums(node, sources[0])
    return sums.integer() * sums.scales


def _prelu(runner: _Runner, node: fx.Node, sources: list[Tensor]) -> Tensor:
    slopes, grid = module(node).weight.detach().reshape(1, -1, 1, 1), runner.grids[node.name]
    if runner.family == "torch":
        return torch_prelu(sources[0], slopes, runner.grids[inputs(node)[0].name], grid)
    if runner.model.plan.forms[node.name] == "twin":
        return _twin(runner, inputs(node)[0], sources[0], slopes, grid)
    return torch.maximum(sources[0], _scaled(runner, sources[0], slopes, grid))


def _twin(runner: _Runner, conv: fx.Node, codes: Tensor, slopes: Tensor, grid: Grid) -> Tensor:
    """Return the maximum of a convolution's codes with weights W and with weights a W."""
    plain = runner.sums(conv, codes)
    signs = torch.sign(slopes)
    scales = (plain.weight_scales * slopes.abs()).clamp_min(float(SMALLEST_SCALE))
    scaled = replace(plain, products=plain.products * signs, bias_codes=plain.bias_codes * signs, weight_scales=scales)
    return torch.maximum(runner.engine.rescaled(plain, grid), runner.engine.rescaled(scaled, grid))


def _scaled(runner: _Runner, codes: Tensor, slopes: Tensor, grid: Grid) -> Tensor:
    """Return a z on z's own grid, as a 1x1 depthwise convolution makes it."""
    scales = weight_scales(slopes.numpy().reshape(-1, 1))
    steps = torch.from_numpy(weight_codes(slopes.numpy().reshape(-1, 1), scales)).float().reshape(slopes.shape)
    products, nothing = (codes - grid.zero_point) * steps, torch.zeros_like(slopes)
    sums = Sums(products, nothing, nothing, grid.scale, torch.from_numpy(scales).reshape(slopes.shape), len(scales))
    return runner.engine.rescaled(sums, grid)


def _relu(runner: _Runner, node: fx.Node, sources: list[Tensor]) -> Tensor:
    return sources[0].clamp_min(runner.grids[node.name].zero_point)


def _relu6(runner: _Runner, node: fx.Node, sources: list[Tensor]) -> Tensor:
    grid = runner.grids[node.name]
    six = grid.clipped((6 / grid.scale).round() + grid.zero_point)
    return torch.minimum(sources[0].clamp_min(grid.zero_point), six)


def _sigmoid(runner: _Runner, node: fx.Node, sources: list[Tensor]) -> Tensor:
    values = runner.restored(inputs(node)[0].name, sources[0])
    return runner.engine.quantized(torch.sigmoid(values), runner.grids[node.name])


def _hard_sigmoid(runner: _Runner, node: fx.Node, sources: list[Tensor]) -> Tensor:
    source, grid = inputs(node)[0].name, runner.grids[node.name]
    if runner.family == "torch":
        return runner.engine.quantized(F.hardsigmoid(runner.restored(source, sources[0])), grid)
    layer, shape = runner.layers[node.name], (-1, 1) + (1,) * (sources[0].dim() - 2)
    steps = (sources[0] - runner.grids[source].zero_point) * layer.weight.reshape(shape)
    sums = _sums(layer, steps.reshape(-1, 1, 1, 1))
    return runner.engine.rescaled(sums, grid).reshape(sources[0].shape)


def _mul(runner: _Runner, node: fx.Node, sources: list[Tensor]) -> Tensor:
    parts = [(codes, runner.grids[part.name]) for codes, part in zip(sources, inputs(node), strict=True)]
    return runner.engine.multiplied(parts, runner.grids[node.name])


def _normalize(runner: _Runner, node: fx.Node, sources: list[Tensor]) -> Tensor:
    return F.normalize(runner.restored(inputs(node)[0].name, sources[0]), eps=float(cast(float, node.kwargs["eps"])))


def _add(runner: _Runner, node: fx.Node, sources: list[Tensor]) -> Tensor:
    parts = [(codes, runner.grids[part.name]) for codes, part in zip(sources, inputs(node), strict=True)]
    return runner.engine.added(parts, runner.grids[runner.written(node)])


def _pool(runner: _Runner, node: fx.Node, sources: list[Tensor]) -> Tensor:
    grid = runner.grids[node.name]
    return grid.rounded(cast(Tensor, module(node)(sources[0] - grid.zero_point)))


def _global_average_pool(runner: _Runner, node: fx.Node, sources: list[Tensor]) -> Tensor:
    grid = runner.grids[node.name]
    return runner.engine.averaged(cast(Tensor, module(node)(sources[0] - grid.zero_point)), grid)


def _flatten(runner: _Runner, node: fx.Node, sources: list[Tensor]) -> Tensor:
    return torch.flatten(sources[0], 1)


def _concat(runner: _Runner, node: fx.Node, sources: list[Tensor]) -> Tensor:
    return torch.cat(sources, 1)


_OPERATIONS: Mapping[str, Callable[[_Runner, fx.Node, list[Tensor]], Tensor]] = {
    "conv": _layer,
    "linear": _layer,
    "prelu": _prelu,
    "relu": _relu,
    "relu6": _relu6,
    "sigmoid": _sigmoid,
    "hard_sigmoid": _hard_sigmoid,
    "max_pool": _pool,
    "average_pool": _pool,
    "global_average_pool": _global_average_pool,
    "flatten": _flatten,
    "add": _add,
    "mul": _mul,
    "normalize": _normalize,
    "concat": _concat,
}
