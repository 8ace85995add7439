"""What of a block is learned: the layers and ranges that can move there without touching any other block."""

import copy
from collections.abc import Iterator
from dataclasses import dataclass

from torch import fx

from qface_toolkit.analysis.blocks import Block
from qface_toolkit.canonical.graph import inputs, operation
from qface_toolkit.quantize.learned import LearnedLayer, LearnedRange
from qface_toolkit.quantize.model import QuantizedModel
from qface_toolkit.quantize.plan import LAYERS
from qface_toolkit.quantize.quantizers import WeightQuantizer
from qface_toolkit.quantize.scheme import activation_qparams
from qface_toolkit.quantize.target import Target

Owners = tuple[str, ...]


@dataclass(frozen=True)
class Learning:
    """A block that learns: its network, its layers, and its ranges by the owners that move together."""

    network: fx.GraphModule
    layers: tuple[LearnedLayer, ...]
    ranges: dict[Owners, LearnedRange]


def attach(block: Block, model: QuantizedModel, target: Target, *, ranges: bool) -> Learning:
    """Return a block that learns; the simulation that it is part of stays as it is until its layers are baked."""
    network = fx.GraphModule(block.simulated, copy.deepcopy(block.simulated.graph))
    layers = dict(_layers(block, model, target))
    movable = dict(_movable(block, model, target)) if ranges else {}
    learned = {
        owners: LearnedRange(model.range_of(tensor, target), model.levels_of(tensor, target))
        for owners, tensor in movable.items()
    }
    for path, layer in layers.items():
        network.add_submodule(path, layer)
    for tensor, paths in block.quantizers.items():
        owners = model.plan.spanned(tensor, target)
        for path in paths if owners in learned and model.plan.quantized(tensor, target) else ():
            network.add_submodule(path, learned[owners])
    return Learning(network, tuple(layers.values()), learned)


def _layers(block: Block, model: QuantizedModel, target: Target) -> Iterator[tuple[str, LearnedLayer]]:
    """Yield the layers whose weights are rounded, by their paths."""
    for node in block.exact.graph.nodes:
        path = str(node.target)
        if operation(node) in LAYERS and path in block.layers:
            layer = block.simulated.get_submodule(path)
            if isinstance(getattr(layer, "weight_fake_quant", None), WeightQuantizer):
                source = inputs(node)[0].name
                levels = model.levels_of(source, target)
                scale, _ = activation_qparams(model.range_of(source, target), levels.steps)
                yield path, LearnedLayer(layer, float(scale))


def _movable(block: Block, model: QuantizedModel, target: Target) -> Iterator[tuple[Owners, str]]:
    """Yield the owners whose ranges are neither known nor shared with another block, with a tensor of theirs."""
    plan, known = model.plan, {model.plan.owners()[0], *model.plan.fixed}
    others = [tensor for tensor in plan.tensors if tensor not in block.quantizers]
    elsewhere = {owner for tensor in others for owner in plan.spanned(tensor, target)}
    for tensor in block.quantizers:
        owners = plan.spanned(tensor, target)
        if plan.quantized(tensor, target) and not {*owners} & (known | elsewhere):
            yield owners, tensor
