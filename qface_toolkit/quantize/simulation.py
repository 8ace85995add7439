"""A quantized model as one target will run it, in float arithmetic: what methods observe, fine-tune and compare with.

The quantizers that FX graph mode inserts are bound to the model's plan: which tensors are rounded, over which ranges.
"""

import copy
from collections.abc import Callable, Iterator, Mapping
from dataclasses import replace
from typing import Any, cast

import numpy as np
import torch
from torch import fx, nn

from qface_toolkit.errors import BackendUnavailable
from qface_toolkit.quantize._converted import settle
from qface_toolkit.quantize._rounding import Rounding
from qface_toolkit.quantize.deployment import Deployment
from qface_toolkit.quantize.fx import Quantizer, convert_quantized, insert_quantizers
from qface_toolkit.quantize.graph import operation
from qface_toolkit.quantize.kept import LAYERS
from qface_toolkit.quantize.model import QuantizedModel
from qface_toolkit.quantize.plan import Target
from qface_toolkit.quantize.scheme import (
    ACTIVATION_MAX,
    SLOPE_SCALE,
    SLOPE_ZERO_POINT,
    SMALLEST_SCALE,
    WEIGHT_MAX,
    Range,
    activation_qparams,
    scales_that_hold_bias,
)
from qface_toolkit.quantize.weights import largest_codes

QParams = tuple[torch.Tensor, torch.Tensor]
NOT_GROWN = torch.zeros(1)


class SharedRange:
    """The range of one owner while it is being chosen: who watches the tensors that share it."""

    def __init__(self) -> None:
        self.observer: Callable[[torch.Tensor], None] | None = None


class ActivationQuantizer(Quantizer):
    """Per-tensor affine fake-quantization of one tensor, over what the target's grid spans.

    `fixed` says that there is a grid, `growth` the logarithm by which training has stretched it. `quantizes` is False
    for a tensor that the target does not quantize; `observes` for one whose values matter only behind a clamp.
    """

    dtype, qscheme = torch.quint8, torch.per_tensor_affine
    quant_min, quant_max = 0, ACTIVATION_MAX

    def __init__(self, factory_kwargs: dict[str, Any] | None = None) -> None:
        super().__init__()
        self.range = SharedRange()
        self.scale = torch.ones(1)
        self.zero_point = torch.zeros(1, dtype=torch.int32)
        self.growth = NOT_GROWN
        self.fixed = False
        self.quantizes = True
        self.observes = True

    def fix(self, interval: Range, levels: int) -> None:
        """Quantize over this interval from now on."""
        scale, zero_point = activation_qparams(interval, levels)
        self.scale = torch.tensor([float(scale)])
        self.zero_point = torch.tensor([zero_point], dtype=torch.int32)
        self.fixed = True

    def calculate_qparams(self) -> QParams:  # type: ignore[override]  # the base class returns nothing
        """Return (scale, zero point)."""
        return self.scale, self.zero_point

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """Show the tensor to the observer, if there is one, and round it to codes once the range is fixed."""
        if self.observes and self.range.observer is not None:
            self.range.observer(x.detach())
        if self.quantizes and self.fixed:
            rounded = Rounding.apply(x, self.growth, float(self.scale), int(self.zero_point))  # type: ignore[no-untyped-call]  # torch ships it so
            return cast(torch.Tensor, rounded)
        return x


class WeightQuantizer(Quantizer):
    """Per-channel symmetric fake-quantization of weights; scales follow the weights."""

    dtype, qscheme = torch.qint8, torch.per_channel_symmetric
    quant_min, quant_max = -WEIGHT_MAX, WEIGHT_MAX
    ch_axis = 0

    def __init__(self, factory_kwargs: dict[str, Any] | None = None) -> None:
        super().__init__()
        self.largest_codes = torch.tensor(float(WEIGHT_MAX))
        self.smallest_scales = torch.tensor(float(SMALLEST_SCALE))

    def forward(self, weight: torch.Tensor) -> torch.Tensor:
        """Round a weight to codes, if that is on."""
        self.scale = torch.maximum(weight.detach().flatten(1).abs().amax(1) / self.largest_codes, self.smallest_scales)
        if self.fake_quant_enabled[0]:
            zero_points = torch.zeros(len(weight), dtype=torch.int32)
            return torch.fake_quantize_per_channel_affine(weight, self.scale, zero_points, 0, -WEIGHT_MAX, WEIGHT_MAX)
        return weight

    def calculate_qparams(self) -> QParams:  # type: ignore[override]  # the base class returns nothing
        """Return (scales, zero points) of the weight seen last."""
        return self.scale, torch.zeros(len(self.scale), dtype=torch.int32)


