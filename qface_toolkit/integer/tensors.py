"""The same tensors in float and in a target's codes, side by side, so that they can be compared one by one."""

from collections.abc import Iterator, Mapping
from typing import Any

import numpy as np
import numpy.typing as npt
import torch
from torch import fx

from qface_toolkit.canonical.graph import inputs, operation
from qface_toolkit.quantize.model import QuantizedModel
from qface_toolkit.quantize.plan import Target
from qface_toolkit.quantize.scheme import activation_qparams

Floats = npt.NDArray[np.float32]
Codes = npt.NDArray[np.uint8]


class _Recorder(fx.Interpreter):
    """Runs a network and keeps the values of some of its nodes."""

    def __init__(self, network: fx.GraphModule, wanted: set[str]) -> None:
        super().__init__(network)
        self.wanted = wanted
        self.found: dict[str, Floats] = {}

    def run_node(self, n: fx.Node) -> Any:  # noqa: ANN401 - as torch declares it
        """Run a node, and copy what it returns before an operation in place changes it."""
        value = super().run_node(n)
        if n.name in self.wanted:
            self.found[n.name] = value.numpy().copy()
        return value


def float_tensors(model: QuantizedModel, images: Floats) -> dict[str, Floats]:
    """Return what the float network makes of images [N, 3, height, width]: every planned tensor and the embedding."""
    recorder = _Recorder(model.network, {*model.plan.tensors, embedding_name(model)})
    with torch.no_grad():
        recorder.run(torch.from_numpy(images))
    return recorder.found


def restored_tensors(model: QuantizedModel, target: Target, codes: Mapping[str, Codes]) -> Iterator[tuple[str, Floats]]:
    """Yield each tensor's name and the values behind its codes."""
    for name, held in codes.items():
        scale, zero_point = activation_qparams(model.range_of(name, target), model.levels_of(name, target).steps)
        yield name, (held.astype(np.float32) - np.float32(zero_point)) * scale


def embedding_name(model: QuantizedModel) -> str:
    """Return the name of the tensor that the network returns."""
    last = next(node for node in model.network.graph.nodes if operation(node) == "output")
    return inputs(last)[0].name


def comparable(model: QuantizedModel, target: Target, tensor: str) -> bool:
    """Tell whether a target holds a tensor as codes that stand for all its values, not only those a clamp lets pass."""
    return model.plan.quantized(tensor, target.family) and model.plan.tensors[tensor].observed


def tensor_sources(model: QuantizedModel, target: Target) -> dict[str, tuple[str, ...]]:
    """Return for each tensor the nearest comparable ones before it."""
    nearest: dict[str, tuple[str, ...]] = {}
    found: dict[str, tuple[str, ...]] = {}
    for node in model.network.graph.nodes:
        before = [name for source in inputs(node) for name in nearest[source.name]]
        found[node.name] = tuple(dict.fromkeys(before))
        nearest[node.name] = (node.name,) if comparable(model, target, node.name) else found[node.name]
    return found
