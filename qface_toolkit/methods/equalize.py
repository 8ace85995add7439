"""Give every channel the share of its tensor's codes that it needs, by factors that layers pass on to each other.

Per-tensor codes are wasted on channels that are much smaller than the largest. Scaling a channel up where it is written
and down where it is read costs nothing there (weights have a scale for each output channel), but widens the range that
the readers' weights share. Cross-layer equalization (arXiv 1906.04721, section 4.1) balances the two by the ranges of
weights alone. Here all factors and ranges of a network are chosen together, by gradient descent on what they are
predicted to cost the embedding: see analysis.statistics. Where the descent begins does not depend on how the network is
written: see _balanced.
"""

import math
from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import cast

import torch
from pydantic import BaseModel, ConfigDict, Field
from torch import nn

from qface_toolkit.analysis.channels import ChannelClasses, channel_classes, scaled
from qface_toolkit.analysis.statistics import STATISTICS_PASSES, Statistics, measure_statistics, quantile_shares
from qface_toolkit.canonical.edit import by_input
from qface_toolkit.canonical.graph import inputs, module, operation
from qface_toolkit.errors import CalibrationError
from qface_toolkit.methods._balanced import balanced_start
from qface_toolkit.methods._base import Context, Method
from qface_toolkit.quantize.model import QuantizedModel
from qface_toolkit.quantize.plan import LAYERS
from qface_toolkit.quantize.target import Target
from qface_toolkit.quantize.weights import Width

PULL = 1e-6
"""Loss for a squared move of a log factor, which keeps channels that say nothing where they start."""

FELT = 1e-12
"""Loss in cosine by all of a channel, below which nobody would notice were it not there."""


class Options(BaseModel):
    """Options of `equalize`."""

    model_config = ConfigDict(extra="forbid")

    images: int = Field(128, ge=1)
    """Calibration images that are looked at, the first ones."""
    iterations: int = Field(100, ge=1, le=10000)
    """Steps of Adam on the predicted loss; none of them runs the network."""
    learning_rate: float = Field(0.05, gt=0, le=1.0)
    """Adam's first step in the logarithm of a factor; it falls to zero by half a cosine."""


class Equalize(Method):
    """Scale the channels of a float network so that quantizing it costs least."""

    options = Options
    needs = ("images",)
    takes = ("ranges",)

    def run(self, model: QuantizedModel, options: Options, context: Context) -> QuantizedModel:
        """Return the model with other weights that compute the same, and without ranges.

        Raises:
            CalibrationError: if a value is infinite or not a number.
        """
        tensors = [name for name in model.plan.tensors if model.plan.quantized(name, context.target)]
        seen = measure_statistics(
            model.network,
            tensors,
            context.inputs[: options.images],
            seed=context.seed,
            batch_size=context.batch_size,
            progress=context.progress,
        )
        if not all(bool(torch.isfinite(square).all()) for square in seen.sensitivity.values()):
            raise CalibrationError(
                "an activation is infinite or not a number", fix="check model.mean, model.std and the weights"
            )
        classes = channel_classes(model.network, model.spec.input_size, model.spec.channels)
        factors = _descend(_Prediction(model, context.target, classes, seen), options)
        return replace(model, network=scaled(model.network, classes, factors)).with_ranges({})

    def passes(self, options: Options, images: int) -> float:
        """Return the passes behind the statistics; what follows them does not run the network."""
        return STATISTICS_PASSES * min(options.images, images)


def _descend(prediction: "_Prediction", options: Options) -> torch.Tensor:
    """Return the log factor of each class with the least predicted loss."""
    unbound = prediction.start.clone().requires_grad_(True)
    optimizer = torch.optim.Adam([unbound, prediction.log_ends], lr=options.learning_rate)
    for step in range(options.iterations):
        for group in optimizer.param_groups:
            group["lr"] = options.learning_rate * 0.5 * (1 + math.cos(math.pi * step / options.iterations))
        optimizer.zero_grad()
        prediction.loss(unbound).backward()  # type: ignore[no-untyped-call]  # torch ships it without a type
        optimizer.step()
    return prediction.classes.bounded(unbound.detach())


@dataclass(frozen=True)
class _Tensor:
    """A quantized tensor: the quantiles of its channels, their sensitivity, classes, and its range: place and steps."""

    values: torch.Tensor
    sensitivity: torch.Tensor
    classes: torch.Tensor
    owner: int
    steps: int


@dataclass(frozen=True)
class _Weights:
    """The magnitudes of a layer's weights and their sensitivity, [O, I], classes of its inputs, its largest code."""

    layer: nn.Conv2d | nn.Linear
    magnitudes: torch.Tensor
    sensitivity: torch.Tensor
    classes: torch.Tensor
    largest_code: int


