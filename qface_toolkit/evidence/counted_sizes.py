"""What the numbers of a network would take, counted where there is no file to weigh.

Two figures, never mixed up: what papers give, parameters times bits, and what the numbers need at the very least once
each is written at its width, with the grids that say what the codes mean and everything else in float.
"""

import math
from collections.abc import Iterable, Iterator
from dataclasses import asdict, dataclass
from typing import Any

import torch
from torch import nn

from qface_toolkit.canonical.graph import module, operation
from qface_toolkit.quantize.kept import LAYERS
from qface_toolkit.quantize.model import QuantizedModel
from qface_toolkit.quantize.quantface import rounded_layers
from qface_toolkit.quantize.simulated import SimulatedModel
from qface_toolkit.quantize.target import Target
from qface_toolkit.result.job import Model

FLOAT_BITS = 32
FLOAT_BYTES = 4


@dataclass(frozen=True)
class Coded:
    """A tensor of codes: how many, how wide, how many grids they lie on, and whether a grid has a zero point."""

    numbers: int
    bits: int
    grids: int
    zero_points: bool

    @property
    def packed_bytes(self) -> int:
        """Codes without gaps, a float32 scale for each grid and a zero point as wide as a code."""
        codes = self.numbers + (self.grids if self.zero_points else 0)
        return math.ceil(codes * self.bits / 8) + self.grids * FLOAT_BYTES


@dataclass(frozen=True)
class PackedSize:
    """`nominal_bytes`: parameters x bits / 8, as papers give it. `payload_bytes`: all that would have to be stored."""

    nominal_bytes: int
    payload_bytes: int


def packed_size(layers: Iterable[tuple[int, float]], coded: Iterable[Coded], floats: int) -> PackedSize:
    """Return both from (parameters, bits) of each layer, the tensors of codes, and how many other numbers there are."""
    return PackedSize(nominal_bytes(layers), sum(one.packed_bytes for one in coded) + floats * FLOAT_BYTES)


def nominal_bytes(layers: Iterable[tuple[int, float]]) -> int:
    """Return the size that papers give, from (parameters, bits) of each layer: the sum of parameters x bits / 8.

    Biases and slopes count at their layer's bits; scales, zero points and the graph do not count. No file is so small.
    """
    return math.ceil(sum(parameters * bits for parameters, bits in layers) / 8)


def counted_sizes(model: Model, target: Target | None, *, simulated: bool) -> dict[str, Any]:
    """Return what papers give for a model on a target, or for its float network without one.

    Where a file is `simulated`, its codes are counted, too, for its own bytes are those of floats.
    """
    if isinstance(model, SimulatedModel):
        return _of_simulation(model) if simulated else _of_its_float(model)
    payload = {"payload_bytes": _payload(model, target)} if simulated and target else {}
    return nominal(model, target) | payload


def nominal(model: QuantizedModel, target: Target | None = None) -> dict[str, Any]:
    """Return the size that papers would give for a target, and the mean bits of a parameter; float without a target.

    The parameters are those of the network with BatchNorm folded, each at the width of the weights of its layer.
    """
    layers = [(count, FLOAT_BITS if target is None else _bits(model, node, target)) for node, count in _counted(model)]
    parameters = sum(count for count, _ in layers)
    mean = sum(count * bits for count, bits in layers) / parameters if parameters else None
    return {"nominal_bytes": nominal_bytes(layers), "weight_bits_mean": mean}


def _bits(model: QuantizedModel, node: str, target: Target) -> int:
    return FLOAT_BITS if model.plan.in_float(node, target) else model.scheme.weight_bits(node)


def _counted(model: QuantizedModel) -> Iterator[tuple[str, int]]:
    """Yield the nodes that own parameters, and how many; a module that several nodes share is the first one's."""
    seen: set[str] = set()
    for node in model.network.graph.nodes:
        if node.op == "call_module" and node.target not in seen:
            seen.add(node.target)
            count = sum(parameter.numel() for parameter in model.network.get_submodule(node.target).parameters())
            if count:
                yield node.name, count


def _of_simulation(model: SimulatedModel) -> dict[str, Any]:
    """Return what the numbers of QuantFace's rule would need if each were written at its width, and what papers give.

    Its BatchNorm is trained, and papers count all parameters at the width of the weights.
    """
    coded = []
    for layer in rounded_layers(model.network):
        weight = layer.layer.weight
        coded.append(Coded(weight.numel(), layer.bits, len(weight) if weight.dim() > 1 else 1, zero_points=True))
    numbers = sum(tensor.numel() for tensor in model.network.state_dict().values() if tensor.is_floating_point())
    size = packed_size([(_count(model.network), model.weight_bits)], coded, numbers - sum(one.numbers for one in coded))
    return {**asdict(size), "weight_bits_mean": float(model.weight_bits)}


def _of_its_float(model: SimulatedModel) -> dict[str, Any]:
    return {"nominal_bytes": nominal_bytes([(_count(model.network), FLOAT_BITS)]), "weight_bits_mean": 32.0}


def _count(network: nn.Module) -> int:
    return sum(parameter.numel() for parameter in network.parameters())


def _payload(model: QuantizedModel, target: Target) -> int:
    """Return the bytes of codes and their scales; biases, slopes and a scale and zero point a tensor are float32."""
    coded = []
    for node in model.network.graph.nodes:
        if operation(node) in LAYERS and not model.plan.in_float(node.name, target):
            weight: torch.Tensor = module(node).weight
            bits = model.scheme.weight_bits(node.name)
            coded.append(Coded(weight.numel(), bits, len(weight), zero_points=False))
    left = _count(model.network) - sum(one.numbers for one in coded)
    return packed_size([], coded, left + 2 * len(model.plan.tensors)).payload_bytes
