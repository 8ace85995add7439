"""The arithmetic of a runtime that works in float between taking codes apart and rounding: OpenVINO.

What is one kernel there is rounded once, at its end. Which kernel an operation is part of decides how that is done (see
_float_kernels), to the last bit.
"""

import math
from collections.abc import Callable, Mapping
from dataclasses import replace
from typing import cast

import numpy as np
import torch
from torch import fx

from qface_toolkit.canonical.graph import inputs, module, operation
from qface_toolkit.integer._arithmetic import Sums
from qface_toolkit.integer._float_kernels import (
    FLOAT_KERNELS,
    added_to_codes,
    averaged,
    combined,
    layer_output,
    quantized,
    scaled,
    unbiased_codes,
)
from qface_toolkit.integer._network import Network
from qface_toolkit.quantize.weights import bias_of_codes, is_affine, pads_codes

Tensor = torch.Tensor

_MOVES: Mapping[str, Callable[[fx.Node, list[Tensor]], Tensor]] = {
    "max_pool": lambda node, sources: cast(Tensor, module(node)(sources[0])),
    "flatten": lambda node, sources: torch.flatten(sources[0], 1),
    "concat": lambda node, sources: torch.cat(sources, 1),
}


class FloatRunner(Network):
    """Runs a network on codes and, inside a kernel, on floats."""

    def value(self, node: fx.Node, sources: list[Tensor], images: Tensor) -> Tensor:
        """Return what a node makes of its inputs, or of images."""
        name = str(operation(node))
        if name == "input":
            return combined(images, self.grids[node.name])
        if name in _MOVES:
            return _MOVES[name](node, sources)
        if name.endswith("average_pool"):
            return averaged(module(node), sources[0], self.grids[node.name])
        if name in ("conv", "linear"):
            return self._of_layer(node, sources[0])
        held = [self.quantized(part.name) for part in inputs(node)]
        if name == "add" and sum(held) == 1 and self.quantized(node.name):
            place = held.index(True)
            source = self.grids[inputs(node)[place].name]
            return added_to_codes(sources[1 - place], sources[place], source, self.grids[node.name])
        real = FLOAT_KERNELS[name](node, self._restored_all(node, sources))
        if not self.quantized(node.name):
            return real
        return (quantized if self._ends_layer(node) else combined)(real, self.grids[node.name])

    def _of_layer(self, node: fx.Node, codes: Tensor) -> Tensor:
        layer, held = module(node), self.quantized(node.name)
        if not is_affine(layer):
            sums = self._sums(node, codes)
            if not held:
                return layer_output(sums)
            if not sums.bias.any():
                return unbiased_codes(sums, self.grids[node.name])
            return quantized(layer_output(sums), self.grids[node.name])
        source = inputs(node)[0].name
        if held:
            return scaled(layer, codes, self.grids[source], self.grids[node.name])
        factors = cast(Tensor, layer.weight).detach().reshape(1, -1, 1, 1)
        return self.restored(source, codes) * factors + self.layers[node.name].bias

    def _sums(self, node: fx.Node, codes: Tensor) -> Sums:
        """Return a layer's sums, over codes as they are where their zero point is made part of the bias."""
        sums, layer, source = self.sums(node, codes), module(node), self.grids[inputs(node)[0].name]
        if not pads_codes(layer, source.zero_point, math.prod(codes.shape[2:])):
            return sums
        bias = bias_of_codes(layer, self.layers[node.name].grid, np.float32(source.scale), source.zero_point)
        whole = self.layers[node.name].weight.double().flatten(1).sum(1).reshape(sums.bias.shape) * source.zero_point
        return replace(
            sums, products=sums.products.double() + whole, bias=torch.from_numpy(bias).reshape(sums.bias.shape)
        )

    def _ends_layer(self, node: fx.Node) -> bool:
        """Tell whether an activation is part of a layer's kernel."""
        *others, source = inputs(node)
        return not others and operation(source) in ("conv", "linear") and not self.quantized(source.name)

    def _restored_all(self, node: fx.Node, sources: list[Tensor]) -> list[Tensor]:
        return [self.restored(source.name, values) for source, values in zip(inputs(node), sources, strict=True)]
