"""A quantized model as one target will run it, in float arithmetic: what methods observe, fine-tune and compare with.

The quantizers that FX graph mode inserts are bound to the model's plan: which tensors are rounded, over which ranges.
torch.ao is loaded when the first of them is inserted: whoever inserts none and converts nothing works without it.
"""

import copy
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import replace
from typing import Any, cast

import numpy as np
import torch
from torch import fx, nn

from qface_toolkit.canonical.graph import operation
from qface_toolkit.errors import BackendUnavailable
from qface_toolkit.quantize._converted import settle
from qface_toolkit.quantize.compact import rounded_slopes
from qface_toolkit.quantize.model import QuantizedModel
from qface_toolkit.quantize.plan import LAYERS
from qface_toolkit.quantize.quantizers import ActivationQuantizer, SharedRange, WeightQuantizer
from qface_toolkit.quantize.target import Target
from qface_toolkit.quantize.weights import FLOAT_STEP, Width, largest_codes, smallest_scales


class Simulation(nn.Module):
    """A network as one target will run it, in float arithmetic: what methods observe, fine-tune and compare with.

    `ranges` holds one SharedRange for each owner of a range, `quantizers` one quantizer for each planned tensor.
    """

    def __init__(
        self,
        prepared: fx.GraphModule,
        ranges: dict[str, SharedRange],
        quantizers: Mapping[str, ActivationQuantizer],
    ) -> None:
        super().__init__()
        self.prepared = prepared
        self.ranges = ranges
        self.quantizers = quantizers

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """Return the simulated embeddings of a batch."""
        return cast(torch.Tensor, self.prepared(x))

    def round_weights(self, on: bool) -> None:
        """Switch the rounding of weights, which is on from the start."""
        for module in self.prepared.modules():
            if isinstance(module, WeightQuantizer):
                module.rounds = on

    def weights(self) -> dict[str, torch.Tensor]:
        """Return the trainable float weights under their names in the canonical network.

        Slopes that were rounded to a target's grid are not among them: they are not the network's own any more.
        """
        parameters = self.prepared.named_parameters()
        return {name: parameter.detach().clone() for name, parameter in parameters if parameter.requires_grad}


def prepare(model: QuantizedModel, target: Target) -> Simulation:
    """Insert QAT observers into a copy of the model's network by `prepare_qat_fx`, bound to the model's plan.

    Tensors whose owner has a range, and which the target quantizes, are rounded; all others pass. Weights are rounded
    but those of layers that the plan keeps in float. Slopes are rounded to the grid of targets that have one.
    """
    from qface_toolkit.quantize.fx import insert_quantizers

    network = copy.deepcopy(model.network)
    probe = torch.zeros(1, *model.spec.input_shape)
    prepared = insert_quantizers(network, probe, _paths(model))
    _one_value(prepared)
    ranges = {owner: SharedRange() for owner in model.plan.owners()}
    quantizers = _bind(prepared, model, target, ranges)
    _limit_weights(prepared, model, target)
    _keep_weights(prepared, model, target)
    if target.rounds_slopes or model.scheme.compact:
        _round_slopes(prepared)
    return Simulation(prepared.eval(), ranges, quantizers)


def with_weights(model: QuantizedModel, simulation: Simulation) -> QuantizedModel:
    """Return a model with the weights of its simulation."""
    network = copy.deepcopy(model.network)
    weights = {name: value.contiguous() for name, value in simulation.weights().items()}
    network.load_state_dict(network.state_dict() | weights, strict=True)
    return replace(model, network=network)


def _one_value(prepared: fx.GraphModule) -> None:
    """Let everybody read what is rounded for somebody: FX rounds what islands make for its integer readers alone."""
    for node in list(prepared.graph.nodes):
        if _is_quantizer(prepared, node):
            source = node.args[0]
            others = [user for user in source.users if user is not node and not _is_quantizer(prepared, user)]
            if others:
                source.append(node)
            for user in others:
                user.replace_input_with(source, node)
    prepared.graph.lint()
    prepared.recompile()


def _paths(model: QuantizedModel) -> list[str]:
    """Return the paths of the modules that compute in float everywhere."""
    return [str(node.target) for node in model.network.graph.nodes if node.name in model.plan.islands]


