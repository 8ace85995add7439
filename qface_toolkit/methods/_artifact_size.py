"""What a file takes by the widths of its layers: codes that are counted, and the rest that is found by writing files.

Beside its codes a layer takes what the graph needs to unpack them, which depends on the width, and what does not
depend on it at all. One file for each width, all layers alike, tells both; the files that are really meant are then
written, too, and what the estimate missed is taken off the budget.
"""

import math
from collections.abc import Callable, Mapping, Sequence

from torch import fx

from qface_toolkit.analysis.widths import rounded_layers
from qface_toolkit.canonical.graph import module, operation
from qface_toolkit.quantize.model import QuantizedModel
from qface_toolkit.quantize.plan import LAYERS
from qface_toolkit.quantize.scheme import EIGHT_BITS

CHANNEL_BYTES = 2
"""What an output channel takes beside its codes at least: a byte for its scale, and one for its bias."""
FLOAT_GRAPH_BYTES, FLOAT_GRAPH_SHARE = 200_000, 1.05
"""What float.onnx has at most beside its float32 numbers."""


def least_share(network: fx.GraphModule, width: int) -> float:
    """Return the share of float.onnx that a canonical network's layers take at least at a width, by its numbers."""
    layers = {str(node.target): module(node) for node in network.graph.nodes if operation(node) in LAYERS}
    codes: int = sum(layer.weight.numel() * width // EIGHT_BITS for layer in layers.values())
    least = codes + CHANNEL_BYTES * sum(len(layer.weight) for layer in layers.values())
    numbers = sum(4 * tensor.numel() for tensor in network.state_dict().values())
    share: float = least / (numbers * FLOAT_GRAPH_SHARE + FLOAT_GRAPH_BYTES)
    return math.floor(1000 * share) / 1000


def code_bytes(weights: int, width: int) -> int:
    """Return the bytes of so many codes, packed."""
    return -(-weights * width // EIGHT_BITS)


class ArtifactSize:
    """The sizes of a model's file; without anybody who writes it, those of its packed codes alone."""

    def __init__(
        self, model: QuantizedModel, widths: Sequence[int], written: Callable[[QuantizedModel], int] | None
    ) -> None:
        self.model, self.written = model, written
        self.weights = {node.name: int(module(node).weight.numel()) for node in rounded_layers(model)}
        self.beside = {width: self._beside(width, min(widths)) for width in widths}

    def _beside(self, width: int, narrowest: int) -> int:
        """Return what a layer of this width takes beside its codes, as the mean over layers.

        One layer always has the narrowest width: where all have eight bits, other constants are not made small either.
        """
        if self.written is None:
            return 0
        narrow = min(self.weights, key=lambda name: self.weights[name])
        widths = {**dict.fromkeys(self.weights, width), narrow: narrowest}
        return (self.of(widths) - self._codes(widths)) // len(widths)

    def _codes(self, widths: Mapping[str, int]) -> int:
        return sum(code_bytes(self.weights[name], width) for name, width in widths.items())

    def of_layer(self, name: str, width: int) -> int:
        """Return about what a layer takes at a width, with its share of everything else."""
        return code_bytes(self.weights[name], width) + self.beside[width]

    def of(self, widths: Mapping[str, int]) -> int:
        """Return what the file takes, all of it, with these widths."""
        return self._codes(widths) if self.written is None else self.written(self.model.with_weight_bits(widths))
