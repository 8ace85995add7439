"""The arithmetic of an integer runtime, step by step: what an artifact must give, not merely come close to.

Fake-quantization computes with sums of rounded floats. Such a sum can differ from the integer one in its last bit, that
bit can decide how the next tensor rounds, and over fifty layers a few such bits become a different rounding noise. For
training it does not matter which; to prove that a file computes what its ranges say, it does. Here codes are whole
numbers held in floats wide enough for a layer's largest sum, and every rescaling follows the engine (see _arithmetic).
"""

from collections.abc import Callable, Iterator, Mapping
from dataclasses import replace
from typing import Any, cast

import numpy as np
import numpy.typing as npt
import torch
import torch.nn.functional as F  # noqa: N812 - the name everybody knows it by
from torch import fx

from qface_toolkit.canonical.graph import inputs, module, operation
from qface_toolkit.integer._arithmetic import ARITHMETIC, Grid, Sums, torch_prelu
from qface_toolkit.integer._float_runner import FloatRunner
from qface_toolkit.integer._network import Network, layer_sums
from qface_toolkit.quantize.model import QuantizedModel
from qface_toolkit.quantize.plan import OPENVINO, Target
from qface_toolkit.quantize.scheme import (
    SMALLEST_SCALE,
    weight_codes,
    weight_scales,
)

Tensor = torch.Tensor


def embed_as_integers(
    model: QuantizedModel, target: Target, images: npt.NDArray[np.float32], batch_size: int = 8
) -> npt.NDArray[np.float32]:
    """Return what a target computes, float32 [N, embedding], for inputs [N, 3, height, width]."""
    runner = _runner(model, target)
    with torch.no_grad():
        parts = [
            runner(torch.from_numpy(images[i : i + batch_size])).numpy() for i in range(0, len(images), batch_size)
        ]
    return np.concatenate(parts)


def tensors_as_integers(
    model: QuantizedModel, target: Target, images: npt.NDArray[np.float32], batch_size: int = 4
) -> Iterator[dict[str, npt.NDArray[np.uint8]]]:
    """Yield for each batch of images the codes of every tensor that a target holds as codes, in order of execution."""
    runner = _runner(model, target)
    for start in range(0, len(images), batch_size):
        with torch.no_grad():
            values = runner.values(torch.from_numpy(images[start : start + batch_size]))
        yield {name: values[name].to(torch.uint8).numpy() for name in model.plan.tensors if runner.quantized(name)}


class _Runner(Network):
    """Runs a network on codes; float where the plan leaves a tensor float."""

    def __init__(self, model: QuantizedModel, target: Target) -> None:
        super().__init__(model, target)
        self.engine = ARITHMETIC[target.arithmetic]

    def value(self, node: fx.Node, sources: list[Tensor], images: Tensor) -> Tensor:
        if operation(node) == "input":
            return self._rounded(node, images)
        if self.model.plan.in_float(node.name, self.family):
            return self._rounded(node, computed(node, self._restored_all(node, sources)))
        return _OPERATIONS[str(operation(node))](self, node, sources)

    def _rounded(self, node: fx.Node, values: Tensor) -> Tensor:
        """Return the codes of what a node makes in float, or the values where the plan leaves them."""
        return self.engine.quantized(values, self.grids[node.name]) if self.quantized(node.name) else values

    def _restored_all(self, node: fx.Node, sources: list[Tensor]) -> list[Tensor]:
        return [self.restored(part.name, held).float() for part, held in zip(inputs(node), sources, strict=True)]


def computed(node: fx.Node, values: list[Tensor]) -> Tensor:
    """Return what an operation of the float network makes of its inputs, given in order."""
    if node.op == "call_module":
        return cast(Tensor, module(node)(*values))
    given = dict(zip(inputs(node), values, strict=True))
    arguments = cast("tuple[Any, ...]", fx.node.map_arg(node.args, given.__getitem__))
    return cast(Tensor, cast(Callable[..., Any], node.target)(*arguments, **node.kwargs))


def _runner(model: QuantizedModel, target: Target) -> Network:
    return (FloatRunner if target.family == OPENVINO.family else _Runner)(model, target)


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
    sums = layer_sums(layer, steps.reshape(-1, 1, 1, 1))
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


def _average_pool(runner: _Runner, node: fx.Node, sources: list[Tensor]) -> Tensor:
    grid = runner.grids[node.name]
    return runner.engine.pooled(module(node), sources[0] - grid.zero_point, grid)


def _global_average_pool(runner: _Runner, node: fx.Node, sources: list[Tensor]) -> Tensor:
    grid, pixels = runner.grids[node.name], sources[0].shape[2] * sources[0].shape[3]
    sums = (sources[0] - grid.zero_point).sum(dim=(2, 3), keepdim=True)
    return runner.engine.averaged(sums, pixels, grid)


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
    "average_pool": _average_pool,
    "global_average_pool": _global_average_pool,
    "flatten": _flatten,
    "add": _add,
    "mul": _mul,
    "normalize": _normalize,
    "concat": _concat,
}