def _bind(
    prepared: fx.GraphModule, model: QuantizedModel, target: Target, ranges: dict[str, SharedRange]
) -> dict[str, ActivationQuantizer]:
    """Tie each quantizer that FX inserted to the plan's entry for its tensor, and return them by tensor."""
    tensors = _tensors_behind(prepared, model)
    bound: dict[str, ActivationQuantizer] = {}
    for node in prepared.graph.nodes:
        if _is_quantizer(prepared, node):
            tensor = tensors[node.args[0]]
            plan = model.plan.tensors[tensor]
            quantizer = cast(ActivationQuantizer, type(prepared.get_submodule(node.target))())
            quantizer.range = ranges[plan.owner]
            quantizer.quantizes = model.plan.quantized(tensor, target)
            quantizer.observes = plan.observed
            if all(owner in model.ranges for owner in model.plan.spanned(tensor, target)):
                quantizer.fix(model.range_of(tensor, target), model.levels_of(tensor, target))
            prepared.add_submodule(node.target, quantizer)
            bound[tensor] = quantizer
    if set(bound) != set(model.plan.tensors):
        raise AssertionError(f"FX and the plan differ on {sorted(set(bound) ^ set(model.plan.tensors))}")
    return bound


def _limit_weights(prepared: fx.GraphModule, model: QuantizedModel, target: Target) -> None:
    """Tell the weights' quantizers their width, and the scales below which a bias would not fit an int32."""
    names = {str(node.target): node.name for node in model.network.graph.nodes if operation(node) in LAYERS}
    for node in prepared.graph.nodes:
        layer = prepared.get_submodule(str(node.target)) if node.op == "call_module" else None
        quantizer = getattr(layer, "weight_fake_quant", None)
        if layer is None or not isinstance(quantizer, WeightQuantizer):
            continue
        quantizer.width = Width.of(model.scheme, names[str(node.target)])
        weighted = cast(nn.Conv2d, layer)
        largest = largest_codes(weighted, target, model.deployment, quantizer.width)
        quantizer.largest_codes = torch.from_numpy(largest)
        source = cast(ActivationQuantizer, prepared.get_submodule(str(node.args[0].target)))
        kept = model.plan.in_float(names[str(node.target)], target)
        quantizer.smallest_scales = smallest_scales(weighted, FLOAT_STEP if kept else np.float32(source.scale.item()))


def _keep_weights(prepared: fx.GraphModule, model: QuantizedModel, target: Target) -> None:
    """Take the quantizers of weights away from the layers that a target keeps in float with float weights."""
    for node in () if model.plan.keeps_codes else model.network.graph.nodes:
        if model.plan.in_float(node.name, target) and operation(node) in LAYERS:
            cast(Any, prepared.get_submodule(str(node.target))).weight_fake_quant = nn.Identity()


def _is_quantizer(prepared: fx.GraphModule, node: fx.Node) -> bool:
    return node.op == "call_module" and isinstance(prepared.get_submodule(str(node.target)), ActivationQuantizer)


def _tensors_behind(prepared: fx.GraphModule, model: QuantizedModel) -> dict[fx.Node, str]:
    """Map prepared nodes to the plan's tensors. FX renames nodes but keeps their order."""
    observed = {node.args[0] for node in prepared.graph.nodes if _is_quantizer(prepared, node)}
    in_order = [node for node in prepared.graph.nodes if node in observed]
    if len(in_order) != len(model.plan.tensors):
        raise AssertionError(f"FX observes {in_order}, the plan {list(model.plan.tensors)}")
    return dict(zip(in_order, model.plan.tensors, strict=True))


def _round_slopes(prepared: fx.GraphModule) -> None:
    for module in prepared.modules():
        if isinstance(module, nn.PReLU):
            module.weight = nn.Parameter(rounded_slopes(module), requires_grad=False)


@contextmanager
def torch_engine(name: str) -> Iterator[None]:
    """Set torch's quantized engine for a while.

    Raises:
        BackendUnavailable: if this build of torch has no such engine.
    """
    known = torch.backends.quantized.supported_engines
    if name not in known:
        raise BackendUnavailable(f"this build of torch has no engine {name!r}", fix=f"it has: {', '.join(known)}")
    before = torch.backends.quantized.engine
    torch.backends.quantized.engine = name
    try:
        yield
    finally:
        torch.backends.quantized.engine = before


def convert(simulation: Simulation, target: Target, engine: str) -> fx.GraphModule:
    """Return torch's int8 form of a simulation for a target and its engine, by `convert_fx`; it is left alone.

    Raises:
        BackendUnavailable: if this build of torch has no such engine.
    """
    from qface_toolkit.quantize.fx import convert_quantized

    with torch_engine(engine):
        converted = convert_quantized(_clipped(simulation.prepared))
    settle(converted, simulation.prepared, target)
    return converted


def _clipped(prepared: fx.GraphModule) -> fx.GraphModule:
    """Return a copy whose weights are within their scales: torch takes every code that an int8 holds."""
    clipped = copy.deepcopy(prepared)
    for layer in clipped.modules():
        quantizer = getattr(layer, "weight_fake_quant", None)
        if isinstance(quantizer, WeightQuantizer):
            weight = cast(torch.Tensor, layer.weight)
            quantizer(weight)
            quantizer.hold_scale()
            weight.data = quantizer.clip(weight.detach())
    return clipped
