"""Which channels of a network are those of another that it was made of: found in what both make of the same images.

A network that lost channels has the others still, in their order; so has one whose weights were solved anew or
rounded. Each channel that a layer reads is put beside the teacher's that goes with it most on the images, and layers
whose channels have lost their likeness are left out.
"""

from typing import Any

import torch
from torch import Tensor, fx

from qface_toolkit.canonical.graph import inputs, module, operation
from qface_toolkit.quantize.plan import LAYERS
from qface_toolkit.training.features import Likeness

LEAST = 0.3
"""Mean correlation of a layer's channels with their likes, below which they are none."""
_EDGE = 1e-12
_MAP = 4
"""Axes of what has pixels, which are many enough to tell channels apart by."""


class _Reads(fx.Interpreter):
    """Runs a network and keeps what some of its layers read."""

    def __init__(self, network: fx.GraphModule, names: frozenset[str]) -> None:
        super().__init__(network)
        self.names, self.found = names, dict[str, Tensor]()

    def run_node(self, n: fx.Node) -> Any:  # noqa: ANN401 - as torch declares it
        """Run a node; keep what it reads, its channels as rows of unit length around zero."""
        if n.name in self.names:
            read = self.env[inputs(n)[0]]
            if read.dim() == _MAP and read[0, 0].numel() > 1:
                rows = read.transpose(0, 1).flatten(1)
                rows = rows - rows.mean(1, keepdim=True)
                self.found[n.name] = rows / rows.norm(dim=1, keepdim=True).clamp_min(_EDGE)
        return super().run_node(n)


@torch.no_grad()
def find_likeness(student: fx.GraphModule, teacher: fx.GraphModule, images: Tensor) -> Likeness:
    """Return the layers of `student` whose inputs are some channels of what `teacher`'s layers of those names read."""
    own, theirs = (_mixing(network) for network in (student, teacher))
    names = frozenset(own) & frozenset(theirs)
    found = []
    for network in (student, teacher):
        reads = _Reads(network, names)
        reads.run(images)
        found.append(reads.found)
    paths, channels = [], []
    for name in own:
        if name in found[0] and name in found[1] and found[0][name].shape[1] == found[1][name].shape[1]:
            best, places = (found[0][name] @ found[1][name].T).max(1)
            if float(best.mean()) > LEAST:
                paths.append(own[name])
                channels.append(places)
    return Likeness(tuple(paths), tuple(channels))


def _mixing(network: fx.GraphModule) -> dict[str, str]:
    """Return the layers that mix what they read, but for those that read the image, and their paths."""
    nodes = [node for node in network.graph.nodes if operation(node) in LAYERS and not _apart(node)]
    return {node.name: str(node.target) for node in nodes if operation(inputs(node)[0]) not in ("input", None)}


def _apart(node: fx.Node) -> bool:
    return operation(node) == "conv" and module(node).groups > 1
