"""Channel means of a float network's layers, and biases that bring a simulation's layers back to them."""

from collections.abc import Mapping
from typing import Any

import torch
from torch import fx

from qface_toolkit.canonical.graph import inputs, operation
from qface_toolkit.quantize.plan import LAYERS


class FloatMeans(fx.Interpreter):
    """Runs a network and keeps the mean of each channel of every layer, behind its ReLU where it has one.

    FX makes one module of a layer and its ReLU.
    """

    def __init__(self, network: fx.GraphModule) -> None:
        super().__init__(network)
        self.found: dict[str, torch.Tensor] = {}

    def run_node(self, n: fx.Node) -> Any:  # noqa: ANN401 - as torch declares it
        """Run a node; a ReLU's mean takes the place of its layer's."""
        made = super().run_node(n)
        layer = inputs(n)[0] if operation(n) == "relu" else n
        if operation(layer) in LAYERS:
            self.found[str(layer.target)] = _channel_means(made)
        return made


class Correcting(fx.Interpreter):
    """Runs a simulation, brings every layer's channels to their expected means and notes by how much in biases."""

    def __init__(
        self, simulated: fx.GraphModule, expected: Mapping[str, torch.Tensor], corrected: fx.GraphModule
    ) -> None:
        super().__init__(simulated)
        self.networks = (simulated, corrected)
        self.expected = expected

    def run_node(self, n: fx.Node) -> Any:  # noqa: ANN401 - as torch declares it
        """Run a node, and a layer again if its bias has moved."""
        made = super().run_node(n)
        name = str(n.target)
        if n.op != "call_module" or name not in self.expected:
            return made
        shift = self.expected[name] - _channel_means(made)
        del made  # a layer's output for all images, which would stand beside the second
        for network in self.networks:
            layer: Any = network.get_submodule(name)
            layer.bias.data += shift
        return super().run_node(n)


def _channel_means(made: torch.Tensor) -> torch.Tensor:
    return made.mean(dim=[axis for axis in range(made.dim()) if axis != 1])