class _Prediction:
    """The loss in cosine that a choice of factors and ranges is predicted to cost.

    `start` [classes] are the log factors to begin with, `ends` [owners, 2] the ends of what they make of the values,
    `log_ends` [owners, 2] are the logarithms of how far each range reaches towards its unscaled ends.
    """

    def __init__(self, model: QuantizedModel, target: Target, classes: ChannelClasses, seen: Statistics) -> None:
        self.classes, self.shares = classes, quantile_shares()
        self.tensors = _tensors(model, target, classes, seen)
        self.weights = _layers(model, classes, seen)
        self.start = _start(classes, self.tensors, self.weights)
        self.ends = _ends(self.tensors, self.start.exp(), len(model.plan.owners()))
        self.log_ends = torch.zeros_like(self.ends, requires_grad=True)
        limits = [model.plan.clamps.get(owner, (-math.inf, math.inf)) for owner in model.plan.owners()]
        self.limits = torch.tensor(limits)

    def loss(self, unbound: torch.Tensor) -> torch.Tensor:
        """Return the predicted loss for log factors [classes] that are yet to be bounded."""
        log_factors = self.classes.bounded(unbound)
        factors = log_factors.exp()
        ranges = self.ends * self.log_ends.exp()
        ranges = torch.maximum(torch.minimum(ranges, self.limits[:, 1:]), self.limits[:, :1])
        activations = [self._activations(one, factors[one.classes], ranges[one.owner]) for one in self.tensors]
        weights = [_rounded_weights(layer, factors[layer.classes]) for layer in self.weights]
        return torch.stack(activations + weights).sum() + PULL * (unbound - self.start).pow(2).sum()

    def _activations(self, tensor: _Tensor, factors: torch.Tensor, interval: torch.Tensor) -> torch.Tensor:
        """Return the loss by rounding and clipping one tensor."""
        low, high = interval
        scaled_values = tensor.values * factors[:, None]
        beyond: torch.Tensor = (scaled_values - high).clamp_min(0) + (low - scaled_values).clamp_min(0)
        error = (beyond.pow(2) * self.shares).sum(1) + _rounding((high - low) / tensor.steps)
        loss: torch.Tensor = 0.5 * (tensor.sensitivity * error / factors**2).sum()
        return loss


def _rounding(step: torch.Tensor) -> torch.Tensor:
    """Return the mean squared error of rounding to multiples of a step."""
    return step**2 / 12


def _rounded_weights(layer: _Weights, factors: torch.Tensor) -> torch.Tensor:
    """Return the loss by rounding a layer's weights; each output channel has a scale of its own."""
    by_place = by_input(layer.layer, factors).reshape(-1, layer.magnitudes.shape[1])
    steps = (layer.magnitudes / by_place).amax(1, keepdim=True) / layer.largest_code
    return 0.5 * (_rounding(steps) * layer.sensitivity * by_place**2).sum()


def _tensors(model: QuantizedModel, target: Target, classes: ChannelClasses, seen: Statistics) -> list[_Tensor]:
    plan, owners = model.plan, {owner: number for number, owner in enumerate(model.plan.owners())}
    found = []
    for name, values in seen.values.items():
        owner = plan.tensors[name].owner
        low, high = plan.clamps.get(owner, (-math.inf, math.inf))
        steps = model.levels_of(name, target).steps
        found.append(_Tensor(values.clamp(low, high), seen.sensitivity[name], classes.of[name], owners[owner], steps))
    return found


def _layers(model: QuantizedModel, classes: ChannelClasses, seen: Statistics) -> list[_Weights]:
    found = []
    for node in model.network.graph.nodes:
        if operation(node) in LAYERS:
            layer = cast(nn.Conv2d | nn.Linear, module(node))
            magnitudes = layer.weight.detach().abs().reshape(*layer.weight.shape[:2], -1).amax(2)
            sensitivity, entering = seen.weights[node.name], classes.of[inputs(node)[0].name]
            largest = Width.of(model.scheme, node.name).largest_code
            found.append(_Weights(layer, magnitudes, sensitivity, entering, largest))
    return found


def _start(classes: ChannelClasses, tensors: list[_Tensor], weights: list[_Weights]) -> torch.Tensor:
    """Return the log factors [classes] to begin with; those that are bound by what stands around begin at one.

    A channel that the embedding does not feel at all has no reach, however much or little it does: scaled up to where
    others reach, one that was as good as dead would drown them in whatever else is read with it.
    """
    reach = torch.zeros(len(classes.lowest))
    for tensor in tensors:
        largest = torch.maximum(tensor.values[:, 0].abs(), tensor.values[:, -1].abs())
        largest = torch.where(tensor.sensitivity * largest**2 > FELT, largest, 0.0)
        reach = reach.scatter_reduce(0, tensor.classes, largest, "amax")
    readers = [(one.magnitudes, by_input(one.layer, one.classes)) for one in weights if one.magnitudes.shape[1] > 1]
    free = torch.isneginf(classes.lowest) & torch.isposinf(classes.highest)
    expanded = [(one, of.reshape(-1, one.shape[1]).expand_as(one)) for one, of in readers]
    return balanced_start(reach, expanded, free, [tensor.classes for tensor in tensors])


def _ends(tensors: list[_Tensor], factors: torch.Tensor, owners: int) -> torch.Tensor:
    """Return the least and greatest value that is quantized with each range after scaling, and zero."""
    ends = torch.zeros(owners, 2)
    for tensor in tensors:
        scaled_values = tensor.values * factors[tensor.classes][:, None]
        low, high = scaled_values.min(), scaled_values.max()
        ends[tensor.owner, 0] = torch.minimum(ends[tensor.owner, 0], low)
        ends[tensor.owner, 1] = torch.maximum(ends[tensor.owner, 1], high)
    return ends


ENTRIES: Mapping[str, Equalize] = {"equalize": Equalize()}
