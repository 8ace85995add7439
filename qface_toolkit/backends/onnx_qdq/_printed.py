"""A printed graph, and what its tensors are called."""

from collections.abc import Mapping
from dataclasses import dataclass

import onnx

from qface_toolkit.backends.onnx_qdq._builder import OUTPUT
from qface_toolkit.integer import program as ops


@dataclass(frozen=True)
class Printed:
    """A graph, and the names that the values of its program have in it: of their codes, and of their floats.

    `turned` are the tensors whose channels come in another order than the network's.
    """

    program: ops.Program
    model: onnx.ModelProto
    tensors: Mapping[str, str]
    values: Mapping[str, str]
    turned: frozenset[str]

    @property
    def codes(self) -> dict[str, str]:
        """Return the names of the codes of those tensors that are held as the network has them."""
        return {tensor: name for tensor, name in self.tensors.items() if tensor not in self.turned}

    def layer_names(self) -> dict[str, str]:
        """Return which tensor of the graph, which calls everything by a letter or two, ends which layer."""
        names = {OUTPUT: self.program.embedding}
        for tensor, name in self.tensors.items():
            names.setdefault(name, tensor)
        for one in self.program.operations:
            if isinstance(one, ops.Float):
                names.setdefault(self.values[one.output], one.output)
        return names
