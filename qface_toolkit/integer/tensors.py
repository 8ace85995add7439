"""The same tensors in float and behind a program's codes, side by side, so that they can be compared one by one."""

from collections.abc import Iterator
from typing import Any

import numpy as np
import numpy.typing as npt
import torch
from torch import fx

from qface_toolkit.canonical.graph import inputs as inputs_of
from qface_toolkit.integer.making import program_of
from qface_toolkit.integer.simulate import Simulator
from qface_toolkit.quantize.model import QuantizedModel
from qface_toolkit.quantize.target import Target

Floats = npt.NDArray[np.float32]


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


def side_by_side(
    model: QuantizedModel, target: Target, inputs: Floats, batch_size: int = 4
) -> Iterator[tuple[str, Floats, Floats]]:
    """Yield for each batch of preprocessed images each comparable tensor and the embedding: name, float, restored."""
    simulator, names = Simulator(program_of(model, target)), comparable(model, target)
    embedding = simulator.program.embedding
    last = [] if embedding in simulator.program.tensors else [embedding]
    start = 0
    for values in simulator.runs(inputs, batch_size):
        count = len(values[embedding])
        real = _float_tensors(model, inputs[start : start + count], {*names, embedding})
        start += count
        for name in [one for one in names if one in values] + last:
            restored = simulator.restored(name, values[name]).numpy()
            if restored.shape == real[name].shape:  # pixels are no preprocessed image
                yield name, real[name], restored


def _float_tensors(model: QuantizedModel, images: Floats, names: set[str]) -> dict[str, Floats]:
    """Return what the float network makes of images [N, C, height, width]."""
    recorder = _Recorder(model.network, names)
    with torch.no_grad():
        recorder.run(torch.from_numpy(images))
    return recorder.found


def comparable(model: QuantizedModel, target: Target) -> list[str]:
    """Return the tensors that a target holds as codes for all their values, not only for those a clamp lets pass."""
    plan = model.plan
    return [name for name, one in plan.tensors.items() if one.observed and plan.quantized(name, target)]


def tensor_sources(model: QuantizedModel, target: Target) -> dict[str, tuple[str, ...]]:
    """Return for each tensor the nearest comparable ones before it."""
    held = set(comparable(model, target))
    nearest: dict[str, tuple[str, ...]] = {}
    found: dict[str, tuple[str, ...]] = {}
    for node in model.network.graph.nodes:
        before = [name for source in inputs_of(node) for name in nearest[source.name]]
        found[node.name] = tuple(dict.fromkeys(before))
        nearest[node.name] = (node.name,) if node.name in held else found[node.name]
    return found
