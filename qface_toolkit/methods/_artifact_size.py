"""What a file takes by the widths of its layers: codes that are counted, and the rest that is found by writing files.

Beside its codes a layer takes what the graph needs to unpack them, which depends on the width, and what does not
depend on it at all. One file for each width, all layers alike, tells both; the files that are really meant are then
written, too, and what the estimate missed is taken off the budget.
"""

from collections.abc import Callable, Mapping, Sequence

from qface_toolkit.analysis.widths import rounded_layers
from qface_toolkit.canonical.graph import module
from qface_toolkit.quantize.model import QuantizedModel
from qface_toolkit.quantize.scheme import EIGHT_BITS


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
