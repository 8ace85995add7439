"""What a simulation would weigh, for which no file of codes exists."""

from dataclasses import asdict
from typing import Any

import torch
from torch import nn

from qface_toolkit.canonical.graph import module, operation
from qface_toolkit.evidence.packing import Coded, packed_size
from qface_toolkit.evidence.size import nominal_bytes
from qface_toolkit.quantize.kept import LAYERS
from qface_toolkit.quantize.model import QuantizedModel
from qface_toolkit.quantize.quantface import rounded_layers
from qface_toolkit.quantize.simulated import SimulatedModel
from qface_toolkit.quantize.target import Target
from qface_toolkit.result.job import Model

_FLOAT_BITS = 32


def simulated_sizes(model: Model, target: Target) -> dict[str, Any]:
    """Return what the numbers of a simulation would need if each were written at its width, and what papers give.

    Of QuantFace's rule, whose BatchNorm is trained, papers count all parameters at the width of the weights; of our own
    models, `nominal` says it.
    """
    if isinstance(model, QuantizedModel):
        return {"payload_bytes": _payload(model, target)}
    coded = []
    for layer in rounded_layers(model.network):
        weight = layer.layer.weight
        coded.append(Coded(weight.numel(), layer.bits, len(weight) if weight.dim() > 1 else 1, zero_points=True))
    numbers = sum(tensor.numel() for tensor in model.network.state_dict().values() if tensor.is_floating_point())
    size = packed_size([(_count(model.network), model.weight_bits)], coded, numbers - sum(one.numbers for one in coded))
    return {**asdict(size), "weight_bits_mean": float(model.weight_bits)}


def float_sizes(model: SimulatedModel) -> dict[str, Any]:
    """Return what papers give for the float network behind a simulation."""
    return {"nominal_bytes": nominal_bytes([(_count(model.network), _FLOAT_BITS)]), "weight_bits_mean": 32.0}


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