class SlopeQuantizer(Quantizer):
    """The fixed grid of PReLU slopes that `quantized::prelu` computes with."""

    dtype, qscheme = torch.quint8, torch.per_tensor_affine
    quant_min, quant_max = 0, ACTIVATION_MAX

    def forward(self, slopes: torch.Tensor) -> torch.Tensor:
        """Return the slopes as they are: the grid does not depend on them."""
        return slopes

    def calculate_qparams(self) -> QParams:  # type: ignore[override]  # the base class returns nothing
        """Return (scale, zero point) of the grid."""
        return torch.tensor([SLOPE_SCALE]), torch.tensor([SLOPE_ZERO_POINT], dtype=torch.int32)


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
                module.enable_fake_quant(on)

    def learn_ranges(self, learnable: Mapping[str, tuple[str, ...]]) -> dict[tuple[str, ...], torch.Tensor]:
        """Let ranges be trained; return the logarithm, [1], by which each grows, by the owners that grow with it.

        `learnable` holds, for each tensor whose range may grow, the owners that its grid spans.
        """
        growths: dict[tuple[str, ...], torch.Tensor] = {}
        for tensor, quantizer in self.quantizers.items():
            if tensor in learnable and quantizer.quantizes:
                growth = growths.setdefault(tuple(sorted(learnable[tensor])), torch.zeros(1, requires_grad=True))
                quantizer.growth = growth
        return growths

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
    network = copy.deepcopy(model.network)
    probe = torch.zeros(1, 3, *model.spec.input_size)
    prepared = insert_quantizers(
        network, probe, activation=ActivationQuantizer, weight=WeightQuantizer, slope=SlopeQuantizer
    )
    ranges = {owner: SharedRange() for owner in model.plan.owners()}
    quantizers = _bind(prepared, model, target, ranges)
    _limit_weights(prepared, target, model.deployment)
    _keep_weights(prepared, model, target)
    if target.family == "torch":
        _round_slopes(prepared)
    return Simulation(prepared.eval(), ranges, quantizers)


def with_weights(model: QuantizedModel, simulation: Simulation) -> QuantizedModel:
    """Return a model with the weights of its simulation."""
    network = copy.deepcopy(model.network)
    weights = {name: value.contiguous() for name, value in simulation.weights().items()}
    network.load_state_dict(network.state_dict() | weights, strict=True)
    return replace(model, network=network)


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
            quantizer = ActivationQuantizer()
            quantizer.range = ranges[plan.owner]
            quantizer.quantizes = model.plan.quantized(tensor, target.family)
            quantizer.observes = plan.observed
            if all(owner in model.ranges for owner in model.plan.spanned(tensor, target.family)):
                quantizer.fix(model.range_of(tensor, target), target.levels)
            prepared.add_submodule(node.target, quantizer)
            bound[tensor] = quantizer
    if set(bound) != set(model.plan.tensors):
        raise AssertionError(f"FX and the plan differ on {sorted(set(bound) ^ set(model.plan.tensors))}")
    return bound


def _limit_weights(prepared: fx.GraphModule, target: Target, deployment: Deployment) -> None:
    """Tell the weights' quantizers their largest code, and the scales below which a bias would not fit an int32."""
    for node in prepared.graph.nodes:
        layer = prepared.get_submodule(str(node.target)) if node.op == "call_module" else None
        quantizer = getattr(layer, "weight_fake_quant", None)
        if layer is None or not isinstance(quantizer, WeightQuantizer):
            continue
        quantizer.largest_codes = torch.from_numpy(largest_codes(cast(nn.Conv2d, layer), target, deployment))
        source = cast(ActivationQuantizer, prepared.get_submodule(str(node.args[0].target)))
        bias = cast(torch.Tensor, layer.bias).detach().numpy()
        floor = np.full(len(bias), SMALLEST_SCALE)
        held = scales_that_hold_bias(floor, bias, np.float32(source.scale.item()))
        quantizer.smallest_scales = torch.from_numpy(held)


def _keep_weights(prepared: fx.GraphModule, model: QuantizedModel, target: Target) -> None:
    """Take the quantizers of weights away from the layers that a target keeps in float."""
    for node in model.network.graph.nodes:
        if model.plan.in_float(node.name, target.family) and operation(node) in LAYERS:
            cast(Any, prepared.get_submodule(str(node.target))).weight_fake_quant = nn.Identity()


def _is_quantizer(prepared: fx.GraphModule, node: fx.Node) -> bool:
    return node.op == "call_module" and type(prepared.get_submodule(str(node.target))) is ActivationQuantizer


def _tensors_behind(prepared: fx.GraphModule, model: QuantizedModel) -> dict[fx.Node, str]:
    """Map prepared nodes to the plan's tensors. FX renames nodes but keeps their order."""
    observed = (node.args[0] for node in prepared.graph.nodes if _is_quantizer(prepared, node))
    return dict(zip(dict.fromkeys(cast(Iterator[fx.Node], observed)), model.plan.tensors, strict=True))


def _round_slopes(prepared: fx.GraphModule) -> None:
    for module in prepared.modules():
        if isinstance(module, nn.PReLU):
            codes = torch.round(module.weight.detach() / SLOPE_SCALE)
            module.weight = nn.Parameter(codes.clamp(-SLOPE_ZERO_POINT, WEIGHT_MAX) * SLOPE_SCALE, requires_grad=False)


def convert(simulation: Simulation, engine: str) -> fx.GraphModule:
    """Return torch's int8 form of a simulation for one engine, by `convert_fx`; the simulation is left alone.

    The engine is set while weights are packed and put back afterwards.

    Raises:
        BackendUnavailable: if this build of torch has no such engine.
    """
    known = torch.backends.quantized.supported_engines
    if engine not in known:
        raise BackendUnavailable(f"this build of torch has no engine {engine!r}", fix=f"it has: {', '.join(known)}")
    before = torch.backends.quantized.engine
    torch.backends.quantized.engine = engine
    try:
        converted = convert_quantized(simulation.prepared)
    finally:
        torch.backends.quantized.engine = before
    settle(converted, simulation.prepared, engine)
    return converted
