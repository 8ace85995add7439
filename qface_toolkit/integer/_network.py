"""What every simulation of a runtime starts from: the codes and scales of layers, the grids of tensors, exact sums."""

import numpy as np
import torch
import torch.nn.functional as F  # noqa: N812 - the name everybody knows it by
from torch import fx, nn

from qface_toolkit.canonical.graph import inputs, module, operation
from qface_toolkit.integer._arithmetic import Grid, Sums
from qface_toolkit.quantize.model import QuantizedModel
from qface_toolkit.quantize.plan import Target
from qface_toolkit.quantize.scheme import ACTIVATION_MAX, activation_qparams
from qface_toolkit.quantize.weights import (
    WeightGrid,
    Width,
    hard_sigmoid_layer,
    layer_bias,
    layer_grid,
    weight_grid,
)

Tensor = torch.Tensor
_EXACT_IN_FLOAT32 = 2**24


class Layer:
    """Codes of a layer's weight, its float bias and the scales of its sums, shaped to broadcast over them."""

    def __init__(self, layer: nn.Conv2d | nn.Linear, input_scale: Tensor, grid: WeightGrid) -> None:
        shape = (1, -1) + (1,) * (layer.weight.dim() - 2)
        codes = torch.from_numpy(grid.codes(layer.weight)).double()
        largest_sum = codes.abs().flatten(1).sum(1).max() * ACTIVATION_MAX
        self.weight = codes.float() if largest_sum < _EXACT_IN_FLOAT32 else codes
        self.bias = torch.from_numpy(layer_bias(layer)).reshape(shape)
        self.grid = grid
        self.weight_scales = torch.from_numpy(grid.scales).reshape(shape)
        self.input_scale = input_scale
        self.groups = layer.groups if isinstance(layer, nn.Conv2d) else 1


class Network:
    """A canonical network with the grids of its tensors and the constants of its layers in a target."""

    def __init__(self, model: QuantizedModel, target: Target) -> None:
        self.model, self.family = model, target.family
        self.grids = {tensor: self._grid(tensor, target) for tensor in model.plan.tensors}
        self.layers = {
            node.name: self._layer(node, target)
            for node in model.network.graph.nodes
            if operation(node) in ("conv", "linear", "hard_sigmoid")
        }

    def _grid(self, tensor: str, target: Target) -> Grid:
        levels = self.model.levels_of(tensor, target)
        scale, zero_point = activation_qparams(self.model.range_of(tensor, target), levels.steps)
        return Grid(torch.tensor(scale), float(zero_point), levels.largest_code)

    def _layer(self, node: fx.Node, target: Target) -> Layer:
        model, input_scale = self.model, self.grids[inputs(node)[0].name].scale
        step = np.float32(input_scale)
        if operation(node) == "hard_sigmoid":
            layer = hard_sigmoid_layer(1)
            return Layer(layer, input_scale, layer_grid(layer, step, target, model.deployment, Width()))
        return Layer(module(node), input_scale, weight_grid(node, step, target, model.deployment, model.scheme))

    def __call__(self, images: Tensor) -> Tensor:
        last = next(node for node in self.model.network.graph.nodes if operation(node) == "output")
        embedding = inputs(last)[0].name
        return self.restored(embedding, self.values(images)[embedding])

    def values(self, images: Tensor) -> dict[str, Tensor]:
        """Return what each node makes of images: codes, or floats where the target leaves a tensor float."""
        values: dict[str, Tensor] = {}
        for node in self.model.network.graph.nodes:
            if operation(node) != "output":
                values[node.name] = self.value(node, [values[source.name] for source in inputs(node)], images)
        return values

    def value(self, node: fx.Node, sources: list[Tensor], images: Tensor) -> Tensor:
        """Return what a node makes of its inputs, or of images."""
        raise NotImplementedError

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
        return layer_sums(layer, products.round_())


def layer_sums(layer: Layer, products: Tensor) -> Sums:
    """Return the sums that a layer's products, exact whole numbers, are part of."""
    bias_codes = torch.round(layer.bias * (1 / (layer.input_scale * layer.weight_scales)))
    return Sums(products, bias_codes, layer.bias, layer.input_scale, layer.weight_scales, layer.groups)
